//! From the digests of files to that of the tree.
//!
//! Invariant: a directory's digest is taken at most once a run, and only when an entry of it is not what it was.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::record::{HAS_DIGEST, Record, entry_term};
use super::{Extra, GONE, RESEALED, SEALED, STALE, State, VALID};
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::{Error, Result, show};
use crate::scan::Kind;

/// The owner's execute bit.
const EXECUTABLE: u32 = 0o100;

impl State {
    /// Drop what was removed, take the digests of directories bottom-up, put checksums right. Returns the tree digest.
    ///
    /// # Errors
    /// `Missing` when a file that is `pending` has been given neither a digest nor removed.
    pub fn seal(&mut self) -> Result<Digest> {
        self.drop_gone();
        for entry in (0..self.len()).rev() {
            // Entries come after their directory, so what they left here is complete.
            let left = self.marks[entry as usize];
            let is_directory = left & VALID == 0 && self.kind(entry) == Kind::Directory;
            if left & STALE != 0 || is_directory {
                self.take_digest(entry)?;
            } else if left & RESEALED != 0 {
                self.resum(entry);
            }
            let mark = self.marks[entry as usize];
            self.marks[entry as usize] = mark & !(STALE | RESEALED) | SEALED;
            let parent = self.parent(entry) as usize;
            if mark & VALID == 0 {
                self.marks[parent] |= STALE;
            }
            if mark & SEALED == 0 {
                let at = self.records[entry as usize].name_at() as usize;
                let record = &mut self.records[entry as usize];
                record.seal(&self.names[at..at + usize::from(record.name_len())]);
                self.marks[parent] |= RESEALED;
            }
        }
        self.marks[0] &= !(STALE | RESEALED);
        self.root_digest().ok_or_else(|| Error::Missing { what: "the digest of the root".to_owned() })
    }

    fn take_digest(&mut self, directory: u32) -> Result<()> {
        let mut message = Directory::default();
        for entry in self.entries(directory) {
            let name = self.name(entry);
            let digest = || {
                let missing = || format!("the digest of {}", show(Path::new(OsStr::from_bytes(&self.path_of(entry)))));
                self.digest(entry).ok_or_else(|| Error::Missing { what: missing() })
            };
            match self.kind(entry) {
                Kind::File => message.file(name, digest()?, self.mode(entry) & EXECUTABLE != 0),
                Kind::Directory => message.directory(name, digest()?),
                Kind::Symlink => message.symlink(name, self.target(entry)),
                Kind::Fifo | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => {}
            }
        }
        let digest = message.digest();
        let record = self.touch(directory);
        record.set_sha256(&digest.sha256);
        record.set_length(digest.size as u32);
        record.set(HAS_DIGEST, true);
        self.resum(directory);
        Ok(())
    }

    fn resum(&mut self, directory: u32) {
        let entries = self.entries(directory);
        let terms = entries.enumerate().map(|(position, entry)| entry_term(self.record(entry).sum(), position));
        let sum = terms.fold(0, u64::wrapping_add);
        self.records[directory as usize].set_entries_sum(sum);
        self.marks[directory as usize] &= !SEALED;
    }

    /// Renumber without what was removed.
    pub(super) fn drop_gone(&mut self) {
        if !self.marks.iter().any(|mark| mark & GONE != 0) {
            return;
        }
        const NOWHERE: u32 = u32::MAX;
        let mut moved_to = vec![NOWHERE; self.records.len()];
        let mut records: Vec<Record> = Vec::with_capacity(self.records.len());
        let mut marks = Vec::with_capacity(self.records.len());
        let mut extras: Vec<Extra> = Vec::with_capacity(self.records.len());
        let mut names = Vec::with_capacity(self.names.len());
        for entry in 0..self.records.len() {
            let mut record = self.records[entry];
            let parent = moved_to[record.parent() as usize];
            let is_root = entry == 0;
            if !is_root && (self.marks[entry] & GONE != 0 || parent == NOWHERE) {
                continue;
            }
            let number = records.len() as u32;
            moved_to[entry] = number;
            let name_at = names.len() as u32;
            names.extend_from_slice(self.name(entry as u32));
            names.extend_from_slice(self.target(entry as u32));
            record.set_name(name_at, record.name_len());
            record.set_entries(0, 0);
            if !is_root {
                record.set_parent(parent);
                let holder = &mut records[parent as usize];
                let first = if holder.count() == 0 { number } else { holder.first() };
                holder.set_entries(first, holder.count() + 1);
            }
            records.push(record);
            marks.push(self.marks[entry] & !SEALED);
            extras.push(self.extras[entry]);
        }
        (self.records, self.marks, self.extras, self.names) = (records, marks, extras, names);
    }
}
