//! What is read through a mount: which chunks of which files, in the order of first reading, and by whom.
//!
//! Invariant: a chunk is noted once, at the place of its first reading; what is read of it later only adds bytes and
//! readers. Memory is bounded by the chunks of the files that were read. What the kernel has in its page cache is not asked for again,
//! so a chunk is seen at least once after the mount was made. Not here: what is kept of it (docs/profile.md).

use std::collections::HashMap;
use std::fs;

use super::bounds::Bounds;
use super::wire::Request;
use crate::filemap::{Content, FileMap};

/// A chunk that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub path: Vec<u8>,
    /// Where the chunk begins in the file.
    pub offset: u64,
    /// Bytes that were asked for, at most those of the chunk.
    pub bytes: u64,
    /// Names of the processes, as the kernel tells them.
    pub readers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Seen {
    inode: u64,
    offset: u64,
    bytes: u64,
    length: u64,
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
            self.note_part(inode, from, to - from, end.min(to) - start.max(from), request.pid);
        }
    }

    fn note_part(&mut self, inode: u64, offset: u64, length: u64, bytes: u64, pid: u32) {
        let number = *self.numbers.entry((inode, offset)).or_insert(self.seen.len());
        if number == self.seen.len() {
            self.seen.push(Seen { inode, offset, bytes: 0, length, readers: Vec::new(), last: u32::MAX });
        }
        if self.seen[number].last != pid {
            let program = self.program(pid);
            let seen = &mut self.seen[number];
            seen.last = pid;
            if !seen.readers.contains(&program) {
                seen.readers.push(program);
            }
        }
        let seen = &mut self.seen[number];
        seen.bytes = (seen.bytes + bytes).min(seen.length);
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

    pub fn parts(&self, map: &FileMap) -> Vec<Part> {
        let part = |seen: &Seen| {
            let entry = map.entry(seen.inode).ok().flatten()?;
            let readers = seen.readers.iter().map(|&reader| self.programs[reader].clone());
            let readers = readers.filter(|name| !name.is_empty()).collect();
            Some(Part { path: entry.path.clone(), offset: seen.offset, bytes: seen.bytes, readers })
        };
        self.seen.iter().filter_map(part).collect()
    }
}
