//! Marks: every chunk and page that live file maps use, with its place.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::archive::{Lying, Redirect, TocEntry, frame};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{Entry, FileMap, FrameAt, Kind};
use crate::push::{FragmentWriter, PackName};

/// As many times is a redirect followed, as a reader follows it.
const HOPS: usize = 32;
/// Rows are first sorted when there are this many.
const MANY: usize = 1 << 16;
/// Bytes of a chunk, a large blob and a piece of it in a fragment.
const FRAGMENT_ROW: usize = 56;
const FRAGMENT_BLOB: usize = 48;
const FRAGMENT_PIECE: usize = 36;

/// All marks of a run; file maps first, then redirects.
#[derive(Default)]
pub struct Marks {
    names: Vec<PackName>,
    numbers: HashMap<PackName, u32>,
    /// Sorted and each once up to `sorted`.
    rows: Vec<Row>,
    sorted: usize,
    /// Pages by the SHA-256 of their text.
    seen: HashSet<[u8; 32]>,
    /// The runs that wrote the live maps.
    pushes: HashSet<String>,
    /// Large blobs: size and chunks.
    blobs: HashMap<[u8; 32], (u64, Vec<Digest>)>,
    /// Packs that are needed through their redirects.
    moved: HashSet<u32>,
    /// Of packs that redirects lead to, how many do so one after the other, at most.
    hops: HashMap<u32, usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    pack: u32,
    offset: u32,
    inner: u32,
    length: u32,
    plain: u32,
    size: u32,
    sha256: [u8; 32],
}

/// Sizes in bytes: of chunks of blobs before compression, each once, and of frames as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub chunks: u64,
    pub chunk_bytes: u64,
    pub chunk_stored: u64,
    pub pages: u64,
    pub page_stored: u64,
}

#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    push: &'a str,
}

impl Marks {
    /// Mark the pages of a live map; tells which of them are to be brought, for no other map had them.
    pub fn map(&mut self, map: &FileMap) -> Vec<usize> {
        self.pushes.extend(map.summary.push.clone());
        let mut wanted = Vec::new();
        for (number, page) in map.stored().iter().enumerate() {
            self.mark(&page.frame, page.inner, &page.digest);
            if self.seen.insert(page.digest.sha256) {
                wanted.push(number);
            }
        }
        wanted
    }

    /// Mark what the entries of a page use.
    pub fn page(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Kind::Regular(content) = &entry.kind else { continue };
            for chunk in &content.chunks {
                self.mark(&chunk.frame, chunk.inner, &chunk.digest);
            }
            if content.chunks.len() > 1 && !self.blobs.contains_key(&content.digest.sha256) {
                let pieces = content.chunks.iter().map(|chunk| chunk.digest).collect();
                self.blobs.insert(content.digest.sha256, (content.digest.size, pieces));
            }
        }
    }

    /// Mark an outline if the map of its run is live; tells whether it is.
    ///
    /// # Errors
    /// `Damaged`, `Mismatch`.
    pub fn outline(&mut self, pack: &PackName, entry: &TocEntry, stored: &[u8]) -> Result<bool> {
        let Lying { digest, offset, length, plain, inner } = entry.lying;
        let opened = frame::open(stored, plain)?;
        let text = frame::chunk(&opened, inner, &digest)?;
        let outline: Outline<'_> =
            serde_json::from_slice(text).map_err(|_| Error::damaged("outline", "it does not parse"))?;
        let live = self.pushes.contains(outline.push);
        if live {
            let number = self.number(pack);
            self.push(Row {
                pack: number,
                offset,
                inner,
                length,
                plain,
                size: digest.size as u32,
                sha256: digest.sha256,
            });
        }
        Ok(live)
    }

    fn mark(&mut self, frame: &FrameAt, inner: u32, digest: &Digest) {
        let pack = self.number(&frame.pack);
        let FrameAt { length, plain, .. } = *frame;
        let offset = frame.in_pack();
        self.push(Row { pack, offset, inner, length, plain, size: digest.size as u32, sha256: digest.sha256 });
    }

    fn push(&mut self, row: Row) {
        self.rows.push(row);
        // Versions of a tree share nearly everything: what is said again and again must not take memory each time.
        if self.rows.len() >= MANY && self.rows.len() >= 2 * self.sorted {
            self.settle();
        }
    }

    fn number(&mut self, pack: &PackName) -> u32 {
        if let Some(&number) = self.numbers.get(pack) {
            return number;
        }
        self.names.push(*pack);
        let number = self.names.len() as u32 - 1;
        self.numbers.insert(*pack, number);
        number
    }

    fn settle(&mut self) {
        if self.sorted < self.rows.len() {
            self.rows.sort_unstable();
            self.rows.dedup();
            self.sorted = self.rows.len();
        }
    }

    /// Take every mark to where redirects say its frame lies now. What a redirect does not know stays.
    ///
    /// # Errors
    /// `Damaged` when one is of another pack, or they go in circles.
    pub fn follow(&mut self, redirects: &HashMap<PackName, Redirect>) -> Result<()> {
        for (from, redirect) in redirects {
            redirect.require_of(from)?;
            self.number(from);
            redirect.packs.iter().for_each(|to| {
                self.number(to);
            });
        }
        let by_number: Vec<Option<&Redirect>> = self.names.iter().map(|name| redirects.get(name)).collect();
        let mut deepest = HashMap::new();
        for row in &mut self.rows {
            let (mut hops, before) = (0, self.hops.get(&row.pack).copied().unwrap_or(0));
            while let Some(redirect) = by_number[row.pack as usize] {
                let Some((to, offset, length)) = redirect.find(row.offset, row.length) else { break };
                self.moved.insert(row.pack);
                (row.pack, row.offset, row.length) = (self.numbers[&to], offset, length);
                hops += 1;
                if hops > HOPS {
                    return Err(Error::damaged("redirect", "it goes in circles"));
                }
            }
            if hops > 0 {
                let deep = deepest.entry(row.pack).or_insert(0);
                *deep = before.saturating_add(hops).max(*deep);
            }
        }
        for (pack, deep) in deepest {
            let known = self.hops.entry(pack).or_insert(0);
            *known = deep.max(*known);
        }
        self.sorted = 0;
        self.settle();
        Ok(())
    }

    /// Each pack in which something live lies, and the bytes of its live frames.
    pub fn packs(&mut self) -> Vec<(PackName, u64)> {
        self.settle();
        let mut live: Vec<(PackName, u64)> = Vec::new();
        let mut last = None;
        for row in &self.rows {
            if last.is_none_or(|(pack, _)| pack != row.pack) {
                live.push((self.names[row.pack as usize], 0));
            }
            if last != Some((row.pack, row.offset)) {
                live.last_mut().expect("its pack was pushed").1 += u64::from(row.length);
            }
            last = Some((row.pack, row.offset));
        }
        live
    }

    /// How much is marked.
    pub fn totals(&mut self) -> Totals {
        self.settle();
        let mut totals = Totals::default();
        let (mut counted, mut last) = (HashSet::new(), None);
        for row in &self.rows {
            let is_page = self.seen.contains(&row.sha256);
            let is_new_frame = last != Some((row.pack, row.offset));
            last = Some((row.pack, row.offset));
            let stored = if is_page { &mut totals.page_stored } else { &mut totals.chunk_stored };
            *stored += if is_new_frame { u64::from(row.length) } else { 0 };
            if is_page || !counted.insert(row.sha256) {
                continue;
            }
            totals.chunks += 1;
            totals.chunk_bytes += u64::from(row.size);
        }
        totals.pages = self.seen.len() as u64;
        totals
    }

    /// Packs that are needed through their redirects.
    pub fn moved(&self) -> Vec<PackName> {
        self.moved.iter().map(|&number| self.names[number as usize]).collect()
    }

    /// How many redirects lead to a pack, at most, from where maps say that something lies.
    pub fn hops(&self, pack: &PackName) -> usize {
        self.numbers.get(pack).and_then(|number| self.hops.get(number)).copied().unwrap_or(0)
    }

    /// The live frames of a pack: offset and length, in order.
    pub fn frames(&mut self, pack: &PackName) -> Vec<(u32, u32)> {
        self.settle();
        let Some(&number) = self.numbers.get(pack) else { return Vec::new() };
        let first = self.rows.partition_point(|row| row.pack < number);
        let mut frames: Vec<_> = self.rows[first..]
            .iter()
            .take_while(|row| row.pack == number)
            .map(|row| (row.offset, row.length))
            .collect();
        frames.dedup();
        frames
    }

    /// Index fragments of everything live in these packs, in their order, each of about `limit` bytes at most.
    ///
    /// What comes first is in the first ones, which are the same whatever is added at the end.
    pub fn fragments(&mut self, packs: &[PackName], limit: usize) -> Vec<Vec<u8>> {
        self.settle();
        // A large blob is in the fragment of its first piece.
        let mut blobs: HashMap<[u8; 32], Vec<&[u8; 32]>> = HashMap::new();
        for (sha256, (_, pieces)) in &self.blobs {
            blobs.entry(pieces[0].sha256).or_default().push(sha256);
        }
        let (mut done, mut writer, mut size) = (Vec::new(), FragmentWriter::default(), 0);
        for pack in packs {
            let Some(&number) = self.numbers.get(pack) else { continue };
            let first = self.rows.partition_point(|row| row.pack < number);
            for row in self.rows[first..].iter().take_while(|row| row.pack == number) {
                let Row { offset, inner, length, plain, size: chunk, sha256, .. } = *row;
                let digest = Digest { sha256, size: chunk.into() };
                writer.chunks(pack, [Lying { digest, offset, length, plain, inner }]);
                size += FRAGMENT_ROW;
                for blob in blobs.remove(&sha256).into_iter().flatten() {
                    let (bytes, pieces) = &self.blobs[blob];
                    writer.blob(Digest { sha256: *blob, size: *bytes }, pieces.clone());
                    size += FRAGMENT_BLOB + pieces.len() * FRAGMENT_PIECE;
                }
                if size >= limit {
                    done.push(std::mem::take(&mut writer).finish());
                    size = 0;
                }
            }
        }
        if size > 0 {
            done.push(writer.finish());
        }
        done
    }
}
