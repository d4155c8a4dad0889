//! What comes along with a frame that was asked for something else: whole blobs, and pieces of blobs that were cut.
//!
//! Invariant: a hint: what is not found here is brought when somebody asks for it. Memory is bounded by the pieces that share
//! frames, which only a tree that was laid out again has, and each page is looked through once.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::answer;
use super::server::Server;
use crate::archive::frame::{self, FrameWriter};
use crate::digest::Digest;
use crate::filemap::{FileMap, Kind, inode_of};

/// The same bytes may be in many files; in so many they are kept without being asked for.
const PLACES: usize = 8;

/// Pieces that share a frame, of the pages that were there when somebody looked last.
#[derive(Default)]
pub struct Neighbours {
    /// By page: looked through.
    seen: Vec<bool>,
    /// SHA-256 -> inode and index of the chunk.
    places: HashMap<[u8; 32], Vec<(u64, usize)>>,
}

impl Neighbours {
    fn look(&mut self, map: &FileMap) {
        self.seen.resize(map.pages().len(), false);
        for (page, seen) in self.seen.iter_mut().enumerate().filter(|(_, seen)| !**seen) {
            let Ok(rows) = map.rows(page) else { continue };
            *seen = true;
            for (row, entry) in rows.iter().enumerate() {
                let Kind::Regular(content) = &entry.kind else { continue };
                if content.chunks.len() < 2 {
                    continue;
                }
                for (index, chunk) in content.chunks.iter().enumerate() {
                    if chunk.frame.plain as usize <= FrameWriter::room(chunk.digest.size as usize) {
                        continue;
                    }
                    let places = self.places.entry(chunk.digest.sha256).or_default();
                    if places.len() < PLACES {
                        places.push((inode_of(page, row), index));
                    }
                }
            }
        }
    }
}

/// What a frame claims to hold somewhere, and where in the tree that is a piece.
type Placed = (Digest, Range<usize>, Option<Vec<(u64, usize)>>);

impl Server {
    /// Keep what a decompressed frame holds besides what it was `asked` for. A blob that is no piece of any may be one of this
    /// tree, or of another, and costs nothing more; a frame of one chunk may hold a piece that nobody could find by its digest.
    pub(super) fn keep_neighbours(&self, plain: &[u8], asked: &HashSet<Digest>) {
        let claims: Vec<_> = frame::chunks(plain).collect();
        if claims.len() < 2 {
            return;
        }
        let others = claims.into_iter().map(|(sha256, range)| (Digest { sha256, size: range.len() as u64 }, range));
        for (digest, range, places) in self.placed(others.filter(|(digest, _)| !asked.contains(digest))) {
            // One that is damaged is found out by whoever asks for it.
            match places {
                Some(places) => places.iter().for_each(|&place| self.keep_piece(place, &plain[range.clone()])),
                None => drop(self.cache.insert_blob(&digest, &plain[range])),
            }
        }
    }

    fn placed(&self, claims: impl Iterator<Item = (Digest, Range<usize>)>) -> Vec<Placed> {
        let mut neighbours = self.neighbours();
        neighbours.look(&self.map);
        let places = |digest: &Digest| neighbours.places.get(&digest.sha256).cloned();
        claims.map(|(digest, range)| (digest, range, places(&digest))).collect()
    }

    fn keep_piece(&self, (inode, index): (u64, usize), bytes: &[u8]) {
        if let Ok((_, content)) = answer::content(&self.map, inode)
            && !self.cache.missing_in(content, index..index + 1).is_empty()
        {
            let _ = self.cache.insert_chunk(content, index, bytes);
        }
    }
}
