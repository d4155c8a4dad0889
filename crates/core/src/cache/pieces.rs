//! Which chunks a range of a blob touches, and which of them were proved.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::digest::Digest;
use crate::filemap::{ChunkAt, Content};

/// A chunk's share of a range.
pub struct Piece<'a> {
    pub index: usize,
    pub chunk: &'a ChunkAt,
    /// Where the chunk begins in the blob.
    pub start: u64,
    /// How much of the chunk lies before the range.
    pub skip: u64,
    /// Its place in the buffer of the range.
    pub target: Range<usize>,
}

/// The chunks under `length` bytes at `offset`, which must lie within the blob.
pub fn covering(content: &Content, offset: u64, length: usize) -> impl Iterator<Item = Piece<'_>> {
    let end = offset + length as u64;
    let mut start = 0;
    let placed = content.chunks.iter().enumerate().map(move |(index, chunk)| {
        let at = start;
        start += chunk.digest.size;
        (index, chunk, at)
    });
    let under = placed
        .skip_while(move |(_, chunk, start)| start + chunk.digest.size <= offset)
        .take_while(move |&(_, _, start)| start < end);
    under.map(move |(index, chunk, start)| {
        let from = start.max(offset);
        let to = (start + chunk.digest.size).min(end);
        let target = (from - offset) as usize..(to - offset) as usize;
        Piece { index, chunk, start, skip: from - start, target }
    })
}

/// Which chunks of a file this process has proved. Two file maps may cut one blob differently, one of them in bad faith:
/// a proof is of one digest at one place.
pub struct Proofs(Vec<Proof>);

struct Proof {
    start: u64,
    digest: Digest,
    given: AtomicBool,
}

impl Proofs {
    pub fn new(content: &Content) -> Proofs {
        let mut start = 0;
        let proof = |chunk: &ChunkAt| {
            let proof = Proof { start, digest: chunk.digest, given: AtomicBool::new(false) };
            start += chunk.digest.size;
            proof
        };
        Proofs(content.chunks.iter().map(proof).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Where chunk `index` begins, if it is `digest`.
    pub fn start(&self, index: usize, digest: &Digest) -> Option<u64> {
        self.0.get(index).filter(|proof| proof.digest == *digest).map(|proof| proof.start)
    }

    pub fn is_given(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|proof| proof.given.load(Relaxed))
    }

    pub fn give(&self, index: usize) {
        if let Some(proof) = self.0.get(index) {
            proof.given.store(true, Relaxed);
        }
    }

    pub fn is_proved(&self, piece: &Piece) -> bool {
        self.start(piece.index, &piece.chunk.digest) == Some(piece.start) && self.is_given(piece.index)
    }

    /// Read the whole chunk and prove it; its bytes, if it is right.
    pub fn prove(&self, file: &File, piece: &Piece) -> Option<Vec<u8>> {
        let bytes = read_proved(file, piece.start, &piece.chunk.digest)?;
        if self.start(piece.index, &piece.chunk.digest) == Some(piece.start) {
            self.give(piece.index);
        }
        Some(bytes)
    }

    /// The first chunk that is not right.
    pub fn first_wrong(&self, file: &File) -> Option<usize> {
        self.0.iter().position(|proof| read_proved(file, proof.start, &proof.digest).is_none())
    }
}

fn read_proved(file: &File, start: u64, digest: &Digest) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(digest.size).ok()?];
    file.read_exact_at(&mut bytes, start).ok()?;
    (Digest::of(&bytes) == *digest).then_some(bytes)
}
