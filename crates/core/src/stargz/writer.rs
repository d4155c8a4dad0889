//! An archive from entries in the order of its stream.
//!
//! Invariant: where members begin and end depends on the entries and the options alone; at most `IN_FLIGHT` plain bytes, and
//! what they become, are in memory at a time. Bytes: docs/archive.md, "Members and chunks".

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crossbeam_channel::Receiver;
use flate2::write::GzDecoder;

use super::copies::Copies;
use super::encode::Spelling;
use super::entry::{Kind, TocEntry};
use super::footer;
use super::lying::{Lying, Rows};
use super::members::{Batch, Compression, Done, Workers};
use super::split::Split;
use super::toc::TocPacker;
use super::write::{Chunked, Options, Written};
use crate::digest::{Digest, Hasher, Twin};
use crate::error::{Error, Result, show};
use crate::job::Job;
use crate::tar;

/// Members are handed to the threads in batches of about this much.
const BATCH: usize = 256 << 10;
/// A member that has this much behind its last chunk ends, and one without chunk follows.
const MOST_BEHIND: usize = 4 << 20;
/// Plain bytes that wait for a thread or are with one.
const IN_FLIGHT: usize = 16 << 20;

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

/// Where the archive goes, and how far it has come.
struct Out<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    position: u64,
}

impl Out<'_> {
    fn give(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        (self.sink)(bytes)
    }
}

/// Where an entry stands in an archive whose members may be copied.
pub struct Origin<'a> {
    /// Its headers as they stand there, if they may stay so.
    pub headers: Option<&'a [u8]>,
    /// Where its content begins, or would, in the plain stream.
    pub content: u64,
}

/// Takes the entries of an archive in the order of its stream.
pub struct Writer<'a> {
    options: &'a Options,
    copies: Option<&'a Copies<'a>>,
    job: &'a Job,
    workers: Workers,
    batch: Batch,
    pending: Vec<Pending>,
    /// Where the member that is being filled begins in the batch, and where its last chunk ends.
    member: usize,
    last_chunk: usize,
    /// Bytes of chunks in that member; `None` when it has no chunk.
    chunk_bytes: Option<usize>,
    /// Where in the archive that is copied from what that member begins with stands.
    origin: Option<u64>,
    flights: VecDeque<Flight>,
    in_flight: usize,
    /// Memory of batches that have come back, and of what they became.
    spare: Vec<(Vec<u8>, Vec<u8>)>,
    out: Out<'a>,
    toc: TocPacker,
    split: Option<Split>,
    open: Option<(Box<TocEntry>, Rows)>,
    entries: u64,
    chunks: u64,
    /// Of the tar stream, as far as it was handed to the threads.
    tar: Twin,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        options: &'a Options,
        copies: Option<&'a Copies<'a>>,
        job: &'a Job,
        sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
        workers: Workers,
    ) -> Writer<'a> {
        let (spelling, split) = match options.compression {
            Compression::Gzip(_) => (Spelling::Lines, None),
            Compression::Zstd(_) => (Spelling::OneLine, Some(Split::begin(&options.temporary))),
        };
        Writer {
            options,
            copies,
            job,
            workers,
            batch: Batch::default(),
            pending: Vec::new(),
            member: 0,
            last_chunk: 0,
            chunk_bytes: None,
            origin: None,
            flights: VecDeque::new(),
            in_flight: 0,
            spare: Vec::new(),
            out: Out { sink, position: 0 },
            toc: TocPacker::begin(spelling, &options.temporary),
            split,
            open: None,
            entries: 0,
            chunks: 0,
            tar: Twin::default(),
        }
    }

    /// Append an entry; `content` has the bytes of a regular file, holes as zeros.
    ///
    /// # Errors
    /// `Invalid` when no tar can say it, `Damaged` when the content is shorter than the header says, and those of `write`.
    pub fn entry(&mut self, header: &tar::Header, content: &mut dyn Read) -> Result<()> {
        self.entry_of(header, content, None)
    }

    /// The same of an entry of the archive that is copied from.
    ///
    /// # Errors
    /// As `entry`.
    pub fn entry_of(&mut self, header: &tar::Header, content: &mut dyn Read, origin: Option<Origin<'_>>) -> Result<()> {
        self.job.step(0)?;
        let at = self.batch.plain.len();
        match origin.as_ref().and_then(|origin| origin.headers.map(|headers| (origin, headers))) {
            Some((origin, headers)) => {
                if at == self.member {
                    self.origin = Some(origin.content - headers.len() as u64);
                }
                self.batch.plain.extend_from_slice(headers);
            }
            None => tar::push_header(&mut self.batch.plain, header)?,
        }
        let origin = origin.map(|origin| origin.content);
        if let Some(split) = &mut self.split {
            split.raw(&self.batch.plain[at..]);
        }
        self.behind()?;
        let seconds = self.options.compatible_times && matches!(self.options.compression, Compression::Gzip(_));
        let entry = Box::new(TocEntry::of_header(header, seconds));
        self.entries += 1;
        let size = header.size();
        if !matches!(header.kind, tar::Kind::Regular { .. }) {
            self.pending.push(Pending::Whole(entry));
        } else if size == 0 {
            let digest = Some(Digest::of(b"").sha256);
            self.pending.push(Pending::Whole(Box::new(TocEntry { digest, ..*entry })));
        } else {
            let cuts = self.copies.zip(origin).and_then(|(copies, at)| copies.cuts(at, size));
            let is_one = match &cuts {
                Some(cuts) => cuts.len() == 1,
                None => size <= self.options.most_of_one_chunk(),
            };
            if is_one {
                let place = self.read_chunk(&header.name, content, size as usize, origin)?;
                self.pending.push(Pending::Single(entry, place));
            } else {
                self.large(&header.name, content, size, entry, cuts.zip(origin))?;
            }
            self.batch.plain.resize(self.batch.plain.len() + tar::padding(size), 0);
        }
        if let Some(split) = &mut self.split {
            split.entry(header)?;
            split.raw(&tar::END[..tar::padding(size)]);
        }
        self.job.file_done();
        Ok(())
    }

    /// A file of several chunks, or that may be.
    fn large(
        &mut self,
        name: &[u8],
        content: &mut dyn Read,
        size: u64,
        entry: Box<TocEntry>,
        cuts: Option<(Vec<u64>, u64)>,
    ) -> Result<()> {
        let mut hasher = Hasher::default();
        let mut first = Some(entry);
        let mut left = size;
        let mut note = |writer: &mut Self, place: Place| {
            writer.pending.push(match first.take() {
                Some(entry) => Pending::First(entry, place),
                None => Pending::Next(place),
            });
        };
        let (cuts, origin) = cuts.unzip();
        let mut cuts = cuts.into_iter().flatten();
        let each = self.options.piece_of(size);
        while left > 0 {
            let chunk = cuts.next().unwrap_or(each).min(left);
            let origin = origin.map(|origin| origin + size - left);
            let place = self.read_chunk(name, content, chunk as usize, origin)?;
            let start = self.batch.plain.len() - place.size as usize;
            hasher.update(&self.batch.plain[start..]);
            note(self, place);
            left -= place.size;
        }
        self.pending.push(Pending::End(hasher.finish().sha256));
        Ok(())
    }

    /// Begin a chunk, in a new member if it is time for one.
    fn begin_chunk(&mut self, size: usize, origin: Option<u64>) -> Result<Place> {
        let full = match self.chunk_bytes {
            Some(bytes) => bytes >= self.options.min_chunk_size,
            None => self.batch.plain.len() > self.member,
        };
        if full {
            self.end_member()?;
        }
        if self.batch.plain.len() == self.member {
            self.origin = origin;
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

    fn read_chunk(&mut self, name: &[u8], content: &mut dyn Read, size: usize, origin: Option<u64>) -> Result<Place> {
        let place = self.begin_chunk(size, origin)?;
        let at = self.batch.plain.len();
        self.batch.plain.resize(at + size, 0);
        read_all(content, &mut self.batch.plain[at..], name)?;
        if let Some(split) = &mut self.split {
            split.content(&self.batch.plain[at..]);
        }
        self.job.step(size as u64)?;
        Ok(place)
    }

    /// Called when something other than a chunk was appended.
    fn behind(&mut self) -> Result<()> {
        if self.batch.plain.len() - self.last_chunk >= MOST_BEHIND { self.end_member() } else { Ok(()) }
    }

    fn end_member(&mut self) -> Result<()> {
        let length = (self.batch.plain.len() - self.member) as u64;
        let copy = self.copies.zip(self.origin.take()).and_then(|(copies, at)| copies.find(at..at + length));
        self.batch.copies.push(copy);
        self.member = self.batch.plain.len();
        self.last_chunk = self.member;
        self.chunk_bytes = None;
        self.batch.members.push(self.member);
        if self.member >= BATCH { self.send() } else { Ok(()) }
    }

    /// Hand the batch to the threads, and write what has come back.
    fn send(&mut self) -> Result<()> {
        let (plain, out) = self.spare.pop().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.batch, Batch { plain, out, ..Batch::default() });
        (self.member, self.last_chunk) = (0, 0);
        self.hash(&mut batch);
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

    /// The digest of the stream, and those of the chunks if they come with it; else a thread takes them.
    fn hash(&mut self, batch: &mut Batch) {
        let mut at = 0;
        if Twin::is_quick() {
            for chunk in &batch.chunks {
                self.tar.update(&batch.plain[at..chunk.start]);
                batch.digests.push(self.tar.update_run(&batch.plain[chunk.clone()]));
                at = chunk.end;
            }
        }
        self.tar.update(&batch.plain[at..]);
    }

    /// Wait for the oldest batch and write it.
    fn land(&mut self) -> Result<()> {
        let Some(flight) = self.flights.pop_front() else { return Ok(()) };
        let mut done = flight.done.recv().expect("a worker answers unless it panicked");
        self.job.step(0)?;
        self.in_flight -= flight.plain;
        let base = self.out.position;
        self.out.give(&done.bytes)?;
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
                    self.toc.entry(&placed(self.options, *entry, &lying, Which::Only))?;
                }
                Pending::First(entry, place) => {
                    let mut rows = Rows::new(&self.options.temporary);
                    rows.push(&lying(place))?;
                    self.open = Some((entry, rows));
                }
                Pending::Next(place) => {
                    let (_, rows) = self.open.as_mut().expect("a file begins with its first chunk");
                    rows.push(&lying(place))?;
                }
                Pending::End(digest) => self.close(digest)?,
            }
        }
        done.plain.clear();
        done.bytes.clear();
        // What a large chunk took is not kept.
        if done.plain.capacity() <= 4 * BATCH {
            self.spare.push((done.plain, done.bytes));
        }
        Ok(())
    }

    /// Tell the TOC of a file that came in several chunks, or might have.
    fn close(&mut self, digest: [u8; 32]) -> Result<()> {
        let (mut entry, mut rows) = self.open.take().expect("a file begins with its first chunk");
        entry.digest = Some(digest);
        let (name, count, end) = (entry.name.clone(), rows.count(), rows.end());
        let mut first = Some(*entry);
        let mut at = 0;
        let mut number = 0;
        rows.each(|chunk| {
            number += 1;
            self.job.step(0)?;
            let which = match (count, number) {
                (1, _) => Which::Only,
                (count, number) if count == number => Which::Last,
                _ => Which::Other,
            };
            let is_first = first.is_some();
            let entry = first.take().unwrap_or_else(|| TocEntry::new(name.clone(), Kind::Chunk));
            let mut entry = placed(self.options, TocEntry { chunk_offset: at, ..entry }, chunk, which);
            if is_first && entry.end_offset > 0 {
                entry.end_offset = end;
            }
            at += chunk.size;
            self.toc.entry(&entry)
        })
    }

    /// The last members, the TOC and the footer.
    pub(super) fn finish(mut self) -> Result<Written> {
        if self.batch.plain.len() > self.member {
            self.end_member()?;
        }
        if let Some(split) = &mut self.split {
            split.raw(&tar::END);
            self.batch.plain.extend_from_slice(&tar::END);
            self.end_member()?;
        }
        self.send()?;
        while !self.flights.is_empty() {
            self.land()?;
        }
        let Writer { mut out, toc, split, entries, chunks, mut tar, .. } = self;
        let split = split.map(Split::finish).transpose()?;
        let packed = toc.finish(split.as_ref().map(|split| &split.frame))?;
        let (toc_digest, length, frame) = (packed.digest, packed.len(), packed.frame);
        let mut toc = out.position..out.position + length;
        let mut chunked = None;
        if let Some((split, toc_frame)) = split.zip(frame) {
            out.give(&footer::skippable(length)?)?;
            toc = out.position..out.position + length;
            packed.give(|bytes| out.give(bytes))?;
            out.give(&footer::skippable(split.bytes.len())?)?;
            let at = out.position..out.position + split.bytes.len();
            split.bytes.give(|bytes| out.give(bytes))?;
            out.give(&footer::zstd_chunked(&toc, toc_digest.size, &at, split.plain))?;
            chunked = Some(Chunked { toc_frame, split: at, split_plain: split.plain });
        } else {
            let mut plain = GzDecoder::new(Plain(&mut tar));
            packed.give(|bytes| {
                plain.write_all(bytes).map_err(Error::io("read again", "the TOC"))?;
                out.give(bytes)
            })?;
            plain.finish().map_err(Error::io("read again", "the TOC"))?;
            out.give(&footer::gzip(toc.start))?;
        }
        Ok(Written { size: out.position, toc, toc_digest, tar: tar.finish(), entries, chunks, chunked })
    }
}

/// An entry with where its chunk lies, as the dialect says it.
fn placed(options: &Options, mut entry: TocEntry, lying: &Lying, which: Which) -> TocEntry {
    (entry.offset, entry.inner) = (lying.offset, lying.inner);
    entry.chunk_digest = Some(lying.digest);
    match (options.compression, which) {
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

/// Hashes what is written to it.
struct Plain<'a>(&'a mut Twin);

impl io::Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
            io::ErrorKind::UnexpectedEof => Error::damaged(show(path), "its content is cut"),
            _ => Error::Io { doing: "read", path: path.to_owned(), source },
        }
    })
}
