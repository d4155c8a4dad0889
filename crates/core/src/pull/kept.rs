//! What is not removed although the tree has it not: what rules leave out, those rules, and what is mounted.
//!
//! Invariant: nothing on another mount than the directory's own is removed, and no rule file as long as anything below its
//! directory is left out, for the next pull would find that to be extra.

use std::collections::HashMap;

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::place::Place;
use super::run::below;
use crate::error::{Error, Result};
use crate::filemap::{Entry, parent_and_name};
use crate::index::State;
use crate::job::Job;
use crate::scan::{Kind, is_gone};
use crate::select::{Rules, may_rule};

/// Before anything was changed: what may be removed of a directory that was looked at.
pub struct Keeper<'a> {
    place: &'a Place,
    state: &'a State,
    job: &'a Job,
    home: Mount,
    /// By the record of a directory, whether it is on another mount.
    elsewhere: HashMap<u32, bool>,
}

/// The device, and the number of the mount where the kernel tells it (Linux 5.8).
type Mount = (u32, u32, u64);

impl<'a> Keeper<'a> {
    pub fn new(place: &'a Place, state: &'a State, job: &'a Job) -> Result<Keeper<'a>> {
        let home = mount_of(place, b"")?.unwrap_or_default();
        Ok(Keeper { place, state, job, home, elsewhere: HashMap::new() })
    }

    /// Of these records and all below them, those that may be removed, and how many others there are.
    pub fn removable(&mut self, tops: &[u32]) -> Result<(Vec<u32>, u64)> {
        let (mut removable, mut kept) = (Vec::new(), 0);
        for &top in tops {
            let mut waiting = vec![top];
            while let Some(record) = waiting.pop() {
                self.job.step(0)?;
                let is_directory = self.state.kind(record) == Kind::Directory;
                if self.is_elsewhere(self.state.parent(record))? || is_directory && self.is_elsewhere(record)? {
                    kept += below(self.state, record).len() as u64;
                } else if self.rules_something(record)? {
                    kept += 1;
                } else {
                    waiting.extend(self.state.entries(record));
                    removable.push(record);
                }
            }
        }
        Ok((removable, kept))
    }

    /// Whether a directory cannot be removed, with --delete neither.
    pub fn stays(&mut self, directory: u32) -> Result<bool> {
        let is_mount_point = self.is_elsewhere(directory)? && !self.is_elsewhere(self.state.parent(directory))?;
        let is_filled = !self.state.entries(directory).is_empty();
        Ok(is_mount_point || self.hides(directory)? || is_filled && self.removable(&[directory])?.1 > 0)
    }

    fn is_elsewhere(&mut self, directory: u32) -> Result<bool> {
        if let Some(&known) = self.elsewhere.get(&directory) {
            return Ok(known);
        }
        let mount = mount_of(self.place, &self.state.path_of(directory))?;
        let is_elsewhere = mount.is_some_and(|mount| mount != self.home);
        self.elsewhere.insert(directory, is_elsewhere);
        Ok(is_elsewhere)
    }

    /// Whether this is a rule file which may leave something out.
    fn rules_something(&self, record: u32) -> Result<bool> {
        let is_rule_file = self.state.kind(record) == Kind::File && may_rule(self.state.name(record));
        Ok(is_rule_file && self.hides(self.state.parent(record))?)
    }

    /// Whether there is anything below a directory that the look did not see.
    fn hides(&self, directory: u32) -> Result<bool> {
        let mut waiting = vec![directory];
        while let Some(directory) = waiting.pop() {
            self.job.step(0)?;
            let path = self.state.path_of(directory);
            let listed = self.place.root().open_dir(&path).and_then(|dir| dir.list(self.job));
            let names = listed.map_err(Error::io("list", self.place.show(&path)))?;
            let mut names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
            if names.any(|name| self.state.find_in(directory, name).is_none()) {
                return Ok(true);
            }
            waiting.extend(self.state.entries(directory).filter(|&entry| self.state.kind(entry) == Kind::Directory));
        }
        Ok(false)
    }
}

/// `None` when it is gone.
fn mount_of(place: &Place, path: &[u8]) -> Result<Option<Mount>> {
    let failed = Error::io("stat", place.show(path));
    match place.root().open_dir(path) {
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(failed(error)),
        Ok(dir) => {
            let found = statx(&dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(|e| failed(e.into()))?;
            let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
            Ok(Some((found.stx_dev_major, found.stx_dev_minor, if told { found.stx_mnt_id } else { 0 })))
        }
    }
}

/// Whether an entry of the tree is one that a look does not see, for rules leave it or a directory above it out.
///
/// # Errors
/// As `Rules::of`.
pub fn is_left_out(rules: &Rules<'_>, entry: &Entry) -> Result<bool> {
    let ends = entry.path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends.chain([entry.path.len()]) {
        let (above, name) = parent_and_name(&entry.path[..end]);
        let in_force = rules.of(above, rules.selection().rule_names())?;
        if rules.leave_out(&in_force, above, name, end < entry.path.len() || entry.is_directory()) {
            return Ok(true);
        }
    }
    Ok(false)
}
