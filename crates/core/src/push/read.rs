//! The workers: files into chunks, chunks that the store lacks into frames.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::known::Known;
use super::pieces::{File, Packing, Pieces, Reader};
use super::send::Packer;
use crate::archive::frame::{PARTED, SHARED};
use crate::chunk::MAX_CHUNK;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::index::{State, share};
use crate::job::Job;
use crate::scan::{Kind, Root, Sink, Stat, is_denied, is_gone, read_stable, suffix_of};

/// More than this many at a time would need more memory than a push may take, and no store keeps up with so many.
const WORKERS: usize = 8;

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

/// What a state's files are to the store.
#[derive(Default)]
pub struct Work {
    /// The regular files of which some chunk may be missing in the store, in the order of directories, by suffix in each.
    pub lacking: Vec<u32>,
    /// Of each record, the row of the holdings that names its only chunk; `NONE` where there is none.
    pub rows: Vec<u32>,
}

/// No row.
pub const NONE: u32 = u32::MAX;

/// Look all files up.
pub fn work(state: &State, known: &Known, threads: usize) -> Result<Work> {
    const RUN: u32 = 4096;
    let look = |record: u32, found: &mut Work| {
        let mut row = NONE;
        if state.kind(record) == Kind::File {
            let has = match state.digest(record) {
                None => false,
                Some(digest) if digest.size == 0 => true,
                Some(digest) => {
                    if digest.size < MAX_CHUNK as u64 {
                        row = known.held_row(&digest).map_or(NONE, |row| row as u32);
                    }
                    row != NONE || known.pieces(&digest).is_some()
                }
            };
            found.lacking.extend((!has).then_some(record));
        }
        found.rows.push(row);
    };
    let runs = state.len().div_ceil(RUN) as usize;
    let found = share(
        threads,
        runs,
        || (),
        |(), run| {
            let mut found = Work::default();
            let first = run as u32 * RUN;
            (first..state.len().min(first + RUN)).for_each(|record| look(record, &mut found));
            Ok(found)
        },
    )?;
    let mut all = found.into_iter().fold(Work::default(), |mut all, mut found| {
        all.lacking.append(&mut found.lacking);
        all.rows.append(&mut found.rows);
        all
    });
    let alike = |&a: &u32, &b: &u32| state.parent(a) == state.parent(b);
    for beside in all.lacking.chunk_by_mut(alike) {
        beside.sort_by_key(|&record| suffix_of(state.name(record)));
    }
    Ok(all)
}

/// Whether the same programs are likely to read both: what else lies in a frame with a file comes with it.
fn is_akin(state: &State, a: u32, b: u32) -> bool {
    state.parent(a) == state.parent(b) && suffix_of(state.name(a)) == suffix_of(state.name(b))
}

/// Read the files of `work` with `threads` threads, at most `WORKERS`.
///
/// Each takes a run of files at a time. One that meets a large file reads and cuts it; its pieces are hashed and compressed by
/// all, and by the one that reads when the others have enough to do.
pub fn read(
    root: &Root,
    state: &State,
    work: &[u32],
    known: &Known,
    packer: &Packer<'_>,
    threads: usize,
    job: &Job,
) -> Result<Outcome> {
    let threads = threads.clamp(1, WORKERS);
    let bytes = work.iter().map(|&record| state.stat(record).size).sum();
    let next = AtomicUsize::new(0);
    let merged = Mutex::new((Outcome::default(), Vec::new()));
    let (pieces, waiting) = Pieces::new(threads);
    let worker = |pieces: Pieces| -> Result<()> {
        let mut reader = Reader { packing: Packing::new(known, packer, bytes), pieces, file: File::default() };
        let (mut outcome, mut cut) = (Outcome::default(), Vec::new());
        let mut buffer = Vec::new();
        loop {
            while let Ok(piece) = waiting.try_recv() {
                reader.packing.piece(piece, &reader.pieces.spare)?;
            }
            let Some(records) = take(state, work, &next) else { break };
            for &record in records {
                let path = state.path_of(record);
                let read = match hash_listed(root, &path, state.stat(record).size, known, &mut buffer, job) {
                    Ok(Some((stat, digest))) => Ok((stat, Some(digest))),
                    Ok(None) => read_stable(root, &path, &mut buffer, job, &mut reader).map(|stat| (stat, None)),
                    Err(error) => Err(error),
                };
                match read {
                    Ok((stat, known)) => {
                        let (digest, large) = match known {
                            Some(digest) => (digest, None),
                            None => reader.end()?,
                        };
                        outcome.bytes += digest.size;
                        outcome.read.push((record, digest, stat));
                        cut.extend(large.map(|large| (digest.sha256, large)));
                    }
                    Err(Error::Io { source, path, .. }) if is_denied(&source) => {
                        outcome.unreadable.push((record, path))
                    }
                    Err(Error::Io { source, .. }) if is_gone(&source) => outcome.gone.push(record),
                    Err(error) => return Err(error),
                }
                job.file_done();
            }
            reader.packing.part()?;
        }
        let Reader { mut packing, pieces, .. } = reader;
        // The last one that reads no more ends the waiting of all.
        let spare = pieces.close();
        for piece in &waiting {
            packing.piece(piece, &spare)?;
        }
        packing.flush()?;
        let mut merged = merged.lock().expect("a worker that panicked ends the run");
        if merged.0.read.is_empty() {
            merged.0.read = outcome.read;
        } else {
            merged.0.read.append(&mut outcome.read);
        }
        merged.0.unreadable.append(&mut outcome.unreadable);
        merged.0.gone.append(&mut outcome.gone);
        merged.0.bytes += outcome.bytes;
        merged.1.append(&mut cut);
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<Pieces> = std::iter::repeat_n(pieces, threads).collect();
        let workers: Vec<_> = all
            .into_iter()
            .map(|pieces| {
                let (worker, next) = (&worker, &next);
                scope.spawn(move || {
                    let result = worker(pieces);
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
    let (mut outcome, cut) = merged.into_inner().expect("no worker panicked");
    outcome.large = cut.into_iter().map(|(sha256, large)| (sha256, large.digests())).collect();
    outcome.unreadable.sort();
    Ok(outcome)
}

/// The digest of a large file that may be one that was laid out again, and is: it need not be cut, nor as a push cuts.
fn hash_listed(
    root: &Root,
    path: &[u8],
    size: u64,
    known: &Known,
    buffer: &mut Vec<u8>,
    job: &Job,
) -> Result<Option<(Stat, Digest)>> {
    if size < MAX_CHUNK as u64 || !known.has_laid_out(size) {
        return Ok(None);
    }
    let mut hashing = Hashing::default();
    let stat = read_stable(root, path, buffer, job, &mut hashing)?;
    let digest = hashing.0.finish();
    if known.pieces(&digest).is_some() {
        return Ok(Some((stat, digest)));
    }
    job.bytes_done.fetch_sub(stat.size, Ordering::Relaxed);
    Ok(None)
}

/// Hashes what it gets.
#[derive(Default)]
struct Hashing(Hasher);

impl Sink for Hashing {
    fn begin(&mut self, _: &Stat) -> Result<()> {
        self.0 = Hasher::default();
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.update(bytes);
        Ok(())
    }
}

/// The next run of files: about a frame's worth, so that neighbours share one.
fn take<'a>(state: &State, work: &'a [u32], next: &AtomicUsize) -> Option<&'a [u32]> {
    let mut start = next.load(Ordering::Relaxed);
    loop {
        let (mut end, mut bytes) = (start, 0);
        while end < work.len() && bytes < SHARED as u64 {
            if bytes >= PARTED as u64 && !is_akin(state, work[end - 1], work[end]) {
                break;
            }
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
