//! Two directories side by side, from a working directory's state or a file map: which entries differ.
//!
//! Promise: a pair that is left out is equal to every tree digest and every device number; what cannot be told from the
//! two entries alone (a hard link, whose first name may be elsewhere; a digest not taken yet) is given.
//! Not here: going down (the caller does, where both are directories).

use std::cmp::Ordering;

use super::entry::{Entry, Kind};
use super::map::{FileMap, Found};
use crate::digest::Digest;
use crate::error::Result;
use crate::index::State;
use crate::scan;

/// The owner's execute bit.
const EXECUTABLE: u32 = 0o100;

/// An entry where it stands.
#[derive(Clone, Copy)]
pub enum Node<'a> {
    Record(&'a State, u32),
    Entry(&'a Entry),
}

/// All that counts when two entries of one name are compared.
#[derive(PartialEq)]
enum Facts<'a> {
    Directory(Digest),
    File(Digest, bool),
    Symlink(&'a [u8]),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// A directory's entries in order of their names; of what is no directory there are none.
pub fn nodes_of_state<'a>(state: &'a State, path: &[u8]) -> Vec<Node<'a>> {
    let entries = state.find(path).map(|record| state.entries(record));
    entries.into_iter().flatten().map(|record| Node::Record(state, record)).collect()
}

/// As `nodes_of_state`.
///
/// # Errors
/// `Missing` when a page has not been brought.
pub fn nodes_of_map<'a>(map: &'a FileMap, path: &[u8]) -> Found<Vec<Node<'a>>> {
    Ok(map.children(path)?.into_iter().map(|(_, entry)| Node::Entry(entry)).collect())
}

/// What stands in one directory only or differs between the two, in order of the names.
pub fn differing<'a>(a: &[Node<'a>], b: &[Node<'a>]) -> Vec<(Option<Node<'a>>, Option<Node<'a>>)> {
    let mut out = Vec::new();
    let (mut left, mut right) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name().cmp(b.name()),
        };
        let pair = match order {
            Ordering::Less => (left.next(), None),
            Ordering::Greater => (None, right.next()),
            Ordering::Equal => (left.next(), right.next()),
        };
        if !matches!(pair, (Some(a), Some(b)) if a.is_known_equal(&b)) {
            out.push(pair);
        }
    }
}

impl<'a> Node<'a> {
    fn name(&self) -> &'a [u8] {
        match *self {
            Node::Record(state, record) => state.name(record),
            Node::Entry(entry) => entry.name(),
        }
    }

    /// # Errors
    /// As `Entry::of_record`.
    pub fn entry(&self) -> Result<Entry> {
        match *self {
            Node::Record(state, record) => Entry::of_record(state, record),
            Node::Entry(entry) => Ok(entry.clone()),
        }
    }

    fn is_known_equal(&self, other: &Node<'_>) -> bool {
        matches!((self.facts(), other.facts()), (Some(mine), Some(theirs)) if mine == theirs)
    }

    fn facts(&self) -> Option<Facts<'a>> {
        match *self {
            Node::Record(state, record) => Facts::of_record(state, record),
            Node::Entry(entry) => Facts::of_entry(entry),
        }
    }
}

impl<'a> Facts<'a> {
    fn of_record(state: &'a State, record: u32) -> Option<Facts<'a>> {
        let device = || {
            let rdev = state.stat(record).rdev;
            (rustix::fs::major(rdev), rustix::fs::minor(rdev))
        };
        Some(match state.kind(record) {
            scan::Kind::Directory => Facts::Directory(state.digest(record)?),
            scan::Kind::File => Facts::File(state.digest(record)?, state.mode(record) & EXECUTABLE != 0),
            scan::Kind::Symlink => Facts::Symlink(state.target(record)),
            scan::Kind::CharDevice => Facts::CharDevice(device().0, device().1),
            scan::Kind::BlockDevice => Facts::BlockDevice(device().0, device().1),
            scan::Kind::Fifo => Facts::Fifo,
            scan::Kind::Socket => return None,
        })
    }

    fn of_entry(entry: &'a Entry) -> Option<Facts<'a>> {
        Some(match &entry.kind {
            Kind::Directory { digest } => Facts::Directory((*digest)?),
            Kind::Regular(content) => Facts::File(content.digest, entry.mode & EXECUTABLE != 0),
            Kind::Symlink { target } => Facts::Symlink(target),
            &Kind::CharDevice { major, minor } => Facts::CharDevice(major, minor),
            &Kind::BlockDevice { major, minor } => Facts::BlockDevice(major, minor),
            Kind::Fifo => Facts::Fifo,
            Kind::HardLink { .. } => return None,
        })
    }
}
