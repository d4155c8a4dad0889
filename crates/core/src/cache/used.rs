//! `used/`: when objects were last opened, for whoever has to choose which of them go.
//!
//! Invariant: hints, nothing more: what is lost or damaged here costs a choice that is not the best. Records are of 16 bytes:
//! the first eight of a digest, and the second.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const RECORD: usize = 16;
/// Records that are written at once.
const PENDING: usize = 256 * RECORD;
/// Objects that are known to be noted; past it all are noted anew.
const NOTED: usize = 1 << 18;
/// Bytes of records at which they are written anew, each object once.
const MANY: u64 = 16 << 20;

/// Seconds between two notes of an object in use.
const GRAIN_S: u64 = 60;

/// Seconds since 1970.
pub fn second(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub fn beginning(sha256: &[u8; 32]) -> u64 {
    u64::from_be_bytes(*sha256.first_chunk().expect("32 bytes begin with 8"))
}

/// What this process opened.
pub struct Used {
    directory: PathBuf,
    name: String,
    noted: HashMap<u64, u64>,
    pending: Vec<u8>,
}

impl Used {
    /// `name` is that of no other process.
    pub fn new(directory: PathBuf, name: String) -> Used {
        Used { directory, name, noted: HashMap::new(), pending: Vec::new() }
    }

    /// An object is used now; noted at most once in `GRAIN_S`.
    pub fn note(&mut self, sha256: &[u8; 32]) {
        let (key, now) = (beginning(sha256), second(SystemTime::now()));
        if self.noted.len() >= NOTED {
            self.noted.clear();
        }
        if self.noted.get(&key).is_some_and(|&noted| noted.abs_diff(now) < GRAIN_S) {
            return;
        }
        self.noted.insert(key, now);
        self.pending.extend(key.to_be_bytes());
        self.pending.extend(now.to_be_bytes());
        if self.pending.len() >= PENDING {
            self.flush();
        }
    }

    /// Let others know.
    pub fn flush(&mut self) {
        if !self.pending.is_empty() {
            let path = self.directory.join(&self.name);
            // Without it the object only seems older than it is.
            let _ = append(&path, &self.pending);
            self.pending.clear();
        }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.flush();
    }
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(bytes)
}

/// When each object was last opened by anybody, in seconds since 1970.
pub fn read(directory: &Path) -> HashMap<u64, u64> {
    let mut last = HashMap::new();
    let (mut files, mut bytes) = (Vec::new(), 0);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(text) = fs::read(entry.path()) else { continue };
        bytes += text.len() as u64;
        for record in text.chunks_exact(RECORD) {
            let number = |at: usize| u64::from_be_bytes(*record[at..].first_chunk().expect("a record has two"));
            let known = last.entry(number(0)).or_insert(0);
            *known = number(8).max(*known);
        }
        files.push(entry.path());
    }
    if bytes > MANY {
        let merged: Vec<u8> =
            last.iter().flat_map(|(key, second)| [key.to_be_bytes(), second.to_be_bytes()]).flatten().collect();
        let path = directory.join(format!("merged-{}", std::process::id()));
        if fs::write(&path, merged).is_ok() {
            files.iter().filter(|file| **file != path).for_each(|file| drop(fs::remove_file(file)));
        }
    }
    last
}
