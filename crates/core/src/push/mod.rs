//! Push: a directory, or a tar, into packs, pages and a fence index, reading only what the store may lack.
//!
//! Invariant: a chunk is sent at most once a run and never when the store has it; nothing here names a pack before it is
//! sealed; memory holds the packs in flight and a row for each entry and chunk, never contents beyond those.
//! Not here: putting objects into a store and their order (push.py), walking (`index`). Bytes: docs/format.md.

mod archive;
mod base;
mod entries;
mod fragment;
mod holdings;
mod known;
mod memory;
mod mounted;
mod order;
mod outline;
mod pages;
mod pieces;
mod read;
mod remembered;
mod run;
mod send;
mod split;
mod stream;

pub use archive::{Archive, Fetch};
pub use fragment::{Fragment, FragmentWriter, PackName};
pub use holdings::holdings_of;
pub use known::{Known, Usable};
pub use memory::{Memory, PackBytes};
pub use mounted::Mounted;
pub use outline::outline;
pub use run::{Looked, Map, Pushed, Request, look};
pub use send::Sealed;

#[cfg(test)]
mod tests;
