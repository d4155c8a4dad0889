//! The index: what the last look at a working directory saw, one record an entry.
//!
//! Invariant: a record's digest belongs to the bytes that had its stat, and a directory's digest to the entries its
//! `entries_sum` tells of. One changed within the clock's grain of its reading is *racy*: read again, never trusted. So
//! a damaged or half-written index costs time, never a wrong digest.
//! `look` compares a state with the disk and says what differs (findings), `merge` takes findings over, `seal` takes
//! digests and checksums, `file` stores. Not here: system calls (`scan`). Bytes: docs/format.md, "Index".

mod adopt;
mod brief;
mod differing;
mod file;
mod find;
mod hash;
mod inspect;
mod list;
mod live;
mod look;
mod merge;
mod print;
mod record;
mod rules;
mod seal;
mod share;
mod sound;
mod status;

use std::fs::File;
use std::ops::Range;

pub use adopt::{Given, adopt};
pub use brief::Brief;
pub use hash::{Summary, hash};
pub use inspect::{Described, verify};
pub use live::Live;
pub use look::{Dirty, Hook, Options, Scope};
pub use share::share;
pub use status::{Status, status};

use crate::digest::Digest;
use crate::scan::{Kind, Stat, Time};
use crate::select::may_rule;
use record::{HAS_DIGEST, HAS_LINKS, HAS_XATTRS, RACY, Record, SPARSE};

/// All entries of a directory tree, numbered: 0 is the root, the entries of one directory stand together, sorted by
/// name, and directories in breadth-first order. Numbers hold until the next look or `seal`.
pub struct State {
    records: Vec<Record>,
    names: Vec<u8>,
    /// What is to be done about each record.
    marks: Vec<u8>,
    /// Regular files whose digest must be taken.
    pending: Vec<u32>,
    /// No entry was looked at before this.
    began: Time,
    trust_ctime: bool,
    /// Of the options it was made with.
    selection: [u8; 16],
    /// What this state was read from or written to, to be updated in place; none when the structure is another. Kept
    /// open: a file that has been replaced meanwhile is then updated where nobody sees it.
    file: Option<File>,
}

/// The record is not what its checksum says, nor what is stored.
const RESEAL: u8 = 1;
/// What the record tells of the entry is another: the digest of its directory must be taken.
const OTHER: u8 = 2;
/// The directory's digest must be taken.
const STALE: u8 = 4;
/// An entry's checksum changed: so must the directory's sum of them.
const RESUM: u8 = 8;
/// To be left out.
const GONE: u8 = 16;

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

    /// What `lstat` said, but for the number of links and of blocks, which are zero.
    pub fn stat(&self, entry: u32) -> Stat {
        self.record(entry).stat()
    }

    /// Whether the inode, which is not a directory's, has more names than this.
    pub fn has_links(&self, entry: u32) -> bool {
        self.record(entry).has(HAS_LINKS)
    }

    /// Whether a file has fewer blocks than its size needs.
    pub fn is_sparse(&self, entry: u32) -> bool {
        self.record(entry).has(SPARSE)
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

    /// Whether the entry changed so lately that it may change again without telling.
    pub fn is_racy(&self, entry: u32) -> bool {
        self.record(entry).has(RACY)
    }

    /// What there is to know of an entry itself, wherever it stands, but for its names; of one that has extended
    /// attributes or holes they are another when these may be.
    pub fn own(&self, entry: u32) -> [u8; record::SIZE] {
        self.record(entry).own()
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
    pub fn pending(&self) -> &[u32] {
        &self.pending
    }

    /// Note the digest of a regular file: `stat` is what `read_stable` gave with these bytes.
    pub fn set_digest(&mut self, entry: u32, digest: Digest, stat: &Stat) {
        let (began, trust_ctime) = (self.began, self.trust_ctime);
        // A rule file that was racy when its rules were applied may have said something else: `Look::doubt_rules`.
        let is_unapplied = may_rule(self.name(entry)) && self.record(entry).has(RACY);
        let record = self.touch(entry);
        // What took the place of the file that was looked at may have other attributes.
        let is_another = !record.has_stat(stat, true);
        record.set_stat(stat);
        record.set_sha256(&digest.sha256);
        record.set(HAS_DIGEST, true);
        // The reading began later than the look: what is not racy by the look's clock is not by the reading's.
        record.set(RACY, is_another || is_unapplied || stat.is_racy(began, trust_ctime));
    }

    /// Note the digest of a regular file that is known to be as it was looked at.
    pub fn set_known(&mut self, entry: u32, digest: Digest) {
        let record = self.touch(entry);
        record.set_sha256(&digest.sha256);
        record.set(HAS_DIGEST, true);
    }

    /// Leave an entry and all below it out: it is gone or may not be read. The directory that held it is listed anew by
    /// the next look. Its number stays until `seal`.
    pub fn remove(&mut self, entry: u32) {
        let parent = self.parent(entry);
        self.marks[entry as usize] |= GONE;
        let ruled = may_rule(self.name(entry));
        let holder = self.touch(parent);
        holder.set(RACY, true);
        if ruled {
            // It may have been obeyed, and leaves no record that could change.
            holder.hide_rules();
        }
        self.marks[parent as usize] |= STALE;
    }

    fn record(&self, entry: u32) -> &Record {
        &self.records[entry as usize]
    }

    /// A record to be changed.
    fn touch(&mut self, entry: u32) -> &mut Record {
        self.marks[entry as usize] |= RESEAL | OTHER;
        &mut self.records[entry as usize]
    }

    /// The first record from `from` on with something to be done.
    fn next_marked(&self, from: usize) -> Option<usize> {
        let clear = self.marks[from..].chunks(RUN).take_while(|run| union(run) == 0).count() * RUN;
        let rest = self.marks.get(from + clear..)?;
        rest.iter().position(|&mark| mark != 0).map(|skipped| from + clear + skipped)
    }

    fn is_settled(&self, entry: u32) -> bool {
        !self.record(entry).has(RACY) && self.is_whole(entry)
    }

    /// Whether the record is what was written once.
    fn is_whole(&self, entry: u32) -> bool {
        self.record(entry).is_sealed(self.target(entry))
    }
}

/// Marks passed over at a time where nothing is to be done: a partial look of a state of millions touches a few.
const RUN: usize = 256;

/// All that is to be done about some records.
fn union(marks: &[u8]) -> u8 {
    marks.iter().fold(0, |all, mark| all | mark)
}

#[cfg(test)]
mod tests;
