//! A file map as a tar stream again: the very one that it came from, by its split metadata, or the one form that is written.
//!
//! Invariant: every content is that of the tree, and has as many bytes as the stream is to have there; whoever puts the parts
//! together proves the whole by its digest. Bytes: docs/archive.md.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::entry::{ChunkAt, Content, Entry, Kind};
use super::map::{FileMap, Missing};
use crate::error::{Error, Result, show};
use crate::tar::split::{Line, Stored, parse};
use crate::tar::{self, clean};

/// The most holes of a file that are said in a header: as many as a reader takes (`tar::MAX_PAX`, `tar::MAX_RUNS`), however
/// large their numbers. The zeros of others stand in the stream.
pub const MOST_HOLES: usize = 400_000;

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Raw(Vec<u8>),
    /// These ranges of a chunk, in order: from, to.
    Chunk(ChunkAt, Vec<(u32, u32)>),
}

/// The part of the stream that a page of split metadata, which was proved, tells. All pages of entries have been brought.
///
/// # Errors
/// `Damaged` when it is no split metadata, or not of this tree; `Missing` a page.
pub fn parts(map: &FileMap, page: &[u8]) -> Result<Vec<Part>> {
    let mut out = Vec::new();
    for line in page.split_inclusive(|&byte| byte == b'\n') {
        match parse(line)? {
            Line::Raw(mut bytes) => match out.last_mut() {
                Some(Part::Raw(before)) => before.append(&mut bytes),
                _ => out.push(Part::Raw(bytes)),
            },
            Line::Content(stored) if stored.size == 0 => {}
            Line::Content(stored) => pour(&stored, content(map, &stored)?, &mut out)?,
        }
    }
    Ok(out)
}

fn wrong(stored: &Stored, found: &str) -> Error {
    let name = &stored.name[..stored.name.len().min(200)];
    Error::damaged("split metadata", format!("{}: {found}", show(Path::new(OsStr::from_bytes(name)))))
}

fn content<'m>(map: &'m FileMap, stored: &Stored) -> Result<&'m Content> {
    let missing = |Missing(page)| Error::Missing { what: format!("page {page} of the file map") };
    let path = clean(&stored.name).map_err(|found| wrong(stored, found))?;
    let file = match map.find(&path).map_err(missing)? {
        Some(inode) => map.resolve(inode).map_err(missing)?,
        None => None,
    };
    match file.map(|(_, entry)| &entry.kind) {
        Some(Kind::Regular(content)) => Ok(content),
        _ => Err(wrong(stored, "the tree has no such file")),
    }
}

/// What the stream has of a content: all but the holes.
fn pour(stored: &Stored, content: &Content, out: &mut Vec<Part>) -> Result<()> {
    let (mut begin, mut poured, mut holes) = (0u64, 0u64, stored.holes.iter().peekable());
    for chunk in &content.chunks {
        let end = begin + chunk.digest.size;
        let (mut ranges, mut at) = (Vec::new(), begin);
        while at < end {
            while holes.peek().is_some_and(|(offset, length)| offset + length <= at) {
                holes.next();
            }
            let (hole, length) = holes.peek().map_or((u64::MAX, 0), |&&hole| hole);
            if hole > at {
                let to = hole.min(end);
                ranges.push(((at - begin) as u32, (to - begin) as u32));
                poured += to - at;
                at = to;
            } else {
                at = end.min(hole + length);
            }
        }
        if !ranges.is_empty() {
            out.push(Part::Chunk(chunk.clone(), ranges));
        }
        begin = end;
    }
    if poured == stored.size { Ok(()) } else { Err(wrong(stored, "the tree has another content of that name")) }
}

/// The header of an entry in the form that is written; `first` is the entry of its first name, and `before` the name of the
/// file that came before it in the stream.
///
/// # Errors
/// `Invalid` when no tar can say it.
pub fn header(entry: &Entry, first: &Entry, before: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    tar::push_header(&mut out, &said(entry, first, before))?;
    Ok(out)
}

/// The first name of a file that has holes, with its content, in a stream that leaves them out; nothing of other entries.
///
/// # Errors
/// `Invalid` when no tar can say it.
pub fn sparse(entry: &Entry, first: &Entry) -> Result<Vec<Part>> {
    let Kind::Regular(content) = &first.kind else { return Ok(Vec::new()) };
    if content.holes.is_empty() {
        return Ok(Vec::new());
    }
    let (mut header, size) = (said(entry, first, None), content.digest.size);
    let mut holes = content.holes.clone();
    if holes.len() > MOST_HOLES {
        holes.sort_by_key(|hole| Reverse(hole.1));
        holes.truncate(MOST_HOLES);
        holes.sort_unstable();
    }
    header.kind = tar::Kind::Regular { size, holes: holes.clone() };
    let mut bytes = Vec::new();
    tar::push_sparse_header(&mut bytes, &header)?;
    let mut out = vec![Part::Raw(bytes)];
    let stored =
        Stored { name: entry.path.clone(), size: size - holes.iter().map(|hole| hole.1).sum::<u64>(), crc: 0, holes };
    pour(&stored, content, &mut out)?;
    out.push(Part::Raw(vec![0; tar::padding(stored.size)]));
    Ok(out)
}

fn said(entry: &Entry, first: &Entry, before: Option<&[u8]>) -> tar::Header {
    let kind = match (before, &first.kind) {
        (Some(before), _) => tar::Kind::HardLink { first: before.to_vec() },
        (None, Kind::Directory { .. }) => tar::Kind::Directory,
        (None, Kind::Regular(content)) => tar::Kind::Regular { size: content.digest.size, holes: Vec::new() },
        (None, Kind::Symlink { target }) => tar::Kind::Symlink { target: target.clone() },
        (None, Kind::CharDevice { major, minor }) => tar::Kind::CharDevice { major: *major, minor: *minor },
        (None, Kind::BlockDevice { major, minor }) => tar::Kind::BlockDevice { major: *major, minor: *minor },
        (None, Kind::Fifo | Kind::HardLink { .. }) => tar::Kind::Fifo,
    };
    tar::Header {
        name: entry.path.clone(),
        kind,
        mode: first.mode,
        uid: first.uid.into(),
        gid: first.gid.into(),
        mtime: first.mtime,
        xattrs: if before.is_some() { Vec::new() } else { first.xattrs.clone() },
    }
}
