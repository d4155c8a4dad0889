//! From the digests of files to that of the tree.
//!
//! Invariant: a directory's digest is taken at most once a run, and only when an entry of it is not what it was; while
//! the digest of an entry is not known, its own is not.

use super::record::{HAS_DIGEST, entry_term};
use super::{OTHER, RESEAL, RESUM, RUN, STALE, State, union};
use crate::digest::Digest;
use crate::directory::Directory;
use crate::scan::Kind;

/// The owner's execute bit.
const EXECUTABLE: u32 = 0o100;

impl State {
    /// Drop what was removed, take the digests of directories bottom-up, put checksums right. Returns the tree digest,
    /// if that of every file is known.
    pub fn seal(&mut self) -> Option<Digest> {
        self.drop_gone();
        // Entries come after their directory, so what they left there is complete when it is come to.
        for start in (0..self.records.len()).step_by(RUN).rev() {
            let run = start..self.records.len().min(start + RUN);
            if union(&self.marks[run.clone()]) != 0 {
                run.rev().for_each(|entry| self.seal_entry(entry as u32));
            }
        }
        self.marks[0] &= RESEAL;
        self.root_digest()
    }

    fn seal_entry(&mut self, entry: u32) {
        let left = self.marks[entry as usize];
        if left == 0 {
            return;
        }
        if self.kind(entry) == Kind::Directory {
            if left & STALE != 0 {
                self.take_digest(entry);
            } else if left & RESUM != 0 {
                self.resum(entry);
            }
        }
        let mark = self.marks[entry as usize];
        self.marks[entry as usize] = mark & RESEAL;
        if mark & RESEAL != 0 {
            let mut record = *self.record(entry);
            record.seal(self.target(entry));
            self.records[entry as usize] = record;
            let parent = self.parent(entry) as usize;
            self.marks[parent] |= if mark & OTHER != 0 { RESUM | STALE } else { RESUM };
        }
    }

    fn take_digest(&mut self, directory: u32) {
        let digest = self.message_digest(directory);
        let record = self.touch(directory);
        record.set(HAS_DIGEST, digest.is_some());
        if let Some(digest) = digest {
            record.set_sha256(&digest.sha256);
            record.set_length(digest.size as u32);
        }
        self.resum(directory);
    }

    /// `None` while that of an entry is not known.
    pub(super) fn message_digest(&self, directory: u32) -> Option<Digest> {
        let mut message = Directory::default();
        for entry in self.entries(directory) {
            let name = self.name(entry);
            match self.kind(entry) {
                Kind::File => message.file(name, self.digest(entry)?, self.mode(entry) & EXECUTABLE != 0),
                Kind::Directory => message.directory(name, self.digest(entry)?),
                Kind::Symlink => message.symlink(name, self.target(entry)),
                Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => {}
            }
        }
        Some(message.digest())
    }

    fn resum(&mut self, directory: u32) {
        let sum = self.sum_of(directory);
        self.records[directory as usize].set_entries_sum(sum);
        self.marks[directory as usize] |= RESEAL;
    }

    /// Over the checksums of a directory's entries.
    pub(super) fn sum_of(&self, directory: u32) -> u64 {
        let entries = self.entries(directory);
        let terms = entries.enumerate().map(|(position, entry)| entry_term(self.record(entry).sum(), position));
        terms.fold(0, u64::wrapping_add)
    }
}
