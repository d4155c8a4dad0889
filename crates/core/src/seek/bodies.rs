//! What the entries of a stream say besides their names, from when they were read until it is known which of them remain: from
//! a spool's bound on in a temporary file.
//!
//! Invariant: what is read is what was pushed; memory is that of the spool, a window of it, and eight bytes for each entry.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Content, Entry, FrameAt, Kind};
use crate::scan::Time;
use crate::stargz::Spool;

/// Bytes that are read at once: what lies in one directory mostly came together.
const WINDOW: u64 = 64 << 10;

pub struct Bodies {
    spool: Spool,
    directory: PathBuf,
    /// What stands for the archive.
    pack: Arc<[u8; 32]>,
    /// Where each begins in the spool, by four, and what it is.
    starts: Vec<u64>,
    row: Vec<u8>,
    /// What was read last, and where it begins.
    window: Vec<u8>,
    at: u64,
}

/// As much as directories must be told from others before they are read, and symlinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Other,
    Directory,
    Symlink,
}

/// How each begins; behind it a link's target, or chunks and holes; then attributes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fixed {
    sha256: [u8; 32],
    size: u64,
    sec: i64,
    nsec: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    kind: u32,
    attributes: u32,
    /// Chunks and holes, or the numbers of a device.
    numbers: [u64; 2],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Chunk {
    sha256: [u8; 32],
    size: u64,
    offset: u64,
}

const DIRECTORY: u32 = 0;
const REGULAR: u32 = 1;
const SYMLINK: u32 = 2;
const CHAR: u32 = 3;
const BLOCK: u32 = 4;
const FIFO: u32 = 5;
const LINK: u32 = 6;

impl Bodies {
    /// Of the archive that `pack` stands for; `directory` is where they go when they are many.
    pub fn new(directory: &Path, pack: Arc<[u8; 32]>) -> Bodies {
        let (starts, row, window) = (Vec::new(), Vec::new(), Vec::new());
        Bodies { spool: Spool::new(directory), directory: directory.to_owned(), pack, starts, row, window, at: 0 }
    }

    /// Keep an entry but for its name; of its frames, `offset` alone.
    ///
    /// # Errors
    /// `Io`.
    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        let (kind, size, sha256, numbers, is) = match &entry.kind {
            Kind::Directory { .. } => (DIRECTORY, 0, [0; 32], [0; 2], Is::Directory),
            Kind::Regular(content) => {
                let numbers = [content.chunks.len() as u64, content.holes.len() as u64];
                (REGULAR, content.digest.size, content.digest.sha256, numbers, Is::Other)
            }
            Kind::Symlink { target } => (SYMLINK, target.len() as u64, [0; 32], [0; 2], Is::Symlink),
            &Kind::CharDevice { major, minor } => (CHAR, 0, [0; 32], [major.into(), minor.into()], Is::Other),
            &Kind::BlockDevice { major, minor } => (BLOCK, 0, [0; 32], [major.into(), minor.into()], Is::Other),
            Kind::Fifo => (FIFO, 0, [0; 32], [0; 2], Is::Other),
            Kind::HardLink { first } => (LINK, first.len() as u64, [0; 32], [0; 2], Is::Other),
        };
        let &Entry { mode, uid, gid, mtime: Time { sec, nsec }, .. } = entry;
        let attributes = entry.xattrs.len() as u32;
        self.row.clear();
        push(&mut self.row, &Fixed { sha256, size, sec, nsec, mode, uid, gid, kind, attributes, numbers });
        match &entry.kind {
            Kind::Symlink { target } | Kind::HardLink { first: target } => self.row.extend_from_slice(target),
            Kind::Regular(content) => {
                for ChunkAt { digest: Digest { sha256, size }, frame, .. } in &content.chunks {
                    push(&mut self.row, &Chunk { sha256: *sha256, size: *size, offset: frame.offset });
                }
                content.holes.iter().for_each(|&(offset, length)| push(&mut self.row, &[offset, length]));
            }
            _ => {}
        }
        for text in entry.xattrs.iter().flat_map(|(name, value)| [name, value]) {
            push(&mut self.row, &(text.len() as u64));
            self.row.extend_from_slice(text);
        }
        self.starts.push(self.spool.len() << 2 | is as u64);
        self.spool.write_all(&self.row).map_err(Error::io("write a temporary file in", &self.directory))
    }

    /// What the entry of a number is.
    pub fn is(&self, number: u32) -> Is {
        match self.starts[number as usize] & 3 {
            0 => Is::Other,
            1 => Is::Directory,
            _ => Is::Symlink,
        }
    }

    /// The entry of a number, counted from 0, without its name; a directory without digest, frames as they were pushed.
    ///
    /// # Errors
    /// `Io`.
    pub fn read(&mut self, number: u32) -> Result<Entry> {
        let pack = self.pack.clone();
        let mut row = self.row(number as usize)?;
        let fixed: Fixed = take(&mut row);
        let [first, second] = fixed.numbers;
        let (major, minor) = (first as u32, second as u32);
        let kind = match fixed.kind {
            DIRECTORY => Kind::Directory { digest: None },
            REGULAR => {
                let chunk = |Chunk { sha256, size, offset }| ChunkAt {
                    digest: Digest { sha256, size },
                    frame: FrameAt { pack: pack.clone(), offset, length: 0, plain: size as u32 },
                    inner: 0,
                };
                let chunks = (0..first).map(|_| chunk(take(&mut row))).collect();
                let holes = (0..second).map(|_| take::<[u64; 2]>(&mut row).into()).collect();
                Kind::Regular(Content { digest: Digest { sha256: fixed.sha256, size: fixed.size }, chunks, holes })
            }
            SYMLINK => Kind::Symlink { target: bytes(&mut row, fixed.size) },
            CHAR => Kind::CharDevice { major, minor },
            BLOCK => Kind::BlockDevice { major, minor },
            LINK => Kind::HardLink { first: bytes(&mut row, fixed.size) },
            _ => Kind::Fifo,
        };
        let mut text = || {
            let length = take(&mut row);
            bytes(&mut row, length)
        };
        let xattrs = (0..fixed.attributes).map(|_| (text(), text())).collect();
        let Fixed { mode, uid, gid, sec, nsec, .. } = fixed;
        Ok(Entry { path: Vec::new(), kind, mode, uid, gid, mtime: Time { sec, nsec }, links: 1, xattrs })
    }

    fn row(&mut self, number: usize) -> Result<&[u8]> {
        let start = self.starts[number] >> 2;
        let end = self.starts.get(number + 1).map_or(self.spool.len(), |next| next >> 2);
        if start < self.at || end > self.at + self.window.len() as u64 {
            self.at = start - start % WINDOW;
            let until = (self.at + WINDOW).min(self.spool.len()).max(end);
            self.window.resize((until - self.at) as usize, 0);
            let read = self.spool.read_at(&mut self.window, self.at);
            read.map_err(Error::io("read a temporary file in", &self.directory))?;
        }
        Ok(&self.window[(start - self.at) as usize..(end - self.at) as usize])
    }
}

fn push<T: Pod>(row: &mut Vec<u8>, what: &T) {
    row.extend_from_slice(bytemuck::bytes_of(what));
}

fn take<T: Pod>(row: &mut &[u8]) -> T {
    let (taken, rest) = row.split_at(size_of::<T>());
    *row = rest;
    bytemuck::pod_read_unaligned(taken)
}

fn bytes(row: &mut &[u8], count: u64) -> Vec<u8> {
    let (taken, rest) = row.split_at(count as usize);
    *row = rest;
    taken.to_vec()
}
