//! An archive from entries in the order of its stream.
//!
//! Invariant: where members begin and end depends on the entries and the options alone; at most `IN_FLIGHT` plain bytes, and
//! what they become, are in memory at a time. Bytes: docs/archive.md, "Members and chunks".

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crossbeam_channel::Receiver;

use super::encode::Spelling;
use super::entry::{Kind, TocEntry};
use super::footer;
use super::members::{Batch, Compression, Done, Workers};
use super::toc::TocPacker;
use crate::chunk::{Cutter, MAX_CHUNK};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, show};
use crate::job::Job;
use crate::scan::Time;
use crate::tar;

/// Members are handed to the threads in batches of about this much.
const BATCH: usize = 256 << 10;
/// A member that has this much behind its last chunk ends, and one without chunk follows.
const MOST_BEHIND: usize = 4 << 20;
/// Plain bytes that wait for a thread or are with one.
const IN_FLIGHT: usize = 32 << 20;
/// Sizes that `Options::chunk_size` may have.
pub const CHUNK_SIZES: Range<usize> = 64 << 10..4_000_000;

#[derive(Clone, Debug)]
pub struct Options {
    pub compression: Compression,
    /// Cut by this size instead of by content.
    pub chunk_size: Option<usize>,
    /// Of gzip: let chunks share a member until they have this many bytes; 0 for a member a chunk.
    pub min_chunk_size: usize,
    /// Of gzip: whole seconds in the TOC, rounded.
    pub compatible_times: bool,
    pub threads: usize,
    /// Where a large TOC is kept until the end.
    pub temporary: PathBuf,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    pub size: u64,
    /// The compressed TOC.
    pub toc: Range<u64>,
    pub toc_digest: Digest,
    pub entries: u64,
    pub chunks: u64,
}

/// An entry on its way to the TOC: what it still lacks is known when its batch has come back.
enum Pending {
    Whole(Box<TocEntry>),
    /// A file of one chunk, which has this number in the batch and lies in the member of that number.
    Single(Box<TocEntry>, Place),
    /// The first chunk of a larger file.
    First(Box<TocEntry>, Place),
    Next(Place),
    /// The end of a larger file, and its digest.
    End([u8; 32]),
}

#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    member: usize,
    inner: u64,
    size: u64,
}

struct Flight {
    pending: Vec<Pending>,
    plain: usize,
    done: Receiver<Done>,
}

/// A chunk of a file that has not ended.
struct Lying {
    size: u64,
    digest: [u8; 32],
    offset: u64,
    inner: u64,
    end: u64,
}

pub struct Writer<'a> {
    options: &'a Options,
    job: &'a Job,
    sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    workers: Workers,
    batch: Batch,
    pending: Vec<Pending>,
    /// Where the member that is being filled begins in the batch, and where its last chunk ends.
    member: usize,
    last_chunk: usize,
    /// Bytes of chunks in that member; `None` when it has no chunk.
    chunk_bytes: Option<usize>,
    flights: VecDeque<Flight>,
    in_flight: usize,
    spare: Vec<Vec<u8>>,
    position: u64,
    toc: TocPacker,
    open: Option<(Box<TocEntry>, Vec<Lying>)>,
    entries: u64,
    chunks: u64,
}

/// Write an archive: `feed` gives the writer each entry, `sink` takes the bytes.
///
/// # Errors
/// `Invalid` when the options cannot be, `Io` when a temporary file fails, `Stopped`, and what `feed` and `sink` return.
pub fn write(
    options: &Options,
    job: &Job,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    feed: impl FnOnce(&mut Writer<'_>) -> Result<()>,
) -> Result<Written> {
    options.compression.check()?;
    if options.chunk_size.is_some_and(|size| !CHUNK_SIZES.contains(&size)) {
        let why = format!("it may be {} bytes to below {}", CHUNK_SIZES.start, CHUNK_SIZES.end);
        return Err(Error::Invalid { what: "the size of chunks".into(), why });
    }
    if options.min_chunk_size > 0 && matches!(options.compression, Compression::Zstd(_)) {
        let why = "chunks of a zstd archive have a frame each".into();
        return Err(Error::Invalid { what: "the least size of members".into(), why });
    }
    std::thread::scope(|scope| {
        let workers = Workers::start(scope, options.compression, options.threads);
        let spelling = match options.compression {
            Compression::Gzip(_) => Spelling::Lines,
            Compression::Zstd(_) => Spelling::OneLine,
        };
        let mut writer = Writer {
            options,
            job,
            sink,
            workers,
            batch: Batch::default(),
            pending: Vec::new(),
            member: 0,
            last_chunk: 0,
            chunk_bytes: None,
            flights: VecDeque::new(),
            in_flight: 0,
            spare: Vec::new(),
            position: 0,
            toc: TocPacker::begin(spelling, &options.temporary),
            open: None,
            entries: 0,
            chunks: 0,
        };
        feed(&mut writer)?;
        writer.finish()
    })
}

impl Writer<'_> {
    /// Append an entry; `content` has the bytes of a regular file, holes as zeros.
    ///
    /// # Errors
    /// `Invalid` when no tar can say it, `Damaged` when the content is shorter than the header says, and those of `write`.
    pub fn entry(&mut self, header: &tar::Header, content: &mut dyn Read) -> Result<()> {
        self.job.step(0)?;
        tar::push_header(&mut self.batch.plain, header)?;
        self.behind()?;
        let entry = Box::new(self.toc_entry(header));
        self.entries += 1;
        let size = header.size();
        if !matches!(header.kind, tar::Kind::Regular { .. }) {
            self.pending.push(Pending::Whole(entry));
        } else if size == 0 {
            let digest = Some(Digest::of(b"").sha256);
            self.pending.push(Pending::Whole(Box::new(TocEntry { digest, ..*entry })));
        } else {
            if size < self.options.chunk_size.map_or(MAX_CHUNK, |size| size + 1) as u64 {
                let place = self.read_chunk(&header.name, content, size as usize)?;
                self.pending.push(Pending::Single(entry, place));
            } else {
                self.large(&header.name, content, size, entry)?;
            }
            self.batch.plain.resize(self.batch.plain.len() + tar::padding(size), 0);
        }
        self.job.file_done();
        Ok(())
    }

    fn toc_entry(&self, header: &tar::Header) -> TocEntry {
        let mut entry = TocEntry::new(header.name.clone(), Kind::Fifo);
        entry.mode = header.mode & 0o7777;
        (entry.uid, entry.gid) = (header.uid, header.gid);
        entry.mtime = Some(header.mtime);
        if self.options.compatible_times && matches!(self.options.compression, Compression::Gzip(_)) {
            let up = i64::from(header.mtime.nsec >= 500_000_000);
            entry.mtime = Some(Time { sec: header.mtime.sec.saturating_add(up), nsec: 0 });
        }
        entry.xattrs = header.xattrs.clone();
        entry.kind = match &header.kind {
            tar::Kind::Directory => Kind::Directory,
            tar::Kind::Regular { size, holes } => {
                (entry.size, entry.holes) = (*size, holes.clone());
                Kind::Regular
            }
            tar::Kind::Symlink { target } => {
                entry.link = target.clone();
                Kind::Symlink
            }
            tar::Kind::HardLink { first } => {
                entry.link = first.clone();
                Kind::HardLink
            }
            tar::Kind::CharDevice { major, minor } => {
                (entry.dev_major, entry.dev_minor) = (*major, *minor);
                Kind::CharDevice
            }
            tar::Kind::BlockDevice { major, minor } => {
                (entry.dev_major, entry.dev_minor) = (*major, *minor);
                Kind::BlockDevice
            }
            tar::Kind::Fifo => Kind::Fifo,
        };
        entry
    }

    /// A file of several chunks, or that may be.
    fn large(&mut self, name: &[u8], content: &mut dyn Read, size: u64, entry: Box<TocEntry>) -> Result<()> {
        let mut hasher = Hasher::default();
        let mut first = Some(entry);
        let mut left = size;
        let mut note = |writer: &mut Self, place: Place| {
            writer.pending.push(match first.take() {
                Some(entry) => Pending::First(entry, place),
                None => Pending::Next(place),
            });
        };
        if let Some(chunk) = self.options.chunk_size {
            while left > 0 {
                let place = self.read_chunk(name, content, left.min(chunk as u64) as usize)?;
                let start = self.batch.plain.len() - place.size as usize;
                hasher.update(&self.batch.plain[start..]);
                note(self, place);
                left -= place.size;
            }
        } else {
            let mut cutter = Cutter::default();
            let mut piece = vec![0; MAX_CHUNK.min(size as usize)];
            while left > 0 {
                let most = left.min(piece.len() as u64) as usize;
                read_all(content, &mut piece[..most], name)?;
                hasher.update(&piece[..most]);
                left -= most as u64;
                cutter.piece(&piece[..most], |chunk| self.chunk(chunk).map(|place| note(self, place)))?;
            }
            cutter.finish(|chunk| self.chunk(chunk).map(|place| note(self, place)))?;
        }
        self.pending.push(Pending::End(hasher.finish().sha256));
        Ok(())
    }

    /// Begin a chunk, in a new member if it is time for one.
    fn begin_chunk(&mut self, size: usize) -> Result<Place> {
        let full = match self.chunk_bytes {
            Some(bytes) => bytes >= self.options.min_chunk_size,
            None => self.batch.plain.len() > self.member,
        };
        if full {
            self.end_member()?;
        }
        self.chunk_bytes = Some(self.chunk_bytes.unwrap_or(0) + size);
        let at = self.batch.plain.len();
        self.last_chunk = at + size;
        self.batch.chunks.push(at..at + size);
        self.chunks += 1;
        Ok(Place {
            chunk: self.batch.chunks.len() - 1,
            member: self.batch.members.len(),
            inner: (at - self.member) as u64,
            size: size as u64,
        })
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<Place> {
        let place = self.begin_chunk(bytes.len())?;
        self.batch.plain.extend_from_slice(bytes);
        self.job.step(bytes.len() as u64)?;
        Ok(place)
    }

    fn read_chunk(&mut self, name: &[u8], content: &mut dyn Read, size: usize) -> Result<Place> {
        let place = self.begin_chunk(size)?;
        let at = self.batch.plain.len();
        self.batch.plain.resize(at + size, 0);
        read_all(content, &mut self.batch.plain[at..], name)?;
        self.job.step(size as u64)?;
        Ok(place)
    }

    /// Called when something other than a chunk was appended.
    fn behind(&mut self) -> Result<()> {
        if self.batch.plain.len() - self.last_chunk >= MOST_BEHIND { self.end_member() } else { Ok(()) }
    }

    fn end_member(&mut self) -> Result<()> {
        self.member = self.batch.plain.len();
        self.last_chunk = self.member;
        self.chunk_bytes = None;
        self.batch.members.push(self.member);
        if self.member >= BATCH { self.send() } else { Ok(()) }
    }

    /// Hand the batch to the threads, and write what has come back.
    fn send(&mut self) -> Result<()> {
        let memory = self.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, Batch { plain: memory, ..Batch::default() });
        (self.member, self.last_chunk) = (0, 0);
        let plain = batch.plain.len();
        self.in_flight += plain;
        let done = self.workers.give(batch);
        self.flights.push_back(Flight { pending: std::mem::take(&mut self.pending), plain, done });
        while let Some(flight) = self.flights.front() {
            if self.in_flight < IN_FLIGHT && flight.done.is_empty() {
                break;
            }
            self.land()?;
        }
        Ok(())
    }

    /// Wait for the oldest batch and write it.
    fn land(&mut self) -> Result<()> {
        let Some(flight) = self.flights.pop_front() else { return Ok(()) };
        let mut done = flight.done.recv().expect("a worker answers unless it panicked");
        self.job.step(0)?;
        self.in_flight -= flight.plain;
        let base = self.position;
        self.give(&done.bytes)?;
        let lying = |place: Place| Lying {
            size: place.size,
            digest: done.chunks[place.chunk],
            offset: base + place.member.checked_sub(1).map_or(0, |before| done.members[before]) as u64,
            inner: place.inner,
            end: base + done.members[place.member] as u64,
        };
        for pending in flight.pending {
            match pending {
                Pending::Whole(entry) => self.toc.entry(&entry)?,
                Pending::Single(mut entry, place) => {
                    let lying = lying(place);
                    entry.digest = Some(lying.digest);
                    self.toc.entry(&self.placed(*entry, &lying, Which::Only))?;
                }
                Pending::First(entry, place) => self.open = Some((entry, vec![lying(place)])),
                Pending::Next(place) => {
                    let (_, chunks) = self.open.as_mut().expect("a file begins with its first chunk");
                    chunks.push(lying(place));
                }
                Pending::End(digest) => self.close(digest)?,
            }
        }
        done.memory.clear();
        // What a large chunk took is not kept.
        if done.memory.capacity() <= 4 * BATCH {
            self.spare.push(done.memory);
        }
        Ok(())
    }

    /// Tell the TOC of a file that came in several chunks, or might have.
    fn close(&mut self, digest: [u8; 32]) -> Result<()> {
        let (mut entry, chunks) = self.open.take().expect("a file begins with its first chunk");
        entry.digest = Some(digest);
        let (name, end) = (entry.name.clone(), chunks.last().map_or(0, |chunk| chunk.end));
        let mut first = Some(*entry);
        let mut at = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            let which = match (chunks.len(), number + 1) {
                (1, _) => Which::Only,
                (all, number) if all == number => Which::Last,
                _ => Which::Other,
            };
            let is_first = first.is_some();
            let entry = first.take().unwrap_or_else(|| TocEntry::new(name.clone(), Kind::Chunk));
            let mut entry = self.placed(TocEntry { chunk_offset: at, ..entry }, chunk, which);
            if is_first && entry.end_offset > 0 {
                entry.end_offset = end;
            }
            self.toc.entry(&entry)?;
            at += chunk.size;
        }
        Ok(())
    }

    /// An entry with where its chunk lies, as the dialect says it.
    fn placed(&self, mut entry: TocEntry, lying: &Lying, which: Which) -> TocEntry {
        (entry.offset, entry.inner) = (lying.offset, lying.inner);
        entry.chunk_digest = Some(lying.digest);
        match (self.options.compression, which) {
            (Compression::Gzip(_), Which::Only | Which::Last) => {}
            (Compression::Gzip(_), Which::Other) => entry.chunk_size = lying.size,
            (Compression::Zstd(_), which) => {
                entry.end_offset = lying.end;
                // Its readers take chunkDigest as the digest of chunkSize bytes, even where there are none of both.
                match which {
                    Which::Only => entry.chunk_digest = None,
                    Which::Last | Which::Other => entry.chunk_size = lying.size,
                }
            }
        }
        entry
    }

    fn give(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        (self.sink)(bytes)
    }

    /// The last members, the TOC and the footer.
    fn finish(mut self) -> Result<Written> {
        if self.batch.plain.len() > self.member {
            self.end_member()?;
        }
        if !self.batch.members.is_empty() || !self.pending.is_empty() {
            self.send()?;
        }
        while !self.flights.is_empty() {
            self.land()?;
        }
        let at = self.position;
        let packed = self.toc.finish(None)?;
        let (toc_digest, toc) = (packed.digest, at..at + packed.len());
        packed.give(&mut *self.sink)?;
        (self.sink)(&footer::gzip(at))?;
        let size = toc.end + footer::gzip(at).len() as u64;
        Ok(Written { size, toc, toc_digest, entries: self.entries, chunks: self.chunks })
    }
}

/// Which of its file's chunks one is.
enum Which {
    Only,
    Last,
    Other,
}

fn read_all(content: &mut dyn Read, out: &mut [u8], name: &[u8]) -> Result<()> {
    content.read_exact(out).map_err(|source| {
        let path = Path::new(OsStr::from_bytes(name));
        match source.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::damaged(show(path), "its content is cut"),
            _ => Error::Io { doing: "read", path: path.to_owned(), source },
        }
    })
}
