//! Pull: a file map and its frames into a directory.
//!
//! Invariant: bytes are written only after their chunk's digest is proved; every path is made below the directory that was
//! named, behind no symbolic link, so nothing is written outside; metadata is set last, directories after what they hold. In
//! a directory that is there already, each file changes at once or not at all, and what is right is left alone.
//! `Proof` goes the same way and writes nothing. Not here: fetching (fetch.py), where a new directory stands and when it gets its name (pull.py).

mod compare;
mod finish;
mod fold;
mod kept;
mod metadata;
mod place;
mod plan;
mod present;
mod proof;
mod run;
mod write;

pub use finish::Pulled;
pub use present::{Held, Present, Records};
pub use proof::Proof;
pub use run::Pull;

#[cfg(test)]
mod tests;
