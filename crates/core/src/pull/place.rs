//! The directory that is written to, reached by descriptor.
//!
//! Invariant: what is made, changed or removed here lies below the directory that `open` was given, wherever that is
//! moved, and behind no symbolic link, whoever puts one there meanwhile. A path may be longer than the kernel takes at once.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::filemap::parent_and_name;
use crate::scan::{Dir, Root};

pub struct Place {
    root: Root,
}

/// The directory that somebody has worked in last: the next entry is likely to lie there too.
#[derive(Default)]
pub struct Near(Option<(Vec<u8>, Dir)>);

/// An entry: the open directory that holds it, and its name there; the place itself is `.` in itself.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub dir: &'a Dir,
    pub name: &'a OsStr,
}

impl Place {
    pub fn open(path: &Path) -> Result<Place> {
        Ok(Place { root: Root::open(path)? })
    }

    pub fn root(&self) -> &Root {
        &self.root
    }

    /// For messages.
    pub fn show(&self, path: &[u8]) -> PathBuf {
        self.root.show(path)
    }

    /// The entry at `path`; the empty path is the place itself.
    pub fn at<'a>(&self, near: &'a mut Near, path: &'a [u8]) -> Result<At<'a>> {
        let (parent, name) = parent_and_name(path);
        let name = OsStr::from_bytes(if name.is_empty() { b"." } else { name });
        if near.0.as_ref().is_none_or(|(path, _)| path != parent) {
            let opened = self.root.open_dir(parent).map_err(Error::io("open", self.show(parent)))?;
            near.0 = Some((parent.to_vec(), opened));
        }
        match &near.0 {
            Some((_, dir)) => Ok(At { dir, name }),
            None => Err(Error::Missing { what: crate::error::show(&self.show(parent)) }),
        }
    }
}

impl<'a> At<'a> {
    /// Another name in the same directory.
    pub fn beside(self, name: &'a OsStr) -> At<'a> {
        At { dir: self.dir, name }
    }

    /// For the calls that take no directory: do not follow what is there.
    pub fn through_proc(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.as_fd().as_raw_fd().to_string()).join(self.name)
    }

    /// Set the mode of what is there, itself; for what is no symbolic link.
    pub fn chmod(&self, mode: u32) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let itself = rustix::fs::openat(self, self.name, flags, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(itself.as_raw_fd().to_string());
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))
    }

    /// Remove what is there, a directory only if it is empty. Tells whether there was anything.
    pub fn remove(&self, is_directory: bool) -> rustix::io::Result<bool> {
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(self, self.name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for At<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
