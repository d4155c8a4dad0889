//! Archives out of what is there already: a tar stream, or a directory.
//!
//! Invariant: memory holds names and what the writer has in flight, never whole contents; the same input and options give the
//! same bytes; what changes while it is read is an error, never half of two states. Not here: tar headers (`tar`), members and
//! TOC (`stargz`), which decompressors there are (`input` alone). Bytes: docs/archive.md.

mod directory;
mod front;
mod gzip;
pub mod input;
mod out;
mod stream;

use crate::stargz::Written;

pub use directory::pack;
pub use out::Out;
pub use stream::convert;

/// What became of an input.
#[derive(Debug)]
pub struct Made {
    pub written: Written,
    /// Names of the input that archives have for themselves, so that they were left out.
    pub left_out: Vec<Vec<u8>>,
    /// Names that were to be at the front and are not there.
    pub absent: Vec<Vec<u8>>,
    /// What might not be read, and was to be skipped.
    pub unreadable: Vec<std::path::PathBuf>,
}

#[cfg(test)]
mod tests;
