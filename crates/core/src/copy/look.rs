//! What a copy wants, from the pages of a file map.
//!
//! Invariant: each chunk is wanted once, of the first frame in which it was seen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::layout::Layout;
use super::lock;
use super::run::Copy;
use crate::archive::frame;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{Content, Entry, FileMap, FrameAt, Kind};
use crate::job::Job;
use crate::push::{Fragment, Known};

/// What is wanted of a frame: chunks by their place in it.
pub type Chunks = Vec<(Digest, u32)>;

/// The text of a page, from the stored bytes of its frame, as its entries.
pub fn read_page(map: &FileMap, page: usize, stored: &[u8]) -> Result<Vec<Entry>> {
    let at = map.stored().get(page).ok_or_else(|| Error::damaged("file map", format!("it has no page {page}")))?;
    let plain = frame::open(stored, at.frame.plain)?;
    map.read_page(page, frame::chunk(&plain, at.inner, &at.digest)?)
}

fn content(entry: &Entry) -> Option<&Content> {
    match &entry.kind {
        Kind::Regular(content) => Some(content),
        _ => None,
    }
}

/// A copy that has yet to see all of the tree: every page is given to `look` once, from any thread.
pub struct Looking {
    map: Arc<FileMap>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    digests: HashSet<[u8; 32]>,
    frames: HashMap<FrameAt, Chunks>,
}

impl Looking {
    /// Of `map` no page need have been brought.
    pub fn new(map: Arc<FileMap>) -> Looking {
        Looking { map, seen: Mutex::default() }
    }

    /// Take a page: the stored bytes of its frame.
    ///
    /// # Errors
    /// `Damaged`, `Mismatch`, `NewerFormat`.
    pub fn look(&self, page: usize, stored: &[u8]) -> Result<()> {
        let entries = read_page(&self.map, page, stored)?;
        let mut seen = lock(&self.seen);
        let Seen { digests, frames } = &mut *seen;
        for chunk in entries.iter().filter_map(content).flat_map(|content| &content.chunks) {
            if digests.insert(chunk.digest.sha256) {
                frames.entry(chunk.frame.clone()).or_default().push((chunk.digest, chunk.inner));
            }
        }
        Ok(())
    }

    /// Bytes of the tree's chunks that `known` does not name.
    pub fn lacking(&self, known: &Known) -> u64 {
        let seen = lock(&self.seen);
        seen.frames.values().flatten().filter(|(digest, _)| !known.has(digest)).map(|(digest, _)| digest.size).sum()
    }

    /// Go on, into a store that has what `known` names; `push` is the run, and `pending` what an earlier one put there.
    /// What `anew` wants is packed all the same, apart from the rest.
    pub fn begin(self, push: &str, known: Known, pending: &[Fragment], anew: Layout, job: Arc<Job>) -> Copy {
        let Looking { map, seen } = self;
        let mut left = BTreeMap::new();
        for (frame, mut chunks) in seen.into_inner().expect("a thread that panicked ends the copy").frames {
            chunks.retain(|(digest, _)| !known.has(digest) || anew.wants(&digest.sha256));
            chunks.sort_unstable_by_key(|(_, inner)| *inner);
            if !chunks.is_empty() {
                left.insert(frame, chunks);
            }
        }
        Copy::new(push, map, known, left, anew, pending, job)
    }
}
