//! The index: what the last look at a working directory saw, one record an entry.
//!
//! Invariant: a record's digest belongs to the bytes that had its stat, and a directory's digest to the entries its
//! `entries_sum` tells of. One changed within the clock's grain of its reading is *racy*: read again, never trusted. So
//! a damaged or half-written index costs time, never a wrong digest.
//! Not here: looking at the disk (`scan`). Bytes: docs/format.md, "Index".

mod file;
mod find;
mod hash;
mod record;
mod seal;
mod share;
mod status;
mod walk;

use std::fs::File;
use std::ops::Range;

pub use hash::{Summary, hash};
pub use status::{Status, status};

use crate::digest::Digest;
use crate::scan::{Kind, Stat, Time};
use record::{HAS_DIGEST, HAS_XATTRS, RACY, Record};

/// All entries of a directory tree, numbered: 0 is the root, the entries of one directory stand together, sorted by
/// name, and directories in breadth-first order. Numbers hold until `seal`.
pub struct State {
    records: Vec<Record>,
    names: Vec<u8>,
    /// What this run knows of each record.
    marks: Vec<u8>,
    /// What this run's stats said besides; empty in a state that was read and not scanned.
    extras: Vec<Extra>,
    /// No entry was looked at before this.
    began: Time,
    /// What this state was read from or written to, to be updated in place. Kept open: a file that has been replaced
    /// meanwhile is then updated where nobody sees it.
    file: Option<File>,
}

/// The stat is the one recorded and not racy; a directory besides has the entries that its digest was taken of.
const VALID: u8 = 1;
/// The checksum is right as it stands.
const SEALED: u8 = 2;
/// To be left out.
const GONE: u8 = 4;
/// An entry is not valid: the directory's digest must be taken.
const STALE: u8 = 8;
/// An entry's checksum changed: so must the directory's sum of them.
const RESEALED: u8 = 16;

#[derive(Clone, Copy)]
struct Extra {
    uid: u32,
    gid: u32,
    nlink: u64,
    rdev: u64,
    blocks: u64,
}

impl Extra {
    fn of(stat: &Stat) -> Extra {
        Extra { uid: stat.uid, gid: stat.gid, nlink: stat.nlink, rdev: stat.rdev, blocks: stat.blocks }
    }
}

impl State {
    /// How many entries there are, the root included.
    #[allow(clippy::len_without_is_empty)] // there is always a root
    pub fn len(&self) -> u32 {
        self.records.len() as u32
    }

    pub fn kind(&self, entry: u32) -> Kind {
        self.record(entry).kind()
    }

    /// Type and permission bits.
    pub fn mode(&self, entry: u32) -> u32 {
        self.record(entry).mode()
    }

    /// Owner, links, device and blocks are zero in a state that was read and not scanned.
    pub fn stat(&self, entry: u32) -> Stat {
        let stat = self.record(entry).stat();
        match self.extras.get(entry as usize) {
            Some(&Extra { uid, gid, nlink, rdev, blocks }) => Stat { uid, gid, nlink, rdev, blocks, ..stat },
            None => stat,
        }
    }

    /// The name's bytes; the root's is empty.
    pub fn name(&self, entry: u32) -> &[u8] {
        let record = self.record(entry);
        let at = record.name_at() as usize;
        &self.names[at..at + usize::from(record.name_len())]
    }

    /// Where a symbolic link points; empty for anything else.
    pub fn target(&self, entry: u32) -> &[u8] {
        let record = self.record(entry);
        if record.kind() != Kind::Symlink {
            return &[];
        }
        let at = record.name_at() as usize + usize::from(record.name_len());
        &self.names[at..at + record.length() as usize]
    }

    /// Of a regular file's content or a directory's message, once known.
    pub fn digest(&self, entry: u32) -> Option<Digest> {
        let record = self.record(entry);
        let size = match record.kind() {
            Kind::File => record.size(),
            Kind::Directory => u64::from(record.length()),
            _ => return None,
        };
        record.has(HAS_DIGEST).then(|| Digest { sha256: record.sha256(), size })
    }

    /// The tree digest, after `seal`.
    pub fn root_digest(&self) -> Option<Digest> {
        self.digest(0)
    }

    pub fn has_xattrs(&self, entry: u32) -> bool {
        self.record(entry).has(HAS_XATTRS)
    }

    /// The directory that holds an entry; the root's is itself.
    pub fn parent(&self, entry: u32) -> u32 {
        self.record(entry).parent()
    }

    /// The numbers of a directory's entries; none for anything else.
    pub fn entries(&self, directory: u32) -> Range<u32> {
        let record = self.record(directory);
        record.first()..record.first() + record.count()
    }

    /// The path relative to the root, whose own is empty.
    pub fn path_of(&self, entry: u32) -> Vec<u8> {
        let mut at = entry;
        let mut length = 0;
        while at != 0 {
            length += self.name(at).len() + 1;
            at = self.parent(at);
        }
        let mut path = vec![b'/'; length.saturating_sub(1)];
        let mut end = path.len();
        at = entry;
        while at != 0 {
            let name = self.name(at);
            path[end - name.len()..end].copy_from_slice(name);
            end = end.saturating_sub(name.len() + 1);
            at = self.parent(at);
        }
        path
    }

    /// The regular files whose digest must be taken, in order.
    pub fn pending(&self) -> Vec<u32> {
        let wanted = |&entry: &u32| {
            let gone = self.marks[entry as usize] & GONE != 0;
            !gone && self.kind(entry) == Kind::File && !self.record(entry).has(HAS_DIGEST)
        };
        (0..self.len()).filter(wanted).collect()
    }

    /// Note the digest of a regular file: `stat` is what `read_stable` gave with these bytes.
    pub fn set_digest(&mut self, entry: u32, digest: Digest, stat: &Stat) {
        let began = self.began;
        let record = self.touch(entry);
        record.set_stat(stat);
        record.set_sha256(&digest.sha256);
        record.set(HAS_DIGEST, true);
        // The reading began later than the scan: what is not racy by the scan's clock is not by the reading's.
        record.set(RACY, stat.is_racy(began));
        self.extras[entry as usize] = Extra::of(stat);
    }

    /// Leave an entry and all below it out: it is gone or may not be read. The directory that held it is listed anew by
    /// the next scan. Its number stays until `seal`.
    pub fn remove(&mut self, entry: u32) {
        let parent = self.parent(entry);
        self.marks[entry as usize] |= GONE;
        self.touch(parent).set(RACY, true);
    }

    fn record(&self, entry: u32) -> &Record {
        &self.records[entry as usize]
    }

    /// A record to be changed: not what it was, and to be sealed again.
    fn touch(&mut self, entry: u32) -> &mut Record {
        self.marks[entry as usize] &= !(VALID | SEALED);
        &mut self.records[entry as usize]
    }

    fn is_valid(&self, entry: u32) -> bool {
        self.marks[entry as usize] & VALID != 0
    }
}

#[cfg(test)]
mod tests;
