//! The entries of a TOC as rows of one size, for a TOC may have a million: names in one place, and nothing allocated for a file
//! of one chunk.
//!
//! Invariant: a row says of an entry what was pushed, and memory follows what was pushed.
//! Not here: what an entry must be (`files`, `map`), the tree that the rows are (`settle`).

use std::sync::Arc;

use crate::digest::Digest;
use crate::filemap::{ChunkAt, Content, Entry, FrameAt, Kind};
use crate::scan::Time;
use crate::tar::{Header, Kind as TarKind};

#[derive(Clone, Copy, PartialEq)]
pub enum Is {
    Directory,
    /// A regular file that is empty or of one chunk.
    File,
    /// `size` bytes of target among the names, from `offset` on.
    Symlink,
    /// The same of a hard link; when it has settled, `offset` is the row that has its content.
    Link,
    /// `offset` is its number among the others.
    Other,
}

/// An entry but for its name.
#[derive(Clone, Copy)]
pub struct Row {
    /// Of a file, or of a Directory message.
    pub sha256: [u8; 32],
    pub size: u64,
    /// Of a file, where its frame begins.
    pub offset: u64,
    pub sec: i64,
    pub nsec: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a file: where its chunk begins in the frame, and how long that is compressed and plain.
    pub inner: u32,
    pub length: u32,
    pub plain: u32,
    pub links: u32,
    pub mode: u16,
    pub is: Is,
}

impl Row {
    pub fn new(is: Is, mode: u32) -> Row {
        let mode = (mode & 0o7777) as u16;
        Row {
            sha256: [0; 32],
            size: 0,
            offset: 0,
            sec: 0,
            nsec: 0,
            uid: 0,
            gid: 0,
            inner: 0,
            length: 0,
            plain: 0,
            links: 1,
            mode,
            is,
        }
    }
}

/// Where a name stands among the names.
#[derive(Clone, Copy)]
struct Name {
    at: u32,
    length: u32,
}

/// Rows in the order of the TOC.
#[derive(Default)]
pub struct Rows {
    text: Vec<u8>,
    names: Vec<Name>,
    pub(super) rows: Vec<Row>,
    /// Entries that no row can hold, without their names.
    pub(super) others: Vec<Entry>,
    pub(super) links: usize,
}

impl Rows {
    /// Add bytes to the names; `None` when there are 4 GiB, which no TOC has.
    fn add(&mut self, bytes: &[u8]) -> Option<Name> {
        let at = u32::try_from(self.text.len()).ok()?;
        let length = u32::try_from(bytes.len()).ok()?;
        self.text.extend_from_slice(bytes);
        Some(Name { at, length })
    }

    /// Add an entry. `None` when there are too many.
    pub fn push(&mut self, name: &[u8], row: Row) -> Option<()> {
        let name = self.add(name)?;
        self.names.push(name);
        self.rows.push(row);
        u32::try_from(self.rows.len()).ok().map(drop)
    }

    /// Add an entry with a target.
    pub fn push_link(&mut self, name: &[u8], target: &[u8], row: Row) -> Option<()> {
        let place = self.add(target)?;
        self.links += usize::from(row.is == Is::Link);
        self.push(name, Row { offset: place.at.into(), size: place.length.into(), ..row })
    }

    /// Add an entry that takes more.
    pub fn push_other(&mut self, name: &[u8], body: Entry) -> Option<()> {
        let row = Row { offset: self.others.len() as u64, ..Row::new(Is::Other, body.mode) };
        self.others.push(body);
        self.push(name, row)
    }

    pub(super) fn name(&self, row: u32) -> &[u8] {
        let Name { at, length } = self.names[row as usize];
        &self.text[at as usize..][..length as usize]
    }

    pub(super) fn target(&self, row: &Row) -> &[u8] {
        &self.text[row.offset as usize..][..row.size as usize]
    }

    /// The headers of all entries as `tar::TreeBuilder` looks at them, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header> {
        (0..self.rows.len() as u32).map(|at| {
            let row = &self.rows[at as usize];
            let kind = match row.is {
                Is::Link => TarKind::HardLink { first: self.target(row).to_vec() },
                _ if self.is_directory(at) => TarKind::Directory,
                _ => TarKind::Fifo,
            };
            let mtime = Time { sec: row.sec, nsec: row.nsec };
            Header { name: self.name(at).to_vec(), kind, mode: 0, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
        })
    }

    /// What each entry says besides its name, in order; frames are but begun.
    pub fn into_bodies(mut self, pack: &Arc<[u8; 32]>) -> Vec<Entry> {
        let rows = std::mem::take(&mut self.rows);
        let body = |row: &Row| match row.is {
            Is::Link => Entry { kind: Kind::HardLink { first: self.target(row).to_vec() }, ..self.body(row, pack) },
            _ => self.body(row, pack),
        };
        rows.iter().map(body).collect()
    }

    pub(super) fn body(&self, row: &Row, pack: &Arc<[u8; 32]>) -> Entry {
        let digest = Digest { sha256: row.sha256, size: row.size };
        let kind = match row.is {
            Is::Directory => Kind::Directory { digest: Some(digest) },
            Is::File => {
                let frame = FrameAt { pack: pack.clone(), offset: row.offset, length: row.length, plain: row.plain };
                let chunk = ChunkAt { digest, frame, inner: row.inner };
                Kind::Regular(Content {
                    digest,
                    chunks: if row.size == 0 { Vec::new() } else { vec![chunk] },
                    holes: Vec::new(),
                })
            }
            Is::Symlink => Kind::Symlink { target: self.target(row).to_vec() },
            Is::Link => Kind::Fifo,
            Is::Other => {
                let mut entry = self.others[row.offset as usize].clone();
                entry.links = row.links;
                match &mut entry.kind {
                    Kind::Directory { digest: of_all } => *of_all = Some(digest),
                    Kind::Regular(content) => {
                        content.chunks.iter_mut().for_each(|chunk| chunk.frame.pack.clone_from(pack));
                    }
                    _ => {}
                }
                return entry;
            }
        };
        let Row { uid, gid, links, .. } = *row;
        let mtime = Time { sec: row.sec, nsec: row.nsec };
        Entry { path: Vec::new(), kind, mode: row.mode.into(), uid, gid, mtime, links, xattrs: Vec::new() }
    }

    pub(super) fn is_directory(&self, row: u32) -> bool {
        match self.rows[row as usize] {
            Row { is: Is::Directory, .. } => true,
            Row { is: Is::Other, offset, .. } => self.others[offset as usize].is_directory(),
            _ => false,
        }
    }
}
