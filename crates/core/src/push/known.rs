//! What the store is known to have: all fragments searched as one.

use std::sync::Arc;

use super::fragment::{Fragment, PackName};
use crate::digest::Digest;
use crate::error::Result;
use crate::filemap::{ChunkAt, FrameAt};

/// Immutable; shared by all workers of a push.
pub struct Known {
    fragments: Vec<(Fragment, Vec<Arc<PackName>>)>,
    /// (first eight bytes of the digest, fragment, row), sorted.
    rows: Vec<(u64, u32, u32)>,
}

fn prefix(sha256: &[u8; 32]) -> u64 {
    u64::from_be_bytes(sha256[..8].try_into().expect("eight bytes were sliced"))
}

impl Known {
    /// # Errors
    /// `Damaged` or `NewerFormat` of a fragment.
    pub fn new(fragments: Vec<Vec<u8>>) -> Result<Known> {
        let mut out = Known { fragments: Vec::with_capacity(fragments.len()), rows: Vec::new() };
        for (number, bytes) in fragments.into_iter().enumerate() {
            let fragment = Fragment::parse(bytes)?;
            let row = |row| (prefix(fragment.chunk_sha(row)), number as u32, row as u32);
            out.rows.extend((0..fragment.len()).map(row));
            let packs = fragment.packs().map(|pack| Arc::new(*pack)).collect();
            out.fragments.push((fragment, packs));
        }
        out.rows.sort_unstable();
        Ok(out)
    }

    /// Where a chunk lies. Of several places always the same one: that in the pack of the lowest name, so that pages of file
    /// maps do not change with the order in which fragments are met.
    pub fn chunk(&self, digest: &Digest) -> Option<ChunkAt> {
        let wanted = prefix(&digest.sha256);
        let first = self.rows.partition_point(|row| row.0 < wanted);
        let same = self.rows[first..].iter().take_while(|row| row.0 == wanted);
        let places = same.filter_map(|&(_, fragment, row)| {
            let (fragment, packs) = &self.fragments[fragment as usize];
            let (pack, lying) = fragment.chunk(row as usize);
            (lying.digest == *digest).then(|| ChunkAt {
                digest: *digest,
                frame: FrameAt {
                    pack: packs[pack as usize].clone(),
                    offset: lying.offset,
                    length: lying.length,
                    plain: lying.plain,
                },
                inner: lying.inner,
            })
        });
        places.min_by(|a, b| a.frame.cmp(&b.frame))
    }

    /// The chunks of a large blob, all of them known too.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<Digest>> {
        let pieces = self.fragments.iter().find_map(|(fragment, _)| fragment.blob(digest))?;
        let whole = pieces.iter().map(|piece| piece.size).sum::<u64>() == digest.size;
        (whole && pieces.iter().all(|piece| self.chunk(piece).is_some())).then_some(pieces)
    }
}
