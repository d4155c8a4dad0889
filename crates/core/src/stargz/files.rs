//! The entries of a TOC as files: where each of their bytes lies, and what proves it.
//!
//! Invariant: the chunks of a file that is given out are in order, cover it without gap or overlap, and lie before the end of
//! the archive's data; a file of exabytes costs no more than its line. Not here: names that come twice, links and parents,
//! which are those of any tar (`tar::TreeBuilder`). Bytes: docs/archive.md, "Reading" and "Bounds".

use super::entry::{Kind, TocEntry};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::scan::Time;
use crate::tar::{self, Header, shown};

/// The longest chunk that is read; writers cut at 4 MiB and below.
const MAX_READ_CHUNK: u64 = 64 << 20;
const TOO_LARGE: &str = "a chunk of more than 64 MiB";

/// A piece of a file's content and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub size: u64,
    /// SHA-256; `None` when only the whole file can be proved.
    pub sha256: Option<[u8; 32]>,
    /// Where its frame begins in the archive; `None` of zeros of which nobody says it.
    pub offset: Option<u64>,
    /// Where it begins in the decompressed frame.
    pub inner: u64,
    /// It is zeros, which need not be read.
    pub zeros: bool,
}

/// An entry and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub header: Header,
    /// Of the whole content of a regular file.
    pub sha256: Option<[u8; 32]>,
    /// In the order of the file.
    pub chunks: Vec<Chunk>,
}

/// Gathers the chunks of each file; ends after the first error.
pub struct Files<I> {
    entries: I,
    /// Where the archive's data ends.
    payload: u64,
    next: Option<TocEntry>,
    ended: bool,
}

impl<I: Iterator<Item = Result<TocEntry>>> Files<I> {
    /// `payload` is where the archive's data ends, as its footer says.
    pub fn new(entries: I, payload: u64) -> Files<I> {
        Files { entries, payload, next: None, ended: false }
    }

    fn step(&mut self) -> Result<Option<File>> {
        let Some(first) = self.next.take().map(Ok).or_else(|| self.entries.next()).transpose()? else {
            return Ok(None);
        };
        if first.kind == Kind::Chunk {
            return Err(Error::damaged("TOC", "a chunk stands before any file"));
        }
        let mut rows = Vec::new();
        while let Some(entry) = self.entries.next().transpose()? {
            if entry.kind != Kind::Chunk {
                self.next = Some(entry);
                break;
            }
            rows.push(row(&entry));
        }
        let wrong = |found: &str| {
            let name = shown(&first.name);
            if found == TOO_LARGE {
                return Error::ChunkTooLarge { name };
            }
            Error::damaged("TOC", format!("{name}: {found}"))
        };
        if first.kind != Kind::Regular {
            // Of other things nobody reads chunks.
            return Ok(Some(File { header: header(first), sha256: None, chunks: Vec::new() }));
        }
        let chunks = if first.size == 0 {
            Vec::new()
        } else {
            rows.push(row(&first));
            chunks(rows, &first, self.payload).map_err(wrong)?
        };
        check_holes(&first).map_err(wrong)?;
        let sha256 = if first.size == 0 { Some(Digest::of(b"").sha256) } else { first.digest };
        Ok(Some(File { sha256, chunks, header: header(first) }))
    }
}

impl<I: Iterator<Item = Result<TocEntry>>> Iterator for Files<I> {
    type Item = Result<File>;

    fn next(&mut self) -> Option<Result<File>> {
        if self.ended {
            return None;
        }
        let step = self.step().transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}

/// Where in the file a chunk begins, its size or 0, and the rest.
fn row(entry: &TocEntry) -> (u64, u64, Chunk) {
    let offset = (!entry.zeros || entry.offset != 0).then_some(entry.offset);
    let TocEntry { chunk_digest: sha256, inner, zeros, .. } = *entry;
    (entry.chunk_offset, entry.chunk_size, Chunk { size: 0, sha256, offset, inner, zeros })
}

fn chunks(
    mut rows: Vec<(u64, u64, Chunk)>,
    file: &TocEntry,
    payload: u64,
) -> std::result::Result<Vec<Chunk>, &'static str> {
    rows.sort_by_key(|row| row.0);
    let mut at = 0;
    let mut out = Vec::with_capacity(rows.len());
    for (begin, size, chunk) in rows {
        let left = file.size.checked_sub(begin).filter(|&left| left > 0).ok_or("a chunk begins behind its end")?;
        if begin != at {
            return Err("its chunks leave something out or overlap");
        }
        let size = if size == 0 { left } else { size };
        if size > left {
            return Err("a chunk ends behind its end");
        }
        match chunk.offset {
            // Zeros take no room, so there may be as many as there are.
            None => {}
            Some(_) if size > MAX_READ_CHUNK && !chunk.zeros => return Err(TOO_LARGE),
            Some(offset) if offset >= payload => return Err("a chunk lies outside of the archive"),
            Some(_) => {}
        }
        chunk.inner.checked_add(size).ok_or("a chunk lies outside of its frame")?;
        at = begin + size;
        out.push(Chunk { size, ..chunk });
    }
    if at != file.size {
        return Err("its chunks leave something out");
    }
    if let [only] = &mut out[..] {
        only.sha256 = only.sha256.or(file.digest);
    }
    Ok(out)
}

fn check_holes(file: &TocEntry) -> std::result::Result<(), &'static str> {
    let mut end = 0;
    for &(offset, length) in &file.holes {
        if offset < end || length == 0 {
            return Err("its holes overlap");
        }
        end = offset.checked_add(length).filter(|&end| end <= file.size).ok_or("a hole behind its end")?;
    }
    Ok(())
}

fn header(entry: TocEntry) -> Header {
    let kind = match entry.kind {
        Kind::Regular => tar::Kind::Regular { size: entry.size, holes: entry.holes },
        Kind::Symlink => tar::Kind::Symlink { target: entry.link },
        Kind::HardLink => tar::Kind::HardLink { first: entry.link },
        Kind::CharDevice => tar::Kind::CharDevice { major: entry.dev_major, minor: entry.dev_minor },
        Kind::BlockDevice => tar::Kind::BlockDevice { major: entry.dev_major, minor: entry.dev_minor },
        Kind::Fifo => tar::Kind::Fifo,
        Kind::Directory | Kind::Chunk => tar::Kind::Directory,
    };
    Header {
        name: entry.name,
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime.unwrap_or(Time { sec: 0, nsec: 0 }),
        xattrs: entry.xattrs,
    }
}
