//! Cutting large blobs into chunks by content.
//!
//! Invariant: cut points depend on the blob alone, not on how its bytes arrive, and are those of REAPI's `FastCdc2020Params`
//! with the sizes below. Source: W. Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", 2020; crate `fastcdc`. Vectors: tests/golden/bounds.tsv.

use fastcdc::v2020::{FastCDC, Normalization};

use crate::error::Result;

const MIN_CHUNK: usize = 128 * 1024;
const AVERAGE_CHUNK: usize = 512 * 1024;
/// The largest chunk; a blob smaller than this is one chunk.
pub const MAX_CHUNK: usize = 2 * 1024 * 1024;

/// Takes a blob piece by piece and gives its chunks as soon as they are certain.
#[derive(Default)]
pub struct Cutter {
    buffer: Vec<u8>,
    start: usize,
}

impl Cutter {
    /// Forget what was taken.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
    }

    /// Take the next bytes of the blob; `chunk` gets each chunk that they complete.
    pub fn piece(&mut self, bytes: &[u8], mut chunk: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.start > 0 && self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() - self.start >= MAX_CHUNK {
            self.cut(&mut chunk)?;
        }
        Ok(())
    }

    /// The blob has ended: `chunk` gets the rest.
    pub fn finish(&mut self, mut chunk: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.start < self.buffer.len() {
            self.cut(&mut chunk)?;
        }
        self.clear();
        Ok(())
    }

    fn cut(&mut self, chunk: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let window = &self.buffer[self.start..];
        let cdc = FastCDC::with_level(window, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK, Normalization::Level2);
        let (_, end) = cdc.cut(0, window.len());
        chunk(&window[..end])?;
        self.start += end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
