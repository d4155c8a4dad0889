//! Owner, mode, extended attributes and times of one entry.
//!
//! Invariant: what the file system or missing privilege refuses is noted, never silently lost; an ordinary user's files
//! belong to that user without a note, as with tar.

use std::ffi::CString;
use std::io;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::place::{At, Place};
use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind};

/// Set everything that `entry` says of what is in its place. In this order: a new owner takes capabilities and set-id bits
/// away, a mode may forbid its owner to set attributes, and all of it changes times.
pub fn set(place: &Place, entry: &Entry, privileged: bool, notes: &mut Vec<String>) -> Result<()> {
    let at = place.at(&entry.path)?;
    let failed = |doing| move |error: Errno| Error::io(doing, place.show(&entry.path))(error.into());
    if privileged {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        match rustix::fs::chownat(&at, at.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => {}
            // Root of a user namespace that has no such user, or of a client whose server knows no root.
            Err(e @ (Errno::PERM | Errno::INVAL)) => {
                let path = crate::error::show(&place.show(&entry.path));
                notes.push(format!("{path}: owner {}:{} not set: {}", entry.uid, entry.gid, io::Error::from(e)));
            }
            Err(e) => return Err(failed("set the owner of")(e)),
        }
    }
    for (name, value) in &entry.xattrs {
        set_xattr(place, &at, entry, name, value, notes)?;
    }
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        // Not through chmod of a symlink: this is what this pull made, and is none.
        rustix::fs::chmodat(&at, at.name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(failed("set the mode of"))?;
    }
    let mtime = Timespec { tv_sec: entry.mtime.sec, tv_nsec: entry.mtime.nsec.into() };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    rustix::fs::utimensat(&at, at.name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the times of"))
}

fn set_xattr(
    place: &Place,
    at: &At<'_>,
    entry: &Entry,
    name: &[u8],
    value: &[u8],
    notes: &mut Vec<String>,
) -> Result<()> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let name = CString::new(name).map_err(|_| Error::damaged("file map", "an attribute's name with a NUL"))?;
    match rustix::fs::lsetxattr(at.through_proc(), name.as_c_str(), value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(e @ (Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS)) => {
            let path = crate::error::show(&place.show(&entry.path));
            notes.push(format!("{path}: attribute {shown} not set: {}", io::Error::from(e)));
            Ok(())
        }
        Err(e) => Err(Error::io("set an attribute of", place.show(&entry.path))(e.into())),
    }
}
