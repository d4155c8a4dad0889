//! Split metadata of a push: gathered while the stream is read, spelled and cut into pages when its tree is known.
//!
//! Invariant: a page depends on the stream between its two cuts, and a cut on the text before it and the name it follows: so a
//! change moves only the lines between two cuts. Memory holds a page and 16 MiB; the rest is in a nameless file.
//! Bytes: docs/archive.md, "Split metadata".

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::entries::Places;
use super::run::MAP_LEVEL;
use crate::archive::frame::FrameWriter;
use crate::archive::{Holds, MAX_PAGE_FRAME};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::cut_of;
use crate::job::Job;
use crate::stargz::Spool;
use crate::tar::split::{Pouring, SEGMENT, SplitWriter, Stored};

/// A page is closed when it has this much: the longest line of raw bytes is as long again.
const MAX_LINES: usize = 240 << 10;
/// Of so many entries at least one closes a page that is long enough: lines are long.
const MAX_CUT: u32 = 128;
/// A page that has this many bytes for each entry of its cut may be closed.
const LONG: usize = 128;

/// The pages of split metadata, all packed or known; none of a directory.
#[derive(Default)]
pub struct Splits {
    pub pages: Vec<Digest>,
    /// At least one had to be packed.
    pub is_new: bool,
}

const RAW: u8 = 0;
const CONTENT: u8 = 1;

/// What is no content, in order, with where contents stand; as it will be needed, not as it will be spelled.
pub struct Lines {
    directory: PathBuf,
    /// Raw bytes that will be a line.
    raw: Vec<u8>,
    packed: Packed,
}

enum Packed {
    Open(zstd::stream::write::Encoder<'static, Spool>),
    Done(Spool),
}

/// A content as the spool has it.
pub struct Placeholder {
    /// Number of its entry.
    pub entry: u32,
    /// Bytes in the stream.
    pub stored: u64,
    pub crc: u64,
    /// As it stands in the stream.
    pub name: Vec<u8>,
}

enum Record {
    Raw(Vec<u8>),
    Content(Placeholder),
}

impl Lines {
    /// What is too much for memory goes to a nameless file in `directory`.
    pub fn new(directory: &Path) -> Result<Lines> {
        let encoder = zstd::stream::write::Encoder::new(Spool::new(directory), 1);
        let encoder = encoder.map_err(Error::io("write a temporary file in", directory))?;
        Ok(Lines { directory: directory.to_owned(), raw: Vec::new(), packed: Packed::Open(encoder) })
    }

    pub fn raw(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SEGMENT - self.raw.len()));
            self.raw.extend_from_slice(now);
            if self.raw.len() == SEGMENT {
                self.end_raw()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// An entry, with so many bytes of content in the stream.
    pub fn content(&mut self, entry: u32, stored: u64, crc: u64, name: &[u8]) -> Result<()> {
        self.end_raw()?;
        let length = name.len() as u32;
        self.write(&[
            &[CONTENT],
            &entry.to_le_bytes(),
            &stored.to_le_bytes(),
            &crc.to_le_bytes(),
            &length.to_le_bytes(),
            name,
        ])
    }

    fn end_raw(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        if raw.is_empty() { Ok(()) } else { self.write(&[&[RAW], &(raw.len() as u32).to_le_bytes(), &raw]) }
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        let Packed::Open(encoder) = &mut self.packed else { return Ok(()) };
        let written = parts.iter().try_for_each(|part| encoder.write_all(part));
        written.map_err(Error::io("write a temporary file in", &self.directory))
    }

    /// All has been said.
    pub fn finish(mut self) -> Result<Lines> {
        self.end_raw()?;
        let Lines { directory, packed: Packed::Open(encoder), .. } = self else { return Ok(self) };
        let spool = encoder.finish().map_err(Error::io("write a temporary file in", &directory))?;
        Ok(Lines { directory, raw: Vec::new(), packed: Packed::Done(spool) })
    }

    fn each(&mut self, mut take: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let Packed::Done(spool) = &mut self.packed else { return Ok(()) };
        let fail = |source: io::Error| Error::io("read a temporary file in", &self.directory)(source);
        let mut input = BufReader::new(zstd::stream::read::Decoder::new(spool.read().map_err(fail)?).map_err(fail)?);
        loop {
            let mut kind = [0];
            if input.read(&mut kind).map_err(fail)? == 0 {
                return Ok(());
            }
            let mut number = || -> Result<u32> {
                let mut bytes = [0; 4];
                input.read_exact(&mut bytes).map_err(fail)?;
                Ok(u32::from_le_bytes(bytes))
            };
            if kind[0] == RAW {
                let mut raw = vec![0; number()? as usize];
                input.read_exact(&mut raw).map_err(fail)?;
                take(Record::Raw(raw))?;
                continue;
            }
            let entry = number()?;
            let mut long = || -> Result<u64> { Ok(u64::from(number()?) | u64::from(number()?) << 32) };
            let (stored, crc) = (long()?, long()?);
            let mut name = vec![0; number()? as usize];
            input.read_exact(&mut name).map_err(fail)?;
            take(Record::Content(Placeholder { entry, stored, crc, name }))?;
        }
    }

    /// The contents that are in the stream, in order.
    pub fn contents(&mut self, mut take: impl FnMut(&Placeholder) -> Result<()>) -> Result<()> {
        self.each(|record| match record {
            Record::Content(content) if content.stored > 0 => take(&content),
            _ => Ok(()),
        })
    }

    /// Spell them and cut them into pages, of a tree of so many `entries`; pack those that the store lacks. `holes` are those of
    /// an entry; of one whose content the tree has not `lost` tells the bytes, holes too, that `replaced` gives next.
    pub fn pages(
        mut self,
        entries: u64,
        holes: impl Fn(u32) -> Vec<(u64, u64)>,
        lost: impl Fn(u32) -> Option<u64>,
        replaced: &mut dyn Read,
        places: &Places<'_>,
        job: &Job,
    ) -> Result<Splits> {
        let cut = cut_of(entries).min(MAX_CUT);
        let directory = self.directory.clone();
        let mut out = Cutting {
            places,
            frames: FrameWriter::new(MAP_LEVEL),
            writer: SplitWriter::default(),
            lines: Vec::new(),
            splits: Splits::default(),
        };
        self.each(|record| {
            job.step(0)?;
            match record {
                Record::Raw(bytes) => out.raw(&bytes)?,
                Record::Content(Placeholder { entry, stored, crc, name }) => {
                    let stored = Stored { name, size: stored, crc, holes: holes(entry) };
                    if let Some(size) = lost(entry) {
                        out.replaced(&stored, &mut (&mut *replaced).take(size), &directory)?;
                    } else {
                        out.writer.content(&mut out.lines, &stored);
                    }
                    let can_end = out.lines.len() >= LONG * cut as usize;
                    if can_end && crc32fast::hash(&stored.name).is_multiple_of(cut) {
                        out.close()?;
                    }
                }
            }
            out.close_if(MAX_LINES)
        })?;
        out.close_if(1)?;
        Ok(out.splits)
    }
}

struct Cutting<'a> {
    places: &'a Places<'a>,
    frames: FrameWriter,
    writer: SplitWriter,
    lines: Vec<u8>,
    splits: Splits,
}

impl Cutting<'_> {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.raw(&mut self.lines, bytes);
        self.writer.flush(&mut self.lines);
        self.close_if(MAX_LINES)
    }

    /// A content that the tree has not; `input` gives it, holes too.
    fn replaced(&mut self, stored: &Stored, input: &mut impl Read, directory: &Path) -> Result<()> {
        let (mut pouring, mut poured) = (Pouring::new(stored), Vec::new());
        let mut buffer = vec![0; 64 << 10];
        loop {
            let got = input.read(&mut buffer).map_err(Error::io("read a temporary file in", directory))?;
            pouring.pour(&buffer[..got], &mut poured)?;
            while poured.len() >= SEGMENT || got == 0 && !poured.is_empty() {
                let later = poured.split_off(SEGMENT.min(poured.len()));
                self.raw(&poured)?;
                poured = later;
            }
            if got == 0 {
                return pouring.finish();
            }
        }
    }

    fn close_if(&mut self, bytes: usize) -> Result<()> {
        if self.lines.len() >= bytes { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if self.lines.len() > MAX_PAGE_FRAME - 1024 {
            return Err(Error::Invalid {
                what: "a file of the tar".into(),
                why: "it has more holes than can be said".into(),
            });
        }
        let digest = Digest::of(&self.lines);
        let Places { known, packer, .. } = self.places;
        if !known.has(&digest) && packer.claim(&digest) {
            self.splits.is_new = true;
            self.frames.add(digest, &self.lines);
            packer.add_held(self.frames.seal(), Holds::Page)?;
        }
        self.splits.pages.push(digest);
        self.lines.clear();
        self.writer = SplitWriter::default();
        Ok(())
    }
}
