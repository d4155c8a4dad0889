//! What file maps need: each chunk and page by its place, told once however many maps and files use it.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::archive::{Lying, Redirect};
use crate::digest::Digest;
use crate::filemap::{ChunkAt, FileMap, FrameAt, Kind};
use crate::push::PackName;

/// A chunk that must be at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Need {
    pub offset: u32,
    pub inner: u32,
    pub length: u32,
    pub plain: u32,
    pub digest: Digest,
}

impl Need {
    fn new(frame: &FrameAt, inner: u32, digest: Digest) -> Need {
        Need { offset: frame.in_pack(), inner, length: frame.length, plain: frame.plain, digest }
    }
}

/// All needs by pack.
#[derive(Default)]
pub struct Needs {
    packs: HashMap<PackName, Rows>,
}

/// Sorted up to `sorted`; what came after is yet to be merged.
#[derive(Default)]
struct Rows {
    needs: Vec<Need>,
    sorted: usize,
}

impl Rows {
    fn push(&mut self, need: Need) {
        self.needs.push(need);
        // Many files share chunks: what is said again and again must not take memory each time.
        if self.needs.len() >= 4096 && self.needs.len() >= 2 * self.sorted {
            self.settle();
        }
    }

    fn settle(&mut self) -> &[Need] {
        if self.sorted < self.needs.len() {
            self.needs.sort_unstable();
            self.needs.dedup();
            self.sorted = self.needs.len();
        }
        &self.needs
    }
}

impl Needs {
    /// The frames of all pages of `map`, and every chunk that its pages brought so far use.
    pub fn add(&mut self, map: &FileMap) {
        for (number, page) in map.stored().iter().enumerate() {
            self.push(&page.frame.pack, Need::new(&page.frame, page.inner, page.digest));
            for entry in map.rows(number).unwrap_or_default() {
                let Kind::Regular(content) = &entry.kind else { continue };
                for chunk in &content.chunks {
                    self.push(&chunk.frame.pack, Need::new(&chunk.frame, chunk.inner, chunk.digest));
                }
            }
        }
    }

    fn push(&mut self, pack: &PackName, need: Need) {
        if let Some(rows) = self.packs.get_mut(pack) {
            return rows.push(need);
        }
        self.packs.entry(*pack).or_default().push(need);
    }

    pub fn packs(&self) -> Vec<PackName> {
        let mut packs: Vec<PackName> = self.packs.keys().copied().collect();
        packs.sort_unstable();
        packs
    }

    /// What is needed of one pack, sorted by place.
    pub fn of(&mut self, pack: &PackName) -> &[Need] {
        self.packs.get_mut(pack).map(Rows::settle).unwrap_or_default()
    }

    /// Take the needs of a pack that was moved to where the redirect says, and say whether any went; those it does not
    /// know stay.
    pub fn follow(&mut self, pack: &PackName, redirect: &Redirect) -> bool {
        let Some(mut rows) = self.packs.remove(pack) else { return false };
        rows.settle();
        let (mut left, total) = (Rows::default(), rows.needs.len());
        for need in rows.needs {
            match redirect.find(need.offset, need.length) {
                Some((to, offset, length)) if to != *pack => self.push(&to, Need { offset, length, ..need }),
                _ => left.push(need),
            }
        }
        let gone = total - left.needs.len();
        if !left.needs.is_empty() {
            self.packs.insert(*pack, left);
        }
        gone > 0
    }

    /// Those needs of a pack that are not among `held`, which is sorted by place: its TOC's rows, or what was proved.
    pub fn unmet(&mut self, pack: &PackName, held: &[Lying]) -> Vec<Need> {
        let meets = |need: &Need| {
            let found = held.binary_search_by_key(&(need.offset, need.inner), |lying| (lying.offset, lying.inner));
            found.is_ok_and(|at| {
                let lying = &held[at];
                lying.digest == need.digest && lying.length == need.length && lying.plain == need.plain
            })
        };
        self.of(pack).iter().filter(|need| !meets(need)).copied().collect()
    }
}

/// Where a file holds a chunk: its digest, the size of the file, and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    pub digest: Digest,
    pub file_size: u64,
    pub offset: u64,
}

/// Where files of the brought pages of `map` hold chunks of `wanted` that are not the whole of them, each once.
pub fn held(map: &FileMap, wanted: &HashSet<[u8; 32]>) -> Vec<Held> {
    let mut out = BTreeSet::new();
    for entry in (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap_or_default()) {
        let Kind::Regular(content) = &entry.kind else { continue };
        if content.chunks.len() < 2 {
            continue;
        }
        let mut offset = 0;
        for ChunkAt { digest, .. } in &content.chunks {
            if wanted.contains(&digest.sha256) {
                out.insert(Held { digest: *digest, file_size: content.digest.size, offset });
            }
            offset += digest.size;
        }
    }
    out.into_iter().collect()
}

/// The paths in the brought pages of `map` that need what lies at one of `damaged` (pack, offset, inner), in order, at most
/// `limit`; and how many there are.
pub fn paths(map: &FileMap, damaged: &HashSet<(PackName, u32, u32)>, limit: usize) -> (Vec<Vec<u8>>, u64) {
    let (mut out, mut count) = (Vec::new(), 0);
    for entry in (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap_or_default()) {
        let Kind::Regular(content) = &entry.kind else { continue };
        let lost = |chunk: &ChunkAt| damaged.contains(&(*chunk.frame.pack, chunk.frame.in_pack(), chunk.inner));
        if content.chunks.iter().any(lost) {
            count += 1;
            if out.len() < limit {
                out.push(entry.path.clone());
            }
        }
    }
    (out, count)
}
