//! The walker: a process that lists directories through the mount, so that the kernel knows their names before a reader asks.
//!
//! The kernel takes names from us only as answers, and the answer to who lists a directory has all of them, at a tenth of what
//! it costs to look each up. A process of its own lists, for whoever waits for an answer cannot be killed: a server that asks
//! itself would never die. Invariant: the walker has the mount only while it lists, and by a copy that makes it busy for nobody;
//! it is given directories whose pages are here, so it never waits for a fetch. Which ones: `walk`.

use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    sendmsg, socketpair,
};

use super::far::connection;
use super::server::Server;
use super::walk::Batch;
use crate::error::{Error, Result};

/// A walker with nothing to do ends after so long.
const IDLE: Duration = Duration::from_secs(10);
/// One that has not listed a batch after so long hangs: somebody has stopped it.
const PATIENCE: Duration = Duration::from_secs(60);
/// ...and after so long when the mount is gone, which is kept by what it has of it.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// When so many lists in a row could not be brought there is no walker any more.
const TRIES: u32 = 3;
/// Names are not brought while the machine has less than this part of its memory available.
const SPARE: u64 = 8;

struct Walker {
    process: Child,
    socket: OwnedFd,
}

impl Server {
    /// List ahead of readers until the mount at `place` ends, by a process that is started by `command` when there is
    /// something to list. Its stdin is a socket that brings the root's descriptor with directories as `Batch` has them, a
    /// blank between length and path, a NUL between each two, and wants a byte back when they are listed.
    pub fn walk(&self, command: &[OsString], place: &Path) {
        let number = self.device.as_ref().and_then(connection).or_else(|| self.number.get().copied());
        let Some(number) = number else { return };
        let (mut walker, mut failed) = (None::<Walker>, 0);
        self.walk.begin();
        while failed < TRIES {
            let Some(batch) = self.walk.next(&self.map, walker.is_some().then_some(IDLE)) else {
                walker = None;
                continue;
            };
            if batch.is_empty() {
                return;
            }
            let Some(root) = self.may_walk().then(|| root(place, number)).flatten() else {
                self.walk.drop_rest();
                continue;
            };
            // One that was killed is followed by another at once.
            let is_there = || self::root(place, number).is_some();
            let listed = (0..2).any(|_| {
                walker = walker
                    .take()
                    .or_else(|| Walker::new(command).ok())
                    .filter(|one| one.list(&root, &batch, is_there).is_ok());
                walker.is_some()
            });
            if listed {
                failed = 0;
            } else {
                failed += 1;
                self.walk.drop_rest();
            }
        }
        self.walk.close();
    }

    /// Whether nothing of it could wait for a fetch, and the kernel has room for names.
    fn may_walk(&self) -> bool {
        (0..self.map.pages().len()).all(|page| self.map.is_loaded(page)) && has_room()
    }
}

impl Walker {
    fn new(command: &[OsString]) -> Result<Walker> {
        let io = |error: std::io::Error| Error::io("start", "the walker")(error);
        let [program, arguments @ ..] = command else { return Err(Error::Stopped) };
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| io(error.into()))?;
        let process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(io)?;
        Ok(Walker { process, socket })
    }

    fn list(&self, root: &OwnedFd, batch: &Batch, is_there: impl Fn() -> bool) -> Result<()> {
        let io = |error: Errno| Error::io("ask", "the walker")(error.into());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let roots = [root.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&roots));
        let lines: Vec<_> =
            batch.iter().map(|(length, path)| [length.to_string().as_bytes(), b" ", path].concat()).collect();
        sendmsg(&self.socket, &[IoSlice::new(&lines.join(&0))], &mut control, SendFlags::NOSIGNAL).map_err(io)?;
        let told = Instant::now();
        while poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&LOOK)).map_err(io)? == 0 {
            if told.elapsed() >= PATIENCE || !is_there() {
                return Err(Error::Stopped);
            }
        }
        match recv(&self.socket, &mut [0; 1][..], RecvFlags::empty()).map_err(io)? {
            (_, 0) => Err(Error::Stopped),
            _ => Ok(()),
        }
    }
}

impl Drop for Walker {
    /// It may be in the middle of a request, which others answer.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The root of the mount, if it is what is seen at its place: of a mount of its own, which makes no other busy.
pub(super) fn root(place: &Path, number: u32) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_NO_AUTOMOUNT;
    let root = rustix::mount::open_tree(CWD, place, flags).ok()?;
    // From what the kernel has: neither we ourselves nor whatever is mounted there is asked.
    let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let told = rustix::fs::statx(&root, "", how, StatxFlags::INO).ok()?;
    (told.stx_dev_major == 0 && told.stx_dev_minor == number && told.stx_ino == 1).then_some(root)
}

fn has_room() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return true };
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    match (kilobytes("MemTotal:"), kilobytes("MemAvailable:")) {
        (Some(total), Some(available)) => available > total / SPARE,
        _ => true,
    }
}
