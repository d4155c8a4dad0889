//! The mount: a file map and a cache as a read-only file system, by the kernel's FUSE protocol.
//!
//! Invariant: every request is answered exactly once or given back to the kernel's INTERRUPT; one that lacks a page or a chunk
//! is parked under the frames it waits for, and no thread waits with it. Bytes go out only from the cache, which proved them.
//! Not here: fetching (whoever takes from `wanted` and calls `deliver` or `fail`), retries and deadlines.
//! Source of the protocol: the kernel's `include/uapi/linux/fuse.h`. How a mount works as a whole: docs/mount.md.

mod ahead;
mod answer;
mod attr;
mod behind;
mod bounds;
mod deliver;
mod direct;
mod far;
mod follow;
mod lacking;
mod loaded;
mod mount;
mod native;
mod neighbours;
mod objects;
mod opens;
mod parked;
mod passthrough;
mod prefetch;
mod reads;
mod server;
mod signals;
mod successor;
mod table;
mod trace;
mod walk;
mod walker;
mod whole;
mod wire;
mod writable;

pub use direct::{Answer, Attributes, Direct, Line};
pub use lacking::Lacking;
pub use mount::{mount, unmount};
pub use native::Layers;
pub use server::{Server, Stats};
pub use signals::is_asked_to_end;
pub use table::{Mounted, is_bare, mounts};
pub use trace::Part;
pub use whole::mount_whole;
pub use writable::Changes;

#[cfg(test)]
mod tests;
