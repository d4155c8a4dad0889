//! What a pull would write, proved and written nowhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::plan::{Needed, Tree, Use, path_of, sources};
use crate::archive::frame;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, show};
use crate::filemap::{ChunkAt, Content, FileMap, FrameAt, Kind};

/// What may have come before its turn of the files that are hashed whole: of those whose chunks lie in no order.
const EARLY: u64 = 64 << 20;

/// A proof under way: hand `take`'s frames back by `deliver`, from any thread, then ask for what is `unlike`.
pub struct Proof {
    tree: Tree,
    frames: Vec<Needed>,
    left: Mutex<Left>,
    /// Files of several chunks, by number of the entry.
    wholes: HashMap<u32, Mutex<Whole>>,
    early: AtomicU64,
}

/// Frames, by number, that nobody has taken.
struct Left {
    /// Of a file of several chunks each: one thread gets them all, so that they come in order.
    files: VecDeque<VecDeque<usize>>,
    others: VecDeque<usize>,
    begun: HashMap<ThreadId, VecDeque<usize>>,
}

/// How far the content of a file is hashed, and what has come before its turn, by offset.
#[derive(Default)]
struct Whole {
    hasher: Hasher,
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

impl Proof {
    /// Of all contents of a map, each page of which has been brought.
    ///
    /// # Errors
    /// `Damaged` when the map contradicts itself.
    pub fn new(map: &FileMap) -> Result<Proof> {
        let tree = Tree::of(map)?;
        let mut wholes = HashMap::new();
        for (number, entry) in tree.entries.iter().enumerate() {
            let Kind::Regular(content) = &entry.kind else { continue };
            let alone = match &content.chunks[..] {
                [] => Digest::of(b""),
                [chunk] => chunk.digest,
                _ => {
                    wholes.insert(number as u32, Mutex::default());
                    continue;
                }
            };
            if alone != content.digest {
                return Err(mismatch(&entry.path, content, alone));
            }
        }
        // Each file by itself, even those that claim the content of another.
        let frames = sources(&tree.entries, u64::MAX, |_| true).frames;
        let mut of_file: BTreeMap<u32, VecDeque<usize>> = BTreeMap::new();
        let mut others = VecDeque::new();
        for (number, needed) in frames.iter().enumerate() {
            let mut uses = needed.chunks.iter().flat_map(|(_, uses)| uses);
            match uses.find(|place| wholes.contains_key(&place.file)) {
                Some(place) => of_file.entry(place.file).or_default().push_back(number),
                None => others.push_back(number),
            }
        }
        let left = Mutex::new(Left { files: of_file.into_values().collect(), others, begun: HashMap::new() });
        Ok(Proof { tree, frames, left, wholes, early: AtomicU64::new(0) })
    }

    /// The next frames for this thread, of at least one and at most about `bytes` bytes; empty when all were taken.
    pub fn take(&self, bytes: u64) -> Vec<FrameAt> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Left { files, others, begun } = &mut *left;
        let mine = begun.entry(std::thread::current().id()).or_default();
        if mine.is_empty()
            && let Some(file) = files.pop_front()
        {
            *mine = file;
        }
        let from = if mine.is_empty() { others } else { mine };
        let (mut taken, mut total) = (Vec::new(), 0);
        while let Some(&number) = from.front() {
            let frame = &self.frames[number].frame;
            total += u64::from(frame.length);
            if total > bytes && !taken.is_empty() {
                break;
            }
            taken.push(frame.clone());
            from.pop_front();
        }
        taken
    }

    /// Bytes of all frames that are needed, as they lie in the archive.
    pub fn bytes_needed(&self) -> u64 {
        self.frames.iter().map(|needed| u64::from(needed.frame.length)).sum()
    }

    /// Prove what a frame holds.
    ///
    /// # Errors
    /// `Damaged` or `Mismatch` when its bytes are not what the map says; `Invalid` when chunks of large files come in an
    /// order in which those files cannot be hashed with little memory.
    pub fn deliver(&self, frame: &FrameAt, bytes: &[u8]) -> Result<()> {
        let chunks = &Needed::find(&self.frames, frame)?.chunks;
        let plain = self.tree.form.open(bytes, frame.plain)?;
        let prove = |(chunk, _): &(ChunkAt, Vec<Use>)| frame::chunk(&plain, chunk.inner, &chunk.digest);
        // All of it is proved before any of it is hashed: a frame that is delivered again finds nothing done.
        let proved: Vec<&[u8]> = chunks.iter().map(prove).collect::<Result<_>>()?;
        for ((_, uses), bytes) in chunks.iter().zip(proved) {
            for place in uses {
                self.hash(*place, bytes)?;
            }
        }
        Ok(())
    }

    /// The paths of the files that a frame is needed for.
    ///
    /// # Errors
    /// `Missing` when nobody asked for it.
    pub fn paths(&self, frame: &FrameAt) -> Result<Vec<Vec<u8>>> {
        let uses = Needed::find(&self.frames, frame)?.chunks.iter().flat_map(|(_, uses)| uses);
        let mut files: Vec<u32> = uses.map(|place| place.file).collect();
        files.sort_unstable();
        files.dedup();
        Ok(files.into_iter().map(|file| self.tree.entries[file as usize].path.to_vec()).collect())
    }

    /// When all was delivered: of the files of several chunks, those whose contents are not what the map says.
    pub fn unlike(&self) -> Vec<(Vec<u8>, Error)> {
        let mut found = Vec::new();
        for (number, whole) in &self.wholes {
            let entry = &self.tree.entries[*number as usize];
            let Kind::Regular(content) = &entry.kind else { continue };
            let got = std::mem::take(&mut lock(whole).hasher).finish();
            if got != content.digest {
                found.push((entry.path.to_vec(), mismatch(&entry.path, content, got)));
            }
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    }

    fn hash(&self, place: Use, bytes: &[u8]) -> Result<()> {
        let Some(whole) = self.wholes.get(&place.file) else { return Ok(()) };
        let mut whole = lock(whole);
        if whole.next != place.offset {
            if self.early.fetch_add(bytes.len() as u64, Relaxed) + bytes.len() as u64 > EARLY {
                let what = show(&path_of(&self.tree.entries[place.file as usize].path));
                let why = "its chunks lie in an order in which it cannot be hashed with little memory".into();
                return Err(Error::Invalid { what, why });
            }
            whole.early.insert(place.offset, bytes.to_vec());
            return Ok(());
        }
        let mut then = Some(Cow::Borrowed(bytes));
        while let Some(bytes) = then {
            whole.hasher.update(&bytes);
            whole.next += bytes.len() as u64;
            let next = whole.next;
            then = whole.early.remove(&next).map(Cow::Owned);
            self.early.fetch_sub(then.as_ref().map_or(0, |bytes| bytes.len() as u64), Relaxed);
        }
        Ok(())
    }
}

fn lock(whole: &Mutex<Whole>) -> MutexGuard<'_, Whole> {
    whole.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mismatch(path: &[u8], content: &Content, got: Digest) -> Error {
    Error::Mismatch { what: show(&path_of(path)), expected: content.digest, got }
}
