//! What a reader is likely to ask for next, from what was just demanded: the rest of the file, and the files beside it that
//! are of its kind.
//!
//! Invariant: a guess is bounded in bytes and in entries looked at, whatever the tree. Who reads a module of a directory
//! mostly reads more of them, and none of the sources, tests and headers that lie around; large files are read here and there
//! until somebody reads on from chunk to chunk. Not here: what of a program is loaded (`loaded`), the whole tree (`prefetch`),
//! along a profile (`follow`).

use super::answer::{self, Need};
use super::parked::{Parked, Purpose};
use super::server::Server;
use crate::filemap::{ChunkAt, Content, Entry, FrameAt, Kind, inode_of, place_of};
use crate::scan::suffix_of;
use crate::wanted::Class;

/// Compressed bytes queued of the files beside the demanded one.
const BESIDE: u64 = 4 << 20;
/// Entries looked at for them, in each direction.
const ENTRIES: usize = 512;
/// A file of more compressed bytes is large, and so is one of more chunks.
const LARGE: u64 = 4 << 20;
const MANY: usize = 256;
/// Compressed bytes queued behind what is demanded of a large file: the next chunk of a store, or some of an archive.
const NEXT: u64 = 192 << 10;
/// What is here right before it tells who reads on from who reads here and there: chunks, and plain bytes of them.
const BEFORE: (usize, u64) = (2, 512 << 10);
/// Compressed bytes queued of a large file that is read on from chunk to chunk.
const ON: u64 = 1 << 20;
/// Compressed bytes of pages queued after one that is demanded: many of a small tree, where they are small, and none or one
/// of a large tree, where a path leads through pages that lie far from each other.
const PAGES: u64 = 64 << 10;

impl Server {
    /// Queue what is likely to be asked for next.
    pub(super) fn read_ahead(&self, parked: &mut Parked, need: &Need) {
        match need {
            Need::Page(page) => {
                let mut left = PAGES;
                for (next, page) in self.map.pages().iter().enumerate().skip(page + 1) {
                    let Some(rest) = left.checked_sub(page.frame.length.into()) else { break };
                    left = rest;
                    if !self.map.is_loaded(next) {
                        self.queue(parked, &page.frame, Purpose::Page(next), Class::Readahead);
                    }
                }
            }
            // A profile that is still under way knows better what comes next.
            Need::Chunks(..) if self.wanted.has_queued(Class::Profile) => {}
            Need::Chunks(inode, indexes) => {
                let (Some(&last), Ok((_, content))) = (indexes.last(), answer::content(&self.map, *inode)) else {
                    return;
                };
                let mut guess = Vec::new();
                self.guess_of_file(*inode, content, last, &mut guess);
                self.guess_beside(*inode, &mut guess);
                for (frame, purpose) in &guess {
                    parked.intend(frame, *purpose);
                }
                self.wanted.want_all(guess.iter().map(|(frame, _)| *frame), Class::Readahead);
            }
        }
    }

    fn guess_of_file<'s>(
        &self,
        inode: u64,
        content: &'s Content,
        last: usize,
        guess: &mut Vec<(&'s FrameAt, Purpose)>,
    ) {
        let next = last + 1;
        let (range, most) = if !is_large(content) {
            (0..content.chunks.len(), u64::MAX)
        } else if let Some(loaded) = self.loaded(content) {
            (0..loaded, u64::MAX)
        } else if before(content, last).is_some_and(|range| self.cache.missing_in(content, range).is_empty()) {
            (next..next + MANY, ON)
        } else {
            (next..next + MANY, NEXT)
        };
        let mut left = most;
        for index in self.cache.missing_in(content, range) {
            let frame = &content.chunks[index].frame;
            // The next one comes however large.
            let is_next = index == next;
            let Some(rest) = left.checked_sub(frame.length.into()).or(is_next.then_some(0)) else { break };
            left = rest;
            guess.push((frame, Purpose::Chunk(inode, index)));
        }
    }

    /// Small files of the same directory and kind: first those behind this one, then those before.
    fn guess_beside<'s>(&'s self, inode: u64, guess: &mut Vec<(&'s FrameAt, Purpose)>) {
        let Ok(Some(this)) = self.map.entry(inode) else { return };
        let (directory, kind) = (parent_of(&this.path), suffix_of(&this.path));
        let mut left = BESIDE;
        let mut last: Option<&FrameAt> = None;
        let within = |(_, other): &(u64, &Entry)| parent_of(&other.path) == directory;
        let behind = self.entries_behind(inode).take(ENTRIES).take_while(within);
        let before = self.entries_before(inode).take(ENTRIES).take_while(within);
        for (inode, other) in behind.chain(before) {
            let Kind::Regular(content) = &other.kind else { continue };
            if suffix_of(&other.path) != kind || is_large(content) {
                continue;
            }
            for index in self.cache.missing(content) {
                let frame = &content.chunks[index].frame;
                // Many small files are in one frame, and bring each other along.
                if last != Some(frame) {
                    let Some(rest) = left.checked_sub(frame.length.into()) else { return };
                    left = rest;
                    last = Some(frame);
                }
                guess.push((frame, Purpose::Chunk(inode, index)));
            }
        }
    }

    fn entries_behind(&self, inode: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let (page, row) = place_of(inode).unwrap_or_default();
        (page..self.map.page_count()).map_while(|page| Some((page, self.map.rows(page).ok()?))).flat_map(
            move |(at, rows)| {
                let skipped = if at == page { row + 1 } else { 0 };
                rows.iter().enumerate().skip(skipped).map(move |(row, entry)| (inode_of(at, row), entry))
            },
        )
    }

    fn entries_before(&self, inode: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let (page, row) = place_of(inode).unwrap_or_default();
        (0..=page).rev().map_while(|page| Some((page, self.map.rows(page).ok()?))).flat_map(move |(at, rows)| {
            let kept = if at == page { row } else { rows.len() };
            rows.iter().enumerate().take(kept).rev().map(move |(row, entry)| (inode_of(at, row), entry))
        })
    }

    pub(super) fn queue(&self, parked: &mut Parked, frame: &FrameAt, purpose: Purpose, class: Class) -> bool {
        parked.intend(frame, purpose);
        self.wanted.want(frame, class)
    }
}

/// The chunks right before one of a file; none where the file begins.
fn before(content: &Content, index: usize) -> Option<std::ops::Range<usize>> {
    let mut bytes = 0;
    let mut chunks = content.chunks[..index].iter().rev().map(|chunk| {
        bytes += chunk.digest.size;
        bytes
    });
    let count = chunks.position(|bytes| bytes >= BEFORE.1)? + 1;
    index.checked_sub(count.max(BEFORE.0)).map(|begin| begin..index)
}

pub(super) fn is_large(content: &Content) -> bool {
    are_large(&content.chunks)
}

pub(super) fn are_large(chunks: &[ChunkAt]) -> bool {
    chunks.len() > MANY || chunks.iter().map(|chunk| u64::from(chunk.frame.length)).sum::<u64>() > LARGE
}

fn parent_of(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
}
