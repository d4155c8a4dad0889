//! The inotify instance: watches are added, notices are read into the book.
//!
//! Invariant: the book is only changed while it is held, and so are watches, so no notice of a new watch is read before
//! the book knows of it. `settle` has read the notices of all that was done before it was called.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::book::{Book, Notice, Taken};
use super::places::{self, Mounts};
use super::processes;
use crate::error::{Error, Result};
use crate::scan::{Dir, Root};

const WHAT: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::OPEN)
    .union(WatchFlags::CLOSE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    // Also of names that are gone (no `EXCL_UNLINK`): whoever opened a file by one may still write to it.
    .union(WatchFlags::ONLYDIR);

/// Notices that come one by one are read in lots: the kernel keeps 16,384 for us.
const NAP: Duration = Duration::from_millis(2);

/// A buffer that is never too small for one notice, and holds about 1,500 of usual length.
const BUFFER: usize = 64 * 1024;

pub(super) struct Notices {
    inotify: OwnedFd,
    book: Mutex<Held>,
    cookies: Cookies,
    /// The root's path without symbolic links.
    real: PathBuf,
    /// Readable when the pump is to end.
    stop: OwnedFd,
    /// Readable when the root is not where it was.
    over: OwnedFd,
}

pub(super) struct Held {
    pub book: Book,
    mounts: Mounts,
    buffer: Box<[MaybeUninit<u8>]>,
    /// How many cookies were made, and the name of the one that is waited for.
    made: u64,
    awaited: Option<String>,
}

/// The private directory, and its watch.
struct Cookies {
    place: PathBuf,
    watch: i32,
}

impl Notices {
    /// `private` is a directory in which nobody else does anything.
    ///
    /// # Errors
    /// `WatchLimit`, `Io`.
    pub fn new(root: &Root, private: &Path) -> Result<Notices> {
        let fault = |error: Errno| match error {
            Errno::MFILE => limit(root.path(), "max_user_instances"),
            error => Error::io("watch", root.path())(error.into()),
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(fault)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fault);
        let watch = match inotify::add_watch(&inotify, private, WHAT) {
            Err(Errno::NOSPC) => return Err(limit(root.path(), "max_user_watches")),
            watch => watch.map_err(|e| Error::io("watch", private)(e.into()))?,
        };
        let real = std::fs::canonicalize(root.path()).map_err(Error::io("resolve", root.path()))?;
        Ok(Notices {
            inotify,
            book: Mutex::new(Held {
                book: Book::default(),
                mounts: Mounts::of(&real)?,
                buffer: vec![MaybeUninit::uninit(); BUFFER].into_boxed_slice(),
                made: 0,
                awaited: None,
            }),
            cookies: Cookies { place: private.to_path_buf(), watch },
            real,
            stop: event()?,
            over: event()?,
        })
    }

    /// Watch the directory `path`, which is open as `dir`.
    ///
    /// # Errors
    /// `WatchLimit`, `Unwatchable`, `Io`.
    pub fn watch(&self, root: &Root, path: &[u8], dir: &Dir) -> Result<()> {
        places::check(dir, root, path)?;
        let mut held = self.hold();
        match inotify::add_watch(&self.inotify, format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()), WHAT) {
            Ok(watch) => held.book.watch(watch, path),
            // Watching takes the permission to read.
            Err(Errno::ACCESS) => held.book.cannot_watch(path),
            Err(Errno::NOSPC) => return Err(limit(root.path(), "max_user_watches")),
            Err(error) => return Err(Error::io("watch", root.show(path))(error.into())),
        }
        Ok(())
    }

    /// Read the notices of all that was done before this call, and take what they say.
    ///
    /// # Errors
    /// `Io`: no cookie can be made.
    pub fn settle(&self) -> Result<Taken> {
        let mut held = self.hold();
        held.made += 1;
        let name = format!("{:x}", held.made);
        let cookie = self.cookies.place.join(&name);
        held.awaited = Some(name);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(CWD, &cookie, flags, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("create", &cookie)(e.into()))?;
        unlinkat(CWD, &cookie, AtFlags::empty()).map_err(|e| Error::io("remove", &cookie)(e.into()))?;
        self.read(&mut held)?;
        // Notices of local changes are there when the change's system call returns. If this one is not, so are others.
        if held.awaited.take().is_some() || held.mounts.changed()? {
            held.book.lose();
        }
        Ok(held.book.take())
    }

    /// A look at everything is about to come by each directory.
    pub fn begin_look(&self) {
        self.hold().book.begin_look();
    }

    /// It has: what it did not come by needs no watch. Of what is opened from now on there are notices; of what was
    /// before, or while they were lost, there were none.
    pub fn end_look(&self) {
        let open = processes::open_below(&self.real);
        let mut held = self.hold();
        held.book.found_open(open);
        let gone = held.book.end_look();
        self.remove(&gone);
    }

    pub fn hold(&self) -> MutexGuard<'_, Held> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read notices as they come, until `stop`.
    pub fn pump(&self) {
        loop {
            let mut wait = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
            match poll(&mut wait, None) {
                Err(Errno::INTR) => continue,
                Err(_) => return self.hold().book.lose(),
                Ok(_) => {}
            }
            if !wait[1].revents().is_empty() {
                return;
            }
            let mut held = self.hold();
            if self.read(&mut held).is_err() {
                held.book.lose();
            }
            if held.book.is_over() {
                ring(&self.over);
                return;
            }
            drop(held);
            thread::sleep(NAP);
        }
    }

    pub fn stop(&self) {
        ring(&self.stop);
    }

    /// Readable when the root is not where it was.
    pub fn over(&self) -> &OwnedFd {
        &self.over
    }

    fn read(&self, held: &mut Held) -> Result<()> {
        let Held { book, buffer, awaited, .. } = held;
        let mut reader = inotify::Reader::new(&self.inotify, buffer);
        loop {
            let event = match reader.next() {
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                event => event.map_err(|e| Error::io("read", "inotify")(e.into()))?,
            };
            let name = event.file_name().map_or(&b""[..], CStr::to_bytes);
            if event.wd() == self.cookies.watch
                && event.events().contains(ReadFlags::CREATE)
                && awaited.as_deref().is_some_and(|awaited| awaited.as_bytes() == name)
            {
                *awaited = None;
            }
            book.note(&Notice { watch: event.wd(), what: event.events(), pair: event.cookie(), name });
        }
        let gone = book.give_up();
        self.remove(&gone);
        Ok(())
    }

    fn remove(&self, watches: &[i32]) {
        for &watch in watches {
            // It may be gone by itself.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }
}

fn limit(root: &Path, name: &'static str) -> Error {
    Error::WatchLimit { path: root.to_path_buf(), name, limit: places::limit(name) }
}

fn ring(bell: &OwnedFd) {
    // Full only when rung 2^64 times.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}
