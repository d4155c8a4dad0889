//! What a server of blobs does for each of the many blobs of a call: looked up, proved, made a record.
//!
//! Invariant: a call is read where it lies, once; nothing is kept of a blob but its digest and where it lies.
//! Not here: who may call, what is durable when, and all other calls (python/sapwood/serve). Bytes: docs/format.md, "Staging".

mod batch;
mod finding;
mod log;
mod piece;
mod staged;

use std::ops::Range;

use crate::digest::{Digest, parse_hex};
use crate::push::Known;
use crate::wire::{Fields, Value};

pub use batch::{Batch, Wrong};
pub use finding::Finding;
pub use log::{ACTION, BLOB, Record, Records, lay_out, record};
pub use piece::Piece;
pub use staged::{Place, Staged};

#[cfg(test)]
mod tests;

/// Of a clock's width; what is more can be no blob.
const LARGEST: u64 = 1 << 50;

/// A message `Digest`: its hash and size as they came.
#[derive(Clone, Copy, Default)]
pub struct Told<'a> {
    pub hash: &'a [u8],
    pub size: i64,
}

impl<'a> Told<'a> {
    fn of(message: &'a [u8]) -> Option<Told<'a>> {
        let mut told = Told::default();
        for field in Fields(message) {
            match field? {
                (1, Value::Bytes(hash)) => told.hash = hash,
                (2, Value::Number(size)) => told.size = size.cast_signed(),
                _ => {}
            }
        }
        Some(told)
    }

    /// `None`: no blob has such a one.
    fn digest(&self) -> Option<Digest> {
        let size = u64::try_from(self.size).ok().filter(|&size| size < LARGEST)?;
        let sha256 = std::str::from_utf8(self.hash).ok().and_then(parse_hex)?;
        Some(Digest { sha256, size })
    }
}

/// Where in a message a part of it lies.
fn range_of(message: &[u8], part: &[u8]) -> Range<usize> {
    let at = part.as_ptr() as usize - message.as_ptr() as usize;
    at..at + part.len()
}

/// Where blobs may be: staged, or in any of what packs hold.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    pub staged: &'a Staged,
    pub held: &'a [&'a Known],
}

impl Here<'_> {
    pub fn has(&self, digest: &Digest) -> bool {
        (digest.size == 0 && *digest == Digest::of(b""))
            || self.staged.has(digest)
            || self.held.iter().any(|known| known.has(digest) || known.pieces(digest).is_some())
    }
}
