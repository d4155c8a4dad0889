//! Archives: frames of chunks that plain tar and zstd can read, packs made of them, and the TOC at their end.
//!
//! Invariant: what a frame gives out has been bounded before it is decompressed and proved by its digest before it is used.
//! Not here: which chunks to store (`push`), where bytes come from. Bytes: docs/format.md, "Archives and packs".

mod expand;
pub mod frame;
pub mod inflate;
pub mod lead;
mod pack;
mod prove;
mod redirect;
mod toc;

pub use expand::Expand;
pub use pack::{Holds, Lying, Pack, PackWriter, deflate};
pub use prove::{Proved, prove};
pub use redirect::Redirect;
pub use toc::{TAIL, Tail, Toc, TocEntry};

/// The most a frame of chunks decompresses to: a chunk of the largest size, its tar header and padding.
pub const MAX_FRAME: usize = crate::chunk::MAX_CHUNK + 1024;
/// The most a frame with a page of a file map decompresses to: the row of a file of 200 GB fits.
pub const MAX_PAGE_FRAME: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
