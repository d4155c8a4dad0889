//! What differs between the stored state and the tree as it is.
//!
//! Invariant: an entry is changed when its kind, permission bits, content or target is another; never for its times,
//! its owner or its inode alone. A directory is changed for its own permission bits, not for its entries.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::State;
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
/// What `State::scan`, `State::read` and `read_stable` say.
pub fn status(root: &Path, index: &Path, threads: usize, job: &Job) -> Result<Status> {
    let root = Root::open(root)?;
    let before = State::read(index)?;
    let (mut now, mut unreadable) = State::scan(&root, before.as_ref(), threads, job)?;
    let mut status = Status { is_fresh: before.is_none(), ..Status::default() };
    if let Some(before) = &before {
        // Only files with the same size and mode can be unchanged though their stat is not: those are read.
        let mut doubtful = Vec::new();
        pairs(before, &now, |old, new| {
            if let (Some(old), Some(new)) = (old, new)
                && now.kind(new) == Kind::File
                && now.digest(new).is_none()
                && before.digest(old).is_some_and(|digest| digest.size == now.stat(new).size)
                && before.mode(old) == now.mode(new)
            {
                doubtful.push(new);
            }
        });
        now.read_files(&root, &doubtful, threads, &mut unreadable, job)?;
        now.drop_gone();
        let hidden: HashSet<&PathBuf> = unreadable.iter().collect();
        pairs(before, &now, |old, new| match (old, new) {
            (Some(old), Some(new)) if differs(before, old, &now, new) => status.changed.push(now.path_of(new)),
            (Some(old), None) if !is_hidden(&root, before, old, &hidden) => status.removed.push(before.path_of(old)),
            (None, Some(new)) => status.added.push(now.path_of(new)),
            _ => {}
        });
    } else {
        status.added = (1..now.len()).map(|entry| now.path_of(entry)).collect();
    }
    for list in [&mut status.added, &mut status.changed, &mut status.removed] {
        list.sort_unstable();
    }
    unreadable.sort_unstable();
    status.unreadable = unreadable;
    Ok(status)
}

/// Call `meet` for each path that either has, with its entries in `before` and `now`.
fn pairs(before: &State, now: &State, mut meet: impl FnMut(Option<u32>, Option<u32>)) {
    let mut waiting = vec![(Some(0), Some(0))];
    while let Some((old, new)) = waiting.pop() {
        meet(old, new);
        let mut olds = old.map_or(0..0, |old| before.entries(old)).peekable();
        let mut news = new.map_or(0..0, |new| now.entries(new)).peekable();
        loop {
            let order = match (olds.peek(), news.peek()) {
                (Some(&old), Some(&new)) => before.name(old).cmp(now.name(new)),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => break,
            };
            let old = if order.is_le() { olds.next() } else { None };
            let new = if order.is_ge() { news.next() } else { None };
            waiting.push((old, new));
        }
    }
}

fn differs(before: &State, old: u32, now: &State, new: u32) -> bool {
    let is_same = now.is_valid(new) && now.kind(new) != Kind::Directory
        || before.is_whole(old)
            && before.mode(old) == now.mode(new)
            && before.target(old) == now.target(new)
            && (now.kind(new) != Kind::File || before.digest(old) == now.digest(new));
    !is_same
}

fn is_hidden(root: &Root, before: &State, entry: u32, unreadable: &HashSet<&PathBuf>) -> bool {
    let mut at = entry;
    !unreadable.is_empty()
        && loop {
            if unreadable.contains(&root.show(&before.path_of(at))) {
                break true;
            }
            if at == 0 {
                break false;
            }
            at = before.parent(at);
        }
}

impl State {
    fn is_whole(&self, entry: u32) -> bool {
        self.record(entry).is_sealed(self.name(entry))
    }
}
