//! Who walks the tree by names: what look-ups tell of it, and which directories to list ahead of that reader.
//!
//! Invariant: a list is twice as long as the one before at most, and begins only when the reader has come to the end of that;
//! the first is one directory of which several names were looked up in a row. The order is the file map's.
//! Not here: listing (`walker`). Why, and what was measured: docs/decisions/0029-names-brought-ahead.md.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::filemap::{Entry, FileMap, Found, Place, parent_and_name, place_of};

/// So many names of one directory in a row are a walk, not the start of a program.
const NAMES: u64 = 3;
/// Of a large directory one in so many: to list a name costs about as much less than to look it up.
const SHARE: u64 = 16;
/// Names that are listed ahead: the second time, and at most, also of one directory.
const FEWEST: u64 = 512;
const MOST: u64 = 65_536;
/// What is listed until the reader is looked for again.
const BATCH: u64 = 512;
/// ...and of paths no more bytes than the smallest buffer of a socket takes.
const BATCH_BYTES: usize = 32 << 10;
/// A reader who is where the list is to go on has looked up so many names before that brings any.
const SKIP: u64 = 32;

#[derive(Default)]
pub(super) struct Walk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody lists.
    on: bool,
    closed: bool,
    /// The directory, by inode, of the last names that were looked up, and how many in a row.
    parent: u64,
    names: u64,
    /// Where the reader was seen last, since a batch was handed out.
    seen: Option<Place>,
    /// All before this is listed, as far as it was to be.
    reached: Place,
    /// How many names the last list had, 1 of a directory alone, 0 if there is none to go on from; and how many are left of it.
    window: u64,
    left: u64,
    /// What was handed out is being listed.
    listing: bool,
}

/// What is to be listed: directories, by what their names take in an answer of getdents64, and path.
pub(super) type Batch = Vec<(usize, Vec<u8>)>;

impl Walk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on there is somebody who lists.
    pub fn begin(&self) {
        self.state().on = true;
    }

    /// Nobody lists any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Somebody has looked up a name of the directory `parent`, and was told `inode`. Absent names say nothing, and those of
    /// directories are looked up by who lists, too.
    pub fn note(&self, map: &FileMap, parent: u64, inode: u64) {
        let mut state = self.state();
        if !state.on || state.closed {
            return;
        }
        let (Ok(Some(directory)), Ok(Some(entry)), Some(place)) =
            (map.entry(parent), map.entry(inode), place_of(inode))
        else {
            return;
        };
        // A hard link is told as its first name, which may lie elsewhere.
        if entry.is_directory() || !is_in(entry, &directory.path) {
            return;
        }
        state.names = if state.parent == parent { state.names + 1 } else { 1 };
        state.parent = parent;
        if state.left > 0 || state.listing {
            state.seen = Some(place);
            return;
        }
        if state.is_followed(map, place) {
            state.window = (2 * state.window).clamp(FEWEST, MOST);
        } else if state.names == NAMES || state.names > NAMES && state.names.is_power_of_two() {
            let Ok((_, names)) = extent(map, &directory.path) else { return };
            if names > MOST || state.names < names / SHARE {
                return;
            }
            // The directory alone.
            state.window = 1;
        } else {
            return;
        }
        state.left = state.window;
        state.seen = Some(place);
        state.reached = place;
        drop(state);
        self.changed.notify_all();
    }

    /// Wait for something to list, for so long, or for ever. None: the time has passed. Closed: an empty one.
    pub fn next(&self, map: &FileMap, timeout: Option<Duration>) -> Option<Batch> {
        let mut state = self.state();
        state.listing = false;
        if let Some(seen) = state.seen.filter(|seen| state.left == 0 && state.is_followed(map, *seen)) {
            state.window = (2 * state.window).clamp(FEWEST, MOST);
            (state.left, state.reached) = (state.window, seen);
        }
        loop {
            if state.closed {
                return Some(Batch::new());
            }
            if state.left > 0 {
                let batch = state.batch(map).unwrap_or_default();
                if !batch.is_empty() {
                    state.listing = true;
                    return Some(batch);
                }
                state.left = 0;
            }
            state = match timeout {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    let (state, waited) =
                        self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
                    if waited.timed_out() && !state.closed && state.left == 0 {
                        return None;
                    }
                    state
                }
            };
        }
    }

    /// Nothing more of this list is to be brought.
    pub fn drop_rest(&self) {
        let mut state = self.state();
        (state.left, state.window) = (0, 0);
    }
}

impl State {
    /// Whether a reader who is there has come to what follows the last list.
    fn is_followed(&self, map: &FileMap, place: Place) -> bool {
        self.window > 0 && place >= self.reached && between(map, self.reached, place) <= self.window.max(FEWEST)
    }

    /// The next directories, from the reader's on if it is past what was listed.
    fn batch(&mut self, map: &FileMap) -> Found<Batch> {
        let mut at = self.reached;
        if let Some(seen) = self.seen.take().filter(|seen| *seen >= self.reached) {
            at = seen;
            let ahead = if self.window > 1 { SKIP } else { 0 };
            // Its directory, whole, though some of its names are here, or the first that is far enough ahead.
            while let Some(entry) = entry_at(map, &mut at)? {
                let (start, names) = extent(map, parent_and_name(&entry.path).0)?;
                if ahead == 0 || (start >= seen && between(map, seen, start) >= ahead) {
                    at = start;
                    break;
                }
                at = past(map, start, names);
            }
        }
        let (mut batch, mut listed, mut bytes) = (Batch::new(), 0, 0);
        while self.left > 0 && listed < BATCH && bytes < BATCH_BYTES {
            let Some(entry) = entry_at(map, &mut at)? else {
                self.left = 0;
                break;
            };
            let path = parent_and_name(&entry.path).0;
            let (start, names) = extent(map, path)?;
            // A directory that is larger than all that is to be listed waits for a reader of its own.
            if self.window <= 1 || names <= self.left.max(FEWEST) {
                batch.push((length(map, path)?, path.to_vec()));
                bytes += path.len() + 1;
                listed += names;
            }
            self.left = self.left.saturating_sub(names);
            at = past(map, start, names);
        }
        self.reached = at;
        Ok(batch)
    }
}

fn is_in(entry: &Entry, directory: &[u8]) -> bool {
    !entry.path.is_empty() && parent_and_name(&entry.path).0 == directory
}

/// The entry at a place that may be past the end of its page; none past the last.
fn entry_at<'a>(map: &'a FileMap, at: &mut Place) -> Found<Option<&'a Entry>> {
    while at.0 < map.pages().len() {
        match map.rows(at.0)?.get(at.1) {
            Some(entry) if entry.path.is_empty() => at.1 += 1,
            Some(entry) => return Ok(Some(entry)),
            None => *at = (at.0 + 1, 0),
        }
    }
    Ok(None)
}

/// Where the entries of a directory begin, and how many there are.
fn extent(map: &FileMap, path: &[u8]) -> Found<(Place, u64)> {
    let (mut names, pages) = (0, map.pages_of(path));
    for page in pages.clone() {
        // Those between hold nothing else.
        let is_edge = page == pages.start || page + 1 == pages.end;
        names += if is_edge { map.children_in(path, page)?.len() } else { map.pages()[page].entries as usize } as u64;
    }
    Ok((map.first_child(path)?, names))
}

/// What the entries of a directory take as `struct linux_dirent64`, with `.` and `..`.
fn length(map: &FileMap, path: &[u8]) -> Found<usize> {
    const HEADER: usize = 19;
    let taken = |name: &[u8]| (HEADER + name.len() + 1).next_multiple_of(8);
    let mut length = taken(b".") + taken(b"..");
    for page in map.pages_of(path) {
        length += map.children_in(path, page)?.iter().map(|row| taken(parent_and_name(&row.path).1)).sum::<usize>();
    }
    Ok(length)
}

/// The place so many entries further on.
fn past(map: &FileMap, (page, row): Place, names: u64) -> Place {
    let mut at = (page, row as u64 + names);
    while let Some(entries) = map.pages().get(at.0).map(|page| u64::from(page.entries)) {
        if at.1 < entries {
            break;
        }
        at = (at.0 + 1, at.1 - entries);
    }
    (at.0, at.1 as usize)
}

/// How many entries lie between two places, the first of which is not behind the second.
fn between(map: &FileMap, from: Place, to: Place) -> u64 {
    let entries: u64 = map.pages()[from.0.min(to.0)..to.0].iter().map(|page| u64::from(page.entries)).sum();
    (entries + to.1 as u64).saturating_sub(from.1 as u64)
}
