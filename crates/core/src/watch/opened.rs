//! Files that somebody has open, as far as notices tell.
//!
//! Invariant: a file of which more openings than closings were told is among `paths`, under the name it has now.
//! Why: a write through a mapping gives no notice before the file is closed (inotify(7)).
//! A file that was open when it lost a name is a *ghost* there until all openings of that name are closed: what is
//! written to it is told of the old name, which another file may have by then, while it may live on under another.

use std::collections::{BTreeMap, BTreeSet};

use super::book::{MOST, is_below};

/// A rename's second half follows its first closely; one out of the tree has none.
const UNDER_WAY: usize = 64;

#[derive(Default)]
pub(super) struct Opened {
    times: BTreeMap<Vec<u8>, u32>,
    /// Names, all among `times`, that an open file lost.
    ghosts: BTreeSet<Vec<u8>>,
    /// Renames whose second half has not come.
    leaving: Vec<Leaving>,
}

struct Leaving {
    pair: u32,
    from: Vec<u8>,
    /// What was open there, and how often.
    open: Vec<(Vec<u8>, u32)>,
}

impl Opened {
    pub fn open(&mut self, path: &[u8]) {
        if let Some(times) = self.times.get_mut(path) {
            *times = times.saturating_add(1);
        } else if self.times.len() < MOST {
            self.times.insert(path.to_vec(), 1);
        }
    }

    /// Files that are open, whether or not that was told: rather once too often than to be taken for closed.
    pub fn found(&mut self, paths: BTreeSet<Vec<u8>>) {
        paths.iter().for_each(|path| self.open(path));
    }

    pub fn close(&mut self, path: &[u8]) {
        if let Some(times) = self.times.get_mut(path) {
            *times -= 1;
            if *times == 0 {
                self.times.remove(path);
                self.ghosts.remove(path);
            }
        }
    }

    /// The name `path` is gone; with a directory also whoever would tell of closings below it.
    pub fn lose_name(&mut self, path: &[u8], is_directory: bool) {
        if is_directory {
            self.take_below(path);
        } else if self.times.contains_key(path) {
            self.ghosts.insert(path.to_vec());
        }
    }

    /// Whether a notice of `path` may be of a file that has lost that name.
    pub fn is_ghost(&self, path: &[u8]) -> bool {
        self.ghosts.contains(path)
    }

    /// A file or directory is renamed away from `path`.
    pub fn leave(&mut self, path: &[u8], pair: u32) {
        let open = self.take_below(path);
        if open.is_empty() {
            return;
        }
        if self.leaving.len() == UNDER_WAY {
            self.leaving.remove(0);
        }
        self.leaving.push(Leaving { pair, from: path.to_vec(), open });
    }

    /// Whatever left as `pair` is now at `path`, in the place of what was there.
    pub fn arrive(&mut self, path: &[u8], pair: u32) {
        self.lose_name(path, false);
        let Some(at) = self.leaving.iter().position(|leaving| leaving.pair == pair) else { return };
        let Leaving { from, open, .. } = self.leaving.remove(at);
        for (was, times) in open {
            let mut now = path.to_vec();
            now.extend_from_slice(&was[from.len()..]);
            let all = self.times.entry(now).or_default();
            *all = all.saturating_add(times);
        }
    }

    pub fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.times.keys()
    }

    fn take_below(&mut self, path: &[u8]) -> Vec<(Vec<u8>, u32)> {
        // Between `path` and what lies below it others may sort: `a`, `a-b`, `a/b`.
        let from = self.times.range(path.to_vec()..).take_while(|(other, _)| other.starts_with(path));
        let below: Vec<Vec<u8>> =
            from.filter(|(other, _)| is_below(other, path)).map(|(other, _)| other.clone()).collect();
        for path in &below {
            self.ghosts.remove(path);
        }
        below.into_iter().filter_map(|path| self.times.remove_entry(&path)).collect()
    }
}
