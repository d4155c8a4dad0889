//! Questions that a library puts instead of the kernel: by path, each from a thread of its own that waits for the answer.
//!
//! Invariant: a question is a request like the kernel's and is answered by the same code, so it waits, fails and counts as
//! those do. Who asks is told within a tick that the answer is here, or has the question given up once it says so.
//! Not here: mounting, which is the library's.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::attr::ATTR;
use super::mount;
use super::server::Server;
use super::wire::{Fields, MAX_READ, Reply, Request, op};
use crate::cache::Cache;
use crate::error::Result;
use crate::filemap::FileMap;
use crate::scan::Time;
use crate::wanted::Wanted;

/// How often who waits is asked whether he still does.
const TICK: Duration = Duration::from_millis(50);
const ROOT: u64 = 1;
/// The longest extended attribute, and the longest list of their names, that Linux knows.
const MOST_XATTR: usize = 65536;
const SMALL: usize = 4096;

/// An answer, or the error number for it.
pub type Answer<T> = std::result::Result<T, i32>;

/// What `stat` tells of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub inode: u64,
    pub size: u64,
    /// Of 512 bytes.
    pub blocks: u64,
    pub mtime: Time,
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub device: u32,
}

/// A line of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub name: Vec<u8>,
    pub inode: u64,
    /// Only the type.
    pub mode: u32,
    /// The place of the next line.
    pub next: u64,
}

/// Questions that are not answered yet.
#[derive(Default)]
pub(super) struct Asked {
    last: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Slot>>>,
}

/// Where an answer comes to.
#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Answer<Vec<u8>>>>,
    came: Condvar,
}

impl Asked {
    fn ask(&self) -> (u64, Arc<Slot>) {
        let (unique, slot) = (self.last.fetch_add(1, Relaxed) + 1, Arc::new(Slot::default()));
        self.open().insert(unique, slot.clone());
        (unique, slot)
    }

    /// Nothing where the question was answered before, or given up.
    pub fn answer(&self, unique: u64, reply: &[u8], errno: i32) {
        let Some(slot) = self.open().remove(&unique) else { return };
        let answer = if errno == 0 { Ok(reply.to_vec()) } else { Err(errno) };
        *slot.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        slot.came.notify_one();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The questions of one who may give up: he does when the function, called again and again while he waits, says so.
pub struct Direct<'a> {
    pub server: &'a Server,
    pub gives_up: &'a mut dyn FnMut() -> bool,
}

impl Server {
    /// One that is asked by `Direct`, for a mount that a library is to make at `place`.
    ///
    /// # Errors
    /// `MountPoint` where one cannot mount.
    pub fn direct(map: Arc<FileMap>, cache: Arc<Cache>, wanted: Arc<Wanted>, place: &Path) -> Result<Server> {
        mount::check(place)?;
        Ok(Server::over(map, cache, wanted, None))
    }
}

impl Direct<'_> {
    pub fn attributes(&mut self, path: &[u8]) -> Answer<Attributes> {
        let Some(name) = path.rsplit(|&byte| byte == b'/').next().filter(|name| !name.is_empty()) else {
            let reply = self.ask(op::GETATTR, ROOT, &[], SMALL)?;
            return read_attributes(&reply);
        };
        let parent = self.find(&path[..path.len() - name.len()])?;
        let (_, reply) = self.look_up(parent, name)?;
        read_attributes(&reply)
    }

    /// The lines of a directory from a place on (the first is 0), as many as fit a page of memory; none at the end.
    pub fn lines(&mut self, path: &[u8], place: u64) -> Answer<Vec<Line>> {
        let inode = self.find(path)?;
        let reply = self.ask(op::READDIR, inode, &reading(place, SMALL as u32), SMALL)?;
        let (mut rest, mut lines) = (&reply[..], Vec::new());
        while !rest.is_empty() {
            let (line, used) = read_line(rest).ok_or(libc::EIO)?;
            lines.push(line);
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(lines)
    }

    pub fn target(&mut self, path: &[u8]) -> Answer<Vec<u8>> {
        let inode = self.find(path)?;
        self.ask(op::READLINK, inode, &[], SMALL)
    }

    /// Bytes of a regular file; fewer only at its end, and never more than a mebibyte.
    pub fn read(&mut self, path: &[u8], offset: u64, size: u32) -> Answer<Vec<u8>> {
        let inode = self.find(path)?;
        self.ask(op::READ, inode, &reading(offset, size), (size as usize).min(MAX_READ))
    }

    pub fn xattr(&mut self, path: &[u8], name: &[u8]) -> Answer<Vec<u8>> {
        let inode = self.find(path)?;
        let body = [&(MOST_XATTR as u32).to_ne_bytes()[..], &[0; 4], name, b"\0"].concat();
        self.ask(op::GETXATTR, inode, &body, MOST_XATTR)
    }

    pub fn xattr_names(&mut self, path: &[u8]) -> Answer<Vec<Vec<u8>>> {
        let inode = self.find(path)?;
        let body = [(MOST_XATTR as u32).to_ne_bytes(), [0; 4]].concat();
        let reply = self.ask(op::LISTXATTR, inode, &body, MOST_XATTR)?;
        let names = reply.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    /// Blocks of 4096 bytes, and entries, that the tree has.
    pub fn room(&mut self) -> Answer<(u64, u64)> {
        let reply = self.ask(op::STATFS, ROOT, &[], SMALL)?;
        let mut fields = Fields::of(&reply);
        let read = (|| Some((fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?)))();
        read.map(|(blocks, _, _, entries)| (blocks, entries)).ok_or(libc::EIO)
    }

    /// The inode at a path.
    fn find(&mut self, path: &[u8]) -> Answer<u64> {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(ROOT, |parent, name| Ok(self.look_up(parent, name)?.0))
    }

    fn look_up(&mut self, parent: u64, name: &[u8]) -> Answer<(u64, Vec<u8>)> {
        let reply = self.ask(op::LOOKUP, parent, &[name, b"\0"].concat(), SMALL)?;
        match Fields::of(&reply).u64() {
            // So the kernel is told that there is none.
            None | Some(0) => Err(libc::ENOENT),
            Some(inode) => Ok((inode, reply)),
        }
    }

    /// Put a question, and wait for its answer, of at most `room` bytes.
    fn ask(&mut self, opcode: u32, node: u64, body: &[u8], room: usize) -> Answer<Vec<u8>> {
        let (unique, slot) = self.server.asked.ask();
        let since = Instant::now();
        let request = Request { opcode, unique, node, pid: 0, body: body.into(), since, signalled: false };
        self.server.count();
        let mut reply = Reply::of(room);
        // As of a request of the kernel's: a bug costs this one an error.
        if catch_unwind(AssertUnwindSafe(|| self.server.dispatch(request, None, &mut reply))).is_err() {
            self.server.note("an internal error; please report it");
            self.server.asked.answer(unique, &[], libc::EIO);
        }
        let mut answer = slot.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = answer.take() {
                return answer;
            }
            let (again, waited) = slot.came.wait_timeout(answer, TICK).unwrap_or_else(PoisonError::into_inner);
            answer = again;
            if waited.timed_out() && answer.is_none() {
                drop(answer);
                // One that is parked no more is just being answered.
                if (self.gives_up)() && self.server.parked().take(unique).is_some() {
                    self.server.asked.answer(unique, &[], libc::EINTR);
                }
                answer = slot.answer.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// `struct fuse_read_in`, as far as it is looked at.
fn reading(offset: u64, size: u32) -> Vec<u8> {
    [&[0; 8][..], &offset.to_ne_bytes(), &size.to_ne_bytes()].concat()
}

/// `struct fuse_attr`, which every reply with one ends with.
fn read_attributes(reply: &[u8]) -> Answer<Attributes> {
    let read = || {
        let mut fields = Fields::of(reply.get(reply.len().checked_sub(ATTR)?..)?);
        let (inode, size, blocks) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (_atime, mtime, _ctime) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (_atime, nanoseconds, _ctime) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (mode, links, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let mtime = Time { sec: mtime as i64, nsec: nanoseconds };
        Some(Attributes { inode, size, blocks, mtime, mode, links, uid, gid, device: fields.u32()? })
    };
    read().ok_or(libc::EIO)
}

/// `struct fuse_dirent`, and how many bytes it takes.
fn read_line(bytes: &[u8]) -> Option<(Line, usize)> {
    let mut fields = Fields::of(bytes);
    let (inode, next, length, kind) = (fields.u64()?, fields.u64()?, fields.u32()? as usize, fields.u32()?);
    let name = fields.rest().get(..length)?.to_vec();
    let used = bytes.len() - fields.rest().len() + length;
    Some((Line { name, inode, mode: kind << 12, next }, used.next_multiple_of(8)))
}
