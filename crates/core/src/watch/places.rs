//! Where watching can be relied on: file systems that only this kernel changes, and mounts that stay as they are.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstatfs;

use crate::error::{Error, Result, show};
use crate::scan::{Dir, Root};

const MOUNTS: &str = "/proc/self/mountinfo";

/// `f_type` of the file systems of which inotify tells every change: statfs(2), linux/magic.h.
const OURS_ALONE: [u32; 24] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // zfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x4d44,      // vfat
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
    0x3153_464a, // jfs
    0x3434,      // nilfs2
    0xf15f,      // ecryptfs
    0x5265_4973, // reiserfs
    0x1501_3346, // udf
    0x9660,      // iso9660
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x28cd_3d45, // cramfs
    0x482b,      // hfsplus
    0x2405_1905, // ubifs
    0x72b6,      // jffs2
];

/// Those that people meet and that others change too.
const SHARED: [(u32, &str); 10] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
];

/// # Errors
/// `Unwatchable` when `dir` lies on a file system that others may change.
pub(super) fn check(dir: &Dir, root: &Root, path: &[u8]) -> Result<()> {
    let found = fstatfs(dir.as_fd()).map_err(|e| Error::io("stat the file system of", root.show(path))(e.into()))?;
    // The C type of this field differs between architectures; types have 32 bits.
    #[allow(clippy::unnecessary_cast)]
    let found = found.f_type as u32;
    if OURS_ALONE.contains(&found) {
        return Ok(());
    }
    let name = SHARED.iter().find(|(number, _)| *number == found).map(|(_, name)| format!(" ({name})"));
    let why = format!(
        "its file system{} may change without a notice of inotify",
        name.unwrap_or_else(|| format!(" of type {found:#x}"))
    );
    Err(Error::Unwatchable { path: root.show(path), why })
}

/// The mounts at and below a directory.
pub(super) struct Mounts {
    table: File,
    /// The directory's path, spelled as in the table.
    above: Vec<u8>,
    have: bool,
}

impl Mounts {
    /// `root` is a path without symbolic links.
    pub fn of(root: &Path) -> Result<Mounts> {
        let table = File::open(MOUNTS).map_err(Error::io("open", MOUNTS))?;
        let mut above = Vec::new();
        for &byte in root.as_os_str().as_bytes() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => above.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
                _ => above.push(byte),
            }
        }
        let mut mounts = Mounts { table, above, have: false };
        mounts.have = mounts.read()?;
        Ok(mounts)
    }

    /// Whether mounts below the directory may be others than when last asked.
    pub fn changed(&mut self) -> Result<bool> {
        let mut wait = [PollFd::new(&self.table, PollFlags::PRI)];
        let ready = poll(&mut wait, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if ready.map_err(|e| Error::io("poll", MOUNTS)(e.into()))? == 0 {
            return Ok(false);
        }
        let had = self.have;
        self.have = self.read()?;
        // With none before and after, whatever was there between has changed nothing here.
        Ok(had || self.have)
    }

    fn read(&self) -> Result<bool> {
        let mut table = Vec::new();
        // A new reading: the one that is polled stays where it is.
        let mut file = File::open(MOUNTS).map_err(Error::io("open", MOUNTS))?;
        file.read_to_end(&mut table).map_err(Error::io("read", MOUNTS))?;
        let point = |line: &[u8]| line.split(|&b| b == b' ').nth(4).map(<[u8]>::to_vec);
        let is_strictly_below = |point: Vec<u8>| {
            let above = if self.above == b"/" { &b""[..] } else { &self.above };
            point.strip_prefix(above).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
        };
        Ok(table.split(|&b| b == b'\n').filter_map(point).any(is_strictly_below))
    }
}

/// A limit of inotify as it is now, for messages.
pub(super) fn limit(name: &str) -> String {
    let path = format!("/proc/sys/fs/inotify/{name}");
    std::fs::read_to_string(path).map_or_else(|_| "some".to_owned(), |text| show(Path::new(OsStr::new(text.trim()))))
}
