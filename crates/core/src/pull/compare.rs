//! What a directory has, beside what the tree says.
//!
//! Invariant: an entry is `Right` only when kind, content, mode, times, attributes, links and, for root, owner are those of
//! the tree. A file is only put right in place when no name outside of the tree shows it.

use std::collections::HashMap;

use super::metadata;
use super::place::Place;
use super::plan::Tree;
use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind};
use crate::index::State;
use crate::job::Job;
use crate::scan;

/// What is to be done about an entry of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is there.
    Leave,
    /// It is there, but for owner, mode, times or attributes.
    Fix,
    /// It is not there, or is something else.
    Make,
}

pub struct Compared {
    /// By number of the entry.
    pub actions: Vec<Action>,
    /// Entries that are no directories, by number, where there is a directory now: its record.
    pub blocked: HashMap<u32, u32>,
    /// Records of what the tree has not, without those below them.
    pub extra: Vec<u32>,
}

/// Names that pulls give to what they have not written whole: followed by 16 hex digits, `-` and a number.
pub const PARTIAL: &[u8] = b".sapwood-partial-";

/// # Errors
/// `Io` where something cannot be looked at, `Stopped`.
pub fn compare(tree: &Tree, place: &Place, state: &State, privileged: bool, job: &Job) -> Result<Compared> {
    let mut here = Here { tree, place, state, privileged, records: vec![None; tree.entries.len()], extra: Vec::new() };
    here.find(job)?;
    let mut compared = Compared {
        actions: Vec::with_capacity(tree.entries.len()),
        blocked: HashMap::new(),
        extra: std::mem::take(&mut here.extra),
    };
    let mut claimed = HashMap::new();
    for number in 0..tree.entries.len() as u32 {
        let action = here.action(number, &compared.actions, &mut claimed)?;
        compared.actions.push(action);
        if let Some(record) = here.records[number as usize]
            && action == Action::Make
            && state.kind(record) == scan::Kind::Directory
        {
            compared.blocked.insert(number, record);
        }
    }
    here.share(&mut compared.actions);
    Ok(compared)
}

struct Here<'a> {
    tree: &'a Tree,
    place: &'a Place,
    state: &'a State,
    privileged: bool,
    /// Of each entry what has its name.
    records: Vec<Option<u32>>,
    extra: Vec<u32>,
}

impl Here<'_> {
    /// Both sides are sorted by name within each directory, and a directory comes before what it holds.
    fn find(&mut self, job: &Job) -> Result<()> {
        let (entries, parents) = (&self.tree.entries, &self.tree.parents);
        self.records[0] = Some(0);
        let mut has_entries = vec![false; entries.len()];
        let mut at = 1;
        while at < entries.len() {
            job.step(0)?;
            let parent = parents[at];
            let end = at + parents[at..].iter().take_while(|&&of| of == parent).count();
            has_entries[parent as usize] = true;
            let Some(directory) = self.directory(parent) else {
                at = end;
                continue;
            };
            let mut records = self.state.entries(directory).peekable();
            for (number, entry) in entries.iter().enumerate().take(end).skip(at) {
                let name = entry.name();
                while let Some(before) = records.next_if(|&record| self.state.name(record) < name) {
                    self.extra.push(before);
                }
                self.records[number] = records.next_if(|&record| self.state.name(record) == name);
            }
            self.extra.extend(records);
            at = end;
        }
        for number in 0..entries.len() {
            if entries[number].is_directory()
                && !has_entries[number]
                && let Some(directory) = self.directory(number as u32)
            {
                self.extra.extend(self.state.entries(directory));
            }
        }
        Ok(())
    }

    /// The record of a directory of the tree that is one here, too.
    fn directory(&self, number: u32) -> Option<u32> {
        let is_directory = |record: &u32| self.state.kind(*record) == scan::Kind::Directory;
        self.records[number as usize].filter(is_directory).filter(|_| self.tree.entries[number as usize].is_directory())
    }

    /// Those of first names, which `claimed` keeps by inode, are told before those of hard links.
    fn action(&self, number: u32, told: &[Action], claimed: &mut HashMap<(u64, u64), u32>) -> Result<Action> {
        let entry = &self.tree.entries[number as usize];
        let Some(record) = self.records[number as usize] else { return Ok(Action::Make) };
        if let Kind::HardLink { .. } = entry.kind {
            let first = self.tree.firsts[number as usize];
            let is_same = self.records[first as usize].is_some_and(|first| self.inode(first) == self.inode(record));
            // A first name that comes later is told then: `share`.
            let is_kept = told.get(first as usize).is_none_or(|action| *action != Action::Make);
            return Ok(if is_same && is_kept { Action::Leave } else { Action::Make });
        }
        if !self.has_content(entry, record) {
            return Ok(Action::Make);
        }
        let has_links = self.state.has_links(record);
        if has_links && claimed.insert(self.inode(record), number).is_some() {
            return Ok(Action::Make);
        }
        if self.has_metadata(entry, record)? {
            return Ok(Action::Leave);
        }
        if has_links {
            // What other names show is not for this pull to change.
            let stat = self.place.root().stat(&entry.path);
            let links = stat.map_err(Error::io("stat", self.place.show(&entry.path)))?.nlink;
            return Ok(if links <= u64::from(entry.links) { Action::Fix } else { Action::Make });
        }
        Ok(Action::Fix)
    }

    fn inode(&self, record: u32) -> (u64, u64) {
        let stat = self.state.stat(record);
        (stat.dev, stat.ino)
    }

    fn has_content(&self, entry: &Entry, record: u32) -> bool {
        let device = |kind, major, minor| {
            self.state.kind(record) == kind && self.state.stat(record).rdev == rustix::fs::makedev(major, minor)
        };
        match &entry.kind {
            Kind::Directory { .. } => self.state.kind(record) == scan::Kind::Directory,
            Kind::Regular(content) => {
                self.state.kind(record) == scan::Kind::File && self.state.digest(record) == Some(content.digest)
            }
            Kind::Symlink { target } => {
                self.state.kind(record) == scan::Kind::Symlink && self.state.target(record) == target
            }
            Kind::CharDevice { major, minor } => device(scan::Kind::CharDevice, *major, *minor),
            Kind::BlockDevice { major, minor } => device(scan::Kind::BlockDevice, *major, *minor),
            Kind::Fifo => self.state.kind(record) == scan::Kind::Fifo,
            Kind::HardLink { .. } => false,
        }
    }

    fn has_metadata(&self, entry: &Entry, record: u32) -> Result<bool> {
        let stat = self.state.stat(record);
        let is_symlink = matches!(entry.kind, Kind::Symlink { .. });
        let is_owned = !self.privileged || (stat.uid, stat.gid) == (entry.uid, entry.gid);
        if !is_owned || stat.mtime != entry.mtime || !is_symlink && stat.mode & 0o7777 != entry.mode {
            return Ok(false);
        }
        if entry.xattrs.is_empty() && !self.state.has_xattrs(record) {
            return Ok(true);
        }
        let present = self.place.root().xattrs(&entry.path);
        let present = present.map_err(Error::io("list extended attributes of", self.place.show(&entry.path)))?;
        Ok(metadata::has_xattrs(entry, &present))
    }

    /// A hard link to what is made anew is made anew.
    fn share(&self, actions: &mut [Action]) {
        for (number, &first) in self.tree.firsts.iter().enumerate() {
            if first as usize != number && actions[first as usize] == Action::Make {
                actions[number] = Action::Make;
            }
        }
    }
}

/// Whether a name is that of something a pull had not written whole.
pub fn is_partial(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(PARTIAL) else { return false };
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let is_hex = |byte: &u8| is_digit(byte) || matches!(byte, b'a'..=b'f');
    rest.len() > 17 && rest[..16].iter().all(is_hex) && rest[16] == b'-' && rest[17..].iter().all(is_digit)
}
