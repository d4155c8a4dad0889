//! The server: threads that read requests from one descriptor and answer what can be answered.
//!
//! They share the descriptor: requests of cloned descriptors are lost when the process dies and nobody holds the clones.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::answer::{self, Need, No};
use super::attr;
use super::behind::Followed;
use super::direct::Asked;
use super::native::Layers;
use super::neighbours::Neighbours;
use super::objects::Objects;
use super::parked::{Parked, Purpose, Waiting};
use super::passthrough::Passthrough;
use super::reads::Reads;
use super::trace::{Part, Trace};
use super::walk::Walk;
use super::wire::{REQUEST_BYTES, Reply, Request, init, op};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::filemap::{Entry, FileMap, FrameAt, Kind};
use crate::scan::suffix_of;
use crate::wanted::{Class, Wanted};

/// A frame that arrives so often without being of use, because it is damaged or the cache loses it, is given up.
pub(super) const TRIES: u8 = 2;
/// Suffixes of files that are told apart.
const MOST_SUFFIXES: usize = 16;

/// What a server has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests read from the kernel.
    pub requests: u64,
    /// Of those, how many had to wait for a frame.
    pub waited: u64,
    /// How many wait now.
    pub waiting: u64,
    /// How long any of them waited, all such times together.
    pub blocked: Duration,
    pub frames: u64,
    /// Compressed bytes delivered.
    pub bytes: u64,
    /// Regular files of which anything was read, and their sizes together.
    pub files_read: u64,
    pub bytes_read: u64,
    /// Regular files that the native tier has as files of the local disk.
    pub proved: u64,
    /// Requests answered with EIO.
    pub errors: u64,
    /// Frames that are queued or in flight.
    pub expected: u64,
    /// How many were given up.
    pub failed: u64,
    /// Why the last of them was, or what was last wrong with a frame.
    pub last_error: Option<String>,
}

pub struct Server {
    pub(super) map: Arc<FileMap>,
    pub(super) cache: Arc<Cache>,
    pub(super) wanted: Arc<Wanted>,
    /// None where a library mounts, and puts its questions by `Direct`.
    pub(super) device: Option<OwnedFd>,
    /// Of the connection, where `find_number` found it.
    pub(super) number: OnceLock<u32>,
    pub(super) asked: Asked,
    /// Of the native tier: contents are served, not the tree.
    pub(super) objects: OnceLock<Objects>,
    pub(super) proved: AtomicU64,
    /// Only where files may be passed through.
    pub(super) passthrough: OnceLock<Passthrough>,
    parked: Mutex<Parked>,
    neighbours: Mutex<Neighbours>,
    /// For what frames hold when they are decompressed.
    spare: Mutex<Vec<Vec<u8>>>,
    pub(super) walk: Walk,
    /// A page came, or will not.
    pub(super) page: Condvar,
    /// Somebody who waits got a signal, or nobody may wait any more.
    pub(super) signalled: Condvar,
    /// Whether any file has holes; known when all pages are here.
    sparse: OnceLock<bool>,
    pub(super) requests: AtomicU64,
    pub(super) waited: AtomicU64,
    errors: AtomicU64,
    reads: Mutex<Reads>,
    /// What their suffixes are, and of how many files, in order of first reading.
    suffixes: Mutex<Vec<(Vec<u8>, u32)>>,
    pub(super) followed: Followed,
    /// Only of a server that is to tell what was read.
    trace: OnceLock<Mutex<Trace>>,
    pub(super) frames: AtomicU64,
    pub(super) bytes: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// The frame that brings a request back, how often it did so in vain, and what was wrong with it now.
pub(super) struct Came<'a> {
    pub frame: &'a FrameAt,
    pub tries: u8,
    pub wrong: Option<&'a str>,
}

impl Server {
    /// `device` is an open /dev/fuse that belongs to a mount, as `mount` gives it.
    pub fn new(map: Arc<FileMap>, cache: Arc<Cache>, wanted: Arc<Wanted>, device: OwnedFd) -> Server {
        Server::over(map, cache, wanted, Some(device))
    }

    pub(super) fn over(map: Arc<FileMap>, cache: Arc<Cache>, wanted: Arc<Wanted>, device: Option<OwnedFd>) -> Server {
        Server {
            map,
            cache,
            wanted,
            device,
            number: OnceLock::new(),
            asked: Asked::default(),
            objects: OnceLock::new(),
            proved: AtomicU64::new(0),
            passthrough: OnceLock::new(),
            parked: Mutex::default(),
            neighbours: Mutex::default(),
            spare: Mutex::default(),
            walk: Walk::default(),
            page: Condvar::new(),
            signalled: Condvar::new(),
            sparse: OnceLock::new(),
            requests: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            reads: Mutex::default(),
            suffixes: Mutex::default(),
            followed: Followed::default(),
            trace: OnceLock::new(),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// Bring all pages; from now on contents are served by their digests, as the native tier asks for them. Then mount
    /// `layers`, unless the mount is there and is taken over. Somebody must fetch meanwhile, and serve if there are layers.
    ///
    /// # Errors
    /// `NoPage` when a page cannot be had, and as `Layers::mount`.
    pub fn establish(&self, layers: Option<Layers>) -> Result<()> {
        self.bring_pages()?;
        let _ = self.objects.set(Objects::of(&self.map)?);
        let Some(layers) = layers else { return Ok(()) };
        layers.mount(&self.map, &self.cache.temporary(), &self.cache.proved()?)
    }

    /// Answer requests with so many threads until the mount ends. Then the wanted queue is closed.
    ///
    /// # Errors
    /// `Io` when the device fails.
    pub fn serve(&self, threads: usize) -> Result<()> {
        std::thread::scope(|scope| {
            let builder = |what: String| std::thread::Builder::new().name(format!("fuse-{what}"));
            let cannot = || Error::io("start a thread of", "the mount");
            let spawn =
                |number: usize| builder(number.to_string()).spawn_scoped(scope, || self.run()).map_err(cannot());
            if self.passthrough.get().is_some() {
                scope.spawn(|| self.prove_asked());
            }
            let looking = builder("signals".into()).spawn_scoped(scope, || self.look_after_signalled());
            let running: Vec<_> = (1..threads).map(spawn).collect();
            let own = looking.map_err(cannot()).and_then(|_| self.run());
            let others = running.into_iter().map(|thread| thread?.join().unwrap_or(Err(Error::Stopped)));
            let result = others.fold(own, Result::and);
            self.stop("the mount has ended");
            result
        })
    }

    /// Answer whoever waits, and whoever would have to, with EIO from now on; what is in the cache is still served.
    pub fn stop(&self, why: &str) {
        let mut parked = self.parked();
        parked.closed = true;
        let waiting = parked.take_all();
        self.wanted.close();
        drop(parked);
        self.page.notify_all();
        self.signalled.notify_all();
        self.walk.close();
        if let Some(passthrough) = self.passthrough.get() {
            passthrough.stop();
        }
        self.refuse_all(waiting, why);
    }

    /// Hold the cache to `bound` bytes, see `Cache::tidy`.
    ///
    /// # Errors
    /// `Io`.
    pub fn tidy(&self, bound: Option<u64>) -> Result<u64> {
        self.cache.tidy(bound)
    }

    /// See `Cache::bound`.
    pub fn bound(&self) -> Option<u64> {
        self.cache.bound()
    }

    pub fn stats(&self) -> Stats {
        let (files_read, bytes_read) = {
            let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            (reads.files, reads.bytes)
        };
        let wanted = self.wanted.counts();
        let parked = self.parked();
        let (waiting, blocked) = (parked.len() as u64, parked.blocked());
        drop(parked);
        Stats {
            files_read,
            bytes_read,
            requests: self.requests.load(Relaxed),
            waited: self.waited.load(Relaxed),
            waiting,
            blocked,
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            proved: self.proved.load(Relaxed),
            errors: self.errors.load(Relaxed),
            expected: wanted.queued.iter().sum::<u64>() + wanted.in_flight,
            failed: wanted.failed,
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn run(&self) -> Result<()> {
        let Some(device) = &self.device else { return Ok(()) };
        let mut buffer = vec![0; REQUEST_BYTES];
        let mut reply = Reply::new();
        loop {
            let length = match rustix::io::read(device, &mut buffer[..]) {
                Ok(length) => length,
                // Unmounted, or the connection was aborted.
                Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(()),
                // NOENT: interrupted before we read it.
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => continue,
                Err(error) => return Err(Error::io("read from", Path::new("/dev/fuse"))(error.into())),
            };
            let request = Request::parse(&buffer[..length])?;
            self.count();
            let unique = request.unique;
            // A bug must cost one request an error, not every reader of the mount its life.
            if catch_unwind(AssertUnwindSafe(|| self.handle(request, &mut reply))).is_err() {
                self.note("an internal error; please report it");
                self.send(&mut reply, unique, libc::EIO);
            }
        }
    }

    pub(super) fn count(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    fn handle(&self, request: Request, reply: &mut Reply) {
        match request.opcode {
            op::FORGET | op::BATCH_FORGET => {}
            op::INIT => {
                reply.begin(4096);
                match init::answer(request.fields(), self.passthrough.get().is_some(), reply) {
                    init::Agreed::Yes(passthrough) => {
                        // Before anybody can open anything.
                        let written = !passthrough || self.passthrough.get().is_some_and(Passthrough::agree);
                        self.send(reply, request.unique, if written { 0 } else { libc::EIO });
                    }
                    init::Agreed::AskAgain => self.send(reply, request.unique, 0),
                    init::Agreed::No(why) => {
                        self.note(&why);
                        self.send(reply, request.unique, libc::EPROTO);
                    }
                }
            }
            op::INTERRUPT => self.interrupt(&request, reply),
            op::DESTROY => {
                reply.begin(0);
                self.send(reply, request.unique, 0);
            }
            op::RELEASE if self.opening().is_some() => {
                reply.begin(0);
                self.send(reply, request.unique, 0);
                if let Some((opening, device)) = self.opening() {
                    opening.release(request.node, &self.cache, device);
                }
            }
            // `grep` looks for holes in every file of some size. Told once that there are none, the kernel answers itself.
            op::LSEEK if self.has_no_holes() => self.send(reply, request.unique, libc::ENOSYS),
            _ => self.dispatch(request, None, reply),
        }
    }

    fn has_no_holes(&self) -> bool {
        let pages = 0..self.map.pages().len();
        if self.sparse.get().is_none() && pages.clone().all(|page| self.map.is_loaded(page)) {
            let mut entries = pages.flat_map(|page| self.map.rows(page).unwrap_or(&[]));
            let has_holes = |entry: &Entry| matches!(&entry.kind, Kind::Regular(content) if !content.holes.is_empty());
            let _ = self.sparse.set(entries.any(has_holes));
        }
        self.sparse.get() == Some(&false)
    }

    /// Answer a request or park it.
    pub(super) fn dispatch(&self, request: Request, came: Option<Came>, reply: &mut Reply) {
        if request.opcode == op::READ {
            self.note_read(&request, came.is_none());
        }
        let mut outcome = self.attempt(&request, reply);
        if let Err(No::Need(_)) = outcome {
            let parked = self.parked();
            // Once more, under the lock: what is delivered is in the cache before its frame is taken from the parked.
            outcome = self.attempt(&request, reply);
            if let Err(No::Need(need)) = &outcome {
                let need = need.clone();
                return self.park(parked, request, &need, came, reply);
            }
            drop(parked);
        }
        let errno = match outcome {
            Ok(()) => 0,
            Err(No::Errno(errno)) => errno,
            Err(No::Need(_)) => libc::EIO,
        };
        let found = (request.opcode == op::LOOKUP && errno == 0).then(|| attr::inode_told(reply));
        if let (Some(inode), Some(trace)) = (found, self.trace.get()) {
            // Before the answer, so that it is noted when who asked goes on.
            trace.lock().unwrap_or_else(PoisonError::into_inner).note_looked_up(&self.map, inode);
        }
        self.send(reply, request.unique, errno);
        if let Some(inode) = found {
            // After the answer, for which somebody waits.
            self.walk.note(&self.map, request.node, inode);
        }
    }

    pub(super) fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        self.neighbours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_read(&self, request: &Request, first: bool) {
        if let Ok((inode, content)) = answer::content(&self.map, request.node) {
            let is_first = {
                let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
                reads.note(inode, content.digest.size)
            };
            if is_first {
                self.note_suffix(inode);
            }
            if let Some(trace) = self.trace.get().filter(|_| first) {
                trace.lock().unwrap_or_else(PoisonError::into_inner).note(inode, content, request);
            }
        }
    }

    fn note_suffix(&self, inode: u64) {
        let Ok(Some(entry)) = self.map.entry(inode) else { return };
        let suffix = suffix_of(&entry.path);
        let mut suffixes = self.suffixes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, readings)) = suffixes.iter_mut().find(|(known, _)| known == suffix) {
            *readings = readings.saturating_add(1);
        } else if suffixes.len() < MOST_SUFFIXES {
            suffixes.push((suffix.to_vec(), 1));
        }
    }

    /// The suffixes of which more than one file was read: one says little, as a script's own says nothing of the modules that
    /// an interpreter loads.
    pub(super) fn suffixes_read(&self) -> Vec<Vec<u8>> {
        let suffixes = self.suffixes.lock().unwrap_or_else(PoisonError::into_inner);
        suffixes.iter().filter(|(_, readings)| *readings > 1).map(|(suffix, _)| suffix.clone()).collect()
    }

    pub(super) fn is_traced(&self) -> bool {
        self.trace.get().is_some()
    }

    /// From now on, note what is read, in which order and by whom, and what is looked up.
    pub fn start_trace(&self) {
        let _ = self.trace.set(Mutex::default());
    }

    /// What was read since `start_trace`, in order of first reading.
    pub fn traced(&self) -> Vec<Part> {
        let trace = self.trace.get().map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner));
        trace.map_or_else(Vec::new, |trace| trace.parts(&self.map))
    }

    /// The files with bytes that were looked up since `start_trace`, each by its first name, in no order.
    pub fn looked_up(&self) -> Vec<Vec<u8>> {
        let trace = self.trace.get().map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner));
        trace.map_or_else(Vec::new, |trace| trace.looked_up(&self.map))
    }

    /// The answer from what is here, pages in the cache included.
    fn attempt(&self, request: &Request, reply: &mut Reply) -> std::result::Result<(), No> {
        if let Some(answered) = self.objects.get().and_then(|objects| objects.answer(&self.map, request, reply)) {
            return answered;
        }
        loop {
            let answered = match self.opening().filter(|_| request.opcode == op::OPEN) {
                Some((opening, device)) => opening.open(&self.map, &self.cache, device, request, reply),
                None if request.opcode == op::READDIRPLUS && self.is_traced() => {
                    answer::list_names(&self.map, request, reply)
                }
                None => answer::answer(&self.map, &self.cache, request, reply),
            };
            match answered {
                // Each page is loaded once, so this ends.
                Err(No::Need(Need::Page(page))) if self.load_page(page) => {}
                other => return other,
            }
        }
    }

    /// Take a page from the cache. False when it is not there.
    pub(super) fn load_page(&self, page: usize) -> bool {
        if self.map.is_loaded(page) {
            return true;
        }
        let Some(at) = self.map.page(page) else { return false };
        let text = self.cache.get(&at.digest);
        text.is_some_and(|text| self.map.add_page(page, &text).is_ok())
    }

    fn park(
        &self,
        mut parked: MutexGuard<'_, Parked>,
        request: Request,
        need: &Need,
        came: Option<Came>,
        reply: &mut Reply,
    ) {
        let wants = self.wants(need);
        let frames = {
            let mut frames: Vec<FrameAt> = wants.iter().map(|(frame, _)| frame.clone()).collect();
            frames.dedup();
            frames
        };
        let came = came.filter(|came| frames.contains(came.frame));
        let tries = came.as_ref().map_or(0, |came| came.tries.saturating_add(1));
        let wrong = came.and_then(|came| came.wrong);
        if parked.closed || frames.is_empty() || tries >= TRIES {
            let closed = parked.closed;
            drop(parked);
            let why = if closed { "the mount is ending" } else { wrong.unwrap_or("a frame came but was of no use") };
            return self.refuse(reply, request.unique, why);
        }
        self.waited.fetch_add(1, Relaxed);
        if request.signalled {
            self.signalled.notify_all();
        }
        parked.park(request, tries, &frames);
        for (frame, purpose) in &wants {
            parked.intend(frame, *purpose);
            self.wanted.want(frame, Class::Demand);
        }
        self.read_ahead(&mut parked, need);
    }

    /// The frames that hold what is needed.
    fn wants(&self, need: &Need) -> Vec<(FrameAt, Purpose)> {
        match need {
            Need::Page(page) => {
                self.map.page(*page).map(|at| (at.frame.clone(), Purpose::Page(*page))).into_iter().collect()
            }
            Need::Chunks(inode, indexes) => {
                let Ok((_, content)) = answer::content(&self.map, *inode) else { return Vec::new() };
                let at =
                    |&index: &usize| Some((content.chunks.get(index)?.frame.clone(), Purpose::Chunk(*inode, index)));
                indexes.iter().filter_map(at).collect()
            }
        }
    }

    /// Dispatch again what a frame brought back.
    pub(super) fn resume(&self, waiting: Vec<Waiting>, frame: &FrameAt, wrong: Option<&str>) {
        if waiting.is_empty() {
            return;
        }
        let mut reply = Reply::new();
        for Waiting { request, tries, .. } in waiting {
            self.dispatch(request, Some(Came { frame, tries, wrong }), &mut reply);
        }
    }

    pub(super) fn refuse_all(&self, waiting: Vec<Waiting>, why: &str) {
        let mut reply = Reply::new();
        for waiting in waiting {
            self.refuse(&mut reply, waiting.request.unique, why);
        }
    }

    fn refuse(&self, reply: &mut Reply, unique: u64, why: &str) {
        self.errors.fetch_add(1, Relaxed);
        self.note(why);
        self.send(reply, unique, libc::EIO);
    }

    pub(super) fn note(&self, why: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    pub(super) fn send(&self, reply: &mut Reply, unique: u64, errno: i32) {
        let Some(device) = &self.device else { return self.asked.answer(unique, reply.bytes(), errno) };
        match rustix::io::write(device, reply.finish(unique, errno)) {
            // Not what the kernel expected: it still waits, so let it know.
            Err(Errno::INVAL) if errno == 0 => {
                let _ = rustix::io::write(device, reply.finish(unique, libc::EIO));
            }
            // NOENT: interrupted or aborted meanwhile. NODEV: unmounted. Nobody waits for the answer.
            Ok(_) | Err(_) => {}
        }
    }

    pub(super) fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
