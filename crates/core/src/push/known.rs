//! What the store is known to have: the holdings and all fragments searched as one.
//!
//! Invariant: only what may be re-used is found (docs/store.md, "Push"): what the holdings say, and of the other fragments what
//! lies in a usable pack.

use std::collections::HashSet;
use std::sync::Arc;

use super::fragment::{Fragment, PackName};
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::Result;
use crate::filemap::{ChunkAt, FrameAt};

/// Immutable; shared by all workers of a push.
#[derive(Default)]
pub struct Known {
    sources: Vec<Source>,
    /// Whether the first source is the holdings.
    held: bool,
    /// (first eight bytes of the digest, source, row), sorted.
    rows: Vec<(u64, u32, u32)>,
    /// Where the rows begin whose digest begins with these 16 bits; one more at the end.
    buckets: Vec<u32>,
    /// Sizes of blobs that were cut otherwise than a push cuts.
    laid_out: HashSet<u64>,
}

struct Source {
    fragment: Fragment,
    /// `None`: not usable.
    packs: Vec<Option<Arc<PackName>>>,
}

/// Which packs may be re-used, where that was looked up.
#[derive(Default)]
pub struct Usable {
    /// Those that are there, in some form.
    pub there: HashSet<PackName>,
    /// Those of them that are neither condemned nor moved.
    pub sound: HashSet<PackName>,
}

fn prefix(sha256: &[u8; 32]) -> u64 {
    u64::from_be_bytes(sha256[..8].try_into().expect("eight bytes were sliced"))
}

impl Known {
    /// Of the holdings, if there are any, and of `fragments`. Without `usable` every pack is.
    ///
    /// # Errors
    /// `Damaged` or `NewerFormat` of a fragment.
    pub fn new(holdings: Option<Vec<u8>>, fragments: Vec<Vec<u8>>, usable: Option<&Usable>) -> Result<Known> {
        let mut out = Known { held: holdings.is_some(), ..Known::default() };
        for (number, bytes) in holdings.into_iter().chain(fragments).enumerate() {
            let fragment = Fragment::parse(bytes)?;
            let allowed = usable.map(|usable| if out.is_holdings(number) { &usable.there } else { &usable.sound });
            let allows = |pack: &&PackName| allowed.is_none_or(|allowed| allowed.contains(*pack));
            let packs: Vec<_> =
                fragment.packs().map(|pack| Some(pack).filter(allows).map(|pack| Arc::new(*pack))).collect();
            let rows = (0..fragment.len()).filter(|&row| packs[fragment.pack_number(row) as usize].is_some());
            out.rows.extend(rows.map(|row| (prefix(fragment.chunk_sha(row)), number as u32, row as u32)));
            out.laid_out.extend(fragment.blobs().filter(|(_, pieces)| is_laid_out(pieces)).map(|(blob, _)| blob.size));
            out.sources.push(Source { fragment, packs });
        }
        // One source alone is sorted already, which this finds out at once.
        out.rows.sort();
        let mut row = 0;
        for bucket in 0..=1u64 << 16 {
            row += out.rows[row..].iter().take_while(|(prefix, ..)| prefix >> 48 < bucket).count();
            out.buckets.push(row as u32);
        }
        Ok(out)
    }

    fn is_holdings(&self, source: usize) -> bool {
        self.held && source == 0
    }

    /// Whether the holdings are there, and all packs that they name.
    pub fn holds_all(&self) -> bool {
        self.held && self.sources[0].packs.iter().all(Option::is_some)
    }

    /// The holdings.
    pub fn holdings(&self) -> Option<&Fragment> {
        self.held.then(|| &self.sources[0].fragment)
    }

    fn same<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = (usize, usize)> + 'a {
        let wanted = prefix(&digest.sha256);
        let bucket = (wanted >> 48) as usize;
        let within = match self.buckets.get(bucket..bucket + 2) {
            Some(bounds) => &self.rows[bounds[0] as usize..bounds[1] as usize],
            None => &[],
        };
        let first = within.partition_point(|row| row.0 < wanted);
        let same = within[first..].iter().take_while(move |row| row.0 == wanted);
        same.map(|&(_, source, row)| (source as usize, row as usize)).filter(|&(source, row)| {
            let fragment = &self.sources[source].fragment;
            fragment.chunk_sha(row) == &digest.sha256 && u64::from(fragment.chunk_size(row)) == digest.size
        })
    }

    fn at(&self, (source, row): (usize, usize)) -> ChunkAt {
        let Source { fragment, packs } = &self.sources[source];
        let (pack, lying) = fragment.chunk(row);
        let pack = packs[pack as usize].clone().expect("rows in other packs were left out");
        let frame = FrameAt { pack, offset: lying.offset.into(), length: lying.length, plain: lying.plain };
        ChunkAt { digest: lying.digest, frame, inner: lying.inner }
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.same(digest).next().is_some()
    }

    /// Where a chunk lies: where the holdings say, so that pages stay as they are; else, of several places, in the pack of the
    /// lowest name, so that pages do not change with the order in which fragments are met.
    pub fn chunk(&self, digest: &Digest) -> Option<ChunkAt> {
        if let Some(row) = self.held_row(digest) {
            return Some(self.at((0, row)));
        }
        self.same(digest).map(|place| self.at(place)).min_by(|a, b| a.frame.cmp(&b.frame))
    }

    /// The row of the holdings that names a chunk.
    pub fn held_row(&self, digest: &Digest) -> Option<usize> {
        self.same(digest).find(|&(source, _)| self.is_holdings(source)).map(|(_, row)| row)
    }

    /// The chunks of a blob that is not empty, all of them known: as the holdings say, else as others do.
    pub fn pieces(&self, digest: &Digest) -> Option<Vec<Digest>> {
        let alone = |is_known: bool| (is_known && digest.size < MAX_CHUNK as u64).then(|| vec![*digest]);
        alone(self.held_row(digest).is_some()).or_else(|| self.blob(digest)).or_else(|| alone(self.has(digest)))
    }

    /// Whether a blob of this size is known that was laid out again: one that comes may be it, and is not to be cut anew.
    pub fn has_laid_out(&self, size: u64) -> bool {
        self.laid_out.contains(&size)
    }

    /// The chunks of a blob that are listed, all of them known too.
    fn blob(&self, digest: &Digest) -> Option<Vec<Digest>> {
        let is_whole = |pieces: &Vec<Digest>| {
            pieces.iter().map(|piece| piece.size).sum::<u64>() == digest.size
                && pieces.iter().all(|piece| self.has(piece))
        };
        self.sources.iter().filter_map(|source| source.fragment.blob(digest)).find(is_whole)
    }
}

/// Whether a blob was cut where something began or ended to be read, at a block of 64 KiB of the file, and not by its content: that
/// cuts there once in 65,536 times, or where its longest chunk ends.
pub(super) fn is_laid_out(pieces: &[Digest]) -> bool {
    let mut end = 0;
    let inner = pieces.len().saturating_sub(1);
    pieces[..inner].iter().any(|piece| {
        end += piece.size;
        end.is_multiple_of(64 << 10) && piece.size < MAX_CHUNK as u64
    })
}
