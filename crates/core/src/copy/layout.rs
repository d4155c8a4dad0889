//! What is laid out again: pieces of chunks, in the order in which they are wanted, in large frames that are compressed well.
//!
//! Invariant: whatever the order in which chunks come, of what waits for its turn at most `WAITING` bytes are in memory; past
//! that the first of what is here goes out. A piece is laid out once. Not here: packs (`packing`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use super::lock;
use crate::archive::frame::{Frame, FrameWriter};
use crate::digest::Digest;
use crate::error::{Error, Result};

const WAITING: usize = 64 << 20;
/// What is wanted by nobody is cut into pieces of at most so much, for who wants some of it after all.
const REST: u32 = 256 << 10;

/// A chunk to be laid out again: what of it is wanted, as (from, to), in order; the rest of it goes elsewhere.
pub struct Wanted {
    pub sha256: [u8; 32],
    pub ranges: Vec<(u32, u32)>,
}

type Plan = (u32, Vec<(u32, u32)>);

/// A part of a chunk, and its turn if it is wanted.
pub struct Piece {
    pub from: usize,
    pub to: usize,
    pub turn: Option<u32>,
}

/// What is to be laid out, and how far that is.
#[derive(Default)]
pub struct Layout {
    /// By the SHA-256 of the chunk: the turn of its first range, and its ranges.
    plans: HashMap<[u8; 32], Plan>,
    waiting: Mutex<Waiting>,
    /// Chunks that were cut.
    cut: Mutex<HashMap<[u8; 32], Vec<Digest>>>,
}

#[derive(Default)]
struct Waiting {
    next: u32,
    bytes: usize,
    pieces: BTreeMap<u32, (Digest, Vec<u8>)>,
    seen: HashSet<[u8; 32]>,
    batch: Batch,
}

/// Pieces of one frame.
#[derive(Default)]
pub struct Batch {
    pieces: Vec<(Digest, Vec<u8>)>,
    plain: usize,
}

impl Batch {
    /// Compress them: the long part.
    pub fn seal(self) -> Frame {
        let mut writer = FrameWriter::for_layout();
        self.pieces.iter().for_each(|(digest, bytes)| writer.add(*digest, bytes));
        writer.seal()
    }
}

impl Layout {
    /// # Errors
    /// `Invalid` when a chunk is there twice, or its ranges are empty, not in order, or overlap.
    pub fn new(wanted: Vec<Wanted>) -> Result<Layout> {
        let wrong = |why: &str| Error::Invalid { what: "what is to be laid out".into(), why: why.into() };
        let mut out = Layout::default();
        let mut turn = 0u32;
        for Wanted { sha256, ranges } in wanted {
            let mut end = None;
            for &(from, to) in &ranges {
                if from >= to || end.is_some_and(|end| from < end) {
                    return Err(wrong("has ranges that are not in order"));
                }
                end = Some(to);
            }
            let first = turn;
            turn = u32::try_from(ranges.len())
                .ok()
                .and_then(|count| turn.checked_add(count))
                .ok_or_else(|| wrong("is too much"))?;
            if end.is_none() || out.plans.insert(sha256, (first, ranges)).is_some() {
                return Err(wrong("has a chunk twice, or one of which nothing is wanted"));
            }
        }
        Ok(out)
    }

    /// Whether a chunk is to be laid out again.
    pub fn wants(&self, sha256: &[u8; 32]) -> bool {
        self.plans.contains_key(sha256)
    }

    /// How a chunk of so many bytes is cut; ranges end where it does.
    pub fn pieces(&self, digest: &Digest) -> Vec<Piece> {
        let Some((first, ranges)) = self.plans.get(&digest.sha256) else { return Vec::new() };
        let size = digest.size as u32;
        let (mut out, mut at) = (Vec::new(), 0);
        let mut piece = |from: u32, to: u32, turn| {
            if from < to {
                out.push(Piece { from: from as usize, to: to as usize, turn });
            }
        };
        for (&(from, to), turn) in ranges.iter().zip(*first..) {
            let (from, to) = (from.min(size), to.min(size));
            rest(at, from, &mut piece);
            piece(from, to, Some(turn));
            at = to;
        }
        rest(at, size, &mut piece);
        out
    }

    /// A chunk became these, in order.
    pub fn note_cut(&self, chunk: &Digest, pieces: Vec<Digest>) {
        lock(&self.cut).insert(chunk.sha256, pieces);
    }

    /// What a chunk became, if it was cut.
    pub fn cut_of(&self, chunk: &Digest) -> Option<Vec<Digest>> {
        lock(&self.cut).get(&chunk.sha256).cloned()
    }

    /// Let pieces, with their turns, wait for those before them; gives the frames whose turn has come.
    pub fn add(&self, pieces: Vec<(u32, Digest, Vec<u8>)>) -> Vec<Batch> {
        let mut waiting = lock(&self.waiting);
        for (turn, digest, bytes) in pieces {
            waiting.bytes += bytes.len();
            waiting.pieces.insert(turn, (digest, bytes));
        }
        let mut full = Vec::new();
        while let Some(first) = waiting.pieces.first_entry().map(|entry| *entry.key())
            && (first <= waiting.next || waiting.bytes > WAITING)
        {
            waiting.lay_out_first(&mut full);
        }
        full
    }

    /// All that still waits.
    pub fn finish(&self) -> Vec<Batch> {
        let mut waiting = lock(&self.waiting);
        let mut full = Vec::new();
        while !waiting.pieces.is_empty() {
            waiting.lay_out_first(&mut full);
        }
        if !waiting.batch.pieces.is_empty() {
            full.push(std::mem::take(&mut waiting.batch));
        }
        full
    }
}

impl Waiting {
    fn lay_out_first(&mut self, full: &mut Vec<Batch>) {
        let Some((turn, (digest, bytes))) = self.pieces.pop_first() else { return };
        self.next = self.next.max(turn + 1);
        self.bytes -= bytes.len();
        if !self.seen.insert(digest.sha256) {
            return;
        }
        if !FrameWriter::fits_layout(self.batch.plain, bytes.len()) {
            full.push(std::mem::take(&mut self.batch));
        }
        self.batch.plain += FrameWriter::room(bytes.len());
        self.batch.pieces.push((digest, bytes));
    }
}

fn rest(mut at: u32, end: u32, piece: &mut impl FnMut(u32, u32, Option<u32>)) {
    while at < end {
        let to = end.min(at + REST);
        piece(at, to, None);
        at = to;
    }
}
