//! Owner, mode, extended attributes and times of one entry.
//!
//! Invariant: what the file system or missing privilege refuses is noted, never silently lost; an ordinary user's files
//! belong to that user without a note, as with tar.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::place::At;
use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind};
use crate::scan::Stat;

/// Whose metadata is set: for messages.
pub struct Setting<'a> {
    pub entry: &'a Entry,
    pub path: &'a Path,
    pub privileged: bool,
}

impl Setting<'_> {
    /// Set everything that the entry says of the new file `file`, and return what is left to be said of it. In this
    /// order: a new owner takes capabilities and set-id bits away, a mode may forbid its owner to set attributes, and
    /// all of it changes times.
    pub fn set_open(&self, file: &File, notes: &mut Vec<String>) -> Result<()> {
        let Setting { entry, path, privileged } = *self;
        let failed = |doing| move |error: Errno| Error::io(doing, path)(error.into());
        let stat = Stat::from(rustix::fs::fstat(file).map_err(failed("stat"))?);
        let mut has_mode = stat.mode & 0o7777 == entry.mode;
        if privileged && (stat.uid, stat.gid) != (entry.uid, entry.gid) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            self.owned(rustix::fs::fchown(file, Some(uid), Some(gid)), notes)?;
            has_mode = false;
        }
        for (name, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(file, c_name(name)?.as_c_str(), value, XattrFlags::empty());
            self.attributed(name, set, notes)?;
            has_mode = false;
        }
        if !has_mode {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of"))?;
        }
        rustix::fs::futimens(file, &times(entry)).map_err(failed("set the times of"))
    }

    /// The same of what is at `at`, whatever it is, made now or long ago: attributes that the entry has not are removed.
    pub fn set_at(&self, at: At<'_>, notes: &mut Vec<String>) -> Result<()> {
        let Setting { entry, path, privileged } = *self;
        let failed = |doing| move |error: Errno| Error::io(doing, path)(error.into());
        if privileged {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let set = rustix::fs::chownat(at, at.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            self.owned(set, notes)?;
        }
        self.set_xattrs(at, notes)?;
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            at.chmod(entry.mode).map_err(failed("set the mode of"))?;
        }
        rustix::fs::utimensat(at, at.name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the times of"))
    }

    fn set_xattrs(&self, at: At<'_>, notes: &mut Vec<String>) -> Result<()> {
        let name = at.name.as_bytes();
        let listed = Error::io("list extended attributes of", self.path);
        if self.entry.xattrs.is_empty() && !at.dir.has_xattrs(name).map_err(listed)? {
            return Ok(());
        }
        let present = at.dir.xattrs(name).map_err(Error::io("list extended attributes of", self.path))?;
        for (name, _) in &present {
            if is_of_trees(name) && self.entry.xattrs.iter().all(|(wanted, _)| wanted != name) {
                let removed = rustix::fs::lremovexattr(at.through_proc(), c_name(name)?.as_c_str());
                self.attributed(name, removed, notes)?;
            }
        }
        for wanted in self.entry.xattrs.iter().filter(|wanted| !present.contains(wanted)) {
            let (name, value) = wanted;
            let set = rustix::fs::lsetxattr(at.through_proc(), c_name(name)?.as_c_str(), value, XattrFlags::empty());
            self.attributed(name, set, notes)?;
        }
        Ok(())
    }

    fn owned(&self, set: rustix::io::Result<()>, notes: &mut Vec<String>) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            // Root of a user namespace that has no such user, or of a client whose server knows no root.
            Err(e @ (Errno::PERM | Errno::INVAL)) => {
                let (path, Entry { uid, gid, .. }) = (crate::error::show(self.path), self.entry);
                notes.push(format!("{path}: owner {uid}:{gid} not set: {}", io::Error::from(e)));
                Ok(())
            }
            Err(e) => Err(Error::io("set the owner of", self.path)(e.into())),
        }
    }

    fn attributed(&self, name: &[u8], set: rustix::io::Result<()>, notes: &mut Vec<String>) -> Result<()> {
        match set {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(e @ (Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS)) => {
                let (path, name) = (crate::error::show(self.path), String::from_utf8_lossy(name));
                notes.push(format!("{path}: attribute {name} not set: {}", io::Error::from(e)));
                Ok(())
            }
            Err(e) => Err(Error::io("set an attribute of", self.path)(e.into())),
        }
    }
}

/// Whether an attribute that the tree has not is one too many. Labels and access lists that a machine gives to what is
/// made on it are its own business.
fn is_of_trees(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability"
}

/// Whether `present`, sorted by name, is what the entry says.
pub fn has_xattrs(entry: &Entry, present: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let is_too_many =
        |(name, _): &&(Vec<u8>, Vec<u8>)| is_of_trees(name) && entry.xattrs.iter().all(|(wanted, _)| wanted != name);
    entry.xattrs.iter().all(|wanted| present.contains(wanted)) && present.iter().find(is_too_many).is_none()
}

fn times(entry: &Entry) -> Timestamps {
    let mtime = Timespec { tv_sec: entry.mtime.sec, tv_nsec: entry.mtime.nsec.into() };
    Timestamps { last_access: mtime, last_modification: mtime }
}

fn c_name(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::damaged("file map", "an attribute's name with a NUL"))
}
