//! What is not as recorded, as paths: for whoever keeps a state and is told of changes (`watch`).

use super::look::{Dirty, Finding, Hook, Look, Options, Scope, What};
use super::{OTHER, State};
use crate::error::Result;
use crate::job::Job;
use crate::scan::Root;

impl Dirty {
    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.trees.len() + self.directories.len() + self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn extend(&mut self, other: Dirty) {
        self.trees.extend(other.trees);
        self.directories.extend(other.directories);
        self.entries.extend(other.entries);
    }
}

impl State {
    /// Entries that are not as when this state was read or sealed. Those that were numbered anew may be missing.
    pub fn changed(&self) -> impl Iterator<Item = u32> {
        self.marks.iter().enumerate().filter(|(_, mark)| *mark & OTHER != 0).map(|(entry, _)| entry as u32)
    }

    /// All of the tree that is not as in this state. New directories are told of by the one that holds them.
    ///
    /// # Errors
    /// What `State::look` says of the disk.
    pub fn differing(&self, root: &Root, options: &Options, hook: Option<Hook<'_>>, job: &Job) -> Result<Dirty> {
        let look = Look::new(root, options, hook, job)?;
        let mut dirty = Dirty::default();
        for Finding { directory, own, what } in look.findings(self, Scope::All)? {
            match what {
                What::Entries(changed) if own.is_none() && !changed.is_empty() => {
                    dirty.entries.extend(changed.iter().map(|(entry, _)| self.path_of(*entry)));
                }
                What::Entries(_) | What::Listing(_) => {
                    dirty.directories.insert(self.path_of(directory));
                }
                What::Unreadable | What::Gone => {
                    dirty.directories.insert(self.path_of(self.parent(directory)));
                    dirty.directories.insert(self.path_of(directory));
                }
            }
        }
        Ok(dirty)
    }
}
