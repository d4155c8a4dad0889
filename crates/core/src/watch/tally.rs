//! What there is in all, and which files have several names, kept up without going through all entries for each edit.
//!
//! Invariant: a tally is that of its state. Of a file with several names each is a suspect: a write through one gives no
//! notice of the others.

use std::collections::{BTreeSet, HashSet};

use crate::index::{Dirty, State, Summary};
use crate::scan::Kind;

#[derive(Default)]
pub(super) struct Tally {
    pub summary: Summary,
    links: BTreeSet<u32>,
}

/// The entries that a look at what is dirty may change when it finds the same names, and how it was with them.
pub(super) struct Touched {
    entries: BTreeSet<u32>,
    bytes: u64,
}

impl Tally {
    pub fn of(state: &State) -> Tally {
        Tally { summary: state.summary(), links: (0..state.len()).filter(|&entry| state.has_links(entry)).collect() }
    }

    /// The names and kinds are those that they were, and only `touched` may be other than before.
    pub fn renew(&mut self, state: &State, touched: &Touched) {
        self.summary.bytes = self.summary.bytes - touched.bytes + bytes(state, &touched.entries);
        for &entry in &touched.entries {
            if state.has_links(entry) {
                self.links.insert(entry);
            } else {
                self.links.remove(&entry);
            }
        }
    }

    /// Files that are known by a name of which nobody knew yet that there are others, while an entry of `touched`, or
    /// without that any entry, is another name of the same inode.
    pub fn others(&self, state: &State, touched: Option<&Touched>) -> Dirty {
        let inode = |entry: u32| {
            let stat = state.stat(entry);
            (stat.dev, stat.ino)
        };
        let linked: HashSet<(u64, u64)> = match touched {
            Some(touched) => {
                let is_new = |entry: &u32| state.has_links(*entry) && !self.links.contains(entry);
                touched.entries.iter().copied().filter(is_new).map(inode).collect()
            }
            None => (0..state.len()).filter(|&entry| state.has_links(entry)).map(inode).collect(),
        };
        let mut others = Dirty::default();
        if linked.is_empty() {
            return others;
        }
        let is_other = |&entry: &u32| {
            state.kind(entry) != Kind::Directory && !state.has_links(entry) && linked.contains(&inode(entry))
        };
        others.entries.extend((0..state.len()).filter(is_other).map(|entry| state.path_of(entry)));
        others
    }

    pub fn add_suspects(&self, state: &State, dirty: &mut Dirty) {
        dirty.entries.extend(self.links.iter().map(|&entry| state.path_of(entry)));
    }
}

impl Touched {
    pub fn by(state: &State, dirty: &Dirty) -> Touched {
        let mut entries = BTreeSet::new();
        let mut below: Vec<u32> = dirty.trees.iter().filter_map(|path| state.find(path)).collect();
        while let Some(entry) = below.pop() {
            entries.extend(state.entries(entry));
            below.extend(state.entries(entry).filter(|&entry| state.kind(entry) == Kind::Directory));
        }
        for directory in dirty.directories.iter().filter_map(|path| state.find(path)) {
            entries.extend(state.entries(directory));
        }
        // Where an entry is gone its directory is listed.
        let holders: BTreeSet<u32> =
            dirty.entries.iter().filter_map(|path| state.find(path)).map(|entry| state.parent(entry)).collect();
        holders.into_iter().for_each(|directory| entries.extend(state.entries(directory)));
        Touched { bytes: bytes(state, &entries), entries }
    }

    /// Whether it counts `entry`, as far as that matters.
    pub fn has(&self, state: &State, entry: u32) -> bool {
        state.kind(entry) == Kind::Directory || self.entries.contains(&entry)
    }

    /// Before a further look, of the same names.
    pub fn also(&mut self, state: &State, more: Touched) {
        let new: BTreeSet<u32> = more.entries.difference(&self.entries).copied().collect();
        self.bytes += bytes(state, &new);
        self.entries.extend(new);
    }
}

fn bytes(state: &State, entries: &BTreeSet<u32>) -> u64 {
    entries.iter().filter(|&&entry| state.kind(entry) == Kind::File).map(|&entry| state.stat(entry).size).sum()
}
