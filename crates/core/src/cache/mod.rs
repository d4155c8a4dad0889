//! The cache: the verified local copy of blobs, shared by all mounts of a user.
//!
//! Invariant: bytes come out only after their digest was proved by this process, and a name in `objects/` appears only by
//! renaming a file that was proved. Damaged files are removed and count as missing. Want of disk is never an error for the
//! reader: what cannot be written is kept in memory, within bounds, until it is read.
//! Not here: fetching (`wanted`), decompressing (`archive`). Bytes: docs/format.md, "Cache".

mod bound;
mod lru;
mod object;
mod partial;
mod pieces;
mod pins;
mod prints;
mod proved;
mod used;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::Content;
use lru::Lru;
use object::{Got, Look, Object, Stamp};
use partial::Partial;
use prints::Prints;
use used::Used;

/// Open files: together well below the usual limit of 1,024 a process.
const OPEN_OBJECTS: u64 = 384;
const OPEN_PARTIALS: u64 = 128;
/// Bytes of chunks of partials that are kept in memory.
const RECENT: u64 = 8 << 20;
/// What is kept in memory when the disk takes nothing more.
const MEMORY: u64 = 64 << 20;
/// An object that is touched again and again is fetched instead of proved for ever.
const LOOKS: usize = 8;
/// A temporary file this old belongs to nobody.
const STALE: Duration = Duration::from_secs(3600);

/// What `read_at` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were read; fewer than asked for only at the end of the blob.
    Hit(usize),
    /// Indexes of the chunks that have to be brought first, in order.
    Miss(Vec<usize>),
}

pub struct Cache {
    root: PathBuf,
    objects: Mutex<Lru<Arc<Object>>>,
    partials: Mutex<Lru<Arc<Partial>>>,
    proved: Mutex<Prints>,
    /// What is read behind our back, and by how many.
    held: Mutex<HashMap<[u8; 32], u32>>,
    /// Chunks of partials that came or were proved last: who reads on needs no second proof.
    recent: Mutex<Lru<Arc<[u8]>>>,
    memory: Mutex<Lru<Arc<[u8]>>>,
    written: AtomicU64,
    used: Mutex<Used>,
    /// Bytes that were written since the cache was measured, and how many call for it; 0 before the first time.
    grown: AtomicU64,
    step: AtomicU64,
    /// The disk took something no more.
    full: AtomicBool,
    unwritten: AtomicU64,
}

impl Cache {
    /// Open the cache in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// `Io` when it is missing and cannot be made.
    pub fn open(root: &Path) -> Result<Cache> {
        make(root)?;
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let own = format!("{}-{clock:x}", std::process::id());
        let cache = Cache {
            root: root.to_path_buf(),
            objects: Mutex::new(Lru::new(OPEN_OBJECTS)),
            partials: Mutex::new(Lru::new(OPEN_PARTIALS)),
            proved: Mutex::default(),
            held: Mutex::default(),
            recent: Mutex::new(Lru::new(RECENT)),
            memory: Mutex::new(Lru::new(MEMORY)),
            written: AtomicU64::new(0),
            used: Mutex::new(Used::new(root.join("used"), own)),
            grown: AtomicU64::new(0),
            step: AtomicU64::new(0),
            full: AtomicBool::new(false),
            unwritten: AtomicU64::new(0),
        };
        cache.sweep();
        Ok(cache)
    }

    /// Read from a blob at `offset` into `buffer`.
    pub fn read_at(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> Read {
        let size = content.digest.size;
        let length = (buffer.len() as u64).min(size.saturating_sub(offset)) as usize;
        let buffer = &mut buffer[..length];
        if length == 0 || (length as u64 == size && self.read_whole(&content.digest, buffer)) {
            return Read::Hit(length);
        }
        for _ in 0..LOOKS {
            let Some(object) = self.object(content) else { break };
            match object.read(content, offset, buffer) {
                Got::Right => return Read::Hit(length),
                Got::Damaged => self.discard(&content.digest),
                // To be opened, and proved, again.
                Got::Touched => drop(lock(&self.objects).remove(&content.digest.sha256)),
            }
        }
        let missing = self.read_pieces(content, offset, buffer);
        if missing.is_empty() { Read::Hit(length) } else { Read::Miss(missing) }
    }

    /// Give back the memory of chunks that came last: what they are of is complete.
    pub fn forget_recent(&self) {
        *lock(&self.recent) = Lru::new(RECENT);
    }

    /// The bytes of an object that is one chunk, such as a page.
    pub fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(digest.size).ok()?];
        (self.read_whole(digest, &mut bytes) || read_kept(&self.memory, &digest.sha256, 0, &mut bytes)).then_some(bytes)
    }

    /// Indexes of the chunks of a blob that are not here, as far as can be told without reading them.
    pub fn missing(&self, content: &Content) -> Vec<usize> {
        self.missing_in(content, 0..content.chunks.len())
    }

    /// `missing`, of some of the chunks.
    pub fn missing_in(&self, content: &Content, mut range: Range<usize>) -> Vec<usize> {
        let digest = &content.digest;
        if digest.size == 0 || lock(&self.objects).get(&digest.sha256).is_some() || self.path(digest).exists() {
            return Vec::new();
        }
        let partial = if is_one_chunk(content) { None } else { self.partial(content, false) };
        let memory = lock(&self.memory);
        let here = |index: usize| {
            let is_in_file = partial.as_ref().is_some_and(|partial| partial.has(index));
            is_in_file || content.chunks.get(index).is_none_or(|chunk| memory.has(&chunk.digest.sha256))
        };
        range.end = range.end.min(content.chunks.len());
        range.filter(|&index| !here(index)).collect()
    }

    /// Keep a blob that is one chunk, or a page.
    ///
    /// # Errors
    /// `Mismatch` when these are not its bytes.
    pub fn insert_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        prove(digest, bytes)?;
        self.grown.fetch_add(bytes.len() as u64, Relaxed);
        if !bytes.is_empty() && !self.path(digest).exists() && self.publish_bytes(digest, bytes).is_err() {
            self.remember(digest, bytes);
        }
        Ok(())
    }

    /// Keep a blob that is a file on the cache's disk: the file becomes the cache's.
    ///
    /// # Errors
    /// `Mismatch` when these are not its bytes; `Io`.
    pub fn insert_file(&self, digest: &Digest, path: &Path) -> Result<()> {
        let failed = |doing| Error::io(doing, path);
        let file = fs::File::open(path).map_err(failed("read"))?;
        let look = Look::of(&file.metadata().map_err(failed("read"))?);
        let got = object::hash(&file).map_err(failed("read"))?;
        if got != *digest {
            return Err(Error::Mismatch { what: format!("blob {}", digest.short()), expected: *digest, got });
        }
        self.grown.fetch_add(digest.size, Relaxed);
        self.publish(path, &file, digest, Some(look)).map_err(failed("keep"))
    }

    /// Keep a chunk of a blob; its last one makes the blob complete.
    ///
    /// # Errors
    /// `Mismatch` when these are not its bytes, `Invalid` when the blob has no such chunk.
    pub fn insert_chunk(&self, content: &Content, index: usize, bytes: &[u8]) -> Result<()> {
        let no_such = || Error::Invalid { what: format!("chunk {index}"), why: "the blob has no such chunk".into() };
        let chunk = content.chunks.get(index).ok_or_else(no_such)?;
        if is_one_chunk(content) {
            return self.insert_blob(&content.digest, bytes);
        }
        prove(&chunk.digest, bytes)?;
        self.grown.fetch_add(bytes.len() as u64, Relaxed);
        if self.path(&content.digest).exists() {
            return Ok(());
        }
        let written = self.partial(content, true).is_some_and(|partial| {
            let written = partial.write(content, index, bytes);
            if let (true, Some(look)) = (written, partial.whole(content)) {
                self.publish_partial(&partial, content, look);
            }
            written
        });
        if written {
            self.note_recent(&chunk.digest, bytes);
        } else {
            self.remember(&chunk.digest, bytes);
        }
        Ok(())
    }

    /// How many inserts found no place on the disk.
    pub fn unwritten(&self) -> u64 {
        self.unwritten.load(Relaxed)
    }

    /// Where files lie that are not complete, or have no name.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where a complete object lies, or will.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        Cache::below(&self.root.join("objects"), digest)
    }

    fn below(directory: &Path, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        directory.join(&hex[..2]).join(&hex)
    }

    /// Read what is here in pieces; the indexes of those that are not.
    fn read_pieces(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> Vec<usize> {
        let partial = if is_one_chunk(content) { None } else { self.partial(content, false) };
        let mut missing = Vec::new();
        for piece in pieces::covering(content, offset, buffer.len()) {
            let out = &mut buffer[piece.target.clone()];
            let key = &piece.chunk.digest.sha256;
            if read_kept(&self.recent, key, piece.skip, out) || read_kept(&self.memory, key, piece.skip, out) {
                continue;
            }
            let Some(bytes) = partial.as_ref().and_then(|partial| partial.read(&piece)) else {
                missing.push(piece.index);
                continue;
            };
            let skip = piece.skip as usize;
            out.copy_from_slice(&bytes[skip..skip + out.len()]);
            self.note_recent(&piece.chunk.digest, &bytes);
        }
        missing
    }

    /// Read an object from end to end in one go, as small files mostly are; its file is not kept open.
    fn read_whole(&self, digest: &Digest, buffer: &mut [u8]) -> bool {
        let is_proved = |stamp| self.is_proved(digest, stamp);
        match object::read_whole(&self.path(digest), digest, is_proved, buffer) {
            Ok(None) => false,
            Ok(Some(stamp)) => {
                lock(&self.used).note(&digest.sha256);
                self.note_proved(digest, stamp);
                true
            }
            Err(_) => {
                self.discard(digest);
                false
            }
        }
    }

    fn object(&self, content: &Content) -> Option<Arc<Object>> {
        let key = content.digest.sha256;
        if let Some(object) = lock(&self.objects).get(&key) {
            return Some(object.clone());
        }
        let path = self.path(&content.digest);
        let is_proved = |stamp| self.is_proved(&content.digest, stamp);
        let (object, stamp) = match Object::open(&path, content, is_proved) {
            Ok(found) => found?,
            Err(_) => {
                self.discard(&content.digest);
                return None;
            }
        };
        if object.is_proved() {
            self.note_proved(&content.digest, stamp);
        }
        lock(&self.used).note(&key);
        let object = Arc::new(object);
        // Files let go by this insert are closed after the lock is.
        let evicted = lock(&self.objects).insert(key, object.clone(), 1);
        drop(evicted);
        Some(object)
    }

    fn partial(&self, content: &Content, create: bool) -> Option<Arc<Partial>> {
        let key = content.digest.sha256;
        // Held while opening: two of one process on one file would not see each other's chunks.
        let mut partials = lock(&self.partials);
        if let Some(partial) = partials.get(&key) {
            return Some(partial.clone());
        }
        lock(&self.used).note(&key);
        let partial = Arc::new(Partial::open(&self.root.join("partial"), content, create).ok()??);
        partials.insert(key, partial.clone(), 1);
        Some(partial)
    }

    /// Forget an object that is not what its name says.
    fn discard(&self, digest: &Digest) {
        lock(&self.objects).remove(&digest.sha256);
        lock(&self.proved).remove(&digest.sha256);
        // When this fails the next insert replaces the file all the same.
        let _ = fs::remove_file(self.path(digest));
    }

    fn is_proved(&self, digest: &Digest, stamp: Stamp) -> bool {
        lock(&self.proved).has(&digest.sha256, stamp)
    }

    fn note_proved(&self, digest: &Digest, stamp: Stamp) {
        lock(&self.proved).note(&digest.sha256, stamp);
    }

    fn publish_bytes(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Relaxed);
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let path = self.temporary().join(format!("{}-{clock:x}-{number}", std::process::id()));
        let done = object::write_new(&path, bytes).and_then(|file| self.publish(&path, &file, digest, None));
        if done.is_err() {
            let _ = fs::remove_file(&path);
        }
        done
    }

    /// Give a proved file, open as `file`, its name; `look` is how it looked before it was proved.
    fn publish(&self, from: &Path, file: &fs::File, digest: &Digest, look: Option<Look>) -> io::Result<()> {
        let to = self.path(digest);
        if let Err(error) = fs::rename(from, &to) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(to.parent().expect("an object lies in a directory"))?;
            fs::rename(from, &to)?;
        }
        // After the rename, which changes the ctime.
        let stamp = Stamp::of(&file.metadata()?);
        if look.is_none_or(|look| look == stamp.look()) {
            self.note_proved(digest, stamp);
        }
        Ok(())
    }

    fn publish_partial(&self, partial: &Partial, content: &Content, look: Look) {
        // When the rename fails, another process was first, or the disk is full of trouble: readers go on with the partial.
        if self.publish(partial.path(), partial.file(), &content.digest, Some(look)).is_ok() {
            partial.remove_record();
        }
        lock(&self.partials).remove(&content.digest.sha256);
    }

    fn remember(&self, digest: &Digest, bytes: &[u8]) {
        self.unwritten.fetch_add(1, Relaxed);
        self.full.store(true, Relaxed);
        // Somebody may have removed all of it: the next finds its place again.
        let _ = make(&self.root);
        lock(&self.memory).insert(digest.sha256, bytes.into(), bytes.len() as u64);
    }

    fn note_recent(&self, digest: &Digest, bytes: &[u8]) {
        let evicted = lock(&self.recent).insert(digest.sha256, bytes.into(), bytes.len() as u64);
        drop(evicted);
    }

    /// Remove what killed processes left half-written.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.temporary()) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn read_kept(kept: &Mutex<Lru<Arc<[u8]>>>, sha256: &[u8; 32], skip: u64, out: &mut [u8]) -> bool {
    let Some(bytes) = lock(kept).get(sha256).cloned() else { return false };
    let skip = skip as usize;
    let Some(bytes) = bytes.get(skip..skip + out.len()) else { return false };
    out.copy_from_slice(bytes);
    true
}

/// Make the directories that are missing.
fn make(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for name in ["", "objects", "partial", "tmp", "used"] {
        let path = root.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(Error::io("make the cache directory", &path))?;
    }
    Ok(())
}

/// Whether the blob's only chunk is the blob itself; then it is kept whole from the start.
fn is_one_chunk(content: &Content) -> bool {
    matches!(&content.chunks[..], [chunk] if chunk.digest == content.digest)
}

fn prove(expected: &Digest, bytes: &[u8]) -> Result<()> {
    let got = Digest::of(bytes);
    if got == *expected {
        return Ok(());
    }
    Err(Error::Mismatch { what: format!("chunk {}", expected.short()), expected: *expected, got })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no one panics holding the cache")
}

#[cfg(test)]
mod tests;
