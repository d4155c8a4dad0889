//! A pull under way: what is to be done, and how far it is.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use rustix::fs::{AtFlags, Mode, statat};
use rustix::io::Errno;

use super::compare::{Action, Compared, compare, is_partial};
use super::fold::require_apart;
use super::kept::Keeper;
use super::metadata::Setting;
use super::place::{At, Near, Place};
use super::plan::{CLONED, Needed, Sources, Tree, sources};
use super::present::Present;
use crate::error::{Error, Result};
use crate::filemap::{FileMap, FrameAt, Kind};
use crate::index::State;
use crate::job::Job;
use crate::scan::{self, Stat, Time};

/// A pull under way: hand `take`'s frames back by `deliver`, from any thread, then `finish`; `close` it always.
pub struct Pull {
    pub(super) place: Place,
    pub(super) privileged: bool,
    pub(super) tree: Tree,
    pub(super) actions: Vec<Action>,
    /// Chunks that each regular file still lacks.
    pub(super) left: Vec<AtomicU64>,
    pub(super) frames: Vec<Needed>,
    pub(super) copies: HashMap<u32, Vec<u32>>,
    next: Mutex<usize>,
    pub(super) delivered: AtomicUsize,
    pub(super) notes: Mutex<Vec<String>>,
    /// Something could not be set.
    pub(super) is_short: AtomicBool,
    /// What was written, by number of the entry.
    pub(super) written: Mutex<HashMap<u32, Written>>,
    /// Whether the file system has not refused to clone files.
    pub(super) clones: AtomicBool,
    /// Of a directory that others see: how it was.
    pub(super) before: Option<Before>,
    /// Held by whoever writes; true once closed.
    pub(super) closed: RwLock<bool>,
    /// Whether `prepare` ended well, once it has; held by whoever does it.
    prepared: Mutex<Option<bool>>,
}

/// A directory that others see, as it was found.
pub(super) struct Before {
    /// Begins the names of what is not yet whole.
    pub partial: String,
    pub delete: bool,
    pub state: Mutex<Option<State>>,
    pub blocked: HashMap<u32, u32>,
    /// Records of what the tree has not and is to be removed.
    pub unwanted: Vec<u32>,
    /// How many other entries the tree has not.
    pub kept: u64,
    /// Directories, by number of the entry, whose times will have changed when all is done.
    pub touched: Vec<bool>,
}

/// The inode that a file was written to, and when it got its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub ino: u64,
    pub ctime: Time,
}

impl Written {
    pub fn of(stat: &Stat) -> Written {
        Written { ino: stat.ino, ctime: stat.ctime }
    }
}

impl Pull {
    /// Into `directory`, which exists, is empty and nobody else's business. Makes nothing yet.
    ///
    /// # Errors
    /// `Damaged` when the map contradicts itself, `Io`, `Stopped`.
    pub fn begin(map: &FileMap, directory: &Path, job: &Job) -> Result<Pull> {
        let tree = Tree::of(map)?;
        let place = Place::open(directory)?;
        let mut actions = vec![Action::Make; tree.entries.len()];
        actions[0] = Action::Fix;
        job.step(0)?;
        Ok(Pull::new(place, tree, actions, None))
    }

    /// Into a directory that has something in it; what the tree has not is removed if `delete`.
    ///
    /// # Errors
    /// `Damaged` when the map contradicts itself; `InTheWay` with the directories that would have to be removed although
    /// nothing may be; `Invalid` with two names that the file system takes for one; `Io`.
    pub fn update(map: &FileMap, present: Present, delete: bool, nonce: u64, job: &Job) -> Result<Pull> {
        let tree = Tree::of(map)?;
        let Present { place, state, .. } = present;
        let privileged = is_privileged();
        let Compared { actions, blocked, extra } = compare(&tree, &place, &state, privileged, job)?;
        require_apart(&tree, &place, &state, &extra)?;
        let (left_over, extra): (Vec<u32>, Vec<u32>) = extra
            .into_iter()
            .partition(|&record| state.kind(record) == scan::Kind::File && is_partial(state.name(record)));
        let mut keeper = Keeper::new(&place, &state, job)?;
        let (mut in_the_way, mut removable) = (Vec::new(), true);
        for &record in blocked.values() {
            let stays = keeper.stays(record)?;
            removable &= !stays;
            if stays || !delete && !state.entries(record).is_empty() {
                in_the_way.push(record);
            }
        }
        if !in_the_way.is_empty() {
            in_the_way.sort_unstable();
            let paths = in_the_way.into_iter().map(|record| place.show(&state.path_of(record))).collect();
            return Err(Error::InTheWay { paths, removable });
        }
        let (unwanted, kept) = match delete {
            true => keeper.removable(&extra)?,
            false => (Vec::new(), extra.iter().map(|&record| below(&state, record).len() as u64).sum()),
        };
        let mut near = Near::default();
        for record in left_over {
            let path = state.path_of(record);
            let removed = place.at(&mut near, &path)?.remove(false);
            removed.map_err(|e| Error::io("remove", place.show(&path))(e.into()))?;
        }
        let mut touched = vec![false; tree.entries.len()];
        for (number, &action) in actions.iter().enumerate() {
            touched[tree.parents[number] as usize] |= action == Action::Make;
        }
        let numbers: HashMap<&[u8], usize> =
            tree.entries.iter().enumerate().filter(|(_, e)| e.is_directory()).map(|(n, e)| (&e.path[..], n)).collect();
        for &record in &unwanted {
            if let Some(&parent) = numbers.get(&state.path_of(state.parent(record))[..]) {
                touched[parent] = true;
            }
        }
        drop(numbers);
        let partial = format!("{}{nonce:016x}-", String::from_utf8_lossy(super::compare::PARTIAL));
        let state = Mutex::new(Some(state));
        let before = Before { partial, delete, state, blocked, unwanted, kept, touched };
        Ok(Pull::new(place, tree, actions, Some(before)))
    }

    fn new(place: Place, tree: Tree, actions: Vec<Action>, before: Option<Before>) -> Pull {
        let Sources { frames, copies } = sources(&tree.entries, CLONED, |number| actions[number] == Action::Make);
        let chunks = |entry: &crate::filemap::Entry| match &entry.kind {
            Kind::Regular(content) => AtomicU64::new(content.chunks.len() as u64),
            _ => AtomicU64::new(0),
        };
        Pull {
            place,
            privileged: is_privileged(),
            left: tree.entries.iter().map(chunks).collect(),
            tree,
            actions,
            frames,
            copies,
            next: Mutex::default(),
            delivered: AtomicUsize::new(0),
            notes: Mutex::default(),
            is_short: AtomicBool::new(false),
            written: Mutex::default(),
            clones: AtomicBool::new(true),
            before,
            closed: RwLock::new(false),
            prepared: Mutex::default(),
        }
    }

    /// Unless that has been done: make the directories, let this user write to those that are there, and make the files
    /// that are empty or large. Not at the beginning, for meanwhile the first frames can be on their way.
    ///
    /// # Errors
    /// `Io`; `Stopped` for who comes after somebody who failed, and has said why.
    pub(super) fn prepare(&self, job: &Job) -> Result<()> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        match *prepared {
            Some(true) => Ok(()),
            Some(false) => Err(Error::Stopped),
            None => {
                let made = self.make_room(job);
                *prepared = Some(made.is_ok());
                made
            }
        }
    }

    fn make_room(&self, job: &Job) -> Result<()> {
        let mut near = Near::default();
        for number in self.directories() {
            job.step(0)?;
            let path = &self.tree.entries[number].path;
            let failed = |e: Errno| Error::io("make the directory", self.place.show(path))(e.into());
            if self.actions[number] == Action::Make {
                let at = self.place.at(&mut near, path)?;
                self.make_directory(at).map_err(failed)?;
            } else if let Some(before) = &self.before
                && before.touched[number]
                && !self.privileged
            {
                let at = self.place.at(&mut near, path)?;
                let mode = statat(at, at.name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?.st_mode;
                if mode & 0o300 != 0o300 {
                    let failed = |e: Errno| Error::io("write to", self.place.show(path))(e.into());
                    at.chmod(mode & 0o7777 | 0o700).map_err(failed)?;
                }
            }
        }
        let copies: HashSet<u32> = self.copies.values().flatten().copied().collect();
        for (number, entry) in self.tree.entries.iter().enumerate() {
            job.step(0)?;
            match &entry.kind {
                Kind::Regular(content) if self.makes(number) && content.chunks.is_empty() => {
                    let at = self.place.at(&mut near, &entry.path)?;
                    let file = self.create(at, number)?;
                    self.complete(at, number, &file)?;
                }
                Kind::Regular(content)
                    if self.makes(number) && content.chunks.len() > 1 && !copies.contains(&(number as u32)) =>
                {
                    self.create_large(&mut near, number)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// In the place of what is none, if need be.
    fn make_directory(&self, at: At<'_>) -> rustix::io::Result<()> {
        match rustix::fs::mkdirat(at, at.name, Mode::RWXU) {
            Err(Errno::EXIST) if self.before.is_some() => {
                let stat: Stat = statat(at, at.name, AtFlags::SYMLINK_NOFOLLOW)?.into();
                if stat.kind() == scan::Kind::Directory {
                    return at.chmod(stat.mode & 0o7777 | 0o700);
                }
                at.remove(false)?;
                rustix::fs::mkdirat(at, at.name, Mode::RWXU)
            }
            made => made,
        }
    }

    /// Numbers of the directories below the place, those above before those below.
    fn directories(&self) -> Vec<usize> {
        let entries = &self.tree.entries;
        let mut directories: Vec<usize> = (0..entries.len()).filter(|&number| entries[number].is_directory()).collect();
        // A parent's path is a prefix, hence before.
        directories.sort_unstable_by(|&a, &b| entries[a].path.cmp(&entries[b].path));
        directories
    }

    /// As `directories`, those below first.
    pub(super) fn directories_upwards(&self) -> impl Iterator<Item = usize> {
        self.directories().into_iter().rev()
    }

    /// The next frames that are needed, of one pack and in order of their offsets, of at least one and at most about
    /// `bytes` bytes; empty when all were taken.
    pub fn take(&self, bytes: u64) -> Vec<FrameAt> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = self.frames.get(*next) else { return Vec::new() };
        let mut total = 0;
        let fits = |needed: &&Needed| {
            total += u64::from(needed.frame.length);
            needed.frame.pack == first.frame.pack && (total <= bytes || needed.frame == first.frame)
        };
        let taken: Vec<FrameAt> =
            self.frames[*next..].iter().take_while(fits).map(|needed| needed.frame.clone()).collect();
        *next += taken.len();
        taken
    }

    /// Bytes of all frames that are needed, as they lie in the store.
    pub fn bytes_needed(&self) -> u64 {
        self.frames.iter().map(|needed| u64::from(needed.frame.length)).sum()
    }

    pub(super) fn setting<'a>(&'a self, number: usize, path: &'a Path) -> Setting<'a> {
        Setting { entry: &self.tree.entries[number], path, privileged: self.privileged }
    }

    pub(super) fn note(&self, mut notes: Vec<String>) {
        if !notes.is_empty() {
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).append(&mut notes);
        }
    }

    /// Wait until nobody writes any more, let nobody begin, and remove what is not whole.
    pub fn close(&self) {
        let mut closed = self.closed.write().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *closed, true) || self.before.is_none() {
            return;
        }
        let mut near = Near::default();
        for (number, left) in self.left.iter().enumerate() {
            let Kind::Regular(content) = &self.tree.entries[number].kind else { continue };
            // One of a single chunk is removed by whoever could not write it whole.
            if self.actions[number] == Action::Make
                && content.chunks.len() > 1
                && left.load(Ordering::Acquire) > 0
                && let Ok(at) = self.place.at(&mut near, &self.tree.entries[number].path)
            {
                // What cannot be removed the next pull finds.
                let _ = self.partial(number, at, |at| at.remove(false));
            }
        }
    }

    /// What `then` gives of the name under which an entry is made, which is its own if nobody looks.
    pub(super) fn partial<T>(&self, number: usize, at: At<'_>, then: impl FnOnce(At<'_>) -> T) -> T {
        match &self.before {
            None => then(at),
            Some(before) => {
                let name = format!("{}{number}", before.partial);
                then(at.beside(name.as_ref()))
            }
        }
    }
}

/// A record and all below it, each before those it holds.
pub(super) fn below(state: &State, record: u32) -> Vec<u32> {
    let mut all = vec![record];
    let mut at = 0;
    while at < all.len() {
        all.extend(state.entries(all[at]));
        at += 1;
    }
    all
}

fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}
