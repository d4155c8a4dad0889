//! The look: a state against the disk, by all threads, directory by directory, without changing either.
//!
//! Invariant: what is not among the findings is as recorded: its record is whole, its stat is the one recorded and not
//! racy. A directory of which that holds has the names it had, so it is not listed.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::list::Listing;
use super::record::{HAS_DIGEST, RACY, Record, entry_term};
use super::share::share;
use super::{GONE, State};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::{Dir, Kind, Passing, Root, Stat, Time, is_denied, is_gone, parent_and_name};
use crate::select::{Rules, Selection, may_rule};

/// How to look at a tree.
#[derive(Clone)]
pub struct Options {
    pub threads: usize,
    /// Leave out and name what may not be read, instead of failing.
    pub skip_unreadable: bool,
    /// A directory of another file system than the root's is taken to be empty.
    pub one_file_system: bool,
    /// Whether a changed file has another ctime: not so on some network file systems.
    pub trust_ctime: bool,
    pub selection: Selection,
}

impl Options {
    pub fn new(threads: usize) -> Options {
        let selection = Selection::default();
        Options { threads, skip_unreadable: false, one_file_system: false, trust_ctime: true, selection }
    }

    /// Of what decides which entries a tree has, but for rule files: zero by default. An index with another fingerprint
    /// lists all directories anew.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut said = self.selection.said();
        if self.one_file_system {
            said.insert(0, b"one file system".to_vec());
        }
        let mut fingerprint = [0; 16];
        if !said.is_empty() {
            fingerprint.copy_from_slice(&Digest::of(&said.join(&0)).sha256[..16]);
        }
        fingerprint
    }
}

/// What to look at. The rest is taken to be as recorded.
#[derive(Clone, Copy)]
pub enum Scope<'a> {
    All,
    /// One directory and its entries, not what is below them.
    Directory(&'a [u8]),
    Only(&'a Dirty),
}

/// Paths relative to the root, whose own is empty. Those that the state does not have are passed over: what is new is
/// found by listing its directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Directories to be looked at with everything below them.
    pub trees: BTreeSet<Vec<u8>>,
    /// Directories to be listed anew.
    pub directories: BTreeSet<Vec<u8>>,
    /// Entries to be looked at again.
    pub entries: BTreeSet<Vec<u8>>,
}

/// Called with the path of each directory before its entries are looked at.
pub type Hook<'a> = &'a (dyn Fn(&[u8], &Dir) -> Result<()> + Sync);

/// What is not as recorded in one directory.
pub(super) struct Finding {
    pub directory: u32,
    /// Its own record, when its stat is another.
    pub own: Option<Record>,
    pub what: What,
}

/// Entries that are not as recorded, with their records but for content and place.
pub(super) type Changed = Vec<(u32, Record)>;

pub(super) enum What {
    /// The same names and kinds.
    Entries(Changed),
    Listing(Listing),
    Unreadable,
    Gone,
}

/// Records looked through for directories at a time.
const RUN: u32 = 256;

/// The entries of a directory of more are shared among the threads, so many at a time.
pub(super) const SPLIT: usize = 2048;

/// Steps between two questions whether to stop.
pub(super) const STRIDE: usize = 256;

pub(super) struct Look<'a> {
    pub root: &'a Root,
    pub options: &'a Options,
    pub hook: Option<Hook<'a>>,
    pub began: Time,
    /// That the root is on.
    device: u64,
    passing: Passing,
    pub rules: Rules<'a>,
    pub job: &'a Job,
}

impl<'a> Look<'a> {
    /// # Errors
    /// `Unreadable` or `Io` when the root may not be looked at.
    pub fn new(root: &'a Root, options: &'a Options, hook: Option<Hook<'a>>, job: &'a Job) -> Result<Look<'a>> {
        let stat = root.open_dir(b"").and_then(|dir| dir.own_stat()).map_err(|e| match is_denied(&e) {
            true => Error::Unreadable { paths: vec![root.path().to_path_buf()] },
            false => Error::io("open", root.path())(e),
        })?;
        let rules = Rules::new(root, &options.selection);
        Ok(Look { root, options, hook, began: Time::now(), device: stat.dev, passing: Passing::default(), rules, job })
    }

    /// Tell that a directory will be looked at, unless it is taken to be empty: then true.
    pub fn announce(&self, path: &[u8], dir: &Dir) -> Result<bool> {
        if self.options.one_file_system {
            let stat = dir.own_stat().map_err(Error::io("stat", self.root.show(path)))?;
            if stat.dev != self.device {
                return Ok(true);
            }
        }
        self.hook.map_or(Ok(()), |hook| hook(path, dir))?;
        Ok(false)
    }
}

impl Look<'_> {
    /// By directory, those above before those below; nothing of directories that are no longer in the tree.
    pub fn findings(&self, state: &State, scope: Scope<'_>) -> Result<Vec<Finding>> {
        let mut findings = self.all_findings(state, scope)?;
        self.follow_rules(state, scope, &mut findings)?;
        findings.sort_by_key(|finding| finding.directory);
        let mut dropped = HashSet::new();
        findings.retain(|finding| {
            if dropped.contains(&finding.directory) {
                return false;
            }
            let mut waiting = match &finding.what {
                What::Listing(listing) => listing.dropped(state, finding.directory),
                What::Unreadable | What::Gone => state.entries(finding.directory).collect(),
                What::Entries(_) => Vec::new(),
            };
            while let Some(entry) = waiting.pop() {
                if state.kind(entry) == Kind::Directory {
                    dropped.insert(entry);
                    waiting.extend(state.entries(entry));
                }
            }
            true
        });
        Ok(findings)
    }

    fn all_findings(&self, state: &State, scope: Scope<'_>) -> Result<Vec<Finding>> {
        match scope {
            Scope::All => {
                let runs = state.len().div_ceil(RUN);
                let found = share(
                    self.options.threads,
                    runs as usize,
                    || (),
                    |(), run| {
                        let from = run as u32 * RUN;
                        let mut found = Vec::new();
                        for directory in from..(from + RUN).min(state.len()) {
                            if state.kind(directory) == Kind::Directory {
                                found.extend(self.directory(state, directory, false)?);
                            }
                        }
                        Ok(found)
                    },
                )?;
                Ok(found.into_iter().flatten().collect())
            }
            Scope::Directory(path) => match state.find(path).filter(|&entry| state.kind(entry) == Kind::Directory) {
                Some(directory) => self.one(state, directory),
                None => Ok(Vec::new()),
            },
            Scope::Only(dirty) => self.only(state, dirty),
        }
    }

    fn only(&self, state: &State, dirty: &Dirty) -> Result<Vec<Finding>> {
        let mut directories = BTreeSet::new();
        let is_directory = |&entry: &u32| state.kind(entry) == Kind::Directory;
        let mut below: Vec<u32> = dirty.trees.iter().filter_map(|path| state.find(path)).filter(is_directory).collect();
        while let Some(directory) = below.pop() {
            if directories.insert(directory) {
                below.extend(state.entries(directory).filter(is_directory));
            }
        }
        directories.extend(dirty.directories.iter().filter_map(|path| state.find(path)).filter(is_directory));
        for (above, _) in dirty.entries.iter().map(|path| parent_and_name(path)).filter(|(_, name)| may_rule(name)) {
            // It may be left out itself.
            directories.extend(state.find(above).filter(is_directory));
        }
        let entries: Vec<u32> = dirty.entries.iter().filter_map(|path| state.find(path)).collect();
        let mut findings = Vec::new();
        // The entries of one directory follow each other.
        for run in entries.chunk_by(|a, b| state.parent(*a) == state.parent(*b)) {
            let parent = state.parent(run[0]);
            if directories.contains(&parent) {
                continue;
            }
            match self.entries(state, parent, run)? {
                Some(changed) if changed.is_empty() => {}
                Some(changed) => findings.push(Finding { directory: parent, own: None, what: What::Entries(changed) }),
                None => {
                    directories.insert(parent);
                }
            }
        }
        let directories: Vec<u32> = directories.into_iter().collect();
        let found = share(
            self.options.threads,
            directories.len(),
            || (),
            |(), number| self.directory(state, directories[number], true),
        )?;
        findings.extend(found.into_iter().flatten());
        Ok(findings)
    }

    /// Those of `entries`, all in `parent`, that are not as recorded; `None` when the directory must be listed.
    fn entries(&self, state: &State, parent: u32, entries: &[u32]) -> Result<Option<Changed>> {
        let path = state.path_of(parent);
        let Ok(dir) = self.root.open_dir(&path) else { return Ok(None) };
        let mut changed = Vec::new();
        for &entry in entries {
            self.job.step(0)?;
            let Ok(stat) = dir.stat(state.name(entry)) else { return Ok(None) };
            // A directory's own record is looked at with its entries.
            if stat.kind() == Kind::Directory || !self.compare(state, &dir, entry, &stat, &mut changed)? {
                return Ok(None);
            }
        }
        Ok(Some(changed))
    }

    pub(super) fn directory(&self, state: &State, directory: u32, is_dirty: bool) -> Result<Option<Finding>> {
        self.job.step(0)?;
        if state.marks[directory as usize] & GONE != 0 {
            return Ok(None);
        }
        let path = state.path_of(directory);
        match self.look(state, directory, &path, is_dirty) {
            Err(Error::Io { source, .. }) if is_gone(&source) => {
                Ok(Some(Finding { directory, own: None, what: What::Gone }))
            }
            Err(Error::Io { source, .. }) if is_denied(&source) => {
                Ok(Some(Finding { directory, own: None, what: What::Unreadable }))
            }
            other => other,
        }
    }

    fn look(&self, state: &State, directory: u32, path: &[u8], is_dirty: bool) -> Result<Option<Finding>> {
        let dir = self.root.open_dir(path).map_err(Error::io("open", self.root.show(path)))?;
        let is_beyond = self.announce(path, &dir)?;
        let stat = dir.own_stat().map_err(Error::io("stat", self.root.show(path)))?;
        let settled = self.holds(state, &dir, directory, &stat);
        if settled && !is_dirty && !is_beyond {
            match self.same(state, &dir, directory)? {
                Same::Yes => return Ok(None),
                Same::But(changed) => {
                    return Ok(Some(Finding { directory, own: None, what: What::Entries(changed) }));
                }
                Same::List => {}
            }
        }
        let listing = match is_beyond {
            true => Listing::default(),
            false => self.list(&dir, path, Some((state, directory)))?,
        };
        let mut own = None;
        if !settled || listing.hides_rules {
            let mut record = self.fresh(&dir, b"", &stat).map_err(Error::io("read", self.root.show(path)))?;
            if listing.hides_rules {
                record.hide_rules();
            }
            own = Some(record);
        }
        let what = match listing.as_entries(state, directory) {
            Some(changed) => What::Entries(changed),
            None => What::Listing(listing),
        };
        Ok(Some(Finding { directory, own, what }))
    }

    /// Without listing it: how the entries are.
    fn same(&self, state: &State, dir: &Dir, directory: u32) -> Result<Same> {
        let entries = state.entries(directory);
        let split = |number: usize| {
            let from = entries.start + (number * SPLIT) as u32;
            from..entries.end.min(from + SPLIT as u32)
        };
        let runs = entries.len().div_ceil(SPLIT);
        let threads = if runs > 1 { self.options.threads } else { 1 };
        let compared = share(threads, runs, || (), |(), number| self.run(state, dir, entries.start, split(number)))?;
        let mut all = Vec::new();
        let mut sum = 0_u64;
        for run in compared {
            let Some((changed, terms)) = run else { return Ok(Same::List) };
            all.extend(changed);
            sum = sum.wrapping_add(terms);
        }
        let record = state.record(directory);
        let is_summed = record.has(HAS_DIGEST) && record.entries_sum() == sum;
        Ok(if is_summed && all.is_empty() { Same::Yes } else { Same::But(all) })
    }

    /// Of a run of entries those that are not as recorded, and what all add to the sum; `None` when a name is gone or of
    /// another kind. Directories are looked at on their own.
    fn run(&self, state: &State, dir: &Dir, first: u32, run: Range<u32>) -> Result<Option<(Changed, u64)>> {
        let mut changed = Vec::new();
        let mut sum = 0_u64;
        for entry in run {
            if (entry as usize).is_multiple_of(STRIDE) {
                self.job.step(0)?;
            }
            sum = sum.wrapping_add(entry_term(state.record(entry).sum(), (entry - first) as usize));
            if state.kind(entry) == Kind::Directory {
                continue;
            }
            let Ok(stat) = dir.stat(state.name(entry)) else { return Ok(None) };
            if !self.compare(state, dir, entry, &stat, &mut changed)? {
                return Ok(None);
            }
        }
        Ok(Some((changed, sum)))
    }

    /// Whether the entry is of the recorded kind, and for a symbolic link unchanged; adds it to `changed` if it is not
    /// as recorded.
    fn compare(&self, state: &State, dir: &Dir, entry: u32, stat: &Stat, changed: &mut Changed) -> Result<bool> {
        if self.holds(state, dir, entry, stat) {
            return Ok(true);
        }
        let kind = stat.kind();
        if kind != state.kind(entry) || kind == Kind::Symlink {
            return Ok(false);
        }
        match self.fresh(dir, state.name(entry), stat) {
            Ok(record) => changed.push((entry, record)),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    /// The record of something not known, but for content and place.
    pub fn fresh(&self, dir: &Dir, name: &[u8], stat: &Stat) -> std::io::Result<Record> {
        let mut record = Record::of_stat(stat);
        record.set(super::HAS_XATTRS, dir.has_xattrs(name)?);
        record.set(RACY, stat.kind() != Kind::File && stat.is_racy(self.began, self.options.trust_ctime));
        Ok(record)
    }

    /// Whether the record of `entry`, of `dir` or that itself, is whole, has the stat, and was racy neither when it was
    /// made nor, since the clock may have been set back, is now. No record of a mount of ours holds.
    pub fn holds(&self, state: &State, dir: &Dir, entry: u32, stat: &Stat) -> bool {
        let (record, trust_ctime) = (state.record(entry), self.options.trust_ctime);
        record.has_stat(stat, trust_ctime)
            && !record.has(RACY)
            && !stat.is_racy(self.began, trust_ctime)
            && state.is_whole(entry)
            && !self.passing.has(dir, stat)
    }
}

enum Same {
    Yes,
    But(Changed),
    List,
}
