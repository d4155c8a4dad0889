//! What the notices say so far: which directories are watched, and what is dirty.
//!
//! Invariant: whatever changed in a watched directory since `take` is dirty or the book is lost. A path that has moved
//! away from under its watch is dirty with everything below it, and the watch is given up.

use std::collections::{BTreeSet, HashMap};

use rustix::fs::inotify::ReadFlags;

use super::opened::Opened;
use crate::index::Dirty;

/// More dirty paths than this cost more than looking at everything.
pub(super) const MOST: usize = 65_536;

pub(super) struct Notice<'a> {
    pub watch: i32,
    pub what: ReadFlags,
    /// The same for both halves of a rename.
    pub pair: u32,
    /// Empty when it is about the watched directory itself.
    pub name: &'a [u8],
}

struct Watched {
    path: Box<[u8]>,
    /// Of the look that came by last.
    look: u32,
}

#[derive(Default)]
pub(super) struct Book {
    watched: HashMap<i32, Watched>,
    look: u32,
    dirty: Dirty,
    opened: Opened,
    /// Cannot be watched by their paths alone: to be looked at with everything below them, always.
    blind: BTreeSet<Vec<u8>>,
    /// Directories that moved away since the last `give_up`.
    moved: Vec<Vec<u8>>,
    is_lost: bool,
    /// The root is not where it was.
    is_over: bool,
}

/// What to look at, besides what was dirty before.
pub(super) struct Taken {
    pub dirty: Dirty,
    pub is_lost: bool,
}

impl Book {
    pub fn note(&mut self, notice: &Notice<'_>) {
        let what = notice.what;
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.lose();
            return;
        }
        let Some(watched) = self.watched.get(&notice.watch) else { return };
        let is_directory = what.contains(ReadFlags::ISDIR);
        let is_root = watched.path.is_empty();
        if what.contains(ReadFlags::IGNORED) {
            self.watched.remove(&notice.watch);
            self.is_over |= is_root;
            return;
        }
        let directory = watched.path.to_vec();
        if what.contains(ReadFlags::UNMOUNT) {
            self.lose();
        } else if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
            self.is_over |= is_root;
            if what.contains(ReadFlags::MOVE_SELF) {
                self.dirty.trees.insert(directory.clone());
                self.moved.push(directory);
            }
        } else if notice.name.is_empty() {
            if what.contains(ReadFlags::ATTRIB) {
                self.dirty.directories.insert(directory);
            }
        } else {
            self.entry(directory, notice, is_directory);
        }
        if self.dirty.len() > MOST {
            self.lose();
        }
    }

    fn entry(&mut self, directory: Vec<u8>, notice: &Notice<'_>, is_directory: bool) {
        const NAMES: ReadFlags =
            ReadFlags::CREATE.union(ReadFlags::DELETE).union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO);
        const CONTENT: ReadFlags = ReadFlags::MODIFY.union(ReadFlags::ATTRIB).union(ReadFlags::CLOSE_WRITE);
        let path = join(&directory, notice.name);
        let what = notice.what;
        if what.intersects(CONTENT) && !is_directory && self.opened.is_ghost(&path) {
            self.lose();
        }
        if what.intersects(ReadFlags::MOVED_FROM.union(ReadFlags::DELETE)) {
            self.forget_entries(&path);
        }
        if what.contains(ReadFlags::MOVED_FROM) {
            self.opened.leave(&path, notice.pair);
        } else if what.contains(ReadFlags::MOVED_TO) {
            self.opened.arrive(&path, notice.pair);
        } else if what.contains(ReadFlags::DELETE) {
            self.opened.lose_name(&path, is_directory);
        } else if what.contains(ReadFlags::OPEN) && !is_directory {
            self.opened.open(&path);
        } else if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::CLOSE_NOWRITE) && !is_directory {
            self.opened.close(&path);
        }
        if self.is_lost {
            return;
        }
        if what.intersects(NAMES) {
            self.dirty.directories.insert(directory);
            if is_directory {
                self.dirty.trees.insert(path);
            }
        } else if what.intersects(CONTENT) {
            let dirty = if is_directory { &mut self.dirty.directories } else { &mut self.dirty.entries };
            dirty.insert(path);
        }
    }

    /// What is dirty at and below a name that is gone: from here on such a notice is that of a file without this name.
    fn forget_entries(&mut self, path: &[u8]) {
        let from = self.dirty.entries.range(path.to_vec()..).take_while(|other| other.starts_with(path));
        let gone: Vec<Vec<u8>> = from.filter(|other| is_below(other, path)).cloned().collect();
        for path in &gone {
            self.dirty.entries.remove(path);
        }
    }

    pub fn lose(&mut self) {
        self.is_lost = true;
        self.dirty = Dirty::default();
    }

    /// The watches that lead to where something else may be by now; they are forgotten here.
    pub fn give_up(&mut self) -> Vec<i32> {
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return Vec::new();
        }
        self.forget_watches(|watched| moved.iter().any(|above| is_below(&watched.path, above)))
    }

    /// From now on every directory that is to stay watched is come by: `watch` is called for it.
    pub fn begin_look(&mut self) {
        self.look += 1;
        self.blind.clear();
    }

    /// The watches of directories that the look did not come by; they are forgotten here.
    pub fn end_look(&mut self) -> Vec<i32> {
        let look = self.look;
        self.forget_watches(|watched| watched.look < look)
    }

    /// These files are open, whether or not there was a notice.
    pub fn found_open(&mut self, paths: BTreeSet<Vec<u8>>) {
        self.opened.found(paths);
    }

    /// The directory `path` is watched by `watch`.
    pub fn watch(&mut self, watch: i32, path: &[u8]) {
        let before = self.watched.insert(watch, Watched { path: path.into(), look: self.look });
        // The one inode is seen at two paths, or moved between two notices.
        if let Some(before) = before.filter(|before| *before.path != *path) {
            self.blind.insert(before.path.into_vec());
            self.blind.insert(path.to_vec());
        }
    }

    /// The directory `path` cannot be watched.
    pub fn cannot_watch(&mut self, path: &[u8]) {
        self.blind.insert(path.to_vec());
    }

    pub fn take(&mut self) -> Taken {
        Taken { dirty: std::mem::take(&mut self.dirty), is_lost: std::mem::take(&mut self.is_lost) }
    }

    /// Add what may have changed without a notice.
    pub fn add_suspects(&self, dirty: &mut Dirty) {
        dirty.trees.extend(self.blind.iter().cloned());
        dirty.entries.extend(self.opened.paths().cloned());
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// How many directories are watched.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    fn forget_watches(&mut self, is_to_go: impl Fn(&Watched) -> bool) -> Vec<i32> {
        let mut gone = Vec::new();
        self.watched.retain(|&watch, watched| {
            let goes = is_to_go(watched);
            if goes {
                gone.push(watch);
            }
            !goes
        });
        gone
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// Whether `path` is `above` or lies below it.
pub(super) fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| above.is_empty() || rest.is_empty() || rest[0] == b'/')
}
