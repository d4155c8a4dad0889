//! Owner, mode, extended attributes and times of one entry.
//!
//! Invariant: what the file system or missing privilege refuses is noted, never silently lost; an ordinary user's files
//! belong to that user without a note, as with tar.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind};

/// Set everything that `entry` says of the thing at `path`; times last.
pub fn set(path: &Path, entry: &Entry, privileged: bool, notes: &mut Vec<String>) -> Result<()> {
    let link = matches!(entry.kind, Kind::Symlink { .. });
    if privileged {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::io("set the owner of", path)(e.into()))?;
    }
    if !link {
        // Not through chmod of a symlink: `path` is what this pull made, and is none.
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(|e| Error::io("set the mode of", path)(e.into()))?;
    }
    for (name, value) in &entry.xattrs {
        set_xattr(path, name, value, notes)?;
    }
    let mtime = Timespec { tv_sec: entry.mtime.sec, tv_nsec: entry.mtime.nsec.into() };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::io("set the times of", path)(e.into()))
}

fn set_xattr(path: &Path, name: &[u8], value: &[u8], notes: &mut Vec<String>) -> Result<()> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let name = CString::new(name).map_err(|_| Error::damaged("file map", "an attribute's name with a NUL"))?;
    match rustix::fs::lsetxattr(path, name.as_c_str(), value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(e) if matches!(e, rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            notes.push(format!("{}: attribute {shown} not set: {}", crate::error::show(path), io::Error::from(e)));
            Ok(())
        }
        Err(e) => Err(Error::io("set an attribute of", path)(e.into())),
    }
}
