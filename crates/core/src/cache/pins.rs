//! `mounts/<hex>.pin`: contents that a mount reads without anybody who could bring them back.
//!
//! Invariant: while its pin is there, and since the machine was started, nobody takes an object's second name away. Bytes: the
//! boot id of the machine, a newline, then the first eight of each digest (u64, big-endian).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::object;
use super::proved::boot_id;
use super::used::beginning;
use super::{Cache, lock};
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};

const ENDING: &str = "pin";

impl Cache {
    /// Pin contents by a file at `path`, `mounts/<hex>.pin`, if all of them are here and were proved since the machine was
    /// started; the directory of their second names. `None`, and nothing done, if any is not.
    ///
    /// # Errors
    /// `Io`.
    pub fn pin(&self, contents: &[Digest], path: &Path) -> Result<Option<PathBuf>> {
        let directory = self.proved()?;
        let contents = contents.iter().filter(|digest| digest.size > 0);
        // Mostly not even the first is proved.
        if contents.clone().next().is_some_and(|first| !Cache::below(&directory, first).exists()) {
            return Ok(None);
        }
        let all_proved = || {
            let names = names(&directory);
            contents.clone().all(|digest| names.contains(&digest.sha256))
        };
        if !all_proved() {
            return Ok(None);
        }
        let mut bytes = format!("{}\n", boot_id()?).into_bytes();
        bytes.extend(contents.clone().flat_map(|digest| beginning(&digest.sha256).to_be_bytes()));
        {
            // Who chooses now what goes knows no pin of ours yet.
            let _chooses = self.lock_choice()?;
            let written = self.temporary().join(format!("{}-pin", std::process::id()));
            let done = object::write_new(&written, &bytes).and_then(|_| fs::rename(&written, path));
            done.map_err(Error::io("write", path))?;
        }
        if all_proved() {
            let mut used = lock(&self.used);
            contents.for_each(|digest| used.note(&digest.sha256));
            return Ok(Some(directory));
        }
        let _ = fs::remove_file(path);
        Ok(None)
    }

    /// Beginnings of the digests that are pinned. Pins of earlier starts of the machine are removed.
    pub(super) fn pinned(&self) -> HashSet<u64> {
        let mut pinned = HashSet::new();
        let Ok(boot) = boot_id() else { return pinned };
        for entry in fs::read_dir(self.root.join("mounts")).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let Ok(bytes) = fs::read(&path) else { continue };
            match bytes.strip_prefix(boot.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n")) {
                Some(rest) => pinned.extend(rest.as_chunks::<8>().0.iter().map(|&eight| u64::from_be_bytes(eight))),
                None => drop(fs::remove_file(path)),
            }
        }
        pinned
    }

    fn lock_choice(&self) -> Result<fs::File> {
        let path = self.choice_lock();
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(io::Error::from).map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    pub(super) fn choice_lock(&self) -> PathBuf {
        self.root.join("tidying")
    }
}

/// The digests that have names in a directory of what is proved. Files are not looked at, which would read each inode.
fn names(directory: &Path) -> HashSet<[u8; 32]> {
    let below = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = below.flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten());
    files.filter_map(|entry| parse_hex(entry.file_name().to_str()?)).collect()
}
