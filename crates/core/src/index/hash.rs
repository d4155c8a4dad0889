//! The whole of `sapwood hash`: look, read what changed, take the tree digest, store the state.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use super::record::{HAS_DIGEST, RACY};
use super::share::share;
use super::{Options, Scope, State};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::{Kind, Root, Sink, Stat, is_denied, is_gone, read_stable};
use crate::select::may_rule;

/// What a tree has, the root not counted, and what had to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    /// FIFOs and devices.
    pub others: u64,
    /// Of regular files.
    pub bytes: u64,
    pub files_hashed: u64,
    pub bytes_hashed: u64,
}

/// Bring the state of `root` up to date, reading only what changed since the one stored at `index`, and store it there.
/// The paths returned may not be read and were left out, sorted.
///
/// # Errors
/// `Unreadable` with all such paths unless they are to be skipped; what `State::look`, `State::read`, `read_stable` and
/// `State::write` say. The stored state is then as it was.
pub fn hash(root: &Path, index: Option<&Path>, options: &Options, job: &Job) -> Result<(State, Summary, Vec<PathBuf>)> {
    let root = Root::open(root)?;
    let before = match index {
        Some(path) => State::read(path, options.threads, job)?,
        None => None,
    };
    let (mut state, mut unreadable) = State::look(&root, before, Scope::All, options, None, job)?;
    let (files_hashed, bytes_hashed) = state.read_pending(&root, options, &mut unreadable, job)?;
    state.seal().ok_or_else(|| Error::Missing { what: "the digest of the root".to_owned() })?;
    if let Some(path) = index {
        state.write(path)?;
    }
    let summary = Summary { files_hashed, bytes_hashed, ..state.summary() };
    Ok((state, summary, unreadable))
}

/// Files read before what came out is noted: bounds the memory that takes.
const AT_ONCE: usize = 16_384;

pub(super) enum Reading {
    Read(Digest, Stat),
    Unreadable,
    Gone,
}

impl State {
    /// Take the digests of the files that are pending; how many were read, and their bytes. Those that may not be read
    /// are left out and join `unreadable`, which is then sorted.
    ///
    /// # Errors
    /// `Unreadable` with all of them unless they are to be skipped; what `read_stable` says.
    pub fn read_pending(
        &mut self,
        root: &Root,
        options: &Options,
        unreadable: &mut Vec<PathBuf>,
        job: &Job,
    ) -> Result<(u64, u64)> {
        let files = std::mem::take(&mut self.pending);
        job.files_total.fetch_add(files.len() as u64, Relaxed);
        job.bytes_total.fetch_add(files.iter().map(|&file| self.record(file).size()).sum(), Relaxed);
        let (mut count, mut bytes) = (0, 0);
        for some in files.chunks(AT_ONCE) {
            let readings = self.read_files(root, some, options.threads, job)?;
            for (&file, reading) in some.iter().zip(readings) {
                match reading {
                    Reading::Read(digest, stat) => {
                        self.set_digest(file, digest, &stat);
                        (count, bytes) = (count + 1, bytes + digest.size);
                    }
                    Reading::Unreadable => {
                        unreadable.push(root.show(&self.path_of(file)));
                        self.remove(file);
                    }
                    Reading::Gone => self.remove(file),
                }
            }
        }
        unreadable.sort_unstable();
        if !options.skip_unreadable && !unreadable.is_empty() {
            return Err(Error::Unreadable { paths: std::mem::take(unreadable) });
        }
        Ok((count, bytes))
    }

    /// Note the digests of the files that are pending and need not be read: `known` tells that of the bytes which belong
    /// to the stat it is given, without number of links and blocks.
    pub fn note_known(&mut self, known: impl Fn(&[u8], &Stat) -> Option<Digest>) {
        let (began, trust_ctime) = (self.began, self.trust_ctime);
        for file in std::mem::take(&mut self.pending) {
            let stat = self.stat(file);
            let Some(digest) = known(&self.path_of(file), &stat).filter(|digest| digest.size == stat.size) else {
                self.pending.push(file);
                continue;
            };
            // As in `set_digest`.
            let is_unapplied = may_rule(self.name(file)) && self.record(file).has(RACY);
            let record = self.touch(file);
            record.set_sha256(&digest.sha256);
            record.set(HAS_DIGEST, true);
            record.set(RACY, is_unapplied || stat.is_racy(began, trust_ctime));
        }
    }

    /// Read `files`, without noting what comes out.
    pub(super) fn read_files(&self, root: &Root, files: &[u32], threads: usize, job: &Job) -> Result<Vec<Reading>> {
        share(threads, files.len(), Vec::new, |buffer, number| {
            let mut sink = Hashing::default();
            let reading = match read_stable(root, &self.path_of(files[number]), buffer, job, &mut sink) {
                Ok(stat) => Reading::Read(sink.hasher.finish(), stat),
                Err(Error::Io { source, .. }) if is_denied(&source) => Reading::Unreadable,
                Err(Error::Io { source, .. }) if is_gone(&source) => Reading::Gone,
                Err(error) => return Err(error),
            };
            job.file_done();
            Ok(reading)
        })
    }

    /// What there is; nothing is counted as hashed.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for entry in 1..self.len() {
            match self.kind(entry) {
                Kind::File => {
                    summary.files += 1;
                    summary.bytes += self.record(entry).size();
                }
                Kind::Directory => summary.directories += 1,
                Kind::Symlink => summary.symlinks += 1,
                Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => summary.others += 1,
            }
        }
        summary
    }
}

#[derive(Default)]
struct Hashing {
    hasher: Hasher,
}

impl Sink for Hashing {
    fn begin(&mut self, _: &Stat) -> Result<()> {
        self.hasher = Hasher::default();
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(())
    }
}
