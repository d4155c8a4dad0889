//! Pull: a file map and its frames into a directory.
//!
//! Invariant: bytes are written only after their chunk's digest is proved; every path is made below a directory that this pull made
//! itself, so nothing is written outside; metadata is set last, directories after what they hold.
//! Not here: fetching (fetch.py), where the directory stands and when it gets its name (pull.py).

mod metadata;
mod place;
mod plan;
mod write;

pub use write::{Pull, Pulled};

#[cfg(test)]
mod tests;
