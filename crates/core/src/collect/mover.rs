//! Frames of old packs, as they are, into new packs.

use crate::archive::frame::{self, Frame};
use crate::archive::{Pack, PackWriter, Redirect, Toc, TocEntry};
use crate::error::{Error, Result};
use crate::push::PackName;

/// A new pack and its number, by which `Mover::stored` is told of it.
pub struct Moved {
    pub number: u32,
    pub name: PackName,
    pub bytes: Vec<u8>,
}

/// Fills new packs; gives the redirect of an old one when all that hold its frames have been stored.
pub struct Mover {
    push: String,
    writer: PackWriter,
    /// Names of the packs sealed so far, and whether they were stored.
    sealed: Vec<(PackName, bool)>,
    waiting: Vec<Old>,
}

struct Old {
    name: PackName,
    /// Offset, length, number of the new pack, new offset, new length.
    rows: Vec<(u32, u32, u32, u32, u32)>,
}

impl Mover {
    /// `push` is the run that writes the new packs.
    pub fn new(push: String) -> Mover {
        Mover { push, writer: PackWriter::default(), sealed: Vec::new(), waiting: Vec::new() }
    }

    /// Copy `frames` (offset and length) of an old pack, whose bytes are `stored`; gives the packs that this has filled.
    ///
    /// # Errors
    /// `Damaged` when the old pack says nothing of a frame, or something else; nothing of it is copied then.
    pub fn add(&mut self, name: &PackName, toc: &Toc, frames: &[(u32, u32)], stored: &[&[u8]]) -> Result<Vec<Moved>> {
        let parts = parts_of(toc, frames, stored)?;
        let (mut full, mut rows) = (Vec::new(), Vec::with_capacity(frames.len()));
        for ((part, &(offset, length)), bytes) in parts.into_iter().zip(frames).zip(stored) {
            let chunks = part.iter().map(|entry| (entry.lying.digest, entry.lying.inner)).collect();
            let frame = Frame { bytes: bytes.to_vec(), plain: part[0].lying.plain, chunks };
            let new_offset = self.writer.add(frame, part[0].holds)[0].offset;
            rows.push((offset, length, self.sealed.len() as u32, new_offset, length));
            if self.writer.is_full() {
                full.push(self.seal());
            }
        }
        self.waiting.push(Old { name: *name, rows });
        Ok(full)
    }

    /// Seal what is left.
    pub fn finish(&mut self) -> Option<Moved> {
        (!self.writer.is_empty()).then(|| self.seal())
    }

    fn seal(&mut self) -> Moved {
        let Pack { name, bytes, .. } = std::mem::take(&mut self.writer).seal(&self.push);
        self.sealed.push((name, false));
        Moved { number: self.sealed.len() as u32 - 1, name, bytes }
    }

    /// A new pack has been stored; gives the old packs, with their redirects, all of whose frames are stored by that.
    pub fn stored(&mut self, number: u32) -> Vec<(PackName, Vec<u8>)> {
        self.sealed[number as usize].1 = true;
        let is_stored = |old: &mut Old| {
            old.rows.iter().all(|row| self.sealed.get(row.2 as usize).is_some_and(|(_, is_stored)| *is_stored))
        };
        let ready: Vec<Old> = self.waiting.extract_if(.., is_stored).collect();
        ready.into_iter().map(|old| (old.name, self.redirect(old.name, old.rows))).collect()
    }

    fn redirect(&self, of: PackName, mut rows: Vec<(u32, u32, u32, u32, u32)>) -> Vec<u8> {
        let mut numbers: Vec<u32> = rows.iter().map(|row| row.2).collect();
        numbers.dedup();
        for row in &mut rows {
            row.2 = numbers.iter().position(|&number| number == row.2).expect("it was taken from there") as u32;
        }
        let packs = numbers.iter().map(|&number| self.sealed[number as usize].0).collect();
        Redirect { of, packs, rows }.encode()
    }
}

/// Prove every chunk in `frames` (offset and length) of a pack, whose bytes are `stored`: what is damaged is not copied.
///
/// # Errors
/// As `Mover::add`, and `Mismatch`.
pub fn prove(toc: &Toc, frames: &[(u32, u32)], stored: &[&[u8]]) -> Result<()> {
    let mut plain = Vec::new();
    for (part, bytes) in parts_of(toc, frames, stored)?.into_iter().zip(stored) {
        frame::open_into(bytes, part[0].lying.plain, &mut plain)?;
        let said = part.iter().map(|entry| (entry.lying.digest.sha256, entry.lying.inner as usize));
        if !frame::chunks(&plain).map(|(sha256, place)| (sha256, place.start)).eq(said) {
            return Err(Error::damaged("frame", "its tar and the TOC disagree"));
        }
        for entry in part {
            frame::chunk(&plain, entry.lying.inner, &entry.lying.digest)?;
        }
    }
    Ok(())
}

/// What the TOC says of each frame.
fn parts_of<'a>(toc: &'a Toc, frames: &[(u32, u32)], stored: &[&[u8]]) -> Result<Vec<&'a [TocEntry]>> {
    let part_of = |(&(offset, length), bytes): (&(u32, u32), &&[u8])| {
        let part = frame_of(toc, offset);
        if part.is_empty() || part[0].lying.length != length || bytes.len() != length as usize {
            return Err(Error::damaged("pack", format!("its TOC names no frame of {length} bytes at {offset}")));
        }
        Ok(part)
    };
    frames.iter().zip(stored).map(part_of).collect()
}

/// The entries of the frame at `offset`.
fn frame_of(toc: &Toc, offset: u32) -> &[TocEntry] {
    let first = toc.entries.partition_point(|entry| entry.lying.offset < offset);
    let rest = &toc.entries[first..];
    &rest[..rest.partition_point(|entry| entry.lying.offset == offset)]
}
