//! The content of a file in a tar: its chunks, and where in the plain stream they lie.
//!
//! Invariant: each byte that was read is in one chunk, in order, and no chunk lies on both sides of a checkpoint; a hole is
//! chunks of zeros, which lie nowhere.

use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;

use super::Checkpoint;
use crate::chunk::{Cutter, MAX_CHUNK};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::filemap::{ChunkAt, Content, FrameAt};
use crate::job::Job;
use crate::tar::{Header, Kind, Reader};

/// Where chunks of zeros lie, until it is known where the archive ends.
pub const NOWHERE: u64 = u64::MAX;

const PIECE: usize = 128 << 10;

/// Takes contents one after the other.
pub struct Contents<'a> {
    cutter: Cutter,
    piece: Vec<u8>,
    places: Places<'a>,
}

impl<'a> Contents<'a> {
    /// `pack` stands for the archive, `points` are all that were passed when a byte behind them is read.
    pub fn new(pack: Arc<[u8; 32]>, points: &'a RefCell<Vec<Checkpoint>>) -> Contents<'a> {
        let places = Places { pack, points, next: 0, chunks: Vec::new() };
        Contents { cutter: Cutter::default(), piece: vec![0; PIECE], places }
    }

    /// The content of the entry that a reader is at. A frame's `offset` is where in the plain stream a chunk begins, its
    /// `plain` how long that is.
    ///
    /// # Errors
    /// Those of the reader; `Stopped`.
    pub fn take<R: Read>(&mut self, reader: &mut Reader<R>, header: &Header, job: &Job) -> Result<Content> {
        let Kind::Regular { size, holes } = &header.kind else {
            return Ok(Content { digest: Digest { sha256: [0; 32], size: 0 }, chunks: Vec::new(), holes: Vec::new() });
        };
        self.places.next = reader.position();
        let digest = if holes.is_empty() && *size < MAX_CHUNK as u64 {
            self.whole(reader, *size as usize)?
        } else {
            self.pieces(reader, *size, holes, job)?
        };
        Ok(Content { digest, chunks: std::mem::take(&mut self.places.chunks), holes: holes.clone() })
    }

    /// Of a blob that is one chunk.
    fn whole<R: Read>(&mut self, reader: &mut Reader<R>, size: usize) -> Result<Digest> {
        if self.piece.len() < size {
            self.piece.resize(size, 0);
        }
        let mut filled = 0;
        while filled < size {
            filled += reader.read(&mut self.piece[filled..size])?;
        }
        let digest = Digest::of(&self.piece[..size]);
        self.places.add(&self.piece[..size], Some(digest));
        Ok(digest)
    }

    fn pieces<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        size: u64,
        holes: &[(u64, u64)],
        job: &Job,
    ) -> Result<Digest> {
        let Contents { cutter, piece, places } = self;
        let mut hasher = Hasher::default();
        let mut at = 0;
        cutter.clear();
        for &(offset, length) in holes.iter().chain(&[(size, 0)]) {
            for (until, is_hole) in [(offset, false), (offset + length, true)] {
                while at < until {
                    let most = usize::try_from(until - at).unwrap_or(usize::MAX).min(PIECE);
                    let count = reader.read(&mut piece[..most])?;
                    job.step(0)?;
                    at += count as u64;
                    hasher.update(&piece[..count]);
                    if !is_hole {
                        cutter.piece(&piece[..count], |chunk| places.add_piece(chunk))?;
                    }
                }
                if !is_hole {
                    cutter.finish(|chunk| places.add_piece(chunk))?;
                }
            }
            places.add_zeros(length);
        }
        Ok(hasher.finish())
    }
}

struct Places<'a> {
    pack: Arc<[u8; 32]>,
    points: &'a RefCell<Vec<Checkpoint>>,
    /// Where in the plain stream the next chunk of data begins.
    next: u64,
    chunks: Vec<ChunkAt>,
}

impl Places<'_> {
    fn add_piece(&mut self, bytes: &[u8]) -> Result<()> {
        self.add(bytes, None);
        Ok(())
    }

    /// A chunk whose digest may be known, as one, or as several with checkpoints between them.
    fn add(&mut self, mut bytes: &[u8], digest: Option<Digest>) {
        let points = self.points.borrow();
        let mut points = points[points.partition_point(|point| point.plain <= self.next)..].iter();
        let mut is_whole = true;
        while !bytes.is_empty() {
            let most = points.next().map_or(bytes.len() as u64, |point| point.plain - self.next);
            let (part, rest) = bytes.split_at(most.min(bytes.len() as u64) as usize);
            is_whole &= rest.is_empty();
            let digest = digest.filter(|_| is_whole).unwrap_or_else(|| Digest::of(part));
            self.chunks.push(self.chunk(digest, self.next));
            self.next += part.len() as u64;
            bytes = rest;
        }
    }

    fn add_zeros(&mut self, mut length: u64) {
        let mut known: Option<Digest> = None;
        while length > 0 {
            let size = length.min(MAX_CHUNK as u64);
            let digest = known.filter(|digest| digest.size == size);
            let digest = digest.unwrap_or_else(|| Digest::of(&vec![0; size as usize]));
            known = Some(digest);
            self.chunks.push(self.chunk(digest, NOWHERE));
            length -= size;
        }
    }

    fn chunk(&self, digest: Digest, offset: u64) -> ChunkAt {
        let frame = FrameAt { pack: self.pack.clone(), offset, length: 0, plain: digest.size as u32 };
        ChunkAt { digest, frame, inner: 0 }
    }
}
