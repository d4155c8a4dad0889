//! File systems whose stats tell nothing about another day: mounts of ours. Their device numbers come again, and inode
//! numbers, mtime and ctime are the tree's: two trees that are mounted one after the other can have files of equal stats.
//!
//! Invariant: what is asked about is open, so its device number is its own meanwhile.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{fstatfs, major, minor};

use super::{Dir, Stat};

/// What mounts of ours are called in the kernel's table.
pub const KIND: &str = "fuse.sapwood";
/// What they are said to be mounts of.
pub const SOURCE: &str = "sapwood";

const TABLE: &str = "/proc/thread-self/mountinfo";

/// `f_type` of FUSE and of overlayfs: statfs(2).
const KINDS_OF_OURS: [u32; 2] = [0x6573_5546, 0x794c_7630];

/// The devices met in one look, and whether they are those of mounts of ours.
#[derive(Default)]
pub struct Passing {
    met: Mutex<HashMap<u64, bool>>,
}

impl Passing {
    /// Whether an entry of `dir`, or `dir` itself, with this stat is of a mount of ours.
    pub fn has(&self, dir: &Dir, stat: &Stat) -> bool {
        // Devices without a disk only.
        major(stat.dev) == 0 && *dir.passing.get_or_init(|| self.is_ours(dir))
    }

    fn is_ours(&self, dir: &Dir) -> bool {
        // What we cannot ask about we do not believe.
        let Ok(stat) = dir.own_stat() else { return true };
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        *met.entry(stat.dev).or_insert_with(|| {
            let device = format!("{}:{}", major(stat.dev), minor(stat.dev));
            let said = fs::read(TABLE).ok().and_then(|table| said_of(&table, device.as_bytes()));
            said.unwrap_or_else(|| may_be_ours(dir))
        })
    }
}

/// Whether the table says of a device that it is a mount of ours; none if it says nothing.
pub(super) fn said_of(table: &[u8], device: &[u8]) -> Option<bool> {
    let mut said = None;
    for line in table.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b' ');
        if fields.nth(2) == Some(device) {
            let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
            let (kind, source) = (fields.next()?, fields.next()?);
            said = Some(kind == KIND.as_bytes() || kind == b"overlay" && source == SOURCE.as_bytes());
        }
    }
    said
}

/// Of what the table has no more, or never had: unmounted while it is in use, or a part of a larger file system.
fn may_be_ours(dir: &Dir) -> bool {
    // The C type of this field differs between architectures; types have 32 bits.
    #[allow(clippy::unnecessary_cast)]
    fstatfs(dir.as_fd()).map_or(true, |found| KINDS_OF_OURS.contains(&(found.f_type as u32)))
}
