//! File maps: a tree in full fidelity, in pages, found by a fence index.
//!
//! Invariant: entries are strictly sorted by (parent, name) and begin with the root;
//! a page is only used after its digest, and every name, size and reference in it, has been checked.
//! Not here: where bytes come from (callers bring pages), what a directory's digest is (`directory`).
//! Bytes: docs/format.md, "File map".

mod again;
mod blobs;
mod decode;
mod differ;
mod encode;
mod entry;
mod frames;
mod map;
mod text;
mod unpacked;
mod working;
mod write;

pub use again::{MOST_HOLES, Part, header, parts, sparse};
pub use blobs::frame_of;
pub use decode::{page_alone, page_of_form};
pub use differ::{Node, differing, nodes_of_map, nodes_of_state};
pub use encode::type_of;
pub use entry::{ChunkAt, Content, Entry, FrameAt, Kind, parent_and_name};
pub use map::{FileMap, Found, Missing, PageRef, Place, Source, Summary, inode_of, place_of};
pub(crate) use text::{object, parse_time, push_time, unescape};
pub use unpacked::{INVENTED_MODE, bare, described, hash_directories, unpacked};
pub use write::{MapWriter, PageText, content_of, cut_of, fence, page_of};

#[cfg(test)]
mod tests;
