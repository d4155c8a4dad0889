//! Holding the cache to its size: what was used longest ago goes.
//!
//! Invariant: what is pinned stays, what this process has open goes last; what goes while it is open, here or elsewhere, can still be read by who
//! has it open, and is fetched again later. Two processes never choose at once.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{FlockOperation, flock};

use super::{Cache, lock, used};
use crate::digest::parse_hex;
use crate::error::{Error, Result};

/// A cache without a bound leaves this share of what it and others have not taken of the disk.
const LEFT: u64 = 10;
/// It is measured when it may have grown by this share of its bound.
const GROWTH: u64 = 16;

impl Cache {
    /// If it may have outgrown `bound` bytes since it was last measured, or the disk was full, remove what was used longest
    /// ago; without a bound it leaves a tenth of the space free. Returns the bytes that were freed.
    ///
    /// # Errors
    /// `Io` when it cannot be measured.
    pub fn tidy(&self, bound: Option<u64>) -> Result<u64> {
        let full = self.full.swap(false, Relaxed);
        let grown = self.grown.load(Relaxed);
        let step = self.step.load(Relaxed);
        if !full && step > 0 && grown < step {
            return Ok(0);
        }
        let path = self.choice_lock();
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(0);
        }
        self.grown.store(0, Relaxed);
        lock(&self.used).flush();
        let last = used::read(&self.root.join("used"));
        let (pinned, proved) = (self.pinned(), self.proved_since_boot()?);
        let mut choice = Choice { cache: self, last, seconds: BTreeMap::new(), pinned, proved };
        self.walk(&mut |path, name, meta| choice.measure(path, name, meta))?;
        let total: u64 = choice.seconds.values().sum();
        let bound = match bound {
            Some(bound) => bound,
            None => {
                let disk =
                    rustix::fs::statvfs(&self.root).map_err(|error| Error::io("measure", &self.root)(error.into()))?;
                (total + disk.f_bavail * disk.f_frsize) / LEFT * (LEFT - 1)
            }
        };
        self.step.store((bound / GROWTH).max(1), Relaxed);
        let goal = if full { bound.min(total / 8 * 7) } else { bound };
        if total <= goal {
            return Ok(0);
        }
        // Below it, so that the next file does not call for the next choice.
        let goal = goal - goal / GROWTH;
        choice.remove(total - goal)
    }

    /// How many bytes the cache may have, as was found when it was last measured, rounded down a little; `None` before.
    pub fn bound(&self) -> Option<u64> {
        let step = self.step.load(Relaxed);
        (step > 0).then_some(step * GROWTH)
    }

    /// Each file that counts: objects, and what is there of large ones.
    fn walk(&self, see: &mut dyn FnMut(&Path, &str, &Metadata)) -> Result<()> {
        let objects = self.root.join("objects");
        let directories = fs::read_dir(&objects).map_err(Error::io("read", &objects))?;
        let directories = directories.flatten().map(|entry| entry.path()).chain([self.root.join("partial")]);
        for directory in directories {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if let (Ok(meta), Some(name)) = (entry.metadata(), entry.file_name().to_str()) {
                    see(&entry.path(), name, &meta);
                }
            }
        }
        Ok(())
    }
}

/// What goes: all that was last used before some second, and as much of that second as it takes.
struct Choice<'a> {
    cache: &'a Cache,
    last: std::collections::HashMap<u64, u64>,
    /// Bytes by the second of last use.
    seconds: BTreeMap<u64, u64>,
    /// What never goes.
    pinned: HashSet<u64>,
    /// Where objects have second names.
    proved: PathBuf,
}

impl Choice<'_> {
    fn second(&self, sha256: &[u8; 32], meta: &Metadata) -> u64 {
        if self.cache.is_open(sha256) {
            return u64::MAX;
        }
        let came = u64::try_from(meta.mtime()).unwrap_or(0);
        self.last.get(&used::beginning(sha256)).map_or(came, |&used| used.max(came))
    }

    fn measure(&mut self, _: &Path, name: &str, meta: &Metadata) {
        if let Some(sha256) = digest_in(name) {
            *self.seconds.entry(self.second(&sha256, meta)).or_insert(0) += meta.blocks() * 512;
        }
    }

    fn remove(&self, mut excess: u64) -> Result<u64> {
        let mut before = 0;
        for (&second, &bytes) in &self.seconds {
            before = second;
            if bytes >= excess {
                break;
            }
            excess -= bytes;
        }
        let (mut freed, mut left) = (0, excess);
        self.cache.walk(&mut |path, name, meta| {
            let Some(sha256) = digest_in(name) else { return };
            if self.pinned.contains(&used::beginning(&sha256)) {
                return;
            }
            let (second, bytes) = (self.second(&sha256, meta), meta.blocks() * 512);
            let goes = second < before || (second == before && left > 0);
            if goes && self.forget(&sha256, path) {
                freed += bytes;
                left = if second == before { left.saturating_sub(bytes) } else { left };
            }
        })?;
        Ok(freed)
    }

    /// Remove a file, and its second name if it has one.
    fn forget(&self, sha256: &[u8; 32], path: &Path) -> bool {
        lock(&self.cache.proved).remove(sha256);
        lock(&self.cache.objects).remove(sha256);
        lock(&self.cache.partials).remove(sha256);
        if let Ok(name) = path.strip_prefix(self.cache.root.join("objects")) {
            let _ = fs::remove_file(self.proved.join(name));
        }
        fs::remove_file(path).is_ok()
    }
}

/// The digest that the name of an object, or of what is there of one, begins with.
fn digest_in(name: &str) -> Option<[u8; 32]> {
    parse_hex(name.get(..64)?)
}

impl Cache {
    fn is_open(&self, sha256: &[u8; 32]) -> bool {
        lock(&self.held).contains_key(sha256) || lock(&self.objects).has(sha256) || lock(&self.partials).has(sha256)
    }
}
