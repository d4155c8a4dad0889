//! Lost pages of file maps told again: entries as another file map says them, places as packs and index fragments do.
//!
//! Invariant: a page is given only when its text has the digest of the one that was lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::archive::{Lying, Redirect};
use crate::digest::Digest;
use crate::filemap::{ChunkAt, Entry, FileMap, FrameAt, Kind, page_of};
use crate::push::{Fragment, PackName};

/// Where chunks lie, or lay before their frames were moved.
#[derive(Default)]
pub struct Places {
    by_digest: HashMap<Digest, Vec<(FrameAt, u32)>>,
    /// Where a frame that lies at (pack, offset) lay before: pack, offset, length.
    before: HashMap<(PackName, u32), (PackName, u32, u32)>,
    /// How blobs were cut, by what fragments say.
    lists: HashMap<Digest, Vec<Vec<Digest>>>,
}

/// A page as the fence index knows it.
pub struct LostPage {
    pub first: Vec<u8>,
    pub entries: u32,
    pub digest: Digest,
}

impl Places {
    /// Take where frames of a pack were moved to; all redirects come before all packs.
    pub fn redirect(&mut self, name: &PackName, redirect: &Redirect) {
        for &(offset, length, pack, now, _) in &redirect.rows {
            self.before.insert((redirect.packs[pack as usize], now), (*name, offset, length));
        }
    }

    /// Take what a pack holds.
    pub fn pack(&mut self, name: &PackName, held: impl IntoIterator<Item = Lying>) {
        let name = Arc::new(*name);
        for lying in held {
            let Lying { digest, offset, length, plain, inner } = lying;
            let places = self.by_digest.entry(digest).or_default();
            places.push((FrameAt { pack: name.clone(), offset: offset.into(), length, plain }, inner));
            let mut at = (*name, offset);
            for _ in 0..32 {
                let Some(&(pack, offset, length)) = self.before.get(&at) else { break };
                places.push((FrameAt { pack: Arc::new(pack), offset: offset.into(), length, plain }, inner));
                at = (pack, offset);
            }
        }
    }

    /// Take what an index fragment says of packs, which need not be there any more.
    pub fn fragment(&mut self, fragment: &Fragment) {
        for row in 0..fragment.len() {
            let (pack, lying) = fragment.chunk(row);
            self.pack(fragment.pack(pack), [lying]);
        }
        for (blob, pieces) in fragment.blobs() {
            let lists = self.lists.entry(blob).or_default();
            if !lists.contains(&pieces) {
                lists.push(pieces);
            }
        }
    }

    /// The text of a lost page, of the entries of `map`, all of whose pages are there; its chunks lie in `packs`. Of several
    /// ways in which blobs are cut one is tried after the other, and of several places of a chunk the first ones, then the last.
    pub fn page(&self, map: &FileMap, lost: &LostPage, packs: &HashSet<PackName>) -> Option<Vec<u8>> {
        let rows = (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap_or_default());
        let entries: Vec<&Entry> =
            rows.skip_while(|entry| entry.path != lost.first).take(lost.entries as usize).collect();
        let cuts =
            entries.iter().filter_map(|entry| self.lists.get(&digest_of(entry)?)).map(|lists| lists.len() + 1).max();
        let ways = (0..cuts.unwrap_or(1)).flat_map(|cut| [(cut, false), (cut, true)]);
        ways.into_iter().find_map(|(cut, last)| {
            let told: Option<Vec<Entry>> = entries.iter().map(|entry| self.placed(entry, packs, cut, last)).collect();
            let page = page_of(&told?)?;
            (page.digest == lost.digest).then_some(page.text)
        })
    }

    /// An entry with its chunks where they lie, cut in the way of this number, from 0, of those of which all is there.
    fn placed(&self, entry: &Entry, packs: &HashSet<PackName>, cut: usize, last: bool) -> Option<Entry> {
        let mut entry = entry.clone();
        if let Kind::Regular(content) = &mut entry.kind {
            let own: Vec<Digest> = content.chunks.iter().map(|chunk| chunk.digest).collect();
            let size = |list: &&Vec<Digest>| list.iter().map(|piece| piece.size).sum::<u64>() == content.digest.size;
            // Where it was laid out again it is cut otherwise, and what it was before may be there still.
            let others =
                self.lists.get(&content.digest).into_iter().flatten().filter(size).filter(|list| **list != own);
            let place = |list: &Vec<Digest>| list.iter().map(|chunk| self.place(chunk, packs, last)).collect();
            let mut ways: Vec<Vec<ChunkAt>> = others.chain([&own]).filter_map(place).collect();
            content.chunks = if ways.is_empty() { return None } else { ways.swap_remove(cut % ways.len()) };
        }
        Some(entry)
    }

    fn place(&self, digest: &Digest, packs: &HashSet<PackName>, last: bool) -> Option<ChunkAt> {
        let places = self.by_digest.get(digest)?.iter().filter(|place| packs.contains(&*place.0.pack));
        let (frame, inner) = if last { places.max() } else { places.min() }?;
        Some(ChunkAt { digest: *digest, frame: frame.clone(), inner: *inner })
    }
}

fn digest_of(entry: &Entry) -> Option<Digest> {
    if let Kind::Regular(content) = &entry.kind { Some(content.digest) } else { None }
}
