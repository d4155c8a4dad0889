//! A working directory that is looked at only where somebody looks.
//!
//! Invariant: after `list` a directory's entries are as they were on disk then, its files with their digests; whatever
//! was not looked at stays as recorded, and no digest is claimed of it. The index is brought up to date on the way.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::record::{HAS_DIGEST, HAS_XATTRS, HIDES_RULES, RACY, Record};
use super::{Options, STALE, Scope, State};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::{Kind, Root};

pub struct Live {
    root: Root,
    index: Option<PathBuf>,
    options: Options,
    /// `None` after a look that failed: what is stored is then read again.
    state: Mutex<Option<State>>,
}

impl Live {
    /// Begin with the state stored at `index`. Without a usable one all names are listed now, and no file is read.
    ///
    /// # Errors
    /// As `State::read` and `State::look`.
    pub fn open(root: &Path, index: Option<PathBuf>, options: Options, job: &Job) -> Result<Live> {
        let live = Live { root: Root::open(root)?, index, options, state: Mutex::new(None) };
        let state = live.begin(job)?;
        *live.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        Ok(live)
    }

    fn begin(&self, job: &Job) -> Result<State> {
        let stored = match &self.index {
            Some(path) => State::read(path, self.options.threads, job)?,
            None => None,
        };
        if let Some(mut state) = stored
            && state.selection == self.options.fingerprint()
            && state.prove()
        {
            return Ok(state);
        }
        let (mut state, unreadable) = State::look(&self.root, None, Scope::All, &self.options, None, job)?;
        if !unreadable.is_empty() && !self.options.skip_unreadable {
            return Err(Error::Unreadable { paths: unreadable });
        }
        state.seal();
        Ok(state)
    }

    /// Look at the directory `path`, and give the state and its number in it, if there is such a directory, to `then`.
    ///
    /// # Errors
    /// As `hash`.
    pub fn list<T>(&self, path: &[u8], job: &Job, then: impl FnOnce(&State, Option<u32>) -> T) -> Result<T> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = match held.take() {
            Some(state) => state,
            None => self.begin(job)?,
        };
        // A directory that is new since is found by listing those above it.
        let ways: Vec<&[u8]> = ways(path).collect();
        let known = ways.iter().rposition(|way| state.find(way).is_some()).unwrap_or(0);
        for way in &ways[known..] {
            if state.find(way).is_none() {
                break;
            }
            state = self.refresh(state, Scope::Directory(way), job)?;
        }
        let found = state.find(path).filter(|&entry| state.kind(entry) == Kind::Directory);
        Ok(then(held.insert(state), found))
    }

    /// As `list`, without looking.
    ///
    /// # Errors
    /// As `open`, after a look that failed.
    pub fn recorded<T>(&self, path: &[u8], job: &Job, then: impl FnOnce(&State, Option<u32>) -> T) -> Result<T> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match held.take() {
            Some(state) => state,
            None => self.begin(job)?,
        };
        let found = state.find(path).filter(|&entry| state.kind(entry) == Kind::Directory);
        Ok(then(held.insert(state), found))
    }

    /// Look at everything, and give the state, all of whose digests are known then, to `then`.
    ///
    /// # Errors
    /// As `hash`.
    pub fn all<T>(&self, job: &Job, then: impl FnOnce(&State) -> T) -> Result<T> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match held.take() {
            Some(state) => state,
            None => self.begin(job)?,
        };
        Ok(then(held.insert(self.refresh(state, Scope::All, job)?)))
    }

    /// Look, read what is pending in scope, store.
    fn refresh(&self, state: State, scope: Scope<'_>, job: &Job) -> Result<State> {
        let (mut state, mut unreadable) = State::look(&self.root, Some(state), scope, &self.options, None, job)?;
        let mut later = None;
        if let Scope::Directory(path) = scope {
            let entries = state.find(path).map_or(0..0, |directory| state.entries(directory));
            let now = state.take_pending(entries);
            later = Some(std::mem::replace(&mut state.pending, now));
            state.restat_directories(&self.root, path);
        }
        state.read_pending(&self.root, &self.options, &mut unreadable, job)?;
        state.pending = later.unwrap_or_default();
        state.seal();
        if let Some(index) = &self.index {
            state.write(index)?;
        }
        Ok(state)
    }
}

/// The directories on the way to `path`, the root first and itself last.
fn ways(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter_map(|(at, &byte)| (byte == b'/').then_some(at));
    let whole = (!path.is_empty()).then_some(path.len());
    std::iter::once(0).chain(slashes).chain(whole).map(|end| &path[..end])
}

impl State {
    /// Check what a look at all would: that every record is whole, and which directories' digests are not of their
    /// entries; those are taken anew by `seal`. A state of which only parts will be looked at must pass.
    pub(super) fn prove(&mut self) -> bool {
        for directory in 0..self.len() {
            if self.kind(directory) == Kind::Directory && !self.is_summed(directory) {
                self.marks[directory as usize] |= STALE;
            }
        }
        (0..self.len()).all(|entry| self.is_whole(entry))
    }

    /// Take those of `entries` out of what is pending: in order, but for what the look at them put behind.
    fn take_pending(&mut self, entries: Range<u32>) -> Vec<u32> {
        let mut taken = Vec::new();
        while let Some(file) = self.pending.pop_if(|file| entries.contains(file)) {
            taken.push(file);
        }
        let place = |limit| self.pending.partition_point(|&file| file < limit);
        let within = place(entries.start)..place(entries.end);
        taken.extend(self.pending.drain(within));
        taken
    }

    /// What is said of the directories in the directory `path` is what they are now; each that is another than recorded
    /// is to be listed when it is looked at itself.
    fn restat_directories(&mut self, root: &Root, path: &[u8]) {
        let Some((directory, dir)) = self.find(path).zip(root.open_dir(path).ok()) else { return };
        for entry in self.entries(directory) {
            let Ok(stat) = dir.stat(self.name(entry)) else { continue };
            let is_directory = stat.kind() == Kind::Directory && self.kind(entry) == Kind::Directory;
            if is_directory && !self.record(entry).has_stat(&stat, true) {
                let mut present = Record::of_stat(&stat);
                present.set(HAS_XATTRS, dir.has_xattrs(self.name(entry)).unwrap_or(false));
                present.set(RACY, true);
                present.set(HIDES_RULES, self.record(entry).has(HIDES_RULES));
                self.renew(entry, &present);
            }
        }
    }

    /// Whether the directory's digest is of its entries as they stand in the state.
    pub(super) fn is_summed(&self, directory: u32) -> bool {
        self.record(directory).has(HAS_DIGEST) && self.record(directory).entries_sum() == self.sum_of(directory)
    }
}
