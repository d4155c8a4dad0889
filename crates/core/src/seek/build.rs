//! Making an index: the archive is read once, from its beginning to its end.
//!
//! Invariant: every byte of every file was hashed as it went by, and the archive's own checksums were proved; what is written
//! before all is known are windows, which nobody finds without what comes last.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender};

use super::content::{Contents, NOWHERE};
use super::stream::{Part, stream};
use super::text::{Head, IndexWriter};
use super::{Checkpoint, ENDS, Identity, LONGEST_FRAME, Stream, shown};
use crate::archive::MAX_PAGE_FRAME;
use crate::chunk::MAX_CHUNK;
use crate::convert::Out;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{Entry, FrameAt, Kind, described, unpacked};
use crate::job::Job;
use crate::stargz::{self, Footer, TOC_NAME};
use crate::tar::{self, Header, Reader, Room, TreeBuilder};

/// What was made.
#[derive(Debug)]
pub struct Built {
    pub tree: Digest,
    /// Of the index's text: what the archive is known by.
    pub map: Digest,
    pub entries: u64,
    pub bytes: u64,
    pub checkpoints: u64,
    /// Bytes of the index.
    pub size: u64,
}

/// What is known of an archive before it is read.
#[derive(Debug)]
pub struct Ends {
    pub size: u64,
    /// The first and the last 64 KiB, or all.
    pub first: Vec<u8>,
    pub last: Vec<u8>,
}

impl Ends {
    /// Those of a file called `what`.
    ///
    /// # Errors
    /// `Io`.
    pub fn of(what: &str, input: &File) -> Result<Ends> {
        let io = || Error::io("read", what);
        let size = input.metadata().map_err(io())?.len();
        let length = size.min(ENDS) as usize;
        let (mut first, mut last) = (vec![0; length], vec![0; length]);
        input.read_exact_at(&mut first, 0).map_err(io())?;
        input.read_exact_at(&mut last, size - length as u64).map_err(io())?;
        Ok(Ends { size, first, last })
    }
}

/// Read the archive `input`, called `what`, from front to back, be it a pipe, and write its index to `out`; `ends` are its ends.
///
/// # Errors
/// `Damaged` when it is no tar or cannot be unpacked, naming the entry; `NoCheckpoint`; `Io`, `Stopped`.
pub fn build(what: &str, input: &File, ends: &Ends, out: &mut Out, job: &Job) -> Result<Built> {
    let built = build_unwatched(what, input, ends, out, job);
    // A reader that was stopped says that it cannot read.
    job.step(0)?;
    built
}

fn build_unwatched(what: &str, input: &File, ends: &Ends, out: &mut Out, job: &Job) -> Result<Built> {
    let look = Look { what, input, job };
    let (identity, stream, has_toc) = look.at(ends)?;
    job.bytes_total.store(identity.size, Relaxed);
    let pack = identity.pack();
    let mut writer = IndexWriter::new(out, job);
    let (tree, mut bodies, points) = match stream {
        Stream::Tar => {
            let plain = Counted { input, job };
            let points = RefCell::default();
            let mut contents = Contents::new(pack.clone(), &points);
            let (tree, bodies) = survey(what, Reader::new(what, plain), has_toc, &mut contents, identity.size, job)?;
            (tree, bodies, Vec::new())
        }
        _ => look.compressed(stream, has_toc, &pack, identity.size, &mut writer)?,
    };
    place(what, &mut bodies, &points, stream, identity.size)?;
    let (entries, tree) = unpacked(tree, bodies, job)?;
    let size = |entry: &Entry| if let Kind::Regular(content) = &entry.kind { content.digest.size } else { 0 };
    let bytes = entries.iter().map(size).sum();
    let head = Head { identity, stream, tree, entries: entries.len() as u64, bytes };
    let (map, size) = writer.finish(&head, &points, &entries)?;
    Ok(Built { tree, map, entries: head.entries, bytes, checkpoints: points.len() as u64, size })
}

/// About how many bytes are kept of an entry; of its data besides, less than it has.
fn weight(header: &Header) -> usize {
    const EACH: usize = 320;
    const CHUNK: u64 = 128;
    let kind = match &header.kind {
        tar::Kind::Regular { holes, .. } => {
            let zeros = holes.iter().map(|hole| hole.1 / MAX_CHUNK as u64 + 1).sum::<u64>() * CHUNK;
            usize::try_from(zeros).unwrap_or(usize::MAX)
        }
        tar::Kind::Symlink { target } => target.len(),
        tar::Kind::HardLink { first } => 2 * first.len(),
        _ => 0,
    };
    (EACH + 2 * header.name.len() + Room::of_xattrs(&header.xattrs)).saturating_add(kind)
}

type Surveyed = (crate::tar::Tree, Vec<Entry>);

struct Look<'a> {
    what: &'a str,
    input: &'a File,
    job: &'a Job,
}

impl Look<'_> {
    /// What it is known by, what it is, and whether it has a TOC.
    fn at(&self, ends: &Ends) -> Result<(Identity, Stream, bool)> {
        let Ends { size, first, last } = ends;
        let stream = match &first[..] {
            [0x1f, 0x8b, ..] => Stream::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Stream::Zstd,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Stream::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                return Err(closed(self.what, "xz cannot be entered in its middle"));
            }
            [b'B', b'Z', b'h', ..] => return Err(closed(self.what, "bzip2 cannot be entered in its middle")),
            _ => Stream::Tar,
        };
        let tail = &last[last.len().saturating_sub(stargz::footer::LONGEST)..];
        let has_toc = matches!(Footer::read(tail, *size), Ok(Some(_)));
        Ok((Identity { size: *size, first: Digest::of(first).sha256, last: Digest::of(last).sha256 }, stream, has_toc))
    }

    fn compressed(
        &self,
        stream_is: Stream,
        has_toc: bool,
        pack: &Arc<[u8; 32]>,
        size: u64,
        writer: &mut IndexWriter<'_>,
    ) -> Result<(crate::tar::Tree, Vec<Entry>, Vec<Checkpoint>)> {
        let Look { what, input, job } = *self;
        std::thread::scope(|scope| {
            let (source, parts, used) = stream(input, job);
            scope.spawn(move || source.run(stream_is));
            let points = RefCell::default();
            let mut arriving = Arriving {
                parts,
                used,
                block: Vec::new(),
                at: 0,
                points: &points,
                writer,
                refused: None,
                ended: false,
            };
            let mut contents = Contents::new(pack.clone(), &points);
            let surveyed = survey(what, Reader::new(what, &mut arriving), has_toc, &mut contents, size, job);
            if let Some(refused) = arriving.refused.take() {
                return Err(refused.unwrap_or_else(|| closed(what, TOO_FAR)));
            }
            let (tree, bodies) = surveyed?;
            Ok((tree, bodies, points.into_inner()))
        })
    }
}

const TOO_FAR: &str = "it cannot be entered for more than 64 MiB";

fn closed(what: &str, why: &str) -> Error {
    Error::NoCheckpoint {
        what: what.into(),
        why: format!("{why}, so nothing in it can be read without what is before it"),
    }
}

/// Reads the tar to its end, and what follows it, so that the sums of a compression are proved.
fn survey<R: Read>(
    what: &str,
    mut reader: Reader<R>,
    has_toc: bool,
    contents: &mut Contents<'_>,
    compressed: u64,
    job: &Job,
) -> Result<Surveyed> {
    let mut builder = TreeBuilder::new(what);
    let mut room = Room::of(compressed);
    let mut bodies = Vec::new();
    while let Some(header) = reader.next_entry()? {
        job.step(0)?;
        if has_toc && header.name == TOC_NAME {
            continue;
        }
        if !room.take(weight(&header)) {
            return Err(Error::damaged(what, "its entries take more memory than is allowed for its size"));
        }
        builder.push(&header)?;
        let content = contents.take(&mut reader, &header, job)?;
        bodies.push(described(&header, content).map_err(|found| damaged(what, &header, found))?);
        job.file_done();
    }
    let mut rest = vec![0; 64 << 10];
    while reader.rest(&mut rest)? > 0 {}
    Ok((builder.finish()?, bodies))
}

fn damaged(what: &str, header: &Header, found: &str) -> Error {
    Error::damaged(what, format!("{}: {found}", shown(&header.name)))
}

/// Say of each chunk in which frame it lies: one reaches from checkpoint to checkpoint, and has what its last chunk needs.
fn place(what: &str, bodies: &mut [Entry], points: &[Checkpoint], stream: Stream, size: u64) -> Result<()> {
    let at = |frame: &FrameAt| points.partition_point(|point| point.plain <= frame.offset) - 1;
    let mut needed = vec![0; points.len()];
    for (frame, _) in frames(bodies).filter(|(frame, _)| stream != Stream::Tar && frame.offset != NOWHERE) {
        let number = at(frame);
        needed[number] = needed[number].max(frame.offset - points[number].plain + u64::from(frame.plain));
    }
    for (frame, inner) in frames(bodies) {
        if frame.offset == NOWHERE {
            (frame.offset, frame.length) = (size, 0);
        } else if stream == Stream::Tar {
            frame.length = frame.plain;
        } else {
            let number = at(frame);
            let (point, need) = (&points[number], needed[number]);
            let end = points.get(number + 1).map_or(size, |next| next.at + u64::from(next.bit > 0));
            if need > MAX_PAGE_FRAME as u64 {
                return Err(closed(what, TOO_FAR));
            }
            // More of it is no tar: frames that are skipped.
            let length = (end - point.at).min(LONGEST_FRAME) as u32;
            *inner = (frame.offset - point.plain) as u32;
            (frame.offset, frame.length, frame.plain) = (point.at, length, need as u32);
        }
    }
    Ok(())
}

fn frames(bodies: &mut [Entry]) -> impl Iterator<Item = (&mut FrameAt, &mut u32)> {
    bodies.iter_mut().flat_map(|body| {
        let chunks = if let Kind::Regular(content) = &mut body.kind { &mut content.chunks[..] } else { &mut [] };
        chunks.iter_mut().map(|chunk| (&mut chunk.frame, &mut chunk.inner))
    })
}

/// A tar as it lies.
struct Counted<'a> {
    input: &'a File,
    job: &'a Job,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.job.step(count as u64).map_err(io::Error::other)?;
        Ok(count)
    }
}

/// The plain stream that the other thread makes; its checkpoints are kept.
struct Arriving<'a, 'w> {
    parts: Receiver<Part>,
    used: Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    points: &'a RefCell<Vec<Checkpoint>>,
    writer: &'a mut IndexWriter<'w>,
    /// Why reading failed, if the stream is not to blame; `None` inside: it cannot be entered.
    refused: Option<Option<Error>>,
    ended: bool,
}

impl Read for Arriving<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.ended {
            match self.parts.recv() {
                Ok(Part::Plain(block)) => {
                    let used = std::mem::replace(&mut self.block, block);
                    self.at = 0;
                    // It takes back as many as it can use.
                    let _ = self.used.try_send(used);
                }
                Ok(Part::Point { at, bit, plain, window, head }) => {
                    let window = window.map_or(Ok((0, 0)), |window| self.writer.window(&window));
                    let window = window.map_err(|error| {
                        self.refused = Some(Some(error));
                        io::Error::other("the index cannot be written")
                    })?;
                    self.points.borrow_mut().push(Checkpoint { at, bit, plain, window, head });
                }
                Ok(Part::End) => self.ended = true,
                Ok(Part::Failed(error)) => return Err(error),
                Ok(Part::Closed) => {
                    self.refused = Some(None);
                    return Err(io::Error::other("it cannot be entered"));
                }
                Err(_) => return Err(io::Error::other("the decompressor is gone")),
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
