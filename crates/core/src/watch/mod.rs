//! The watcher: a directory tree whose changes are known before anybody asks.
//!
//! Invariant: an answer is that of a scan that began when the question came. What the kernel does not tell is looked at
//! for every answer (`opened`, several links), and when notices are lost everything is: docs/watch.md.
//! `notices` reads inotify into the `book`; `places` knows where that can be relied on. Not here: who may ask (Python).

mod book;
mod notices;
mod opened;
mod places;
mod processes;
mod tally;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::digest::Digest;
use crate::error::{Error, Result, show};
use crate::index::{Dirty, Options, Scope, State, Status, Summary};
use crate::job::{Job, release_memory};
use crate::scan::{Dir, Root, Stat, is_gone};
use book::MOST;
use notices::Notices;
use tally::{Tally, Touched};

pub struct Watcher {
    path: PathBuf,
    /// Device and inode of the root. It is opened anew for each answer: who held it could not be told of its end.
    id: (u64, u64),
    index: PathBuf,
    options: Options,
    notices: Arc<Notices>,
    known: Mutex<Known>,
    pump: Option<JoinHandle<()>>,
}

struct Known {
    /// None when there is no index, and after anything went wrong.
    state: Option<State>,
    /// The index file when it was last what the state is.
    file: Option<Stat>,
    /// What is not as in the state.
    dirty: Dirty,
    /// More may be dirty than is known.
    is_lost: bool,
    tally: Tally,
}

/// What `sapwood hash` tells.
pub struct Hashed {
    pub digest: Digest,
    pub summary: Summary,
    pub unreadable: Vec<PathBuf>,
}

impl Watcher {
    /// Watch the directory `path`, whose state is kept at `index`; that is not changed yet. `private` is a directory in which nobody
    /// else does anything.
    ///
    /// # Errors
    /// `WatchLimit`, `Unwatchable`, and what `State::look` and `State::read` say.
    pub fn start(path: &Path, index: &Path, private: &Path, options: Options, job: &Job) -> Result<Watcher> {
        let root = Root::open(path)?;
        let notices = Arc::new(Notices::new(&root, private)?);
        let pump = {
            let notices = Arc::clone(&notices);
            thread::spawn(move || notices.pump())
        };
        let known = Known { state: None, file: None, dirty: Dirty::default(), is_lost: true, tally: Tally::default() };
        let index = index.to_path_buf();
        let (path, id) = (path.to_path_buf(), id_of(&root)?);
        let watcher = Watcher { path, id, index, options, notices, known: Mutex::new(known), pump: Some(pump) };
        let mut known = watcher.known();
        watcher.settle(&root, &mut known, job)?;
        watcher.find_dirty(&root, &mut known, job)?;
        drop(known);
        Ok(watcher)
    }

    /// Bring the index up to date, as `index::hash` does.
    ///
    /// # Errors
    /// What `index::hash` says; the next answer then takes a look at everything.
    pub fn hash(&self, skip_unreadable: bool, job: &Job) -> Result<Hashed> {
        let mut known = self.known();
        let root = self.root()?;
        self.settle(&root, &mut known, job)?;
        let dirty = self.dirty_now(&known);
        if !known.is_lost
            && dirty.is_empty()
            && let Some(digest) = known.state.as_ref().and_then(State::root_digest)
        {
            return Ok(Hashed { digest, summary: known.tally.summary, unreadable: Vec::new() });
        }
        let options = Options { skip_unreadable, ..self.options.clone() };
        let is_lost = std::mem::replace(&mut known.is_lost, true);
        let before = known.state.take();
        let is_all = is_lost || before.is_none();
        if is_all {
            self.notices.begin_look();
        }
        let scope = if is_all { Scope::All } else { Scope::Only(&dirty) };
        let hook = |path: &[u8], dir: &Dir| self.notices.watch(&root, path, dir);
        let mut touched = before.as_ref().filter(|_| !is_all).map(|before| Touched::by(before, &dirty));
        let (mut state, mut unreadable) = State::look(&root, before, scope, &options, Some(&hook), job)?;
        touched = touched.filter(|_| state.is_in_place());
        // Other names of an inode that got one more: they need not have had a notice.
        let others = known.tally.others(&state, touched.as_ref());
        if !others.is_empty() {
            if let Some(touched) = &mut touched {
                touched.also(&state, Touched::by(&state, &others));
            }
            let (looked, more) = State::look(&root, Some(state), Scope::Only(&others), &options, Some(&hook), job)?;
            state = looked;
            unreadable.extend(more);
        }
        let (files_hashed, bytes_hashed) = state.read_pending(&root, &options, &mut unreadable, job)?;
        // A changed rule file has more looked at than was asked for.
        touched = touched.filter(|touched| state.changed().all(|entry| touched.has(&state, entry)));
        let digest = state.seal().ok_or_else(|| Error::Missing { what: "the digest of the root".to_owned() })?;
        if is_all {
            self.notices.end_look();
        }
        match touched.filter(|_| state.is_in_place()) {
            Some(touched) => known.tally.renew(&state, &touched),
            None => known.tally = Tally::of(&state),
        }
        if !state.is_in_place() {
            // What a change of structure took besides the state would be kept for years: a fifth more in all.
            release_memory();
        }
        state.write(&self.index)?;
        known.file = state.file_stat();
        known.state = Some(state);
        known.dirty = Dirty::default();
        // What may not be read is left out of the state, so no notice leads to it.
        known.is_lost = !unreadable.is_empty();
        Ok(Hashed { digest, summary: Summary { files_hashed, bytes_hashed, ..known.tally.summary }, unreadable })
    }

    /// Say what differs from the index, which stays as it is, as `index::status` does; `None` when there is none.
    ///
    /// # Errors
    /// What `index::status` says.
    pub fn status(&self, job: &Job) -> Result<Option<Status>> {
        let mut known = self.known();
        let root = self.root()?;
        self.settle(&root, &mut known, job)?;
        if known.state.is_some() && known.is_lost {
            self.find_dirty(&root, &mut known, job)?;
        }
        let Some(state) = &known.state else { return Ok(None) };
        let dirty = self.dirty_now(&known);
        let scope = if known.is_lost { Scope::All } else { Scope::Only(&dirty) };
        let hook = |path: &[u8], dir: &Dir| self.notices.watch(&root, path, dir);
        let options = Options { skip_unreadable: true, ..self.options.clone() };
        state.status(&root, scope, &options, Some(&hook), job).map(Some)
    }

    /// How many directories are watched.
    pub fn directories(&self) -> usize {
        self.notices.hold().book.len()
    }

    /// Readable when the root is not where it was: nothing can be said any more.
    pub fn over(&self) -> BorrowedFd<'_> {
        self.notices.over().as_fd()
    }

    /// Device and inode of the directory that is watched.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// The directory, if it is still the one that is watched.
    fn root(&self) -> Result<Root> {
        let root = Root::open(&self.path)?;
        if self.notices.hold().book.is_over() || id_of(&root)? != self.id {
            return Err(Error::Missing { what: format!("the directory that was {}", show(&self.path)) });
        }
        Ok(root)
    }

    /// Take the notices in, and see that the state is that of the index file.
    fn settle(&self, root: &Root, known: &mut Known, job: &Job) -> Result<()> {
        let taken = self.notices.settle()?;
        // Written to since its name was gone (docs/watch.md): whatever other name it has is dirty.
        let is_nameless = |path: &Vec<u8>| root.stat(path).is_err_and(|error| is_gone(&error));
        known.is_lost |= taken.dirty.entries.iter().any(is_nameless);
        known.dirty.extend(taken.dirty);
        known.is_lost |= taken.is_lost || known.dirty.len() > MOST;
        let file = match rustix::fs::stat(&self.index) {
            Ok(stat) => Some(Stat::from(stat)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => None,
            Err(error) => return Err(Error::io("stat", &self.index)(error.into())),
        };
        let is_ours = known.state.is_some()
            && known.file.as_ref().zip(file.as_ref()).is_some_and(|(known, file)| known.agrees(file));
        if !is_ours {
            known.state = State::read(&self.index, self.options.threads, job)?;
            // Of before the reading: what another process writes meanwhile makes a difference to it.
            known.file = file.filter(|_| known.state.is_some());
            known.is_lost = true;
            if let Some(state) = &mut known.state {
                state.doubt_other_selection(&self.options);
                known.tally = Tally::of(state);
            }
        }
        Ok(())
    }

    /// Look at everything to know what is dirty. Stays lost when that is too much, or when there is no state.
    fn find_dirty(&self, root: &Root, known: &mut Known, job: &Job) -> Result<()> {
        let hook = |path: &[u8], dir: &Dir| self.notices.watch(root, path, dir);
        let options = Options { skip_unreadable: true, ..self.options.clone() };
        self.notices.begin_look();
        match &known.state {
            Some(state) => {
                let dirty = state.differing(root, &options, Some(&hook), job)?;
                known.is_lost = dirty.len() > MOST;
                known.dirty = if known.is_lost { Dirty::default() } else { dirty };
            }
            // Only to watch every directory: the first `hash` reads all files anyway.
            None => drop(State::look(root, None, Scope::All, &options, Some(&hook), job)?),
        }
        self.notices.end_look();
        Ok(())
    }

    /// What is dirty, and what may be without a notice.
    fn dirty_now(&self, known: &Known) -> Dirty {
        let mut dirty = known.dirty.clone();
        self.notices.hold().book.add_suspects(&mut dirty);
        if let Some(state) = &known.state {
            known.tally.add_suspects(state, &mut dirty);
        }
        dirty
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id_of(root: &Root) -> Result<(u64, u64)> {
    let stat = Stat::from(rustix::fs::fstat(root).map_err(|e| Error::io("stat", root.path())(e.into()))?);
    Ok((stat.dev, stat.ino))
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.notices.stop();
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

#[cfg(test)]
mod tests;
