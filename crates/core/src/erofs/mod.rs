//! EROFS images that hold a tree's metadata alone, for the native tier of the mount.
//!
//! Invariant: the same file map gives the same bytes; each name, attribute and target of the map is in the image as it is,
//! or the map is refused. Not here: mounting (`native`), contents. Bytes: docs/native.md.

mod directory;
mod image;
mod inode;
mod layout;

pub use image::write;
pub use inode::object_path;
