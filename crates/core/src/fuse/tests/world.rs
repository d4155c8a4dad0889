//! A tree in packs, a network that brings them, and a mount of it that cannot outlive its test.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::mount::UnmountFlags;

use crate::archive::frame::{self, Frame, FrameWriter};
use crate::archive::{Holds, Lying, Pack, PackWriter, deflate};
use crate::cache::Cache;
use crate::chunk::{Cutter, MAX_CHUNK};
use crate::digest::Digest;
use crate::filemap::{
    ChunkAt, Content, Entry, FileMap, FrameAt, Kind, MapWriter, PageRef, PageText, Summary, fence, parent_and_name,
};
use crate::fuse::{Layers, Server, mount};
use crate::scan::Time;
use crate::wanted::{Class, Want, Wanted};

/// Longer than any test takes, shorter than anybody's patience.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Entries by path, with the contents of files beside them.
#[derive(Clone, Default)]
pub struct Tree {
    pub entries: Vec<Entry>,
    blobs: HashMap<Vec<u8>, Vec<u8>>,
}

impl Tree {
    pub fn new() -> Tree {
        let mut tree = Tree::default();
        tree.directory("");
        tree
    }

    pub fn add(&mut self, path: impl AsRef<[u8]>, mode: u32, kind: Kind) -> &mut Entry {
        let mtime = Time { sec: 1_700_000_000, nsec: 123_456_789 };
        let path = path.as_ref().to_vec();
        self.entries.push(Entry { path, kind, mode, uid: 0, gid: 0, mtime, links: 1, xattrs: vec![] });
        self.entries.last_mut().unwrap()
    }

    pub fn directory(&mut self, path: impl AsRef<[u8]>) -> &mut Entry {
        let digest = Digest { size: 77, ..Digest::of(path.as_ref()) };
        self.add(path, 0o755, Kind::Directory { digest: Some(digest) })
    }

    pub fn file(&mut self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> &mut Entry {
        let content = Content { digest: Digest::of(bytes.as_ref()), chunks: vec![], holes: vec![] };
        self.blobs.insert(path.as_ref().to_vec(), bytes.as_ref().to_vec());
        self.add(path, 0o644, Kind::Regular(content))
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Entry {
        self.add(path, 0o777, Kind::Symlink { target: target.into() })
    }

    pub fn hard_link(&mut self, path: &str, first: &str) -> &mut Entry {
        self.add(path, 0o644, Kind::HardLink { first: first.into() })
    }

    /// The tree as a store would hold it: one pack of chunks, one of pages.
    pub fn store(mut self) -> Store {
        self.entries.sort_by(|a, b| parent_and_name(&a.path).cmp(&parent_and_name(&b.path)));
        let mut store = Store { fence: vec![], packs: HashMap::new() };
        let mut frames = FrameWriter::new(1);
        let mut packs = Packs::default();
        let mut lists: HashMap<Digest, Vec<Digest>> = HashMap::new();
        let mut files = Vec::new();
        for entry in &self.entries {
            if let Kind::Regular(content) = &entry.kind {
                files.push((content.digest, &self.blobs[&entry.path]));
            }
        }
        for (digest, bytes) in files {
            if bytes.is_empty() || lists.contains_key(&digest) {
                continue;
            }
            let list = lists.entry(digest).or_default();
            if bytes.len() < MAX_CHUNK {
                if !frames.takes(bytes.len()) {
                    packs.add(frames.seal());
                }
                frames.add(digest, bytes);
                list.push(digest);
                continue;
            }
            if !frames.is_empty() {
                packs.add(frames.seal());
            }
            let mut cutter = Cutter::default();
            let mut chunk = |bytes: &[u8]| {
                let digest = Digest::of(bytes);
                list.push(digest);
                frames.add(digest, bytes);
                packs.add(frames.seal());
                Ok(())
            };
            cutter.piece(bytes, &mut chunk).unwrap();
            cutter.finish(&mut chunk).unwrap();
        }
        if !frames.is_empty() {
            packs.add(frames.seal());
        }
        let lying = store.keep(packs);
        for entry in &mut self.entries {
            if let Kind::Regular(content) = &mut entry.kind {
                let list = lists.get(&content.digest).cloned().unwrap_or_default();
                content.chunks = list.iter().map(|digest| lying[digest].clone()).collect();
            }
        }
        store.map(&self.entries);
        store
    }
}

#[derive(Default)]
struct Packs {
    open: PackWriter,
    sealed: Vec<Pack>,
}

impl Packs {
    fn add(&mut self, frame: Frame) {
        self.open.add(frame, Holds::Content);
        if self.open.is_full() {
            self.sealed.push(std::mem::take(&mut self.open).seal("0123456789abcdef"));
        }
    }
}

/// What a mount can fetch.
#[derive(Clone)]
pub struct Store {
    fence: Vec<u8>,
    packs: HashMap<[u8; 32], Vec<u8>>,
}

impl Store {
    fn keep(&mut self, mut packs: Packs) -> HashMap<Digest, ChunkAt> {
        packs.sealed.push(packs.open.seal("0123456789abcdef"));
        let mut all = HashMap::new();
        for pack in packs.sealed {
            let name = Arc::new(pack.name);
            all.extend(pack.chunks.iter().map(|lying| {
                let Lying { digest, offset, length, plain, inner } = *lying;
                (
                    digest,
                    ChunkAt {
                        digest,
                        frame: FrameAt { pack: name.clone(), offset: offset.into(), length, plain },
                        inner,
                    },
                )
            }));
            self.packs.insert(pack.name, pack.bytes);
        }
        all
    }

    fn map(&mut self, entries: &[Entry]) {
        let (mut writer, mut pages): (_, Vec<PageText>) = (MapWriter::new(0), Vec::new());
        pages.extend(entries.iter().filter_map(|entry| writer.push(entry)));
        let bytes = entries.iter().filter(|entry| !entry.is_directory()).map(Entry::size).sum();
        pages.extend(writer.finish());
        let (mut frames, mut packs) = (FrameWriter::new(1), Packs::default());
        for page in &pages {
            frames.add(page.digest, &page.text);
            packs.add(frames.seal());
        }
        let lying = self.keep(packs);
        let at = |page: PageText| {
            let ChunkAt { frame, inner, digest } = lying[&page.digest].clone();
            PageRef { first: page.first, digest, entries: page.entries, frame, inner }
        };
        let refs: Vec<PageRef> = pages.into_iter().map(at).collect();
        self.fence = fence(
            &Summary { push: None, tree: Digest::of(b"tree"), entries: entries.len() as u64, bytes, tar: None },
            &refs,
        );
    }

    pub fn file_map(&self) -> FileMap {
        FileMap::from_fence(&self.fence).unwrap()
    }

    pub fn frame(&self, at: &FrameAt) -> &[u8] {
        &self.packs[&*at.pack][at.offset as usize..at.offset as usize + at.length as usize]
    }
}

/// What the network does with a frame.
pub enum Act {
    Bring,
    Damage,
    /// Bring a frame whose last chunk has another byte at its end.
    SpoilLast,
    Fail,
    /// Give it up for who has waited for very long.
    Late,
    /// Bring it once the gate is open.
    Hold,
}

#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }
}

/// A mounted store with its server and network. It is gone when this is dropped, whatever hangs in it.
pub struct Mounted {
    pub place: PathBuf,
    pub server: Arc<Server>,
    pub wanted: Arc<Wanted>,
    pub cache: PathBuf,
    pub gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
    _dir: tempfile::TempDir,
}

impl Mounted {
    pub fn new(store: Store) -> Mounted {
        Mounted::acting(store, |_| Act::Bring)
    }

    pub fn acting(store: Store, act: impl Fn(&Want) -> Act + Send + Sync + 'static) -> Mounted {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        Mounted::with_cache(dir, cache, store, act)
    }

    pub fn with_cache(
        dir: tempfile::TempDir,
        cache: PathBuf,
        store: Store,
        act: impl Fn(&Want) -> Act + Send + Sync + 'static,
    ) -> Mounted {
        let place = dir.path().join("mount point");
        std::fs::create_dir(&place).unwrap();
        let device = mount(&place).unwrap();
        Mounted::serving(dir, cache, store, act, Some(device), |_| ())
    }

    /// The mount at `mount point` in `dir` whose server died, with another one.
    pub fn taken_over(
        dir: tempfile::TempDir,
        device: OwnedFd,
        store: Store,
        act: impl Fn(&Want) -> Act + Send + Sync + 'static,
    ) -> Mounted {
        let (cache, place) = (dir.path().join("cache"), dir.path().join("mount point"));
        Mounted::serving(dir, cache, store, act, Some(device), |server| server.take_over(&place).unwrap())
    }

    /// By the native tier, with nothing in the cache.
    pub fn native(store: Store) -> Mounted {
        let dir = tempfile::tempdir().unwrap();
        let (cache, place) = (dir.path().join("cache"), dir.path().join("mount point"));
        std::fs::create_dir(&place).unwrap();
        let (layers, device) = Layers::new(&place, None).unwrap();
        let mounted = Mounted::serving(dir, cache, store, |_| Act::Bring, Some(device), |_| ());
        mounted.server.establish(Some(layers)).unwrap();
        mounted
    }

    /// Not mounted, but asked by `Direct`.
    pub fn direct(store: Store, act: impl Fn(&Want) -> Act + Send + Sync + 'static) -> Mounted {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        std::fs::create_dir(dir.path().join("mount point")).unwrap();
        Mounted::serving(dir, cache, store, act, None, |_| ())
    }

    fn serving(
        dir: tempfile::TempDir,
        cache: PathBuf,
        store: Store,
        act: impl Fn(&Want) -> Act + Send + Sync + 'static,
        device: Option<OwnedFd>,
        first: impl FnOnce(&Server),
    ) -> Mounted {
        let place = dir.path().join("mount point");
        let wanted = Arc::new(Wanted::default());
        let opened = Arc::new(Cache::open(&cache).unwrap());
        let (map, mounted) = (Arc::new(store.file_map()), device.is_some());
        let server = Arc::new(match device {
            Some(device) => Server::new(map, opened, wanted.clone(), device),
            None => Server::direct(map, opened, wanted.clone(), &place).unwrap(),
        });
        first(&server);
        let gate = Arc::new(Gate::default());
        let (act, store) = (Arc::new(act), Arc::new(store));
        let mut threads = Vec::new();
        if mounted {
            let server = server.clone();
            threads.push(std::thread::spawn(move || server.serve(2).unwrap()));
        }
        for lowest in [Class::Demand, Class::Background] {
            let (server, wanted, gate) = (server.clone(), wanted.clone(), gate.clone());
            let (act, store) = (act.clone(), store.clone());
            threads.push(std::thread::spawn(move || network(&server, &wanted, lowest, &store, &gate, &*act)));
        }
        let (alive, watch) = channel();
        let watched = place.clone();
        let watchdog = std::thread::spawn(move || {
            if watch.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                abort(&watched);
            }
        });
        Mounted { place, server, wanted, cache, gate, threads, watchdog: Some((alive, watchdog)), _dir: dir }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.place.join(path)
    }

    pub fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.path(path))
    }

    /// Until so many requests wait for frames.
    pub fn until_waiting(&self, requests: u64) {
        while self.server.stats().waiting < requests {
            assert!(!self.wanted.is_closed(), "the watchdog ended the mount");
            std::thread::yield_now();
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.gate.open();
        self.server.stop("the test is over");
        abort(&self.place);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some((alive, watchdog)) = self.watchdog.take() {
            drop(alive);
            let _ = watchdog.join();
        }
    }
}

/// End a mount and everything that hangs in it.
fn abort(place: &Path) {
    let _ = rustix::mount::unmount(place, UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

fn network(server: &Server, wanted: &Wanted, lowest: Class, store: &Store, gate: &Gate, act: &dyn Fn(&Want) -> Act) {
    while !wanted.is_closed() {
        for want in wanted.take(8, 1 << 20, lowest, Duration::from_secs(1)) {
            match act(&want) {
                Act::Bring => server.deliver(&want.frame, store.frame(&want.frame)).unwrap(),
                Act::Fail => server.fail(&want.frame, "the store is away", Duration::ZERO),
                Act::Late => server.fail(&want.frame, "nobody has waited for so long", PATIENCE),
                Act::Damage => {
                    let mut bytes = store.frame(&want.frame).to_vec();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    server.deliver(&want.frame, &bytes).unwrap_err();
                }
                Act::SpoilLast => {
                    let mut plain = frame::open(store.frame(&want.frame), want.frame.plain).unwrap();
                    let (_, last) = frame::chunks(&plain).last().unwrap();
                    plain[last.end - 1] ^= 1;
                    // An error only if that chunk was asked for.
                    let _ = server.deliver(&want.frame, &deflate(&plain, 1));
                }
                Act::Hold => {
                    gate.pass();
                    server.deliver(&want.frame, store.frame(&want.frame)).unwrap();
                }
            }
        }
    }
}
