//! `proved/<boot>/`: second names of objects that were proved since the machine was started, for the native tier.
//!
//! Invariant: what has a name here was proved before it got it. Whoever reads there trusts the disk since then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::object::{self, Stamp};
use super::{Cache, lock};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::Content;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl Cache {
    /// The directory of what is proved; those of earlier starts of the machine are removed.
    ///
    /// # Errors
    /// `Io`.
    pub fn proved(&self) -> Result<PathBuf> {
        let own = self.proved_since_boot()?;
        let all = self.root.join("proved");
        fs::create_dir_all(&own).map_err(Error::io("make", &own))?;
        for entry in fs::read_dir(&all).into_iter().flatten().flatten().filter(|entry| entry.path() != own) {
            // Another process may be at it, too.
            let _ = fs::remove_dir_all(entry.path());
        }
        Ok(own)
    }

    /// Where `proved` is, or would be.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn proved_since_boot(&self) -> Result<PathBuf> {
        let boot = fs::read_to_string(BOOT).map_err(Error::io("read", BOOT))?;
        Ok(self.root.join("proved").join(boot.trim()))
    }

    /// Prove a blob that is complete and give it its second name in `directory`, which `proved` gave. False when it is not
    /// complete, or is damaged: then it is here no more.
    ///
    /// # Errors
    /// `Io`: the name cannot be made.
    pub fn prove(&self, content: &Content, directory: &Path) -> Result<bool> {
        let digest = &content.digest;
        let hex = digest.hex();
        let name = directory.join(&hex[..2]).join(&hex);
        if digest.size == 0 {
            return Ok(true);
        }
        // The kernel will not tell when it reads it.
        lock(&self.used).note(&digest.sha256);
        if name.exists() {
            return Ok(true);
        }
        let path = self.path(digest);
        match self.hash_of(&path, digest) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(_) => {
                self.discard(digest);
                return Ok(false);
            }
        }
        let linked = fs::hard_link(&path, &name).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            io::ErrorKind::NotFound => {
                fs::create_dir_all(name.parent().expect("an object lies in a directory"))?;
                fs::hard_link(&path, &name)
            }
            _ => Err(error),
        });
        linked.map_err(Error::io("link", &name))?;
        // The new name has changed the ctime.
        if let Ok(meta) = fs::symlink_metadata(&path) {
            self.note_proved(digest.sha256, Stamp::of(&meta));
        }
        Ok(true)
    }

    /// Whether a file is there and is what it should be.
    fn hash_of(&self, path: &Path, digest: &Digest) -> io::Result<bool> {
        let Some((file, stamp)) = object::find(path, digest)? else { return Ok(false) };
        let proved = lock(&self.proved).get(&digest.sha256).copied();
        if proved != Some(stamp) && object::hash(&file)? != *digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(true)
    }
}
