//! The end of a pull: what has no content, what the tree has not, and directories.
//!
//! Invariant: metadata of a directory is set after everything in it, for that changes its times; what is removed was seen
//! by the look of this pull, so what somebody adds meanwhile, or what rules leave out, stays.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::compare::{Action, compare};
use super::kept::is_left_out;
use super::place::{At, Near};
use super::plan::path_of;
use super::present::{Held, Records};
use super::run::{Pull, Written, below};
use crate::error::{Error, Result};
use crate::filemap::Kind;
use crate::index::{Scope, State};
use crate::job::Job;
use crate::scan;
use crate::select::Rules;

/// What was done, by entries of the tree, the directory itself included, and what could not be set.
#[derive(Default)]
pub struct Pulled {
    pub files: u64,
    pub bytes: u64,
    pub left_alone: u64,
    pub written: u64,
    pub fixed: u64,
    /// Entries that the tree has not: gone, and still there.
    pub removed: u64,
    pub extra: u64,
    pub notes: Vec<String>,
}

impl Pull {
    /// All frames have been delivered: make what has no content, remove what is to be removed, then set the metadata of
    /// directories.
    ///
    /// # Errors
    /// `Missing` when a frame has not been delivered; `InTheWay`; `Io`.
    pub fn finish(&self, job: &Job) -> Result<Pulled> {
        if self.delivered.load(Ordering::Acquire) != self.frames.len() {
            return Err(Error::Missing { what: "a frame that was asked for".into() });
        }
        self.prepare(job)?;
        let mut pulled = Pulled::default();
        let mut near = Near::default();
        let mut refused: BTreeSet<usize> = BTreeSet::new();
        for (number, entry) in self.tree.entries.iter().enumerate() {
            job.step(0)?;
            match self.actions[number] {
                Action::Leave => pulled.left_alone += 1,
                Action::Fix => pulled.fixed += 1,
                Action::Make => pulled.written += 1,
            }
            if let Kind::Regular(content) = &entry.kind {
                pulled.files += 1;
                pulled.bytes += content.digest.size;
            }
            let is_special = !matches!(entry.kind, Kind::Directory { .. } | Kind::Regular(_) | Kind::HardLink { .. });
            if self.actions[number] == Action::Make && is_special && !self.make(&mut near, number)? {
                refused.insert(number);
            }
            if self.actions[number] == Action::Fix && !entry.is_directory() {
                let path = self.place.show(&entry.path);
                self.setting(number, &path).set_at(self.place.at(&mut near, &entry.path)?, &mut pulled.notes)?;
            }
        }
        for (number, &first) in self.tree.firsts.iter().enumerate() {
            if first as usize != number && self.makes(number) {
                job.step(0)?;
                if refused.contains(&(first as usize)) {
                    refused.insert(number);
                } else {
                    self.link(first, number)?;
                }
            }
        }
        pulled.notes.extend(refused.into_iter().map(|number| {
            let path = crate::error::show(&self.place.show(&self.tree.entries[number].path));
            format!("{path}: not made: only root may make devices")
        }));
        self.remove_extra(&mut pulled)?;
        for number in self.directories_upwards() {
            let is_touched = self.before.as_ref().is_none_or(|before| before.touched[number]);
            if is_touched || self.actions[number] != Action::Leave {
                let entry = &self.tree.entries[number];
                let path = self.place.show(&entry.path);
                self.setting(number, &path).set_at(self.place.at(&mut near, &entry.path)?, &mut pulled.notes)?;
            }
        }
        pulled.notes.append(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_short.store(!pulled.notes.is_empty(), Ordering::Relaxed);
        Ok(pulled)
    }

    /// Make a symlink, device or FIFO with its metadata; false for a device when this user may not.
    fn make(&self, near: &mut Near, number: usize) -> Result<bool> {
        let entry = &self.tree.entries[number];
        let at = self.place.at(near, &entry.path)?;
        let shown = self.place.show(&entry.path);
        let made = self.partial(number, at, |at| {
            let node = |kind, major, minor| {
                rustix::fs::mknodat(at, at.name, kind, Mode::RWXU, rustix::fs::makedev(major, minor))
            };
            match &entry.kind {
                Kind::Symlink { target } => rustix::fs::symlinkat(path_of(target), at, at.name),
                Kind::CharDevice { major, minor } => node(FileType::CharacterDevice, *major, *minor),
                Kind::BlockDevice { major, minor } => node(FileType::BlockDevice, *major, *minor),
                _ => node(FileType::Fifo, 0, 0),
            }
        });
        match made {
            Err(Errno::PERM) if matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. }) => {
                return Ok(false);
            }
            made => made.map_err(|e| Error::io("create", &shown)(e.into()))?,
        }
        let mut notes = Vec::new();
        let ended = self
            .partial(number, at, |at| self.setting(number, &shown).set_at(at, &mut notes))
            .and_then(|()| self.give_name(at, number));
        self.note(notes);
        self.or_removed(number, at, ended).map(|()| true)
    }

    /// Give what is at entry `first` the name of entry `number`.
    fn link(&self, first: u32, number: usize) -> Result<()> {
        let (mut from_near, mut near) = (Near::default(), Near::default());
        let from = self.place.at(&mut from_near, &self.tree.entries[first as usize].path)?;
        let path = &self.tree.entries[number].path;
        let to = self.place.at(&mut near, path)?;
        let linked = self.partial(number, to, |to| rustix::fs::linkat(from, from.name, to, to.name, AtFlags::empty()));
        linked.map_err(|e| Error::io("link", self.place.show(path))(e.into()))?;
        let named = self.give_name(to, number);
        self.or_removed(number, to, named)?;
        self.renew_written(first, to);
        Ok(())
    }

    fn or_removed(&self, number: usize, at: At<'_>, ended: Result<()>) -> Result<()> {
        if ended.is_err() && self.before.is_some() {
            // What cannot be removed the next pull finds.
            let _ = self.partial(number, at, |at| at.remove(false));
        }
        ended
    }

    fn remove_extra(&self, pulled: &mut Pulled) -> Result<()> {
        let Some(before) = &self.before else { return Ok(()) };
        let state = before.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = &*state else { return Ok(()) };
        // What was in the way is gone by now.
        let (removed, left) = self.remove_records(state, before.unwanted.clone())?;
        let in_the_way = before.blocked.values().map(|&record| below(state, record).len() as u64 - 1);
        pulled.removed = removed + in_the_way.sum::<u64>();
        pulled.extra = left + before.kept;
        Ok(())
    }

    /// Remove what the records tell of; a directory only when it is empty then. How many went and how many stayed.
    pub(super) fn remove_records(&self, state: &State, mut records: Vec<u32>) -> Result<(u64, u64)> {
        // What a directory holds comes after it.
        records.sort_unstable_by(|a, b| b.cmp(a));
        let (mut removed, mut left) = (0, 0);
        let mut near = Near::default();
        for record in records {
            let path = state.path_of(record);
            let at = self.place.at(&mut near, &path)?;
            let is_directory = state.kind(record) == scan::Kind::Directory;
            let mut gone = at.remove(is_directory);
            if let Err(Errno::ACCESS) = gone {
                self.open_to_owner(state, state.parent(record))?;
                gone = at.remove(is_directory);
            }
            match gone {
                Ok(_) => removed += 1,
                Err(Errno::NOTEMPTY | Errno::EXIST) if is_directory => left += 1,
                // Something is mounted there.
                Err(Errno::BUSY) => left += 1,
                Err(error) => return Err(Error::io("remove", self.place.show(&path))(error.into())),
            }
        }
        Ok((removed, left))
    }

    fn open_to_owner(&self, state: &State, directory: u32) -> Result<()> {
        let (path, mut near) = (state.path_of(directory), Near::default());
        let changed = self.place.at(&mut near, &path)?.chmod(state.mode(directory) & 0o7777 | 0o700);
        changed.map_err(|e| Error::io("write to", self.place.show(&path))(e.into()))
    }

    /// After `finish`: make the index that of the directory as it is now, without reading what was written, and note that
    /// it is what a pull of `map` left.
    ///
    /// # Errors
    /// `Unstable` naming an entry that somebody has changed meanwhile; `Io`.
    pub fn record(&self, map: &str, records: Records, job: &Job) -> Result<()> {
        let before = self.before.as_ref();
        let state = before.and_then(|before| before.state.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut options = records.options.clone();
        options.skip_unreadable = true;
        let (mut state, mut unreadable) = State::look(self.place.root(), state, Scope::All, &options, None, job)?;
        let written = std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        let by_path = self.tree.entries.iter().zip(&self.tree.firsts);
        let by_path = by_path.filter_map(|(entry, first)| Some((&entry.path[..], (*first, written.get(first)?))));
        let by_path: HashMap<&[u8], (u32, &Written)> = by_path.collect();
        state.note_known(|path, stat| {
            let &(number, written) = by_path.get(path)?;
            let Kind::Regular(content) = &self.tree.entries[number as usize].kind else { return None };
            // Whoever has written to it since it got its name has moved its times: mtime is the tree's, and older.
            let is_it = *written == Written::of(stat) && stat.mtime == self.tree.entries[number as usize].mtime;
            (is_it && !stat.is_racy(stat.ctime, false)).then_some(content.digest)
        });
        state.read_pending(self.place.root(), &options, &mut unreadable, job)?;
        state.seal();
        state.write(&records.index)?;
        if self.is_short.load(Ordering::Relaxed) || !unreadable.is_empty() {
            return Ok(());
        }
        let compared = compare(&self.tree, &self.place, &state, self.privileged, job)?;
        if before.is_some() {
            let rules = Rules::new(self.place.root(), &options.selection);
            let is_left_out = |number: usize| is_left_out(&rules, &self.tree.entries[number]);
            for number in (0..compared.actions.len()).filter(|&number| compared.actions[number] == Action::Make) {
                // What the look does not see cannot be told from what is not there, nor can other names of it.
                if !is_left_out(number)? && !is_left_out(self.tree.firsts[number] as usize)? {
                    return Err(Error::Unstable { path: self.place.show(&self.tree.entries[number].path) });
                }
            }
        }
        if compared.actions.iter().any(|&action| action != Action::Leave) {
            return Ok(());
        }
        let extra = compared.extra.iter().map(|&record| below(&state, record).len() as u64).sum();
        let entries = self.tree.entries.len() as u64;
        let sizes = self.tree.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::Regular(content) => Some(content.digest.size),
            _ => None,
        });
        let (files, bytes) = sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
        records.remember(&state, map, Held { entries, files, bytes, extra })
    }
}
