//! The workers: files into chunks, chunks that the store lacks into frames.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::known::Known;
use super::send::Packer;
use crate::archive::frame::{FrameWriter, SHARED};
use crate::chunk::{Cutter, MAX_CHUNK};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::index::State;
use crate::job::Job;
use crate::scan::{Kind, Root, Sink, Stat, is_denied, is_gone, read_stable};

/// zstd level of chunks; docs/decisions/packs.md.
const LEVEL: i32 = 1;

/// What reading the files gave.
#[derive(Default)]
pub struct Outcome {
    /// Record, digest and the stat that goes with it.
    pub read: Vec<(u32, Digest, Stat)>,
    /// Files that may not be read.
    pub unreadable: Vec<(u32, PathBuf)>,
    /// Files that went away since the scan.
    pub gone: Vec<u32>,
    /// Chunks of large blobs.
    pub large: HashMap<[u8; 32], Vec<Digest>>,
    pub bytes: u64,
}

/// The regular files of which some chunk may be missing in the store, in order.
pub fn work(state: &State, known: &Known) -> Vec<u32> {
    let lacks = |record: &u32| match state.digest(*record) {
        None => true,
        Some(digest) if digest.size == 0 => false,
        Some(digest) if digest.size < MAX_CHUNK as u64 => !known.has(&digest),
        Some(digest) => known.blob(&digest).is_none(),
    };
    (0..state.len()).filter(|&record| state.kind(record) == Kind::File).filter(lacks).collect()
}

/// Read the files of `work` with `threads` threads.
pub fn read(
    root: &Root,
    state: &State,
    work: &[u32],
    known: &Known,
    packer: &Packer<'_>,
    threads: usize,
    job: &Job,
) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    let merged = Mutex::new(Outcome::default());
    let worker = || -> Result<()> {
        let mut reader = Reader::new(known, packer);
        let mut outcome = Outcome::default();
        let mut buffer = Vec::new();
        while let Some(records) = take(state, work, &next) {
            for &record in records {
                let path = state.path_of(record);
                match read_stable(root, &path, &mut buffer, job, &mut reader) {
                    Ok(stat) => {
                        let (digest, pieces) = reader.end()?;
                        outcome.bytes += digest.size;
                        outcome.read.push((record, digest, stat));
                        if !pieces.is_empty() {
                            outcome.large.insert(digest.sha256, pieces);
                        }
                    }
                    Err(Error::Io { source, path, .. }) if is_denied(&source) => {
                        outcome.unreadable.push((record, path))
                    }
                    Err(Error::Io { source, .. }) if is_gone(&source) => outcome.gone.push(record),
                    Err(error) => return Err(error),
                }
                job.file_done();
            }
        }
        reader.flush()?;
        let mut merged = merged.lock().expect("a worker that panicked ends the run");
        merged.read.append(&mut outcome.read);
        merged.unreadable.append(&mut outcome.unreadable);
        merged.gone.append(&mut outcome.gone);
        merged.large.extend(outcome.large);
        merged.bytes += outcome.bytes;
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let result = worker();
                    if result.is_err() {
                        // The others need not go on.
                        next.store(work.len(), Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let results: Vec<Result<()>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        results.into_iter().collect::<Result<()>>()
    })?;
    let mut outcome = merged.into_inner().expect("no worker panicked");
    outcome.unreadable.sort();
    Ok(outcome)
}

/// The next run of files: about a frame's worth, so that neighbours share one.
fn take<'a>(state: &State, work: &'a [u32], next: &AtomicUsize) -> Option<&'a [u32]> {
    let mut start = next.load(Ordering::Relaxed);
    loop {
        let (mut end, mut bytes) = (start, 0);
        while end < work.len() && bytes < SHARED as u64 {
            bytes += state.stat(work[end]).size.max(512);
            end += 1;
        }
        if start >= work.len() {
            return None;
        }
        match next.compare_exchange_weak(start, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(&work[start..end]),
            Err(now) => start = now,
        }
    }
}

/// Takes one file after the other and packs what is missing of each.
struct Reader<'a> {
    known: &'a Known,
    packer: &'a Packer<'a>,
    frames: Frames<'a>,
    large: bool,
    small: Vec<u8>,
    cutter: Cutter,
    hasher: Hasher,
    pieces: Vec<Digest>,
}

/// The shared frame that this worker fills, and one for pieces of large blobs.
struct Frames<'a> {
    packer: &'a Packer<'a>,
    shared: FrameWriter,
    single: FrameWriter,
}

impl Frames<'_> {
    fn blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        if !self.shared.takes(bytes.len()) {
            self.flush()?;
        }
        self.shared.add(digest, bytes);
        Ok(())
    }

    /// A piece of a large blob never shares a frame: so the chunks of a shared frame are whole blobs.
    fn piece(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        self.single.add(digest, bytes);
        self.packer.add(self.single.seal())
    }

    fn flush(&mut self) -> Result<()> {
        if self.shared.is_empty() { Ok(()) } else { self.packer.add(self.shared.seal()) }
    }
}

impl<'a> Reader<'a> {
    fn new(known: &'a Known, packer: &'a Packer<'a>) -> Reader<'a> {
        let frames = Frames { packer, shared: FrameWriter::new(LEVEL), single: FrameWriter::new(LEVEL) };
        Reader {
            known,
            packer,
            frames,
            large: false,
            small: Vec::new(),
            cutter: Cutter::default(),
            hasher: Hasher::default(),
            pieces: Vec::new(),
        }
    }

    /// The file has been read and did not change meanwhile: its digest, and the chunks of a large one.
    fn end(&mut self) -> Result<(Digest, Vec<Digest>)> {
        if self.large {
            let Reader { known, packer, frames, cutter, pieces, .. } = self;
            cutter.finish(|bytes| pack_piece(known, packer, frames, pieces, bytes))?;
            return Ok((std::mem::take(&mut self.hasher).finish(), std::mem::take(&mut self.pieces)));
        }
        let digest = Digest::of(&self.small);
        if digest.size > 0 && !self.known.has(&digest) && self.packer.claim(&digest) {
            self.frames.blob(digest, &self.small)?;
        }
        Ok((digest, Vec::new()))
    }

    fn flush(&mut self) -> Result<()> {
        self.frames.flush()
    }
}

fn pack_piece(
    known: &Known,
    packer: &Packer<'_>,
    frames: &mut Frames<'_>,
    pieces: &mut Vec<Digest>,
    bytes: &[u8],
) -> Result<()> {
    let digest = Digest::of(bytes);
    pieces.push(digest);
    if !known.has(&digest) && packer.claim(&digest) { frames.piece(digest, bytes) } else { Ok(()) }
}

impl Sink for Reader<'_> {
    fn begin(&mut self, stat: &Stat) -> Result<()> {
        self.large = stat.size >= MAX_CHUNK as u64;
        self.small.clear();
        self.cutter.clear();
        self.hasher = Hasher::default();
        self.pieces.clear();
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.large {
            self.small.extend_from_slice(bytes);
            return Ok(());
        }
        self.hasher.update(bytes);
        let Reader { known, packer, frames, cutter, pieces, .. } = self;
        cutter.piece(bytes, |bytes| pack_piece(known, packer, frames, pieces, bytes))
    }
}
