//! What is left of a state for whoever looks at each entry again: names, kinds, and which entries a directory has.
//!
//! Invariant: numbers are those of the state. Of a million entries it takes 46 MB where the state takes 155.

use std::ops::Range;

use super::record::{HAS_LINKS, HAS_XATTRS};
use super::{GONE, State};
use crate::scan::Kind;

/// Records that are let go of at a time.
const RUN: usize = 1 << 16;

pub struct Brief {
    rows: Vec<Row>,
    names: Vec<u8>,
}

struct Row {
    name_at: u32,
    /// Of a symbolic link; it stands behind the name.
    target: u32,
    parent: u32,
    first: u32,
    count: u32,
    name: u16,
    kind: Kind,
    flags: u8,
}

impl State {
    /// Let go of the stats.
    pub fn into_brief(self) -> Brief {
        debug_assert!(self.marks.iter().all(|mark| mark & GONE == 0));
        let State { mut records, names, .. } = self;
        let mut rows = Vec::with_capacity(records.len());
        // From the end on, so that records go while rows come.
        while !records.is_empty() {
            let run = records.split_off((records.len() - 1) / RUN * RUN);
            records.shrink_to_fit();
            rows.extend(run.iter().rev().map(|record| Row {
                name_at: record.name_at(),
                target: if record.kind() == Kind::Symlink { record.length() } else { 0 },
                parent: record.parent(),
                first: record.first(),
                count: if record.kind() == Kind::Directory { record.count() } else { 0 },
                name: record.name_len(),
                kind: record.kind(),
                flags: [HAS_LINKS, HAS_XATTRS].into_iter().filter(|&flag| record.has(flag)).sum(),
            }));
        }
        rows.reverse();
        Brief { rows, names }
    }
}

impl Brief {
    fn row(&self, entry: u32) -> &Row {
        &self.rows[entry as usize]
    }

    pub fn kind(&self, entry: u32) -> Kind {
        self.row(entry).kind
    }

    pub fn has_links(&self, entry: u32) -> bool {
        self.row(entry).flags & HAS_LINKS != 0
    }

    pub fn has_xattrs(&self, entry: u32) -> bool {
        self.row(entry).flags & HAS_XATTRS != 0
    }

    /// The target of a symbolic link.
    pub fn target(&self, entry: u32) -> &[u8] {
        let row = self.row(entry);
        let at = row.name_at as usize + usize::from(row.name);
        &self.names[at..at + row.target as usize]
    }

    /// The numbers of a directory's entries.
    pub fn entries(&self, directory: u32) -> Range<u32> {
        let row = self.row(directory);
        row.first..row.first + row.count
    }

    /// The path relative to the root, whose own is empty.
    pub fn path_of(&self, entry: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = entry;
        while at != 0 {
            let row = self.row(at);
            parts.push(&self.names[row.name_at as usize..][..usize::from(row.name)]);
            at = row.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}
