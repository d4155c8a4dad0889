//! One copy, from the pages of a file map to those of the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::layout::{Batch, Layout, Piece};
use super::lock;
use super::look::{Chunks, read_page};
use super::packing::{Packing, Sent};
use crate::archive::frame::{self, Frame, FrameWriter};
use crate::archive::{Holds, MAX_PAGE_FRAME, deflate};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{self, ChunkAt, Entry, FileMap, FrameAt, Kind, MapWriter, PageRef, PageText, content_of, fence};
use crate::job::Job;
use crate::push::{Fragment, FragmentWriter, Known, PackName, Sealed, outline};

/// zstd level of pages and fence indexes, as of a push.
const MAP_LEVEL: i32 = 3;

/// A copy under way: all frames that `take` names are given to `deliver`, then, after `settle`, all pages to `place`, from any
/// threads; then comes `finish`. What they give out is to be put.
pub struct Copy {
    push: String,
    map: Arc<FileMap>,
    known: Known,
    job: Arc<Job>,
    wanted: Mutex<Wanted>,
    packing: Packing,
    layout: Layout,
    placing: Mutex<Placing>,
}

struct Wanted {
    left: BTreeMap<FrameAt, Chunks>,
    taken: HashMap<FrameAt, Chunks>,
}

/// The new file map as it grows.
struct Placing {
    next: usize,
    /// Pages that came before those in front of them.
    ahead: BTreeMap<usize, Vec<Entry>>,
    writer: MapWriter,
    frames: FrameWriter,
    /// Their texts are gone.
    pages: Vec<PageText>,
    /// Of split metadata, by the SHA-256, that were placed.
    splits: HashSet<[u8; 32]>,
    all_known: bool,
    needed: BTreeSet<PackName>,
    reused: BTreeSet<PackName>,
    held: FragmentWriter,
    /// Chunks and pages, and blobs of which the holdings have the list.
    is_held: HashSet<[u8; 32]>,
    is_listed: HashSet<[u8; 32]>,
    /// Of all blobs.
    bytes: u64,
}

impl Placing {
    /// For a tree of `entries` entries.
    fn new(entries: u64) -> Placing {
        Placing {
            next: 0,
            ahead: BTreeMap::new(),
            writer: MapWriter::new(entries),
            frames: FrameWriter::new(MAP_LEVEL),
            pages: Vec::new(),
            splits: HashSet::new(),
            all_known: true,
            needed: BTreeSet::new(),
            reused: BTreeSet::new(),
            held: FragmentWriter::default(),
            is_held: HashSet::new(),
            is_listed: HashSet::new(),
            bytes: 0,
        }
    }
}

/// What remains to be written when `packs` and all packs before have been put.
pub struct Copied {
    pub tree: Digest,
    pub packs: Vec<Sealed>,
    /// `None` when the snapshot before says it all.
    pub map: Option<CopiedMap>,
    pub entries: u64,
    pub bytes: u64,
    /// Names what the store has now and did not before; `None` when nothing was added.
    pub fragment: Option<Vec<u8>>,
    pub holdings: Vec<u8>,
    /// Packs that are re-used though the holdings before did not say so.
    pub reused: BTreeSet<PackName>,
    pub sent: Sent,
}

/// The new fence index.
pub struct CopiedMap {
    /// Of its text.
    pub digest: Digest,
    /// As stored.
    pub stored: Vec<u8>,
    /// Of its text without the first line.
    pub content: Digest,
    /// All packs that tree, pages and outline lie in, sorted.
    pub packs: Vec<PackName>,
}

impl Copy {
    /// As `Looking::begin`; `wanted` are chunks that `known` does not name, by their place.
    pub(super) fn new(
        push: &str,
        map: Arc<FileMap>,
        known: Known,
        wanted: BTreeMap<FrameAt, Chunks>,
        layout: Layout,
        pending: &[Fragment],
        job: Arc<Job>,
    ) -> Copy {
        let packing = Packing::new(push, job.clone(), pending);
        let wanted = Mutex::new(Wanted { left: wanted, taken: HashMap::new() });
        let placing = Mutex::new(Placing::new(map.summary.entries));
        Copy { push: push.to_owned(), map, known, job, wanted, packing, layout, placing }
    }

    /// The next frames, in the order of packs and offsets, about `bytes` of them; none when all were taken.
    pub fn take(&self, bytes: u64) -> Vec<FrameAt> {
        let mut wanted = lock(&self.wanted);
        let (mut out, mut left) = (Vec::new(), bytes);
        while let Some(next) = wanted.left.first_entry()
            && (out.is_empty() || u64::from(next.key().length) <= left)
        {
            left = left.saturating_sub(next.key().length.into());
            let (frame, chunks) = next.remove_entry();
            out.push(frame.clone());
            wanted.taken.insert(frame, chunks);
        }
        out
    }

    /// Stored bytes of all frames that are still to be taken.
    pub fn bytes_left(&self) -> u64 {
        lock(&self.wanted).left.keys().map(|frame| u64::from(frame.length)).sum()
    }

    /// Prove and pack what a frame holds. Waits while too many packs are still being put.
    ///
    /// # Errors
    /// `Damaged`, `Mismatch`; then nothing of it was packed. `Stopped`.
    pub fn deliver(&self, at: &FrameAt, stored: &[u8]) -> Result<Vec<Sealed>> {
        let not_wanted = || Error::Missing { what: "a frame of the copy".to_owned() };
        let chunks = lock(&self.wanted).taken.get(at).cloned().ok_or_else(not_wanted)?;
        let plain = frame::open(stored, at.plain)?;
        let proved: Vec<&[u8]> =
            chunks.iter().map(|(digest, inner)| frame::chunk(&plain, *inner, digest)).collect::<Result<_>>()?;
        let (again, others): (Vec<_>, Vec<_>) = chunks
            .iter()
            .map(|(digest, _)| *digest)
            .zip(proved)
            .partition(|(digest, _)| self.layout.wants(&digest.sha256));
        let sealed = if !again.is_empty() {
            let mut sealed = self.packing.add_chunks(others.into_iter())?;
            sealed.extend(self.lay_out(&again)?);
            sealed
        } else if frame::is_spelt(stored, &plain, &chunks) {
            let frame = Frame { bytes: stored.to_vec(), plain: at.plain, chunks: chunks.clone() };
            self.packing.add(frame, Holds::Content)?
        } else {
            self.packing.add_chunks(others.into_iter())?
        };
        lock(&self.wanted).taken.remove(at);
        Ok(sealed)
    }

    /// Cut chunks, which were proved; pack what is wanted of them when its turn comes, and the rest apart.
    fn lay_out(&self, chunks: &[(Digest, &[u8])]) -> Result<Vec<Sealed>> {
        let (mut wanted, mut rest) = (Vec::new(), Vec::new());
        for (chunk, bytes) in chunks {
            let mut digests = Vec::new();
            for Piece { from, to, turn } in self.layout.pieces(chunk) {
                let piece = &bytes[from..to];
                let digest = if piece.len() == bytes.len() { *chunk } else { Digest::of(piece) };
                digests.push(digest);
                match turn {
                    Some(turn) => wanted.push((turn, digest, piece.to_vec())),
                    None if self.known.has(&digest) || self.packing.has(&digest) => {}
                    None => rest.push((digest, piece)),
                }
            }
            if digests.len() > 1 {
                self.layout.note_cut(chunk, digests);
            }
        }
        let mut sealed = self.packing.add_chunks(rest.into_iter())?;
        sealed.extend(self.pack(self.layout.add(wanted))?);
        Ok(sealed)
    }

    fn pack(&self, batches: Vec<Batch>) -> Result<Vec<Sealed>> {
        let mut sealed = Vec::new();
        for batch in batches {
            self.job.step(0)?;
            sealed.extend(self.packing.lay_out(batch.seal())?);
        }
        Ok(sealed)
    }

    /// Seal what was packed so far, so that every chunk has its place.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn settle(&self) -> Result<Vec<Sealed>> {
        let mut sealed = self.pack(self.layout.finish())?;
        sealed.extend(self.packing.flush()?);
        Ok(sealed)
    }

    /// Take a page again, and pack it, and those behind it that have been given already, with the new places.
    ///
    /// # Errors
    /// `Damaged`, `Mismatch`, `NewerFormat` of the page; `Missing` a chunk that was not delivered; `Invalid`; `Stopped`.
    pub fn place(&self, page: usize, stored: &[u8]) -> Result<Vec<Sealed>> {
        let entries = read_page(&self.map, page, stored)?;
        let mut placing = lock(&self.placing);
        if let Some(split) = page.checked_sub(self.map.pages().len()) {
            return self.keep_split(&self.map.splits()[split], stored, &mut placing);
        }
        placing.ahead.insert(page, entries);
        let mut sealed = Vec::new();
        loop {
            let next = placing.next;
            let Some(entries) = placing.ahead.remove(&next) else { return Ok(sealed) };
            for entry in entries {
                let entry = self.placed(entry, &mut placing)?;
                if let Some(page) = placing.writer.push(&entry) {
                    sealed.extend(self.keep(page, &mut placing)?);
                }
            }
            placing.next += 1;
            self.job.step(0)?;
        }
    }

    /// When all pages were placed. `words` begin the outline, as of a push; `before` is the content of the snapshot before.
    ///
    /// # Errors
    /// `Missing` a page that was not placed; `Invalid`; `Stopped`.
    pub fn finish(&self, words: &[u8], before: Option<[u8; 32]>) -> Result<Copied> {
        let mut placing = std::mem::replace(&mut *lock(&self.placing), Placing::new(0));
        if placing.next != self.map.pages().len() {
            return Err(Error::Missing { what: format!("page {} of the file map", placing.next) });
        }
        if self.map.splits().iter().any(|page| !placing.splits.contains(&page.digest.sha256)) {
            return Err(Error::Missing { what: "a page of split metadata".into() });
        }
        let mut packs = Vec::new();
        let writer = std::mem::replace(&mut placing.writer, MapWriter::new(0));
        if let Some(page) = writer.finish() {
            packs.extend(self.keep(page, &mut placing)?);
        }
        let filemap::Summary { tree, entries, tar, .. } = self.map.summary;
        let summary = filemap::Summary { push: Some(self.push.clone()), tree, entries, bytes: placing.bytes, tar };
        let outline = outline(
            words,
            &summary,
            placing.pages.iter().map(|page| page.digest),
            self.map.splits().iter().map(|page| page.digest),
        );
        // A page that had to be packed is a new one.
        let same = placing.all_known && before.is_some() && {
            let refs = self.refs(&placing.pages)?;
            Some(content_of(&fence(&summary, &refs)).sha256) == before
        };
        if !same {
            let mut frames = FrameWriter::new(MAP_LEVEL);
            frames.add(Digest::of(&outline), &outline);
            packs.extend(self.packing.add(frames.seal(), Holds::Outline)?);
        }
        packs.extend(self.packing.flush()?);
        let refs = self.refs(&placing.pages)?;
        for page in &refs {
            let at = ChunkAt { digest: page.digest, frame: page.frame.clone(), inner: page.inner };
            self.note(&at, &mut placing);
        }
        let Placing { mut needed, reused, held, bytes, .. } = placing;
        needed.extend(self.packing.outline());
        let text = fence(&summary, &refs);
        let map = CopiedMap {
            digest: Digest::of(&text),
            stored: deflate(&text, MAP_LEVEL),
            content: content_of(&text),
            packs: needed.into_iter().collect(),
        };
        let (fragment, sent) = self.packing.end();
        Ok(Copied {
            tree,
            packs,
            map: (!same).then_some(map),
            entries,
            bytes,
            fragment,
            holdings: held.finish(),
            reused,
            sent,
        })
    }

    /// Where pages lie, all of whose packs have been sealed.
    fn refs(&self, pages: &[PageText]) -> Result<Vec<PageRef>> {
        let place = |page: &PageText| -> Result<PageRef> {
            let ChunkAt { frame, inner, .. } = self.at(&page.digest)?;
            Ok(PageRef { first: page.first.clone(), digest: page.digest, entries: page.entries, frame, inner })
        };
        let split = |page: &PageRef| -> Result<PageRef> {
            let ChunkAt { frame, inner, .. } = self.at(&page.digest)?;
            Ok(PageRef { frame, inner, ..page.clone() })
        };
        pages.iter().map(place).chain(self.map.splits().iter().map(split)).collect()
    }

    /// Pack a page of split metadata, which is the same wherever chunks lie, if the other store lacks it.
    fn keep_split(&self, at: &PageRef, stored: &[u8], placing: &mut Placing) -> Result<Vec<Sealed>> {
        if !placing.splits.insert(at.digest.sha256) || self.known.has(&at.digest) || self.packing.has(&at.digest) {
            return Ok(Vec::new());
        }
        let plain = frame::open(stored, at.frame.plain)?;
        placing.all_known = false;
        placing.frames.add(at.digest, frame::chunk(&plain, at.inner, &at.digest)?);
        self.packing.add(placing.frames.seal(), Holds::Page)
    }

    /// Pack a page that the other store lacks.
    fn keep(&self, mut page: PageText, placing: &mut Placing) -> Result<Vec<Sealed>> {
        if page.text.len() > MAX_PAGE_FRAME - 1024 {
            let what = format!("a file beside {}", String::from_utf8_lossy(&page.first).escape_debug());
            return Err(Error::Invalid { what, why: "it has more chunks or holes than a file map can say".into() });
        }
        let mut sealed = Vec::new();
        if !self.known.has(&page.digest) && !self.packing.has(&page.digest) {
            placing.all_known = false;
            placing.frames.add(page.digest, &page.text);
            sealed = self.packing.add(placing.frames.seal(), Holds::Page)?;
        }
        page.text = Vec::new();
        placing.pages.push(page);
        Ok(sealed)
    }

    /// An entry with its chunks where they lie in the other store.
    fn placed(&self, mut entry: Entry, placing: &mut Placing) -> Result<Entry> {
        if let Kind::Regular(content) = &mut entry.kind {
            placing.bytes += content.digest.size;
            let mut chunks = Vec::with_capacity(content.chunks.len());
            for ChunkAt { digest, .. } in &content.chunks {
                match self.layout.cut_of(digest) {
                    Some(pieces) => pieces.iter().try_for_each(|piece| self.at(piece).map(|at| chunks.push(at)))?,
                    None => chunks.push(self.at(digest)?),
                }
            }
            content.chunks = chunks;
            content.chunks.iter().for_each(|chunk| self.note(chunk, placing));
            if content.is_listed() && placing.is_listed.insert(content.digest.sha256) {
                let chunks: Vec<Digest> = content.chunks.iter().map(|chunk| chunk.digest).collect();
                if self.known.pieces(&content.digest).as_ref() != Some(&chunks) {
                    self.packing.list(content.digest, chunks);
                }
                placing.held.blob(content.digest, content.chunks.iter().map(|chunk| chunk.digest).collect());
            }
        }
        Ok(entry)
    }

    /// Note that the copy uses a chunk or a page.
    fn note(&self, at: &ChunkAt, placing: &mut Placing) {
        if !placing.is_held.insert(at.digest.sha256) {
            return;
        }
        placing.needed.insert(*at.frame.pack);
        if self.known.has(&at.digest) && self.known.held_row(&at.digest).is_none() {
            placing.reused.insert(*at.frame.pack);
        }
        placing.held.chunk(at);
    }

    fn at(&self, digest: &Digest) -> Result<ChunkAt> {
        // What was packed anew lies where it was packed.
        let place = self.packing.place(digest).or_else(|| self.known.chunk(digest));
        place.ok_or_else(|| Error::Missing { what: format!("chunk {}", digest.short()) })
    }
}
