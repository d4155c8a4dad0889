//! The kernel's FUSE protocol as bytes: requests in, replies out. Layouts: `include/uapi/linux/fuse.h`, version 7.
//!
//! Invariant: a request is taken apart with every length checked, and a reply never grows past the room the kernel gave.

use std::time::Instant;

use crate::error::{Error, Result};

/// The most a read may ask for: 256 pages.
pub const MAX_READ: usize = 1 << 20;
/// What the kernel sends us at most is a name or a whole extended attribute; writes never come.
pub const REQUEST_BYTES: usize = 128 * 1024;

/// Opcodes that are answered one by one; the others share an answer (`answer::refusal`).
pub mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const READDIR: u32 = 28;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const TMPFILE: u32 = 51;
}

/// Tells the kernel to give all requests again that were read and not answered (Linux 6.9): a reply of this "error" to no
/// request. Those that come again have the highest bit of `unique` set, and are answered with it.
pub const NOTIFY_RESEND: i32 = 7;

const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;

/// A request as it came, kept whole so that it can wait and be answered later.
#[derive(Clone, Debug)]
pub struct Request {
    pub opcode: u32,
    pub unique: u64,
    pub node: u64,
    /// The thread that asked; 0 where it is none that we see.
    pub pid: u32,
    pub body: Box<[u8]>,
    /// When it was read.
    pub since: Instant,
    /// Whether the kernel has said that the thread got a signal meanwhile.
    pub signalled: bool,
}

impl Request {
    /// # Errors
    /// `Damaged` when the kernel's bytes are no request.
    pub fn parse(bytes: &[u8]) -> Result<Request> {
        let mut fields = Fields(bytes);
        let header = (|| {
            let (length, opcode, unique, node) = (fields.u32()?, fields.u32()?, fields.u64()?, fields.u64()?);
            let (_uid, _gid, pid) = (fields.u32()?, fields.u32()?, fields.u32()?);
            Some((length, opcode, unique, node, pid, bytes.get(IN_HEADER..)?))
        })();
        match header {
            Some((length, opcode, unique, node, pid, body)) if length as usize == bytes.len() => {
                let since = Instant::now();
                Ok(Request { opcode, unique, node, pid, body: body.into(), since, signalled: false })
            }
            _ => Err(Error::damaged("FUSE request", format!("{} bytes that are none", bytes.len()))),
        }
    }

    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.body)
    }
}

/// Numbers and names one after the other.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Up to the next NUL.
    pub fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let (name, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(name)
    }
}

/// A reply in the making, in a buffer that its thread uses again and again.
pub struct Reply {
    bytes: Box<[u8]>,
    length: usize,
    limit: usize,
}

impl Reply {
    pub fn new() -> Reply {
        Reply::of(MAX_READ)
    }

    /// One that never gets more than `room` bytes.
    pub fn of(room: usize) -> Reply {
        Reply { bytes: vec![0; OUT_HEADER + room].into(), length: OUT_HEADER, limit: OUT_HEADER + room }
    }

    /// Start anew; the reply may have `limit` bytes at most.
    pub fn begin(&mut self, limit: usize) {
        self.length = OUT_HEADER;
        self.limit = (OUT_HEADER + limit).min(self.bytes.len());
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.length - OUT_HEADER
    }

    /// What was written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[OUT_HEADER..self.length]
    }

    pub fn room(&self) -> usize {
        self.limit - self.length
    }

    /// Room for `length` bytes to be filled by the caller, or less if there is not so much.
    pub fn space(&mut self, length: usize) -> &mut [u8] {
        let start = self.length;
        self.length = (start + length).min(self.limit);
        &mut self.bytes[start..self.length]
    }

    pub fn shrink(&mut self, length: usize) {
        self.length = self.length.min(OUT_HEADER + length);
    }

    /// Callers ask `room` where it can be too small: past the limit nothing is added.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.room() {
            self.space(bytes.len()).copy_from_slice(bytes);
        }
    }

    pub fn u16(&mut self, value: u16) {
        self.push(&value.to_ne_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.push(&value.to_ne_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.push(&value.to_ne_bytes());
    }

    pub fn zeros(&mut self, length: usize) {
        self.space(length).fill(0);
    }

    /// The whole message; with an error number, only that.
    pub fn finish(&mut self, unique: u64, errno: i32) -> &[u8] {
        if errno != 0 {
            self.length = OUT_HEADER;
        }
        self.bytes[..4].copy_from_slice(&(self.length as u32).to_ne_bytes());
        self.bytes[4..8].copy_from_slice(&(-errno).to_ne_bytes());
        self.bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
        &self.bytes[..self.length]
    }
}

/// FUSE_INIT and what is agreed on in it.
pub mod init {
    use super::{Fields, Reply};

    const MAJOR: u32 = 7;
    /// The version whose layouts these are.
    const MINOR: u32 = 40;
    /// NO_OPENDIR came with 7.29 (Linux 5.1).
    pub const OLDEST_MINOR: u32 = 29;

    const ASYNC_READ: u32 = 1 << 0;
    const EXPORT_SUPPORT: u32 = 1 << 4;
    /// Always, without READDIRPLUS_AUTO, which asks one LOOKUP in twelve all the same.
    const DO_READDIRPLUS: u32 = 1 << 13;
    const NO_OPEN_SUPPORT: u32 = 1 << 17;
    const PARALLEL_DIROPS: u32 = 1 << 18;
    const MAX_PAGES: u32 = 1 << 22;
    const CACHE_SYMLINKS: u32 = 1 << 23;
    const NO_OPENDIR_SUPPORT: u32 = 1 << 24;
    /// There is a second word of flags, and in it: files can be passed through.
    const INIT_EXT: u32 = 1 << 30;
    const PASSTHROUGH: u32 = 1 << 5;
    const NEEDED: u32 = NO_OPEN_SUPPORT | NO_OPENDIR_SUPPORT | DO_READDIRPLUS;
    const WANTED: u32 = NEEDED | ASYNC_READ | EXPORT_SUPPORT | PARALLEL_DIROPS | MAX_PAGES | CACHE_SYMLINKS;

    /// Reads that nobody waits for yet (read-ahead) and that the kernel may have in flight: over a slow link many.
    const BACKGROUND: u16 = 128;
    const PAGES: u16 = 256;

    pub enum Agreed {
        /// Also on passthrough, or not.
        Yes(bool),
        /// The kernel speaks a newer major version and will ask again.
        AskAgain,
        /// What the kernel cannot.
        No(String),
    }

    /// `passthrough`: files are to be passed through if the kernel can.
    pub fn answer(mut fields: Fields, passthrough: bool, reply: &mut Reply) -> Agreed {
        let (major, minor) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
        let (readahead, flags) = (fields.u32().unwrap_or(0), fields.u32().unwrap_or(0));
        let more = if flags & INIT_EXT == 0 { 0 } else { fields.u32().unwrap_or(0) };
        let passthrough = passthrough && more & PASSTHROUGH != 0;
        if major > MAJOR {
            reply.u32(MAJOR);
            reply.u32(MINOR);
            reply.zeros(56);
            return Agreed::AskAgain;
        }
        if major < MAJOR || minor < OLDEST_MINOR || flags & NEEDED != NEEDED {
            return Agreed::No(format!("the kernel speaks FUSE {major}.{minor}; at least 7.{OLDEST_MINOR} is needed"));
        }
        reply.u32(MAJOR);
        reply.u32(MINOR.min(minor));
        reply.u32(readahead.max(super::MAX_READ as u32));
        reply.u32(flags & WANTED | if passthrough { INIT_EXT } else { 0 });
        reply.u16(BACKGROUND);
        reply.u16(BACKGROUND / 4 * 3);
        reply.u32(4096); // max_write, the least there is: nothing is ever written
        reply.u32(1); // times are to the nanosecond
        reply.u16(PAGES);
        reply.u16(0); // of memory that is mapped, of which there is none
        reply.u32(if passthrough { PASSTHROUGH } else { 0 });
        // The cache lies on a file system that lies on no other, so an overlay can lie on us.
        reply.u32(u32::from(passthrough));
        reply.zeros(24);
        Agreed::Yes(passthrough)
    }
}
