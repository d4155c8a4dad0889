//! Where the changes of a writable mount lie: the upper layer of its overlay (docs/writable.md).
//!
//! Invariant: an upper layer that is first mounted has the root of the tree that lies below, and nothing else; one that was
//! mounted before is left as it is.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, utimensat};

use super::mount::refused;
use crate::error::{Error, Result, show};

/// A directory with `upper` and `work`, the overlay's.
pub struct Changes {
    directory: PathBuf,
}

impl Changes {
    /// In a directory that is there.
    pub fn new(directory: PathBuf) -> Changes {
        Changes { directory }
    }

    fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Let an upper layer that was never mounted have the root of `tree`: what it says is what the mount's root says.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn begin(&self, tree: &OwnedFd) -> Result<()> {
        for directory in [self.upper(), self.work()] {
            fs::create_dir_all(&directory).map_err(Error::io("make", &directory))?;
        }
        // The kernel makes it when it mounts.
        if self.work().join("work").exists() {
            return Ok(());
        }
        let root = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
        dress(&root, &self.upper()).map_err(Error::io("write", self.upper()))
    }

    /// What the overlay is told of them; `place` is where it will be.
    ///
    /// # Errors
    /// `Mount`.
    pub(super) fn options(&self, place: &Path) -> Result<[(&'static str, String); 3]> {
        let named = |path: PathBuf| path.into_os_string().into_string();
        let named =
            |path| named(path).map_err(|_| refused(place, "the name of where its changes are kept is not UTF-8"));
        Ok([("upperdir", named(self.upper())?), ("workdir", named(self.work())?), ("index", "off".to_string())])
    }

    /// Say of an overlay that could not be made what may be wrong with the place of the changes.
    pub(super) fn explain(&self, place: &Path, error: Error) -> Error {
        let Error::Mount { why, .. } = error else { return error };
        let kept = show(&self.directory);
        refused(
            place,
            format!(
                "{why}. The changes would be kept in {kept}: another mount may use it, or its file system cannot be the upper \
                 layer of an overlay (an overlay itself, as in a container, or a network's); set SAPWOOD_CHANGES to a \
                 directory of another"
            ),
        )
    }
}

/// Give a directory the owner, mode, attributes and time of another.
fn dress(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::metadata(from)?;
    chown(to, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::listxattr(from, &mut names)?;
    let mut value = vec![0; 1 << 16];
    // The kernel hides the overlay's own.
    let told = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"trusted.overlay.");
    for name in names[..length].split(|&byte| byte == 0).filter(told).map(OsStr::from_bytes) {
        let length = rustix::fs::getxattr(from, name, &mut value)?;
        rustix::fs::setxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ };
    utimensat(CWD, to, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty())?;
    Ok(())
}
