//! Tar: headers and streams, written in one form and read in every form that is about.
//!
//! Invariant: the same headers and contents give the same bytes on every machine, and no input makes a reader panic, allocate
//! what it was only told of, or give out a name that leads outside. Not here: compression and the TOC.
//! Bytes: docs/archive.md, "The tar stream that is written" and "Bounds".

mod acl;
mod alike;
mod block;
mod content;
mod crc;
mod entry;
mod hasher;
mod map;
mod name;
mod names;
mod number;
mod pax;
mod read;
mod records;
mod room;
mod sparse;
pub mod split;
mod tree;
mod write;

pub use alike::is_read_alike;
pub use block::{BLOCK, Fields, block};
pub use content::Content;
pub use crc::Crc;
pub use name::{MAX_NAME, MAX_PART, MAX_PARTS, clean, shown};
pub use read::{MAX_GLOBAL, MAX_HEADERS, MAX_PAX, Reader};
pub use room::Room;
pub use sparse::MAX_RUNS;
pub use tree::{MAX_INVENTED, Placed, Tree, TreeBuilder};
pub use write::{END, padding, push_header, push_sparse_header};

use crate::error::{Error, Result};
use crate::scan::Time;

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Regular {
        /// Bytes of the content, holes included.
        size: u64,
        /// `(offset, length)` of each hole, in order, neither empty nor touching each other.
        holes: Vec<(u64, u64)>,
    },
    /// The target as it stands.
    Symlink {
        target: Vec<u8>,
    },
    /// Another name of the file at path `first`, which is clean.
    HardLink {
        first: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// What a tar says of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Clean: without `/` at either end, without components that are empty, `.` or `..`. Empty for the root.
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Time,
    /// Sorted by name, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    /// Bytes of content; of what is no regular file 0.
    pub fn size(&self) -> u64 {
        if let Kind::Regular { size, .. } = self.kind { size } else { 0 }
    }

    /// User and group as Linux has them; `what` names the archive.
    ///
    /// # Errors
    /// `Invalid`, naming the entry, when a number is more than Linux can hold.
    pub fn owner(&self, what: &str) -> Result<(u32, u32)> {
        let held = |id: u64, of: &str| {
            let more = |_| {
                let why = format!("{}: its {of} {id} is more than Linux can hold", shown(&self.name));
                Error::Invalid { what: what.into(), why }
            };
            u32::try_from(id).map_err(more)
        };
        Ok((held(self.uid, "owner")?, held(self.gid, "group")?))
    }
}

#[cfg(test)]
mod tests;
