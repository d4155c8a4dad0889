//! stargz archives: footer, TOC and members of a tar that can be entered anywhere.
//!
//! Invariant: what a footer or a TOC says is checked against the archive before it is given out, and nothing is allocated
//! because they say so; what is written depends on the entries and the options alone, not on threads or clocks.
//! Not here: tar headers (`tar`), the store's packs (`archive`), where bytes come from. Bytes: docs/archive.md.

mod copies;
mod decode;
mod encode;
mod entry;
mod files;
pub mod footer;
mod frames;
mod holes;
mod lying;
mod map;
mod members;
mod open;
mod quick;
mod rows;
mod settle;
mod split;
mod spool;
mod text;
mod toc;
mod words;
mod write;
mod writer;

pub use copies::{Bounds, Copies, footer_of};
pub use decode::Entries;
pub use encode::{Spelling, TocWriter};
pub use entry::{Kind, TocEntry};
pub use files::{Chunk, File, Files};
pub use footer::{Dialect, Footer, Part};
pub use holes::{Holes, are_zeros};
pub use map::file_map;
pub use members::Compression;
pub use open::{Said, TOC_NAME, TocText, read_toc};
pub(crate) use spool::Spool;
pub use write::{CHUNK_SIZES, Chunked, Options, Written, write};
pub use writer::{Origin, Writer};

#[cfg(test)]
mod tests;
