//! Looking at the disk: what is there, and reading it whole or not at all.
//!
//! Invariant: nothing here follows a symbolic link below the root, blocks on a FIFO, or passes on a file's bytes as its
//! content unless the stats before and after reading agree. Keeps no state (`index` does).

mod dir;
mod passing;
mod read;
mod root;

use std::cmp::Ordering;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

pub use dir::Dir;
pub use passing::{KIND, Passing, SOURCE};
pub use read::{PIECE, Sink, read_stable};
pub use root::{Root, holes};

/// A point in time as file systems keep it; `nsec` is below 10^9, so the order is that of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub sec: i64,
    pub nsec: u32,
}

impl Time {
    pub fn now() -> Time {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Time { sec: since.as_secs() as i64, nsec: since.subsec_nanos() },
            Err(before) => Time { sec: -(before.duration().as_secs() as i64) - 1, nsec: 0 },
        }
    }

    fn minus_ms(self, ms: u32) -> Time {
        let nanoseconds = ms % 1000 * 1_000_000;
        let borrow = self.nsec < nanoseconds;
        Time {
            sec: self.sec - i64::from(ms / 1000) - i64::from(borrow),
            nsec: if borrow { self.nsec + 1_000_000_000 - nanoseconds } else { self.nsec - nanoseconds },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
    Socket,
}

impl Kind {
    pub fn of_mode(mode: u32) -> Kind {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Symlink,
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFCHR => Kind::CharDevice,
            libc::S_IFBLK => Kind::BlockDevice,
            libc::S_IFSOCK => Kind::Socket,
            _ => Kind::File,
        }
    }
}

/// What `lstat` says of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: u32,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    pub rdev: u64,
    /// Of 512 bytes.
    pub blocks: u64,
}

impl Stat {
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode)
    }

    /// Whether `other` tells of the same bytes: the condition of docs/format.md, "Index". An owner or link count cannot
    /// change without ctime.
    pub fn agrees(&self, other: &Stat) -> bool {
        let key = |s: &Stat| (s.mode, s.dev, s.ino, s.size, s.mtime, s.ctime);
        key(self) == key(other)
    }

    /// Whether what was read at or after `began` may change once more without this stat changing, because the file was
    /// changed within the clock's grain before `began`, after it, or in the future.
    /// Without trust in ctime, mtime alone must tell, and a server's clock may have stamped it.
    pub fn is_racy(&self, began: Time, trust_ctime: bool) -> bool {
        // Kernels stamp files with a clock of up to 10 ms; a ctime in whole seconds is of a file system (FAT, ext3)
        // whose grain is 1 or 2 s, or a rare chance that costs one more hash.
        let grain = if trust_ctime && self.ctime.nsec != 0 { 20 } else { 2000 };
        let newest = if trust_ctime { self.mtime.max(self.ctime) } else { self.mtime };
        newest.cmp(&began.minus_ms(grain)) != Ordering::Less
    }
}

impl From<rustix::fs::Stat> for Stat {
    // The C types of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn from(s: rustix::fs::Stat) -> Stat {
        Stat {
            mode: s.st_mode as u32,
            dev: s.st_dev as u64,
            ino: s.st_ino as u64,
            size: s.st_size as u64,
            mtime: Time { sec: s.st_mtime as i64, nsec: s.st_mtime_nsec as u32 },
            ctime: Time { sec: s.st_ctime as i64, nsec: s.st_ctime_nsec as u32 },
            uid: s.st_uid as u32,
            gid: s.st_gid as u32,
            nlink: s.st_nlink as u64,
            rdev: s.st_rdev as u64,
            blocks: s.st_blocks as u64,
        }
    }
}

/// `a/b/c` -> (`a/b`, `c`); a name at the top has the empty parent, and so has the root, whose name is empty.
pub fn parent_and_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// What is behind the last dot of a path's name, numbers of versions aside: `.py`, `.so` of `libz.so.1`; empty where there is
/// no dot. Files of one suffix are mostly read, or not, by the same programs.
pub fn suffix_of(path: &[u8]) -> &[u8] {
    let mut name = parent_and_name(path).1;
    loop {
        let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return b"" };
        let suffix = &name[dot..];
        if suffix.len() == 1 || !suffix[1..].iter().all(u8::is_ascii_digit) || !name[..dot].contains(&b'.') {
            return suffix;
        }
        name = &name[..dot];
    }
}

/// Whether `error` says that the path no longer leads to what was there; a symbolic link leads nowhere.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// Whether `error` says that we may not look.
pub fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests;
