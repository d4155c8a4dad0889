//! Mounting and unmounting: by the system call as root, by fusermount3 as anybody else.
//!
//! Invariant: a mount is read-only, without set-id bits and devices, and the kernel checks permissions.

use std::ffi::CString;
use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair,
};

use super::table::{self, KIND, SOURCE};
use crate::error::{Error, Result, show};

const DEVICE: &str = "/dev/fuse";
const ELSEWHERE: &str = "name an empty directory";
const HELPER: &str = "fusermount3";

/// Make a mount at an empty directory. Whoever holds the descriptor that comes back answers for it: when the last copy is
/// closed, users of the mount get ENOTCONN.
///
/// # Errors
/// `MountPoint` where one cannot mount, `Mount`, with what to do about it.
pub fn mount(place: &Path) -> Result<OwnedFd> {
    let place = check(place)?;
    if rustix::process::geteuid().is_root() { mount_as_root(&place) } else { mount_as_user(&place) }
}

/// Take a mount away, whether its server lives or not. `lazy`: also when it is in use; those who use it keep what they have
/// open until they close it.
///
/// # Errors
/// `MountPoint` where no mount of ours is, `MountBusy`, `Mount`, with what to do about it.
pub fn unmount(place: &Path, lazy: bool) -> Result<()> {
    let absolute = table::absolute(place).map_err(|error| refused(place, error.to_string()))?;
    match table::at(&absolute)? {
        Some(mounted) if mounted.is_ours() => {}
        Some(mounted) => {
            let why = format!("is a mount of another kind ({})", mounted.kind);
            return Err(unfit(place, why, format!("umount {}", show(place))));
        }
        None => return Err(unfit(place, "is not mounted", "sapwood mounts")),
    }
    let root = rustix::process::geteuid().is_root();
    let take_away = if root { unmount_as_root } else { unmount_as_user };
    if lazy {
        return take_away(&absolute, true);
    }
    match take_away(&absolute, false) {
        // Nobody can use what is dead; those who hold it open only have errors to lose.
        Err(_) if is_dead(&absolute) => take_away(&absolute, true),
        other => other,
    }
}

pub(super) fn refused(place: &Path, why: impl Into<String>) -> Error {
    Error::Mount { place: place.to_path_buf(), why: why.into() }
}

fn unfit(place: &Path, why: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::MountPoint { place: place.to_path_buf(), why: why.into(), remedy: remedy.into() }
}

/// The absolute mount point, if one may mount there.
pub(super) fn check(place: &Path) -> Result<PathBuf> {
    let meta = match fs::metadata(place) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(unfit(place, "there is no such directory", format!("mkdir -p {}", show(place))));
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return Err(unfit(
                place,
                "a mount is there whose server has died",
                format!("sapwood umount {}", show(place)),
            ));
        }
        Err(error) => return Err(refused(place, error.to_string())),
    };
    if !meta.is_dir() {
        return Err(unfit(place, "is not a directory", ELSEWHERE));
    }
    let absolute = place.canonicalize().map_err(|error| refused(place, error.to_string()))?;
    if let Some(mounted) = table::at(&absolute)? {
        let ours = mounted.is_ours();
        let remedy = if ours { format!("sapwood umount {}", show(place)) } else { ELSEWHERE.into() };
        return Err(unfit(place, format!("is already a mount ({})", mounted.kind), remedy));
    }
    let mut entries = fs::read_dir(&absolute).map_err(|error| refused(place, error.to_string()))?;
    match entries.next() {
        Some(_) => Err(unfit(place, "is not empty: its files would be hidden", ELSEWHERE)),
        None => Ok(absolute),
    }
}

/// The device over which requests come.
pub(super) fn open_device(place: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(DEVICE, flags, Mode::empty()).map_err(|error| {
        let why = match error {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => {
                "there is no /dev/fuse: load the module (modprobe fuse), or give it to the container (--device /dev/fuse)"
                    .to_string()
            }
            error => format!("cannot open /dev/fuse: {error}"),
        };
        refused(place, why)
    })
}

fn mount_as_root(place: &Path) -> Result<OwnedFd> {
    let device = open_device(place)?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        user.as_raw(),
        group.as_raw()
    );
    let options = CString::new(options).expect("numbers hold no NUL");
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(SOURCE, place, KIND, flags, options.as_c_str()).map_err(|error| {
        let why = match error {
            Errno::PERM => "the system forbids mounts here; a container needs --cap-add SYS_ADMIN".to_string(),
            error => format!("cannot mount: {error}"),
        };
        refused(place, why)
    })?;
    Ok(device)
}

/// fusermount3 mounts and sends the descriptor back over a socket, here its standard input.
fn mount_as_user(place: &Path) -> Result<OwnedFd> {
    let io = |error: Errno| refused(place, format!("cannot talk to {HELPER}: {error}"));
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io)?;
    let options = "ro,nosuid,nodev,default_permissions,fsname=sapwood,subtype=sapwood";
    let output = Command::new(HELPER)
        .args(["-o", options, "--"])
        .arg(place)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    said(place, output)?;
    receive(&ours).map_err(io)?.ok_or_else(|| refused(place, format!("{HELPER} gave no descriptor")))
}

/// The descriptor that waits in a socket.
fn receive(socket: &OwnedFd) -> std::result::Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor)
}

/// What the helper complained of, as our error.
fn said(place: &Path, output: io::Result<std::process::Output>) -> Result<()> {
    let output = output.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("users other than root need {HELPER}: install it (Debian: apt install fuse3)")
            }
            _ => format!("cannot start {HELPER}: {error}"),
        };
        refused(place, why)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = show(Path::new(text.trim()));
    let why = match &text {
        text if text.contains("busy") => return Err(busy(place)),
        text if text.contains("/dev/fuse: Permission denied") => {
            "/dev/fuse is closed to users; as root: chmod 666 /dev/fuse".into()
        }
        text => format!("{HELPER} refuses: {text}"),
    };
    Err(refused(place, why))
}

fn busy(place: &Path) -> Error {
    Error::MountBusy { place: place.to_path_buf() }
}

fn unmount_as_root(place: &Path, lazy: bool) -> Result<()> {
    let flags = UnmountFlags::NOFOLLOW | if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(place, flags).map_err(|error| match error {
        Errno::BUSY => busy(place),
        error => refused(place, format!("cannot unmount: {error}")),
    })
}

fn unmount_as_user(place: &Path, lazy: bool) -> Result<()> {
    let mut command = Command::new(HELPER);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    said(place, command.arg("--").arg(place).stdin(Stdio::null()).output())
}

/// Whether nobody answers for a mount any more. A living server of ours answers this without waiting for anything.
fn is_dead(place: &Path) -> bool {
    rustix::fs::statfs(place).is_err_and(|error| error == Errno::NOTCONN)
}
