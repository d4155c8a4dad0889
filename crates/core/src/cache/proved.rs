//! `proved/<boot>/`: second names of objects that were proved since the machine was started, for the native tier.
//!
//! Invariant: what has a name here was proved before it got it. Whoever reads there trusts the disk since then.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::object::{self, Look, Stamp};
use super::{Cache, lock};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::Content;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Another one each time the machine is started.
///
/// # Errors
/// `Io`.
pub(super) fn boot_id() -> Result<String> {
    let boot = fs::read_to_string(BOOT).map_err(Error::io("read", BOOT))?;
    Ok(boot.trim().to_string())
}

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
        Ok(self.root.join("proved").join(boot_id()?))
    }

    /// Prove a blob that is complete and give it its second name in `directory`, which `proved` gave. False when it is not
    /// complete, or is damaged: then it is here no more.
    ///
    /// # Errors
    /// `Io`: the name cannot be made.
    pub fn prove(&self, content: &Content, directory: &Path) -> Result<bool> {
        let digest = &content.digest;
        let name = Cache::below(directory, digest);
        if digest.size == 0 {
            return Ok(true);
        }
        // The kernel will not tell when it reads it.
        lock(&self.used).note(&digest.sha256);
        if name.exists() {
            return Ok(true);
        }
        let path = self.path(digest);
        let look = match self.proved_look(&path, digest) {
            Ok(Some(look)) => look,
            Ok(None) => return Ok(false),
            Err(_) => {
                self.discard(digest);
                return Ok(false);
            }
        };
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
        let stamp = fs::symlink_metadata(&name).map(|meta| Stamp::of(&meta));
        if let Some(stamp) = stamp.ok().filter(|stamp| stamp.look() == look) {
            self.note_proved(digest, stamp);
            return Ok(true);
        }
        // Somebody wrote to it since it was proved.
        let _ = fs::remove_file(&name);
        Ok(false)
    }

    /// The file of a blob, under its second name in `directory`, if it has one or can be given one without reading it.
    pub fn proved_file(&self, content: &Content, directory: &Path) -> Option<File> {
        let name = Cache::below(directory, &content.digest);
        if let Ok(Some((file, _))) = object::find(&name, &content.digest) {
            lock(&self.used).note(&content.digest.sha256);
            return Some(file);
        }
        let (_, stamp) = object::find(&self.path(&content.digest), &content.digest).ok()??;
        let here = self.is_proved(&content.digest, stamp) && self.prove(content, directory).unwrap_or(false);
        here.then(|| object::find(&name, &content.digest).ok()?).flatten().map(|(file, _)| file)
    }

    /// Somebody reads a blob without asking: it goes last when the cache grows too large, until `release`.
    pub fn hold(&self, sha256: [u8; 32]) {
        *lock(&self.held).entry(sha256).or_insert(0) += 1;
    }

    /// The end of one `hold`.
    pub fn release(&self, sha256: &[u8; 32]) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(sha256) {
            *count -= 1;
            if *count == 0 {
                held.remove(sha256);
            }
        }
    }

    /// How a file looked before it was found to be what it should be; `None` when it is not there.
    fn proved_look(&self, path: &Path, digest: &Digest) -> io::Result<Option<Look>> {
        let Some((file, stamp)) = object::find(path, digest)? else { return Ok(None) };
        if !self.is_proved(digest, stamp) && object::hash(&file)? != *digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some(stamp.look()))
    }
}
