//! Making an index: the archive is read once, from its beginning to its end.
//!
//! Invariant: every byte of every file was hashed as it went by, and the archive's own checksums were proved; what is written
//! before all is known are windows, which nobody finds without what comes last.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender};

use super::bodies::Bodies;
use super::content::Contents;
use super::place::Needs;
use super::remaining::Remaining;
use super::stream::{Part, stream};
use super::text::{Head, IndexWriter};
use super::{Checkpoint, ENDS, Identity, Stream};
use crate::chunk::MAX_CHUNK;
use crate::convert::Out;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{Kind, described};
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

/// Read the archive `input`, called `what`, from front to back, be it a pipe, and write its index to `out`; `ends` are its
/// ends, `temporary` is a directory for what memory should not hold. One that `is_layer` may have hard links to what the layers
/// below it have.
///
/// # Errors
/// `Damaged` when it is no tar or cannot be unpacked, naming the entry; `NoCheckpoint`; `Io`, `Stopped`.
pub fn build(
    what: &str,
    input: &File,
    ends: &Ends,
    out: &mut Out,
    temporary: &Path,
    is_layer: bool,
    job: &Job,
) -> Result<Built> {
    let built = build_unwatched(&Look { what, input, temporary, is_layer, job }, ends, out);
    // A reader that was stopped says that it cannot read.
    job.step(0)?;
    built
}

fn build_unwatched(look: &Look<'_>, ends: &Ends, out: &mut Out) -> Result<Built> {
    let &Look { what, input, job, .. } = look;
    let (identity, stream, has_toc) = look.at(ends)?;
    job.bytes_total.store(identity.size, Relaxed);
    let pack = identity.pack();
    let mut writer = IndexWriter::new(out, job);
    let (surveyed, points) = match stream {
        Stream::Tar => {
            (look.survey(Counted { input, job }, has_toc, &pack, identity.size, &RefCell::default())?, Vec::new())
        }
        _ => look.compressed(stream, has_toc, &pack, identity.size, &mut writer)?,
    };
    let Surveyed { tree, bodies, needs } = surveyed;
    if needs.are_too_many() {
        return Err(closed(what, TOO_FAR));
    }
    let mut remaining = Remaining::new(tree, bodies);
    let (tree, bytes) = remaining.hash(job)?;
    let (size, count) = (identity.size, remaining.count());
    let head = Head { identity, stream, tree, entries: count as u64, bytes };
    let placed = |at| {
        let mut entry = remaining.entry(at)?;
        needs.place(&mut entry, &points, size);
        Ok(entry)
    };
    let (map, size) = writer.finish(&head, &points, (0..count).map(placed))?;
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

/// What was read.
struct Surveyed {
    tree: tar::Tree,
    bodies: Bodies,
    needs: Needs,
}

struct Look<'a> {
    what: &'a str,
    input: &'a File,
    temporary: &'a Path,
    is_layer: bool,
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
    ) -> Result<(Surveyed, Vec<Checkpoint>)> {
        let Look { what, input, job, .. } = *self;
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
            let surveyed = self.survey(&mut arriving, has_toc, pack, size, &points);
            if let Some(refused) = arriving.refused.take() {
                return Err(refused.unwrap_or_else(|| closed(what, TOO_FAR)));
            }
            let surveyed = surveyed?;
            Ok((surveyed, points.into_inner()))
        })
    }

    /// Read the tar to its end, and what follows it, so that the sums of a compression are proved.
    fn survey(
        &self,
        plain: impl Read,
        has_toc: bool,
        pack: &Arc<[u8; 32]>,
        compressed: u64,
        points: &RefCell<Vec<Checkpoint>>,
    ) -> Result<Surveyed> {
        let &Look { what, temporary, is_layer, job, .. } = self;
        let mut reader = Reader::new(what, plain);
        let mut builder = TreeBuilder::new(what).of_layer(is_layer);
        let mut room = Room::of(compressed);
        let (mut bodies, mut needs) = (Bodies::new(temporary, pack.clone()), Needs::default());
        let mut contents = Contents::new(pack.clone(), points);
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
            let body = described(what, &header, content)?;
            if let Kind::Regular(content) = &body.kind {
                needs.note(content, &points.borrow());
            }
            bodies.push(&body)?;
            job.file_done();
        }
        let mut rest = vec![0; 64 << 10];
        while reader.rest(&mut rest)? > 0 {}
        Ok(Surveyed { tree: builder.finish()?, bodies, needs })
    }
}

const TOO_FAR: &str = "it cannot be entered for more than 64 MiB";

fn closed(what: &str, why: &str) -> Error {
    Error::NoCheckpoint {
        what: what.into(),
        why: format!("{why}, so nothing in it can be read without what is before it"),
    }
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
