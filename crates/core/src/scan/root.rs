//! The directory that a scan is about, and everything reached from it by relative path.
//!
//! Invariant: a path is resolved beneath the root and through no symbolic link, whoever rearranges the tree meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags, ResolveFlags, SeekFrom, openat, openat2, seek};
use rustix::io::Errno;

use super::dir::PROC_FDS;
use super::{Dir, Stat, parent_and_name};
use crate::error::{Error, Result};

pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// # Errors
    /// `Io` when `path` cannot be opened, `NotADirectory`, `Missing` without /proc.
    pub fn open(path: &Path) -> Result<Root> {
        // Without it extended attributes cannot be seen (`Dir::has_xattrs`), and must not be lost.
        rustix::fs::access(PROC_FDS, Access::EXISTS).map_err(|_| Error::Missing { what: PROC_FDS.to_owned() })?;
        match openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Root { fd, path: path.to_path_buf() }),
            Err(Errno::NOTDIR) => Err(Error::NotADirectory { path: path.to_path_buf() }),
            Err(error) => Err(Error::io("open", path)(error.into())),
        }
    }

    /// As the caller gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    pub fn show(&self, rel: &[u8]) -> PathBuf {
        if rel.is_empty() { self.path.clone() } else { self.path.join(Path::new(std::ffi::OsStr::from_bytes(rel))) }
    }

    /// Open a file for reading. Does not wait for a FIFO's writer; the caller checks what it got.
    pub fn open_file(&self, rel: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(File::from(self.beneath(rel, flags)?))
    }

    /// Open a directory to look at its entries; it need not be readable.
    pub fn open_dir(&self, rel: &[u8]) -> io::Result<Dir> {
        Ok(Dir::new(self.beneath(rel, OFlags::PATH | OFlags::DIRECTORY)?))
    }

    /// What is at `rel`, itself.
    pub fn stat(&self, rel: &[u8]) -> io::Result<Stat> {
        let (dir, name) = self.parent(rel)?;
        if name.is_empty() { dir.own_stat() } else { dir.stat(name) }
    }

    /// Extended attributes of an entry itself, sorted by name: all that may be read.
    pub fn xattrs(&self, rel: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (dir, name) = self.parent(rel)?;
        dir.xattrs(name)
    }

    fn parent<'a>(&self, rel: &'a [u8]) -> io::Result<(Dir, &'a [u8])> {
        let (parent, name) = parent_and_name(rel);
        Ok((self.open_dir(parent)?, name))
    }

    fn beneath(&self, rel: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if rel.is_empty() { &b"."[..] } else { rel };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.fd, path, flags, Mode::empty(), resolve) {
            // Too long a path, or a sandbox without openat2 (which says either): one name after the other.
            Err(Errno::NAMETOOLONG | Errno::NOSYS | Errno::PERM) => self.beneath_by_steps(path, flags),
            other => Ok(other?),
        }
    }

    fn beneath_by_steps(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut names = path.split(|&b| b == b'/');
        let last = names.next_back().unwrap_or(b".");
        let mut at: Option<OwnedFd> = None;
        for name in names {
            let from = at.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
            at = Some(openat(from, name, step, Mode::empty())?);
        }
        let from = at.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
        Ok(openat(from, last, flags, Mode::empty())?)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The holes of a sparse file as (offset, length), in order; none when its blocks cover its size.
/// Moves the file's offset.
pub fn holes(file: &File, stat: &Stat) -> io::Result<Vec<(u64, u64)>> {
    let mut holes = Vec::new();
    if stat.blocks.saturating_mul(512) >= stat.size {
        return Ok(holes);
    }
    let mut at = 0;
    while at < stat.size {
        // Beyond the end, ENXIO: it is shorter by now.
        let hole = match seek(file, SeekFrom::Hole(at)) {
            Err(Errno::NXIO) => break,
            hole => hole?,
        };
        if hole >= stat.size {
            break;
        }
        // No data after the hole is ENXIO: it reaches the end.
        at = match seek(file, SeekFrom::Data(hole)) {
            Err(Errno::NXIO) => stat.size,
            data => data?.min(stat.size),
        };
        if at > hole {
            holes.push((hole, at - hole));
        }
    }
    Ok(holes)
}
