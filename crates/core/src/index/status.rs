//! What differs between the stored state and the tree as it is.
//!
//! Invariant: an entry is changed when its kind, permission bits, content, target or device is another; never for its
//! times, its owner or its inode alone. A directory is changed for its own permission bits, not for its entries.

use std::path::{Path, PathBuf};

use super::hash::Reading;
use super::list::{Listed, Listing};
use super::look::{Finding, Hook, Look, What};
use super::merge::Visit;
use super::record::Record;
use super::{Options, Scope, State};
use crate::error::Result;
use crate::job::Job;
use crate::scan::{Kind, Root};

/// Paths below the root, each list sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub added: Vec<Vec<u8>>,
    pub changed: Vec<Vec<u8>>,
    pub removed: Vec<Vec<u8>>,
    /// There is no earlier state: everything is added.
    pub is_fresh: bool,
    /// May not be read, so nothing is said of them.
    pub unreadable: Vec<PathBuf>,
}

/// Compare `root` with the state stored at `index`, which stays as it is.
///
/// # Errors
/// What `State::look`, `State::read` and `read_stable` say.
pub fn status(root: &Path, index: &Path, options: &Options, job: &Job) -> Result<Status> {
    let root = Root::open(root)?;
    match State::read(index, options.threads, job)? {
        Some(mut before) => {
            before.doubt_other_selection(options);
            before.status(&root, Scope::All, options, None, job)
        }
        None => {
            let (now, mut unreadable) = State::look(&root, None, Scope::All, options, None, job)?;
            let mut added: Vec<_> = (1..now.len()).map(|entry| now.path_of(entry)).collect();
            added.sort_unstable();
            unreadable.sort_unstable();
            Ok(Status { added, is_fresh: true, unreadable, ..Status::default() })
        }
    }
}

impl State {
    /// Compare what is in `scope` with this state, which must be whole.
    ///
    /// # Errors
    /// What `State::look` and `read_stable` say.
    pub fn status(
        &self,
        root: &Root,
        scope: Scope<'_>,
        options: &Options,
        hook: Option<Hook<'_>>,
        job: &Job,
    ) -> Result<Status> {
        let look = Look::new(root, options, hook, job)?;
        let findings = look.findings(self, scope)?;
        let mut comparison = Comparison { before: self, look: &look, status: Status::default(), doubtful: Vec::new() };
        comparison.all(findings)?;
        let Comparison { mut status, doubtful, .. } = comparison;
        let readings = self.read_files(root, &doubtful, options.threads, job)?;
        for (&file, reading) in doubtful.iter().zip(readings) {
            let path = self.path_of(file);
            match reading {
                Reading::Read(digest, _) if self.digest(file) == Some(digest) => {}
                Reading::Read(..) => status.changed.push(path),
                Reading::Unreadable => status.unreadable.push(root.show(&path)),
                Reading::Gone => status.removed.push(path),
            }
        }
        for list in [&mut status.added, &mut status.changed, &mut status.removed] {
            list.sort_unstable();
        }
        status.unreadable.sort_unstable();
        Ok(status)
    }
}

struct Comparison<'a> {
    before: &'a State,
    look: &'a Look<'a>,
    status: Status,
    /// Files of the recorded size and mode: only reading tells.
    doubtful: Vec<u32>,
}

impl Comparison<'_> {
    fn all(&mut self, findings: Vec<Finding>) -> Result<()> {
        for Finding { directory, own, what } in findings {
            if let Some(own) = own {
                self.changed(directory, &own);
            }
            match what {
                What::Entries(changed) => changed.iter().for_each(|(entry, present)| self.changed(*entry, present)),
                What::Listing(listing) => self.listing(directory, &listing)?,
                What::Unreadable => self.status.unreadable.push(self.look.root.show(&self.before.path_of(directory))),
                What::Gone => self.removed(directory),
            }
        }
        Ok(())
    }

    fn changed(&mut self, entry: u32, present: &Record) {
        let (was, is) = (self.before.stat(entry), present.stat());
        let is_file = present.kind() == Kind::File;
        if was.mode != is.mode || was.rdev != is.rdev || is_file && was.size != is.size || !self.before.is_whole(entry)
        {
            self.status.changed.push(self.before.path_of(entry));
        } else if is_file {
            self.doubtful.push(entry);
        }
    }

    fn listing(&mut self, directory: u32, listing: &Listing) -> Result<()> {
        let mut olds = self.before.entries(directory).peekable();
        for listed in &listing.entries {
            let name = match listed {
                Listed::Kept(kept) => self.before.name(*kept),
                Listed::New { record, .. } => listing.name(record),
            };
            while let Some(old) = olds.next_if(|&old| self.before.name(old) < name) {
                self.removed(old);
            }
            let old = olds.next_if(|&old| self.before.name(old) == name);
            if let Listed::New { record, .. } = listed {
                self.present(directory, listing, record, old)?;
            }
        }
        olds.for_each(|old| self.removed(old));
        Ok(())
    }

    fn present(&mut self, directory: u32, listing: &Listing, record: &Record, old: Option<u32>) -> Result<()> {
        let name = listing.name(record);
        let path = join(&self.before.path_of(directory), name);
        match old {
            None => self.status.added.push(path.clone()),
            Some(old) if self.before.kind(old) != record.kind() => {
                self.status.changed.push(path.clone());
                self.before.entries(old).for_each(|below| self.removed(below));
            }
            Some(old) if record.kind() == Kind::Symlink => {
                if listing.target(record) != self.before.target(old) {
                    self.status.changed.push(path);
                }
                return Ok(());
            }
            Some(old) => {
                self.changed(old, record);
                return Ok(());
            }
        }
        if record.kind() == Kind::Directory { self.below(path) } else { Ok(()) }
    }

    /// Everything in a new directory is added.
    fn below(&mut self, directory: Vec<u8>) -> Result<()> {
        let mut waiting = vec![directory];
        while let Some(path) = waiting.pop() {
            let listing = match self.look.visit(&path)? {
                Visit::Listed(listing) => listing,
                Visit::Unreadable => {
                    self.status.unreadable.push(self.look.root.show(&path));
                    continue;
                }
                Visit::Gone => continue,
            };
            for listed in &listing.entries {
                let Listed::New { record, .. } = listed else { continue };
                let below = join(&path, listing.name(record));
                if record.kind() == Kind::Directory {
                    waiting.push(below.clone());
                }
                self.status.added.push(below);
            }
        }
        Ok(())
    }

    fn removed(&mut self, entry: u32) {
        let mut waiting = vec![entry];
        while let Some(entry) = waiting.pop() {
            self.status.removed.push(self.before.path_of(entry));
            waiting.extend(self.before.entries(entry));
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}
