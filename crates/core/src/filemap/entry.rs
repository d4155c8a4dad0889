//! One entry of a file map.

use std::sync::Arc;

use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
pub use crate::scan::parent_and_name;

use crate::scan::Time;

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `digest` is of the REAPI Directory message; `None` where it is not known yet: in a working directory that was
    /// looked at in part, never in a file map.
    Directory {
        digest: Option<Digest>,
    },
    Regular(Content),
    Symlink {
        target: Vec<u8>,
    },
    /// Another name of the file at path `first`, which is not itself a hard link.
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

/// A regular file's blob: its digest, and its chunks in order (their sizes add up to the blob's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub digest: Digest,
    pub chunks: Vec<ChunkAt>,
    /// `(offset, length)` of each hole of a sparse file, in order.
    pub holes: Vec<(u64, u64)>,
}

impl Content {
    /// Whether its chunks cannot be told from its digest: it is of 2 MiB or more, or was cut all the same.
    pub fn is_listed(&self) -> bool {
        self.digest.size >= MAX_CHUNK as u64 || self.chunks.len() > 1
    }
}

/// A chunk and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkAt {
    pub digest: Digest,
    pub frame: FrameAt,
    /// Where the chunk begins in the decompressed frame.
    pub inner: u32,
}

/// A frame of a pack: the unit of fetching.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameAt {
    /// The pack's name: SHA-256 of the whole object.
    pub pack: Arc<[u8; 32]>,
    pub offset: u64,
    /// Bytes in the pack.
    pub length: u32,
    /// Bytes when decompressed.
    pub plain: u32,
}

impl FrameAt {
    /// Where it begins in a pack of a store, which is never of 4 GiB: the decoder of pages has seen to it.
    pub fn in_pack(&self) -> u32 {
        u32::try_from(self.offset).expect("only frames of archives lie behind 4 GiB")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Empty for the root.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Hard links of the inode; 1 unless several names in the tree share it.
    pub links: u32,
    /// Sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    pub fn name(&self) -> &[u8] {
        parent_and_name(&self.path).1
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }

    /// Bytes of a blob, of a symlink's target, of a Directory message that is known; else 0.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Directory { digest } => digest.map_or(0, |digest| digest.size),
            Kind::Regular(content) => content.digest.size,
            Kind::Symlink { target } => target.len() as u64,
            _ => 0,
        }
    }
}
