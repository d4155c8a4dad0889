//! The native tier: metadata as an EROFS image, contents as files, both under one overlay (docs/native.md); and any tier under
//! an overlay that takes changes (docs/writable.md).
//!
//! Invariant: the layers have no places of their own: they are there as long as the overlay is, and not a moment longer.
//! The server must answer before the overlay is made, which asks the lowest layer for its limits.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use super::mount::{check, open_device, refused};
use super::table::SOURCE;
use super::writable::Changes;
use crate::erofs;
use crate::error::{Error, Result};
use crate::filemap::FileMap;

/// A mount that is not made yet: only its lowest layer is there.
pub struct Layers {
    place: PathBuf,
    /// Of the native tier the contents, if any are not proved files; of the other the tree.
    served: Option<OwnedFd>,
    changes: Option<Changes>,
}

impl Layers {
    /// For a mount at an empty directory, with the descriptor over which the lowest layer is asked for: whoever holds it must
    /// answer before `mount` or `cover`.
    ///
    /// # Errors
    /// `MountPoint`, `Mount`.
    pub fn new(place: &Path, changes: Option<Changes>) -> Result<(Layers, OwnedFd)> {
        let place = checked(place, changes.is_some())?;
        let device = open_device(&place)?;
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let options = [
            ("source", SOURCE.to_string()),
            ("subtype", SOURCE.to_string()),
            ("fd", device.as_raw_fd().to_string()),
            ("rootmode", "40000".to_string()),
            ("user_id", user.to_string()),
            ("group_id", group.to_string()),
        ];
        let served = layer(&place, "fuse", &options, &["ro", "default_permissions", "allow_other"], READ_ONLY)?;
        Ok((Layers { place, served: Some(served), changes }, device))
    }

    /// For a mount at an empty directory, all of whose contents are proved files.
    ///
    /// # Errors
    /// `MountPoint`, `Mount`.
    pub fn alone(place: &Path) -> Result<Layers> {
        Ok(Layers { place: checked(place, false)?, served: None, changes: None })
    }

    /// The minor number of the device of what is served.
    pub(super) fn number(&self) -> Option<u32> {
        // What the kernel knows without asking: nobody answers yet.
        let known = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let root = rustix::fs::statx(self.served.as_ref()?, "", known, StatxFlags::empty()).ok()?;
        Some(root.stx_dev_minor)
    }

    /// Make the mount, now that somebody answers: of the tree of `map`, with a file for its metadata in `temporary`, and
    /// contents that need not be asked for in `proved`.
    ///
    /// # Errors
    /// `Missing` while pages of the map are, `Invalid` when the tier cannot hold the tree, `Mount`.
    pub fn mount(self, map: &FileMap, temporary: &Path, proved: &Path) -> Result<()> {
        let metadata = metadata(&self.place, map, temporary)?;
        let proved = proved.to_str().ok_or_else(|| refused(&self.place, "the cache's name is not UTF-8"))?;
        let mut below = vec![("lowerdir+", by_descriptor(&metadata)), ("datadir+", proved.to_string())];
        below.extend(self.served.iter().map(|served| ("datadir+", by_descriptor(served))));
        self.overlay(&metadata, below)
    }

    /// Make the mount of the other tier, now that somebody answers for the tree.
    ///
    /// # Errors
    /// `Mount`, `Io` of what keeps the changes.
    pub fn cover(self) -> Result<()> {
        let served = self.served.as_ref().ok_or_else(|| refused(&self.place, "nobody serves its tree"))?;
        self.overlay(served, vec![("lowerdir+", by_descriptor(served))])
    }

    /// Put an overlay over layers, of which `tree` has the tree's root, at the place.
    fn overlay(&self, tree: &OwnedFd, below: Vec<(&str, String)>) -> Result<()> {
        let mut options = vec![("source", SOURCE.to_string())];
        options.extend(below);
        options.push(("xino", "off".to_string()));
        let is_apart = is_apart();
        if !is_apart {
            options.push(("metacopy", "on".to_string()));
        }
        let overlay = match &self.changes {
            None => {
                options.push(("redirect_dir", "follow".to_string()));
                layer(&self.place, "overlay", &options, &["ro"], READ_ONLY)?
            }
            Some(changes) => {
                changes.begin(tree)?;
                options.extend(changes.options(&self.place)?);
                let flags: &[&str] = if is_apart { &["userxattr"] } else { &[] };
                if !is_apart {
                    // A directory is renamed, and a mode changed, without copying what lies below.
                    options.push(("redirect_dir", "on".to_string()));
                }
                layer(&self.place, "overlay", &options, flags, MountAttrFlags::empty())
                    .map_err(|error| changes.explain(&self.place, error))?
            }
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(overlay.as_fd(), "", rustix::fs::CWD, &self.place, flags)
            .map_err(|error| refused(&self.place, format!("cannot mount: {error}")))
    }
}

/// Whether we are root of a namespace of users of our own: the attributes that overlays keep for root are not ours there, nor what
/// an overlay does by them.
fn is_apart() -> bool {
    const ALL: [&str; 3] = ["0", "0", "4294967295"];
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(ALL))
}

fn checked(place: &Path, is_writable: bool) -> Result<PathBuf> {
    let place = check(place)?;
    if !rustix::process::geteuid().is_root() {
        let why = if is_writable {
            "only root can make a mount that takes changes; without --writable mounts are for everybody"
        } else {
            "only root can make the native tier; --tier fuse is for everybody"
        };
        return Err(refused(&place, why));
    }
    Ok(place)
}

/// The image of a tree's metadata, mounted; its file has no name.
fn metadata(place: &Path, map: &FileMap, directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let image = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR);
    let image = image.map_err(|error| Error::io("make a file in", directory)(error.into()))?;
    let mut image = File::from(image);
    erofs::write(map, &mut image)?;
    let source = format!("/proc/self/fd/{}", image.as_raw_fd());
    layer(place, "erofs", &[("source", source)], &["ro"], READ_ONLY)
}

fn by_descriptor(layer: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", layer.as_raw_fd())
}

const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// A file system that is mounted nowhere yet.
fn layer(
    place: &Path,
    kind: &str,
    options: &[(&str, String)],
    flags: &[&str],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let made = || -> std::result::Result<OwnedFd, Errno> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            let value = CString::new(value.as_str()).map_err(|_| Errno::INVAL)?;
            fsconfig_set_string(context.as_fd(), *key, value.as_c_str())?;
        }
        for flag in flags {
            fsconfig_set_flag(context.as_fd(), *flag)?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    // Without either a mount has one layer, which anybody can make.
    let needed = "needed for --tier native and --writable; --tier fuse without --writable does without";
    made().map_err(|error| {
        let why = match error {
            Errno::NODEV => format!("this kernel has no {kind}, which is {needed}"),
            Errno::INVAL if kind == "overlay" => {
                format!("cannot make the overlay: {error}. It takes Linux 6.8 or later, and is {needed}")
            }
            Errno::PERM => "the system forbids mounts here; a container needs --cap-add SYS_ADMIN".to_string(),
            error => format!("cannot make the {kind} layer: {error}; it is {needed}"),
        };
        refused(place, why)
    })
}
