//! One record of the index: its bytes and their meaning (docs/format.md, "Index").
//!
//! Invariant: `sum` covers all other bytes and a symlink's target; whoever changes a record seals it again.

use crate::scan::{Kind, Stat, Time};

pub const SIZE: usize = 128;

/// The bytes as they lie on disk.
#[derive(Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Record(pub [u8; SIZE]);

pub const HAS_DIGEST: u8 = 1;
pub const RACY: u8 = 2;
pub const HAS_XATTRS: u8 = 4;
pub const HAS_LINKS: u8 = 8;
pub const SPARSE: u8 = 16;
/// Of a directory: a rule file in it is itself left out, so no record tells of its changes.
pub const HIDES_RULES: u8 = 32;
/// What `stat` says of it beside the stat's own place.
const OF_STAT: u8 = HAS_LINKS | SPARSE;

/// Where the stat lies.
const STAT: std::ops::Range<usize> = 4..56;
const OWNER: std::ops::Range<usize> = 120..128;
/// Where the SHA-256 lies.
const CONTENT: std::ops::Range<usize> = 56..88;
const FLAGS: usize = 98;

macro_rules! field {
    ($type:ty, $record:expr, $at:expr) => {{
        let mut bytes = [0; size_of::<$type>()];
        bytes.copy_from_slice(&$record.0[$at..$at + size_of::<$type>()]);
        <$type>::from_le_bytes(bytes)
    }};
}

fn put(record: &mut Record, at: usize, bytes: &[u8]) {
    record.0[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Record {
    pub fn of_stat(stat: &Stat) -> Record {
        let mut record = Record([0; SIZE]);
        record.set_stat(stat);
        record
    }

    /// Number of links and blocks are not kept: `HAS_LINKS` and `SPARSE` say what matters of them.
    pub fn stat(&self) -> Stat {
        let is_device = matches!(self.kind(), Kind::CharDevice | Kind::BlockDevice);
        Stat {
            mode: self.mode(),
            dev: field!(u64, self, 8),
            ino: field!(u64, self, 16),
            size: self.size(),
            mtime: Time { sec: field!(i64, self, 32), nsec: field!(u32, self, 40) },
            ctime: Time { sec: field!(i64, self, 48), nsec: field!(u32, self, 44) },
            uid: field!(u32, self, 120),
            gid: field!(u32, self, 124),
            rdev: if is_device { field!(u64, self, CONTENT.start) } else { 0 },
            ..Stat::default()
        }
    }

    /// Whether type, permission bits, device, inode, size, mtime, owner and, if it is trusted, ctime are those.
    pub fn has_stat(&self, stat: &Stat, trust_ctime: bool) -> bool {
        let has_ctime = || field!(i64, self, 48) == stat.ctime.sec && field!(u32, self, 44) == stat.ctime.nsec;
        field!(u64, self, 16) == stat.ino
            && field!(i64, self, 32) == stat.mtime.sec
            && field!(u32, self, 40) == stat.mtime.nsec
            && self.size() == stat.size
            && self.mode() == stat.mode
            && field!(u64, self, 8) == stat.dev
            && field!(u32, self, 120) == stat.uid
            && field!(u32, self, 124) == stat.gid
            && (!trust_ctime || has_ctime())
    }

    pub fn set_stat(&mut self, stat: &Stat) {
        put(self, 4, &stat.mode.to_le_bytes());
        put(self, 8, &stat.dev.to_le_bytes());
        put(self, 16, &stat.ino.to_le_bytes());
        put(self, 24, &stat.size.to_le_bytes());
        put(self, 32, &stat.mtime.sec.to_le_bytes());
        put(self, 40, &stat.mtime.nsec.to_le_bytes());
        put(self, 44, &stat.ctime.nsec.to_le_bytes());
        put(self, 48, &stat.ctime.sec.to_le_bytes());
        put(self, 120, &stat.uid.to_le_bytes());
        put(self, 124, &stat.gid.to_le_bytes());
        if matches!(stat.kind(), Kind::CharDevice | Kind::BlockDevice) {
            put(self, CONTENT.start, &stat.rdev.to_le_bytes());
        }
        let is_file = stat.kind() == Kind::File;
        self.set(HAS_LINKS, stat.nlink > 1 && stat.kind() != Kind::Directory);
        self.set(SPARSE, is_file && stat.blocks.saturating_mul(512) < stat.size);
    }

    /// Take the stat and the attributes of `present` over, and keep the place, the content and what was racy.
    pub fn restat(&mut self, present: &Record) {
        self.0[STAT].copy_from_slice(&present.0[STAT]);
        self.0[OWNER].copy_from_slice(&present.0[OWNER]);
        if matches!(present.kind(), Kind::CharDevice | Kind::BlockDevice) {
            self.0[CONTENT].copy_from_slice(&present.0[CONTENT]);
        }
        const TAKEN: u8 = OF_STAT | HAS_XATTRS | RACY | HIDES_RULES;
        self.0[FLAGS] = self.0[FLAGS] & !TAKEN | present.0[FLAGS] & TAKEN;
    }

    /// The directory has a rule file that is left out: what it says can have changed whenever we look.
    pub fn hide_rules(&mut self) {
        self.set(HIDES_RULES, true);
        self.set(RACY, true);
    }

    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode())
    }

    pub fn mode(&self) -> u32 {
        field!(u32, self, 4)
    }

    pub fn size(&self) -> u64 {
        field!(u64, self, 24)
    }

    pub fn sha256(&self) -> [u8; 32] {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&self.0[CONTENT]);
        sha256
    }

    pub fn set_sha256(&mut self, sha256: &[u8; 32]) {
        put(self, CONTENT.start, sha256);
    }

    /// Of a directory's message or of a symlink's target.
    pub fn length(&self) -> u32 {
        field!(u32, self, 88)
    }

    pub fn set_length(&mut self, length: u32) {
        put(self, 88, &length.to_le_bytes());
    }

    pub fn name_at(&self) -> u32 {
        field!(u32, self, 92)
    }

    pub fn name_len(&self) -> u16 {
        field!(u16, self, 96)
    }

    pub fn set_name(&mut self, at: u32, len: u16) {
        put(self, 92, &at.to_le_bytes());
        put(self, 96, &len.to_le_bytes());
    }

    pub fn has(&self, flag: u8) -> bool {
        self.0[FLAGS] & flag != 0
    }

    pub fn set(&mut self, flag: u8, on: bool) {
        self.0[FLAGS] = if on { self.0[FLAGS] | flag } else { self.0[FLAGS] & !flag };
    }

    pub fn parent(&self) -> u32 {
        field!(u32, self, 100)
    }

    pub fn set_parent(&mut self, parent: u32) {
        put(self, 100, &parent.to_le_bytes());
    }

    pub fn first(&self) -> u32 {
        field!(u32, self, 104)
    }

    pub fn count(&self) -> u32 {
        field!(u32, self, 108)
    }

    pub fn set_entries(&mut self, first: u32, count: u32) {
        put(self, 104, &first.to_le_bytes());
        put(self, 108, &count.to_le_bytes());
    }

    /// Over the entries' checksums as they were when this directory's digest was taken.
    pub fn entries_sum(&self) -> u64 {
        field!(u64, self, 112)
    }

    pub fn set_entries_sum(&mut self, sum: u64) {
        put(self, 112, &sum.to_le_bytes());
    }

    /// What the record tells of the entry itself: neither its place among others nor how well it is known.
    pub fn own(&self) -> [u8; SIZE] {
        let mut own = self.0;
        for other in [0..4, 92..96, 100..120] {
            own[other].fill(0);
        }
        own[FLAGS] &= !RACY;
        own
    }

    pub fn sum(&self) -> u32 {
        field!(u32, self, 0)
    }

    pub fn is_sealed(&self, target: &[u8]) -> bool {
        self.sum() == checksum(self, target)
    }

    pub fn seal(&mut self, target: &[u8]) {
        let sum = checksum(self, target);
        put(self, 0, &sum.to_le_bytes());
    }
}

/// A name needs no proof but the whole's: it leads to the inode of the record's stat or it does not. A target is content.
fn checksum(record: &Record, target: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&record.0[4..]);
    sum.update(target);
    sum.finalize()
}

/// What entry number `position` of a directory adds to its `entries_sum`.
pub fn entry_term(sum: u32, position: usize) -> u64 {
    u64::from(sum).wrapping_mul(2 * position as u64 + 1)
}
