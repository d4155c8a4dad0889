//! Files that have several names: a write through one gives no notice of the others.

use std::collections::HashSet;

use crate::index::{Dirty, State};
use crate::scan::Kind;

#[derive(Default)]
pub(super) struct Links {
    /// Numbers in the state.
    entries: Vec<u32>,
}

impl Links {
    pub fn of(state: &State) -> Links {
        Links { entries: (0..state.len()).filter(|&entry| state.has_links(entry)).collect() }
    }

    /// Entries that the state has for one name of an inode with several names while it knows of only that one.
    pub fn others(&self, state: &State) -> Dirty {
        let mut others = Dirty::default();
        if self.entries.is_empty() {
            return others;
        }
        let inode = |entry: u32| {
            let stat = state.stat(entry);
            (stat.dev, stat.ino)
        };
        let inodes: HashSet<(u64, u64)> = self.entries.iter().map(|&entry| inode(entry)).collect();
        let is_other = |&entry: &u32| {
            state.kind(entry) != Kind::Directory && !state.has_links(entry) && inodes.contains(&inode(entry))
        };
        others.entries.extend((0..state.len()).filter(is_other).map(|entry| state.path_of(entry)));
        others
    }

    pub fn add_suspects(&self, state: &State, dirty: &mut Dirty) {
        dirty.entries.extend(self.entries.iter().map(|&entry| state.path_of(entry)));
    }
}
