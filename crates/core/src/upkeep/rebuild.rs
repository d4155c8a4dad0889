//! A damaged pack made again: its sound frames as they are, the others of their chunks, and a redirect to all of them.
//!
//! Invariant: each chunk is at the place in its frame that it had. Where nobody has a chunk, zeros stand in a chunk of their
//! own, so that the tar stays one.

use std::collections::HashSet;

use crate::archive::frame::{self, Frame, FrameWriter};
use crate::archive::{Holds, Pack, PackWriter, Redirect};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::push::FragmentWriter;

const LEVEL: i32 = 1;
const HEADER: usize = 512;

/// One pack as it grows.
pub struct Rebuild {
    push: String,
    writer: PackWriter,
    redirect: Redirect,
    at: u32,
}

/// What takes the place of the damaged pack.
pub struct Rebuilt {
    pub pack: Pack,
    pub redirect: Redirect,
    /// Without what is only padding.
    pub fragment: Vec<u8>,
}

impl Rebuild {
    /// `push` is the run that writes it, `of` the damaged pack.
    pub fn new(push: &str, of: [u8; 32]) -> Rebuild {
        let redirect = Redirect { of, ..Redirect::default() };
        Rebuild { push: push.to_owned(), writer: PackWriter::default(), redirect, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.writer.is_empty()
    }

    /// Take over a frame as it is; its chunks (digest, inner offset) have been proved. One whose tar headers are damaged is
    /// made again of them.
    pub fn copy(&mut self, offset: u32, stored: &[u8], plain: u32, chunks: Vec<(Digest, u32)>, holds: Holds) {
        let length = stored.len() as u32;
        match mended(stored, plain, &chunks) {
            Some(frame) => self.add(offset, length, frame, holds),
            None => self.add(offset, length, Frame { bytes: stored.to_vec(), plain, chunks }, holds),
        }
    }

    /// Make a frame of `plain` bytes again of chunks sorted by their place in it (inner offset, digest, bytes). What lies
    /// between them is filled.
    ///
    /// # Errors
    /// `Mismatch` when bytes are not those of their digest; `Damaged` when chunks overlap or do not fit.
    pub fn make(
        &mut self,
        offset: u32,
        length: u32,
        plain: u32,
        chunks: &[(u32, Digest, Vec<u8>)],
        holds: Holds,
    ) -> Result<()> {
        self.add(offset, length, filled(plain, chunks)?.seal(), holds);
        Ok(())
    }

    fn add(&mut self, offset: u32, length: u32, frame: Frame, holds: Holds) {
        let stored = frame.bytes.len() as u32;
        self.redirect.rows.push((offset, length, 0, self.at, stored));
        self.writer.add(frame, holds);
        self.at += stored;
    }

    /// The pack, and what leads to it; what an earlier redirect said of other frames is said again.
    pub fn finish(mut self, before: Option<Redirect>) -> Rebuilt {
        let pack = self.writer.seal(&self.push);
        let before = before.unwrap_or_default();
        let moved: HashSet<u32> = self.redirect.rows.iter().map(|row| row.0).collect();
        let kept = before.rows.iter().filter(|row| !moved.contains(&row.0));
        self.redirect.rows.extend(kept.map(|&(at, length, to, new, now)| (at, length, to + 1, new, now)));
        self.redirect.packs = [pack.name].into_iter().chain(before.packs).collect();
        self.redirect.rows.sort_unstable();
        let mut fragment = FragmentWriter::default();
        fragment.chunks(&pack.name, pack.chunks.iter().copied());
        Rebuilt { pack, redirect: self.redirect, fragment: fragment.finish() }
    }
}

/// The frame as it should be, if it can be read but is not so.
fn mended(stored: &[u8], plain: u32, chunks: &[(Digest, u32)]) -> Option<Frame> {
    let opened = frame::open(stored, plain).ok()?;
    let part = |(digest, inner): &(Digest, u32)| {
        frame::chunk(&opened, *inner, digest).map(|bytes| (*inner, *digest, bytes.to_vec())).ok()
    };
    let parts: Vec<_> = chunks.iter().map(part).collect::<Option<_>>()?;
    let mut writer = filled(plain, &parts).ok()?;
    (writer.plain() != opened).then(|| writer.seal())
}

/// A frame of `plain` bytes with these chunks at their places.
fn filled(plain: u32, chunks: &[(u32, Digest, Vec<u8>)]) -> Result<FrameWriter> {
    let misfit = || Error::damaged("frame", "its chunks cannot lie as they are said to");
    let mut writer = FrameWriter::new(LEVEL);
    let mut at = 0usize;
    for (inner, digest, bytes) in chunks {
        let got = Digest::of(bytes);
        if got != *digest {
            return Err(Error::Mismatch { what: format!("chunk {}", digest.short()), expected: *digest, got });
        }
        let start = (*inner as usize).checked_sub(HEADER).ok_or_else(misfit)?;
        at = fill(&mut writer, at, start).ok_or_else(misfit)?;
        writer.add(*digest, bytes);
        at += HEADER + bytes.len().next_multiple_of(HEADER);
    }
    if fill(&mut writer, at, plain as usize) != Some(plain as usize) {
        return Err(misfit());
    }
    Ok(writer)
}

/// Fill a frame up to `end` with chunks of zeros; `None` when that is not possible.
fn fill(writer: &mut FrameWriter, at: usize, end: usize) -> Option<usize> {
    let gap = end.checked_sub(at)?;
    if gap > 0 {
        let zeros = vec![0; gap.checked_sub(HEADER)?];
        writer.add(Digest::of(&zeros), &zeros);
    }
    (gap.is_multiple_of(HEADER)).then_some(end)
}
