//! One entry of a TOC, as it is spelled: neither checked against others nor against the archive.

use crate::scan::Time;
use crate::tar;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Regular,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
    /// A further chunk of the regular file before it.
    Chunk,
}

impl Kind {
    pub const ALL: [(Kind, &'static str); 8] = [
        (Kind::Directory, "dir"),
        (Kind::Regular, "reg"),
        (Kind::Symlink, "symlink"),
        (Kind::HardLink, "hardlink"),
        (Kind::CharDevice, "char"),
        (Kind::BlockDevice, "block"),
        (Kind::Fifo, "fifo"),
        (Kind::Chunk, "chunk"),
    ];

    pub fn word(self) -> &'static str {
        Kind::ALL[self as usize].1
    }
}

/// Fields as in docs/archive.md, "TOC"; what is 0 or empty there was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TocEntry {
    /// Clean and relative; empty for the root. Of a chunk whatever is said, for it belongs to the file before it.
    pub name: Vec<u8>,
    pub kind: Kind,
    pub size: u64,
    /// `None` where none is said, or none that can be read.
    pub mtime: Option<Time>,
    pub link: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub offset: u64,
    pub inner: u64,
    pub dev_major: u32,
    pub dev_minor: u32,
    /// Sorted by name, each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// SHA-256 of the whole content.
    pub digest: Option<[u8; 32]>,
    pub chunk_offset: u64,
    pub chunk_size: u64,
    pub chunk_digest: Option<[u8; 32]>,
    /// Of zstd:chunked: where the chunk's frame ends.
    pub end_offset: u64,
    /// Of zstd:chunked: the chunk is zeros; they lie in the stream, but need not be fetched.
    pub zeros: bool,
    /// `(offset, length)` of each hole of a file that was sparse.
    pub holes: Vec<(u64, u64)>,
}

impl TocEntry {
    pub fn new(name: Vec<u8>, kind: Kind) -> TocEntry {
        TocEntry {
            name,
            kind,
            size: 0,
            mtime: None,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            offset: 0,
            inner: 0,
            dev_major: 0,
            dev_minor: 0,
            xattrs: Vec::new(),
            digest: None,
            chunk_offset: 0,
            chunk_size: 0,
            chunk_digest: None,
            end_offset: 0,
            zeros: false,
            holes: Vec::new(),
        }
    }

    /// What a TOC says of a header.
    pub fn of_header(header: &tar::Header, whole_seconds: bool) -> TocEntry {
        let mut entry = TocEntry::new(header.name.clone(), Kind::Fifo);
        entry.mode = header.mode & 0o7777;
        (entry.uid, entry.gid) = (header.uid, header.gid);
        entry.mtime = Some(header.mtime);
        if whole_seconds {
            let up = i64::from(header.mtime.nsec >= 500_000_000);
            entry.mtime = Some(Time { sec: header.mtime.sec.saturating_add(up), nsec: 0 });
        }
        entry.xattrs = header.xattrs.clone();
        entry.kind = match &header.kind {
            tar::Kind::Directory => Kind::Directory,
            tar::Kind::Regular { size, holes } => {
                (entry.size, entry.holes) = (*size, holes.clone());
                Kind::Regular
            }
            tar::Kind::Symlink { target } => {
                entry.link = target.clone();
                Kind::Symlink
            }
            tar::Kind::HardLink { first } => {
                entry.link = first.clone();
                Kind::HardLink
            }
            tar::Kind::CharDevice { major, minor } => {
                (entry.dev_major, entry.dev_minor) = (*major, *minor);
                Kind::CharDevice
            }
            tar::Kind::BlockDevice { major, minor } => {
                (entry.dev_major, entry.dev_minor) = (*major, *minor);
                Kind::BlockDevice
            }
            tar::Kind::Fifo => Kind::Fifo,
        };
        entry
    }
}
