//! Where the chunks of a blob begin and end, for who looks places up many times.
//!
//! Invariant: it costs its blob's chunks once, and each look the logarithm of their number.

use std::ops::Range;

use crate::filemap::Content;

/// Of each chunk, where it ends in the blob.
#[derive(Debug)]
pub struct Bounds(Vec<u64>);

impl Bounds {
    pub fn of(content: &Content) -> Bounds {
        let ends = content.chunks.iter().scan(0, |end, chunk| {
            *end += chunk.digest.size;
            Some(*end)
        });
        Bounds(ends.collect())
    }

    /// The index of the chunk that holds the byte at `offset`; one behind the last where there is none.
    pub fn chunk_at(&self, offset: u64) -> usize {
        self.0.partition_point(|&end| end <= offset)
    }

    /// The indexes of the chunks that hold bytes from `start` to `end`.
    pub fn under(&self, start: u64, end: u64) -> Range<usize> {
        let first = self.chunk_at(start);
        let count = self.0.len() - first;
        first..first + (0..count).take_while(|next| self.begin(first + next) < end).count()
    }

    /// The chunks that hold bytes from `start` to `end`: of each, where it begins and where it ends.
    pub fn covering(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        self.under(start, end).map(|index| (self.begin(index), self.0[index]))
    }

    fn begin(&self, index: usize) -> u64 {
        if index == 0 { 0 } else { self.0[index - 1] }
    }
}
