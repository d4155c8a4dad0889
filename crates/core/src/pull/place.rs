//! The directory that fills, reached by descriptor.
//!
//! Invariant: what is made here lies below the directory that `open` was given, wherever that is moved, and nowhere once
//! it has been removed. A path may be longer than the kernel takes at once.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Error, Result};

/// The kernel's limit, less what `At::through_proc` puts before a path.
const LONGEST: usize = 4096 - 64;

const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub struct Place {
    root: OwnedFd,
    path: PathBuf,
}

/// A path below the place, for the calls that take a directory and a path relative to it.
pub struct At<'a> {
    place: &'a Place,
    /// Of a path that is too long: the open directory of its last name.
    parent: Option<OwnedFd>,
    pub name: &'a OsStr,
}

impl Place {
    pub fn open(path: &Path) -> Result<Place> {
        let root = openat(CWD, path, STEP, Mode::empty()).map_err(|e| Error::io("open", path)(e.into()))?;
        Ok(Place { root, path: path.to_path_buf() })
    }

    /// For messages.
    pub fn show(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.path.clone() } else { self.path.join(OsStr::from_bytes(path)) }
    }

    /// The entry at `path`; the empty path is the place itself.
    pub fn at<'a>(&'a self, path: &'a [u8]) -> Result<At<'a>> {
        if path.len() < LONGEST {
            let name = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
            return Ok(At { place: self, parent: None, name });
        }
        let mut parent: Option<OwnedFd> = None;
        let mut names = path.split(|&b| b == b'/');
        let last = names.next_back().unwrap_or_default();
        for name in names {
            let from = parent.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let below = openat(from, name, STEP, Mode::empty());
            parent = Some(below.map_err(|e| Error::io("open a directory above", self.show(path))(e.into()))?);
        }
        Ok(At { place: self, parent, name: OsStr::from_bytes(last) })
    }
}

impl At<'_> {
    /// For the calls that take no directory: do not follow what is there.
    pub fn through_proc(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.as_fd().as_raw_fd().to_string()).join(self.name)
    }
}

impl AsFd for At<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.parent.as_ref().unwrap_or(&self.place.root).as_fd()
    }
}
