//! Members of an archive that is converted: what of them may be taken over as it lies.
//!
//! Invariant: a member is copied only if it decompresses to exactly the bytes that stand there in the new archive, so the
//! places that are noted are hints: a wrong one costs time, never a byte. Memory of them is bounded by `MOST`.
//! Bytes: docs/archive.md, "Members that are copied".

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::footer::{self, Footer};
use super::toc::GZIP_HEAD;
use super::write::CHUNK_SIZES;
use crate::error::{Error, Result};

/// What the places of members may take; of members behind these nothing is copied.
const MOST: usize = 16 << 20;
/// Compressed bytes that a member may have beyond twice its plain ones.
const SLACK: u64 = 64 << 10;

/// Where members begin, in the plain stream and in the compressed one: in order, each as two differences to the one before.
#[derive(Default)]
pub struct Bounds {
    differences: Vec<u8>,
    last: (u64, u64),
}

impl Bounds {
    /// The next member, or the end.
    pub fn note(&mut self, plain: u64, stored: u64) {
        if self.differences.len() < MOST {
            push(&mut self.differences, plain - self.last.0);
            push(&mut self.differences, stored - self.last.1);
            self.last = (plain, stored);
        }
    }

    /// Those behind a place, from the first on.
    fn after(&self, mut at: Place) -> impl Iterator<Item = Place> {
        std::iter::from_fn(move || {
            let mut rest = &self.differences[at.next..];
            at.plain += take(&mut rest)?;
            at.stored += take(&mut rest)?;
            at.next = self.differences.len() - rest.len();
            Some(at)
        })
    }
}

/// The beginning of a member, and where among the differences the next stands.
#[derive(Clone, Copy, Default)]
struct Place {
    plain: u64,
    stored: u64,
    next: usize,
}

fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The members of an archive.
pub struct Copies<'a> {
    pub(super) file: &'a File,
    is_zstd: bool,
    bounds: Bounds,
    /// Where the searches of either kind were: they mostly go on.
    found: Cell<Place>,
    cut: Cell<Place>,
}

/// The footer of an archive with a TOC; `None` of any other file, or when its footer cannot be.
///
/// # Errors
/// `Io`.
pub fn footer_of(file: &File) -> Result<Option<Footer>> {
    let io = Error::io("read", "the end of an archive");
    let read = || {
        let size = file.metadata()?.len();
        let mut tail = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(footer::LONGEST)];
        let at = size - tail.len() as u64;
        file.read_exact_at(&mut tail, at)?;
        Ok((tail, size))
    };
    let (tail, size) = read().map_err(io)?;
    Ok(Footer::read(&tail, size).ok().flatten())
}

impl<'a> Copies<'a> {
    pub fn new(file: &'a File, is_zstd: bool, bounds: Bounds) -> Copies<'a> {
        Copies { file, is_zstd, bounds, found: Cell::default(), cut: Cell::default() }
    }

    /// The last member that begins at or before a place in the plain stream.
    fn before(&self, plain: u64, search: &Cell<Place>) -> Place {
        let mut at = search.get();
        if at.plain > plain {
            at = Place::default();
        }
        for next in self.bounds.after(at).take_while(|next| next.plain <= plain) {
            at = next;
        }
        search.set(at);
        at
    }

    /// Where what is `plain` in the decompressed stream lies, if whole members hold it: of gzip one, of zstd as many as do.
    pub(super) fn find(&self, plain: Range<u64>) -> Option<Range<u64>> {
        let begin = self.before(plain.start, &self.found);
        if begin.plain != plain.start {
            return None;
        }
        let mut members = self.bounds.after(begin);
        let end = if self.is_zstd { members.find(|end| end.plain >= plain.end) } else { members.next() };
        end.filter(|end| end.plain == plain.end).map(|end| begin.stored..end.stored)
    }

    /// The sizes of the chunks that a file's content is cut into, if it is so cut that its chunks may stay: at the beginning of
    /// members, and no smaller nor larger than may be chosen.
    pub(super) fn cuts(&self, content: u64, size: u64) -> Option<Vec<u64>> {
        let mut begin = self.before(content, &self.cut);
        if begin.plain != content {
            return None;
        }
        let mut cuts = Vec::new();
        let most = CHUNK_SIZES.end as u64;
        for next in self.bounds.after(begin).take_while(|next| next.plain < content + size) {
            let chunk = next.plain - begin.plain;
            if chunk < CHUNK_SIZES.start as u64 || chunk >= most {
                return None;
            }
            cuts.push(chunk);
            begin = next;
        }
        let last = content + size - begin.plain;
        cuts.push(last);
        (last < most).then_some(cuts)
    }
}

/// Reads members that may be copied, and proves them.
pub struct Copier<'a> {
    file: &'a File,
    with: With,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

enum With {
    Gzip(libdeflater::Decompressor),
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl<'a> Copier<'a> {
    pub fn new(file: &'a File, is_zstd: bool) -> Copier<'a> {
        let with = if is_zstd {
            With::Zstd(zstd::bulk::Decompressor::new().expect("zstd has memory for a context"))
        } else {
            With::Gzip(libdeflater::Decompressor::new())
        };
        Copier { file, with, stored: Vec::new(), plain: Vec::new() }
    }

    /// What lies there, if it decompresses to `plain`: of gzip under the header that all members have.
    pub fn copy(&mut self, at: &Range<u64>, plain: &[u8]) -> Option<&[u8]> {
        let length = at.end - at.start;
        if length > 2 * plain.len() as u64 + SLACK {
            return None;
        }
        self.stored.resize(length as usize, 0);
        self.file.read_exact_at(&mut self.stored, at.start).ok()?;
        if self.plain.len() < plain.len() {
            self.plain.resize(plain.len(), 0);
        }
        let out = &mut self.plain[..plain.len()];
        let got = match &mut self.with {
            // Without name, extra field or the like.
            With::Gzip(_) if !self.stored.starts_with(&[0x1f, 0x8b, 8, 0]) => return None,
            With::Gzip(decompressor) => decompressor.gzip_decompress(&self.stored, out).ok()?,
            With::Zstd(decompressor) => decompressor.decompress_to_buffer(&self.stored, out).ok()?,
        };
        if got != plain.len() || *out != *plain {
            return None;
        }
        if let With::Gzip(_) = self.with {
            // Whoever made it, it says no time and no system.
            self.stored[..GZIP_HEAD.len()].copy_from_slice(&GZIP_HEAD);
        }
        Some(&self.stored)
    }
}
