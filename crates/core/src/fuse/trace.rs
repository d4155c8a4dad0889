//! What is read through a mount, and looked up: which chunks of which files, which bytes of them, in the order of first reading, and by whom.
//!
//! Invariant: a chunk is noted once, at the place of its first reading; what is read of it later only adds ranges and
//! readers. Memory is bounded by the chunks of the files that were read. What the kernel has in its page cache is not asked for again,
//! so a chunk is seen at least once after the mount was made. So is each name that somebody looks up, for while a trace is taken
//! nobody is told of a file but who asks for it by name (`answer::list_names`, no walker). Not here: what is kept of it (docs/profile.md).

use std::collections::{HashMap, HashSet};
use std::fs;

use super::bounds::Bounds;
use super::wire::Request;
use crate::filemap::{Content, Entry, FileMap, Kind};

/// So many ranges are told apart in a chunk; of more, those with the least between them become one.
const MOST_RANGES: usize = 256;
/// The first so many files that were looked up are noted.
const MOST_LOOKED_UP: usize = 200_000;

/// A chunk that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub path: Vec<u8>,
    /// Where the chunk begins in the file.
    pub offset: u64,
    /// What was asked for: from, to, counted from where the chunk begins; in order, with something between them.
    pub ranges: Vec<(u64, u64)>,
    /// Names of the processes, as the kernel tells them.
    pub readers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Seen {
    inode: u64,
    offset: u64,
    ranges: Vec<(u64, u64)>,
    readers: Vec<usize>,
    last: u32,
}

#[derive(Debug, Default)]
pub struct Trace {
    seen: Vec<Seen>,
    /// Inode and offset -> number in `seen`.
    numbers: HashMap<(u64, u64), usize>,
    programs: Vec<Vec<u8>>,
    /// Of the files that were read.
    bounds: HashMap<u64, Bounds>,
    /// By inode, whether anything of them was read or not.
    looked_up: HashSet<u64>,
}

impl Trace {
    /// A READ of the file at `inode`.
    pub fn note(&mut self, inode: u64, content: &Content, request: &Request) {
        let mut fields = request.fields();
        let (Some(_handle), Some(start), Some(size)) = (fields.u64(), fields.u64(), fields.u32()) else { return };
        let end = start.saturating_add(size.into());
        let bounds = self.bounds.entry(inode).or_insert_with(|| Bounds::of(content));
        let parts: Vec<_> = bounds.covering(start, end).collect();
        for (from, to) in parts {
            self.note_part(inode, from, (start.max(from) - from, end.min(to) - from), request.pid);
        }
    }

    fn note_part(&mut self, inode: u64, offset: u64, range: (u64, u64), pid: u32) {
        let number = *self.numbers.entry((inode, offset)).or_insert(self.seen.len());
        if number == self.seen.len() {
            self.seen.push(Seen { inode, offset, ranges: Vec::new(), readers: Vec::new(), last: u32::MAX });
        }
        if self.seen[number].last != pid {
            let program = self.program(pid);
            let seen = &mut self.seen[number];
            seen.last = pid;
            if !seen.readers.contains(&program) {
                seen.readers.push(program);
            }
        }
        unite(&mut self.seen[number].ranges, range);
    }

    /// The name of a process now: it changes with `exec`. It waits for us, so it is still there; not so a thread of the kernel's.
    fn program(&mut self, pid: u32) -> usize {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        let known = self.programs.iter().position(|program| program == name);
        known.unwrap_or_else(|| {
            self.programs.push(name.to_vec());
            self.programs.len() - 1
        })
    }

    /// A LOOKUP that found `inode`. Only regular files that have bytes are noted.
    pub fn note_looked_up(&mut self, map: &FileMap, inode: u64) {
        let has_bytes = |entry: &Entry| matches!(&entry.kind, Kind::Regular(content) if content.digest.size > 0);
        if self.looked_up.len() < MOST_LOOKED_UP && map.entry(inode).ok().flatten().is_some_and(has_bytes) {
            self.looked_up.insert(inode);
        }
    }

    /// Paths, in no order.
    pub fn looked_up(&self, map: &FileMap) -> Vec<Vec<u8>> {
        let entries = self.looked_up.iter().filter_map(|&inode| map.entry(inode).ok().flatten());
        entries.map(|entry| entry.path.clone()).collect()
    }

    pub fn parts(&self, map: &FileMap) -> Vec<Part> {
        let part = |seen: &Seen| {
            let entry = map.entry(seen.inode).ok().flatten()?;
            let readers = seen.readers.iter().map(|&reader| self.programs[reader].clone());
            let readers = readers.filter(|name| !name.is_empty()).collect();
            Some(Part { path: entry.path.clone(), offset: seen.offset, ranges: seen.ranges.clone(), readers })
        };
        self.seen.iter().filter_map(part).collect()
    }
}

/// Add a range to ranges that are in order with something between them, and stay so.
fn unite(ranges: &mut Vec<(u64, u64)>, (from, to): (u64, u64)) {
    let met = ranges.partition_point(|range| range.1 < from)..ranges.partition_point(|range| range.0 <= to);
    let one = ranges[met.clone()].iter().fold((from, to), |one, range| (one.0.min(range.0), one.1.max(range.1)));
    ranges.splice(met, [one]);
    if ranges.len() > MOST_RANGES {
        let gap = |at: &usize| ranges[at + 1].0 - ranges[*at].1;
        let at = (0..ranges.len() - 1).min_by_key(gap).expect("there are several");
        ranges[at].1 = ranges.remove(at + 1).1;
    }
}
