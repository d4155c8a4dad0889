//! Index fragments: what a store has, in bytes that are searched as they are.
//!
//! Invariant: a fragment's rows are sorted and every number in them points inside; what passes `parse` is safe to look up.
//! Bytes: docs/format.md, "Index fragment".

use std::collections::HashMap;

use crate::archive::{Lying, MAX_PAGE_FRAME};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::ChunkAt;

const MAGIC: &[u8; 8] = b"SAPWFRG\n";
const ORDER: u32 = 0x0102_0304;
const HEADER: usize = 32;
const CHUNK: usize = 56;
const BLOB: usize = 48;
const PIECE: usize = 36;

pub type PackName = [u8; 32];

/// The parsed bytes of a fragment.
pub struct Fragment {
    bytes: Vec<u8>,
    packs: usize,
    chunks: usize,
    blobs: usize,
    pieces: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

fn sha_at(bytes: &[u8], at: usize) -> &[u8; 32] {
    bytes[at..at + 32].try_into().expect("32 bytes were sliced")
}

impl Fragment {
    /// # Errors
    /// `Damaged`, `NewerFormat`.
    pub fn parse(bytes: Vec<u8>) -> Result<Fragment> {
        let damaged = |found: &str| Error::damaged("index fragment", found);
        if !bytes.starts_with(MAGIC) || bytes.len() < 12 {
            return Err(damaged("it has no header"));
        }
        // Said before anything else, for a newer one may be laid out in another way.
        match u32_at(&bytes, 8) {
            1 => {}
            version @ 2.. => {
                return Err(Error::NewerFormat { what: "index fragment".into(), version: version.into() });
            }
            0 => return Err(damaged("format 0")),
        }
        if bytes.len() < HEADER || u32_at(&bytes, 12) != ORDER {
            return Err(damaged("it has no header"));
        }
        let count = |i: usize| u32_at(&bytes, 16 + 4 * i) as usize;
        let (packs, chunks, blobs, pieces) = (count(0), count(1), count(2), count(3));
        if bytes.len() != HEADER + 32 * packs + CHUNK * chunks + BLOB * blobs + PIECE * pieces {
            return Err(damaged("its counts do not add up to its length"));
        }
        let fragment = Fragment { bytes, packs, chunks, blobs, pieces };
        let inside =
            (0..chunks).all(|row| (fragment.pack_number(row) as usize) < packs && fits(&fragment.chunk(row).1));
        let (in_blobs, sorted) = ((0..blobs).all(|row| fragment.pieces_of(row).is_some()), fragment.is_sorted());
        if inside && in_blobs && sorted { Ok(fragment) } else { Err(damaged("its rows contradict each other")) }
    }

    fn is_sorted(&self) -> bool {
        (1..self.chunks).all(|row| self.chunk_sha(row - 1) < self.chunk_sha(row))
            && (1..self.blobs).all(|row| self.blob_sha(row - 1) < self.blob_sha(row))
    }

    fn chunk_at(&self, row: usize) -> usize {
        HEADER + 32 * self.packs + CHUNK * row
    }

    fn blob_at(&self, row: usize) -> usize {
        self.chunk_at(self.chunks) + BLOB * row
    }

    /// The number of the pack that the chunk of a row lies in.
    pub fn pack_number(&self, row: usize) -> u32 {
        u32_at(&self.bytes, self.chunk_at(row) + 36)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many chunks it names.
    pub fn len(&self) -> usize {
        self.chunks
    }

    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    pub fn pack(&self, number: u32) -> &PackName {
        sha_at(&self.bytes, HEADER + 32 * number as usize)
    }

    pub fn packs(&self) -> impl Iterator<Item = &PackName> {
        (0..self.packs as u32).map(|number| self.pack(number))
    }

    pub fn chunk_sha(&self, row: usize) -> &[u8; 32] {
        sha_at(&self.bytes, self.chunk_at(row))
    }

    pub fn chunk_size(&self, row: usize) -> u32 {
        u32_at(&self.bytes, self.chunk_at(row) + 32)
    }

    /// The chunk of a row: number of its pack and where it lies in it.
    pub fn chunk(&self, row: usize) -> (u32, Lying) {
        let at = self.chunk_at(row);
        let number = |i: usize| u32_at(&self.bytes, at + 32 + 4 * i);
        let digest = Digest { sha256: *self.chunk_sha(row), size: number(0).into() };
        (number(1), Lying { digest, offset: number(2), length: number(3), plain: number(4), inner: number(5) })
    }

    fn blob_sha(&self, row: usize) -> &[u8; 32] {
        sha_at(&self.bytes, self.blob_at(row))
    }

    /// The chunks of the large blob of a row; `None` when they would lie outside.
    fn pieces_of(&self, row: usize) -> Option<impl Iterator<Item = Digest> + '_> {
        let at = self.blob_at(row) + 40;
        let (first, count) = (u32_at(&self.bytes, at) as usize, u32_at(&self.bytes, at + 4) as usize);
        let end = first.checked_add(count).filter(|&end| end <= self.pieces)?;
        let table = self.blob_at(self.blobs);
        Some((first..end).map(move |piece| {
            let at = table + PIECE * piece;
            Digest { sha256: *sha_at(&self.bytes, at), size: u32_at(&self.bytes, at + 32).into() }
        }))
    }

    /// How many large blobs it names.
    pub fn blob_count(&self) -> usize {
        self.blobs
    }

    fn blob_size(&self, row: usize) -> u64 {
        let at = self.blob_at(row) + 32;
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
    }

    /// The row of a large blob.
    pub fn blob_row(&self, digest: &Digest) -> Option<usize> {
        let (mut low, mut high) = (0, self.blobs);
        while low < high {
            let middle = usize::midpoint(low, high);
            if *self.blob_sha(middle) < digest.sha256 { low = middle + 1 } else { high = middle }
        }
        (low < self.blobs && *self.blob_sha(low) == digest.sha256).then_some(low)
    }

    /// The chunks of a large blob, if this fragment knows it.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<Digest>> {
        self.pieces_of(self.blob_row(digest)?).map(Iterator::collect)
    }

    pub fn blobs(&self) -> impl Iterator<Item = (Digest, Vec<Digest>)> + '_ {
        (0..self.blobs).map(|row| {
            let pieces = self.pieces_of(row).expect("checked by parse").collect();
            (Digest { sha256: *self.blob_sha(row), size: self.blob_size(row) }, pieces)
        })
    }
}

/// Whether a chunk can lie where it is said to.
fn fits(lying: &Lying) -> bool {
    let end = u64::from(lying.inner) + lying.digest.size;
    end <= u64::from(lying.plain) && lying.plain as usize <= MAX_PAGE_FRAME && lying.length as usize <= MAX_PAGE_FRAME
}

/// Collects rows and writes a fragment.
#[derive(Default)]
pub struct FragmentWriter {
    numbers: HashMap<PackName, u32>,
    packs: Vec<PackName>,
    chunks: Vec<(u32, Lying)>,
    blobs: Vec<(Digest, Vec<Digest>)>,
    pieces: usize,
}

impl FragmentWriter {
    /// How many bytes the fragment has at most.
    pub fn bytes(&self) -> usize {
        let (packs, chunks, blobs) = (self.packs.len(), self.chunks.len(), self.blobs.len());
        HEADER + 32 * packs + CHUNK * chunks + BLOB * blobs + PIECE * self.pieces
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.blobs.is_empty()
    }

    pub fn chunks(&mut self, pack: &PackName, chunks: impl IntoIterator<Item = Lying>) {
        let number = self.number(pack);
        self.chunks.extend(chunks.into_iter().map(|lying| (number, lying)));
    }

    /// A chunk, or a page, where a file map says that it lies.
    pub fn chunk(&mut self, chunk: &ChunkAt) {
        let ChunkAt { digest, frame, inner } = chunk;
        let (offset, length, plain) = (frame.in_pack(), frame.length, frame.plain);
        self.chunks(&frame.pack, [Lying { digest: *digest, offset, length, plain, inner: *inner }]);
    }

    fn number(&mut self, pack: &PackName) -> u32 {
        *self.numbers.entry(*pack).or_insert_with(|| {
            self.packs.push(*pack);
            self.packs.len() as u32 - 1
        })
    }

    pub fn blob(&mut self, digest: Digest, pieces: Vec<Digest>) {
        self.pieces += pieces.len();
        self.blobs.push((digest, pieces));
    }

    /// Take over every row of another fragment.
    pub fn fragment(&mut self, fragment: &Fragment) {
        self.part(fragment, |_| true, |_| true);
    }

    /// Take over those rows of another fragment, of chunks and of large blobs, that are to be kept.
    pub fn part(&mut self, fragment: &Fragment, chunk: impl Fn(usize) -> bool, blob: impl Fn(usize) -> bool) {
        let mut numbers = vec![None; fragment.packs];
        for row in (0..fragment.len()).filter(|&row| chunk(row)) {
            let (pack, lying) = fragment.chunk(row);
            let number = *numbers[pack as usize].get_or_insert_with(|| self.number(fragment.pack(pack)));
            self.chunks.push((number, lying));
        }
        for (_, (digest, pieces)) in fragment.blobs().enumerate().filter(|&(row, _)| blob(row)) {
            self.blob(digest, pieces);
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        // Stable, for that is quick where much is sorted already.
        self.chunks.sort_by(|(a_pack, a), (b_pack, b)| {
            a.digest.sha256.cmp(&b.digest.sha256).then_with(|| (a_pack, a.offset).cmp(&(b_pack, b.offset)))
        });
        self.chunks.dedup_by_key(|(_, lying)| lying.digest.sha256);
        self.blobs.sort_by_key(|(digest, _)| digest.sha256);
        self.blobs.dedup_by_key(|(digest, _)| digest.sha256);
        let pieces: usize = self.blobs.iter().map(|(_, pieces)| pieces.len()).sum();
        let mut out = Vec::with_capacity(self.bytes());
        out.extend_from_slice(MAGIC);
        let counts = [self.packs.len(), self.chunks.len(), self.blobs.len(), pieces].map(|count| count as u32);
        for number in [1, ORDER].into_iter().chain(counts) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.packs.iter().for_each(|pack| out.extend_from_slice(pack));
        for (pack, lying) in &self.chunks {
            out.extend_from_slice(&lying.digest.sha256);
            for number in [lying.digest.size as u32, *pack, lying.offset, lying.length, lying.plain, lying.inner] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        let mut first = 0u32;
        for (digest, pieces) in &self.blobs {
            out.extend_from_slice(&digest.sha256);
            out.extend_from_slice(&digest.size.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&(pieces.len() as u32).to_le_bytes());
            first += pieces.len() as u32;
        }
        for piece in self.blobs.iter().flat_map(|(_, pieces)| pieces) {
            out.extend_from_slice(&piece.sha256);
            out.extend_from_slice(&(piece.size as u32).to_le_bytes());
        }
        out
    }
}
