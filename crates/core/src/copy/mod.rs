//! Copy: a tree out of one store into another, sending only what that lacks.
//!
//! Invariant: every chunk is proved before it is packed; a frame is taken over as it is only when the other store lacks all of
//! it and it is spelt as ours are. Memory holds the packs in flight and a row for each chunk, of pages what is waiting for
//! those before it. Not here: fetching frames and pages, putting packs and their order (Python). Bytes: docs/format.md.

use std::sync::{Mutex, MutexGuard};

mod layout;
mod look;
mod packing;
mod run;

pub use layout::{Layout, Wanted};
pub use look::Looking;
pub use packing::Sent;
pub use run::{Copied, CopiedMap, Copy};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a thread that panicked ends the copy")
}

#[cfg(test)]
mod tests;
