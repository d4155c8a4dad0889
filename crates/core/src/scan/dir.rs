//! One open directory and its entries.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Mode, OFlags, RawDir, fstat, lgetxattr, llistxattr, llistxattr_query, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::Stat;
use crate::job::Job;

/// The kernel's limits on a list of attribute names and on one value: a buffer of this size never is too small.
const XATTR_MAX: usize = 65_536;

pub(super) const PROC_FDS: &str = "/proc/self/fd";

/// Opened with `O_PATH`, so looking needs the execute permission only.
pub struct Dir {
    fd: OwnedFd,
    /// Whether it is of a mount of ours, once somebody asked (`Passing`).
    pub(super) passing: OnceLock<bool>,
}

impl Dir {
    pub(super) fn new(fd: OwnedFd) -> Dir {
        Dir { fd, passing: OnceLock::new() }
    }

    /// Open the directory `name` in `parent`.
    pub fn open(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Dir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Dir::new(openat(parent, name, flags, Mode::empty())?))
    }

    /// The names of all entries but `.` and `..`, each ended by NUL, in no order. An error when `job` has been stopped.
    pub fn list(&self, job: &Job) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = openat(&self.fd, ".", flags, Mode::empty())?;
        let mut buffer = [const { MaybeUninit::uninit() }; 32 * 1024];
        let mut entries = RawDir::new(&readable, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name != b".\0" && name != b"..\0" {
                names.extend_from_slice(name);
            }
            if entries.is_buffer_empty() {
                job.step(0).map_err(io::Error::other)?;
            }
        }
        Ok(names)
    }

    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
    }

    /// Of the directory itself.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.fd)?.into())
    }

    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, name, Vec::with_capacity(256))?.into_bytes())
    }

    /// Whether an entry (an empty name: the directory itself) has any extended attribute that we may know of.
    pub fn has_xattrs(&self, name: &[u8]) -> io::Result<bool> {
        match llistxattr_query(self.through_proc(name).as_slice()) {
            Err(Errno::NOTSUP) => Ok(false),
            length => Ok(length? > 0),
        }
    }

    /// Extended attributes of an entry (an empty name: the directory itself), sorted by name. Those that vanish
    /// meanwhile or may not be read are left out.
    pub fn xattrs(&self, name: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let path = self.through_proc(name);
        let mut names = Vec::with_capacity(XATTR_MAX);
        match llistxattr(path.as_slice(), spare_capacity(&mut names)) {
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            length => length?,
        };
        let mut found = Vec::new();
        let mut value = Vec::with_capacity(XATTR_MAX);
        for attribute in names.split(|&b| b == 0).filter(|attribute| !attribute.is_empty()) {
            value.clear();
            match lgetxattr(path.as_slice(), attribute, spare_capacity(&mut value)) {
                Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS | Errno::PERM) => continue,
                length => length?,
            };
            found.push((attribute.to_vec(), value.clone()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Linux before 6.13 has no call for the attributes of an entry of an open directory that does not follow links;
    /// /proc has the way round.
    fn through_proc(&self, name: &[u8]) -> Vec<u8> {
        let mut path = format!("{PROC_FDS}/{}/", self.fd.as_raw_fd()).into_bytes();
        path.extend_from_slice(if name.is_empty() { b"." } else { name });
        path
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
