//! A tar stream into chunks: one thread reads it, all hash and pack what it has read.
//!
//! Invariant: every byte of the stream is hashed, in order, and is either content, of which the digest is kept, or kept in the
//! spool; memory holds a description of each entry, and of contents what the workers have been given.
//! Not here: what remains of the entries (`archive`), what becomes of the spool (`split`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::known::Known;
use super::pieces::{Large, Packing, Pieces, Reader, Spare};
use super::send::Packer;
use super::split::Lines;
use crate::archive::frame::SHARED;
use crate::chunk::MAX_CHUNK;
use crate::convert::input;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::filemap::{Content, Entry, Kind, described};
use crate::job::Job;
use crate::tar::{self, Room, TreeBuilder};

/// More than this many at a time would need more memory than a push may take.
const WORKERS: usize = 8;
/// How long one waits for a pipe before the job is looked at.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What the stream had.
pub struct Streamed {
    /// What each entry says besides its name, by number. Where a content lies is not said yet.
    pub bodies: Vec<Entry>,
    pub tree: tar::Tree,
    /// Chunks of large blobs.
    pub large: HashMap<[u8; 32], Vec<Digest>>,
    /// All but the contents.
    pub lines: Lines,
    /// Of the whole stream.
    pub tar: Digest,
    /// Contents that were read, and their bytes.
    pub files: u64,
    pub bytes: u64,
}

/// The stored bytes, wherever they come from; counted as they come.
struct Stored<'a> {
    file: &'a File,
    job: &'a Job,
}

impl Read for Stored<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.job.step(0).map_err(io::Error::other)?;
            // Of a pipe nobody knows when it has something; a file always has.
            let mut ready = [PollFd::new(self.file, PollFlags::IN)];
            match poll(&mut ready, Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        let got = (&mut &*self.file).read(buffer)?;
        self.job.bytes_done.fetch_add(got as u64, Relaxed);
        Ok(got)
    }
}

/// Hashes what is read.
struct Hashed<'h, R> {
    inner: R,
    hasher: &'h mut Hasher,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        Ok(got)
    }
}

/// Small files that come one after the other: what a worker is given at a time.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// Number of the entry, and where its content ends.
    files: Vec<(u32, usize)>,
}

type Digests = Mutex<Vec<(u32, Digest)>>;

impl Run {
    fn pack(self, packing: &mut Packing<'_>, digests: &Digests) -> Result<()> {
        let mut begin = 0;
        let mut found = Vec::with_capacity(self.files.len());
        for (number, end) in self.files {
            let bytes = &self.bytes[begin..end];
            let digest = Digest::of(bytes);
            packing.blob(digest, bytes)?;
            found.push((number, digest));
            begin = end;
        }
        digests.lock().expect("no worker panics with it").append(&mut found);
        Ok(())
    }
}

/// Read the tar in `file`, which `what` names, from where it stands to its end. `size` is that of the file, if it is one, and
/// `stored` what the tar takes where it lies.
///
/// # Errors
/// `Damaged` when it is no tar, or cannot be unpacked; `Io`, `Stopped`.
pub fn stream(
    what: &str,
    file: &File,
    (size, stored): (Option<u64>, Option<u64>),
    (known, packer): (&Known, &Packer<'_>),
    lines: Lines,
    threads: usize,
    job: &Job,
) -> Result<Streamed> {
    let threads = threads.clamp(1, WORKERS);
    job.bytes_total.store(size.unwrap_or(0), Relaxed);
    let bytes = stored.unwrap_or(u64::MAX);
    let digests = Digests::default();
    let (pieces, waiting) = Pieces::new(threads);
    let (runs, to_pack) = bounded::<Run>(threads);
    let streamed = std::thread::scope(|scope| {
        // This thread reads; when the others have enough to do, it packs, too.
        let workers: Vec<_> = (1..threads)
            .map(|_| {
                let (waiting, to_pack, spare, digests) =
                    (waiting.clone(), to_pack.clone(), pieces.spare.clone(), &digests);
                scope.spawn(move || work(Packing::new(known, packer, bytes), &waiting, &to_pack, &spare, digests))
            })
            .collect();
        let reader =
            Reader { packing: Packing::new(known, packer, bytes), pieces, file: super::pieces::File::default() };
        let mut reading = Reading { reader, runs, run: Run::default(), digests: &digests, large: Vec::new() };
        let read = reading.all(what, file, stored, lines, job);
        // What is left, and the end of the others' work.
        let Reading { reader, runs, run, large, .. } = reading;
        let Reader { mut packing, pieces, .. } = reader;
        let spare = pieces.close();
        drop(runs);
        let rest = read.and_then(|streamed| {
            run.pack(&mut packing, &digests)?;
            waiting.iter().try_for_each(|piece| packing.piece(piece, &spare))?;
            to_pack.iter().try_for_each(|run| run.pack(&mut packing, &digests))?;
            packing.flush()?;
            Ok(streamed)
        });
        let worked: Vec<Result<()>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let mut streamed = rest?;
        worked.into_iter().collect::<Result<()>>()?;
        streamed.large = large.into_iter().map(|(digest, large)| (digest.sha256, large.digests())).collect();
        Ok(streamed)
    });
    // A reader that was stopped says that it cannot read.
    job.step(0)?;
    let mut streamed: Streamed = streamed?;
    for (number, digest) in digests.into_inner().expect("no worker panicked") {
        if let Kind::Regular(content) = &mut streamed.bodies[number as usize].kind {
            content.digest = digest;
        }
    }
    Ok(streamed)
}

fn work(
    mut packing: Packing<'_>,
    pieces: &Receiver<super::pieces::Piece>,
    runs: &Receiver<Run>,
    spare: &Spare,
    digests: &Digests,
) -> Result<()> {
    loop {
        select! {
            recv(pieces) -> piece => match piece {
                Ok(piece) => packing.piece(piece, spare)?,
                Err(_) => break,
            },
            recv(runs) -> run => match run {
                Ok(run) => run.pack(&mut packing, digests)?,
                Err(_) => break,
            },
        }
    }
    // Both ways are closed one after the other.
    pieces.iter().try_for_each(|piece| packing.piece(piece, spare))?;
    runs.iter().try_for_each(|run| run.pack(&mut packing, digests))?;
    packing.flush()
}

/// The thread that reads.
struct Reading<'a> {
    reader: Reader<'a>,
    runs: Sender<Run>,
    run: Run,
    digests: &'a Digests,
    large: Vec<(Digest, std::sync::Arc<Large>)>,
}

impl Reading<'_> {
    fn all(&mut self, what: &str, file: &File, stored: Option<u64>, mut lines: Lines, job: &Job) -> Result<Streamed> {
        let mut hasher = Hasher::default();
        let plain = input::plain(Stored { file, job }, None).map_err(Error::io("read", what))?;
        let mut reader = tar::Reader::keeping_raw(what, Hashed { inner: plain, hasher: &mut hasher });
        let mut builder = TreeBuilder::new(what);
        let mut bodies: Vec<Entry> = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        let (mut files, mut bytes, mut room) = (0, 0, Room::of(0));
        while let Some(header) = next(&mut reader, what)? {
            job.step(0)?;
            room.widen(stored.unwrap_or_else(|| job.bytes_done.load(Relaxed)));
            if !room.take(weight(&header)) {
                return Err(Error::damaged(
                    what,
                    "it has more entries, or larger files, than are read of a tar of as many bytes",
                ));
            }
            builder.push(&header)?;
            lines.raw(&reader.take_raw())?;
            let number = bodies.len() as u32;
            let digest = self.content(number, header.size(), &mut reader, &mut buffer, job)?;
            files += u64::from(matches!(header.kind, tar::Kind::Regular { .. }));
            bytes += header.size();
            let (stored, crc) = reader.stored();
            lines.content(number, stored, crc, reader.raw_name())?;
            let holes = if let tar::Kind::Regular { holes, .. } = &header.kind { holes.clone() } else { Vec::new() };
            let content = Content { digest, chunks: Vec::new(), holes };
            bodies.push(described(what, &header, content)?);
            job.file_done();
        }
        lines.raw(&reader.take_raw())?;
        loop {
            match reader.rest(&mut buffer)? {
                0 => break,
                got => lines.raw(&buffer[..got])?,
            }
            job.step(0)?;
        }
        if reader.position() == 0 {
            return Err(Error::Invalid { what: what.into(), why: "it is empty, and a tar is not".into() });
        }
        drop(reader);
        let (tree, tar) = (builder.finish()?, hasher.finish());
        Ok(Streamed { bodies, tree, large: HashMap::new(), lines: lines.finish()?, tar, files, bytes })
    }

    /// Read the content of an entry. The digest of a small one comes later.
    fn content<R: Read>(
        &mut self,
        number: u32,
        size: u64,
        reader: &mut tar::Reader<R>,
        buffer: &mut [u8],
        job: &Job,
    ) -> Result<Digest> {
        if size == 0 {
            return Ok(Digest::of(b""));
        }
        if size < MAX_CHUNK as u64 {
            let begin = self.run.bytes.len();
            self.run.bytes.resize(begin + size as usize, 0);
            let mut filled = begin;
            while filled < self.run.bytes.len() {
                filled += reader.read(&mut self.run.bytes[filled..])?;
            }
            self.run.files.push((number, filled));
            if filled >= SHARED {
                self.give()?;
            }
            return Ok(Digest { sha256: [0; 32], size });
        }
        self.reader.begin_of(size);
        loop {
            job.step(0)?;
            match reader.read(buffer)? {
                0 => break,
                got => crate::scan::Sink::piece(&mut self.reader, &buffer[..got])?,
            }
        }
        let (digest, large) = self.reader.end()?;
        self.large.extend(large.map(|large| (digest, large)));
        Ok(digest)
    }

    /// Let a worker have what was gathered; where none is free, pack it here.
    fn give(&mut self) -> Result<()> {
        match self.runs.try_send(std::mem::take(&mut self.run)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(run) | TrySendError::Disconnected(run)) => {
                run.pack(&mut self.reader.packing, self.digests)
            }
        }
    }
}

/// The next entry. What does not begin as a tar was never one.
fn next<R: Read>(reader: &mut tar::Reader<R>, what: &str) -> Result<Option<tar::Header>> {
    let next = reader.next_entry();
    match next {
        Err(Error::Damaged { .. }) if reader.begins_wrong() => {
            Err(Error::Invalid { what: what.into(), why: "it is neither a directory nor a tar".into() })
        }
        next => next,
    }
}

/// About how many bytes are kept of an entry, in all that is made of it.
fn weight(header: &tar::Header) -> usize {
    const EACH: usize = 384;
    let (link, holes) = match &header.kind {
        tar::Kind::HardLink { first } => (first.len(), 0),
        tar::Kind::Symlink { target } => (target.len(), 0),
        tar::Kind::Regular { size, holes } => (96 * (size / MAX_CHUNK as u64) as usize, holes.len()),
        _ => (0, 0),
    };
    EACH + 3 * header.name.len() + 2 * link + Room::of_xattrs(&header.xattrs) + 48 * holes
}
