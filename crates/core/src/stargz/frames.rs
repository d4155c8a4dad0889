//! How far each frame of an archive reaches, as far as its TOC tells.
//!
//! Invariant: a frame ends where the data does, at the latest, and has no more than its plain bytes can need.
//! Bytes: docs/archive.md, "Reading".

use crate::filemap::{ChunkAt, Entry, Kind};

/// Compressed bytes that a frame may need beyond a quarter more than its plain ones.
const SLACK: u64 = 64 << 10;

/// What is needed of the frame that begins at `offset`: so many plain bytes, and of those behind it up to that at `last`.
pub struct Span {
    pub offset: u64,
    pub plain: u64,
    pub last: u64,
}

/// The archive's frames, by where they begin.
pub struct Frames {
    spans: Vec<Span>,
    payload: u64,
}

impl Frames {
    pub fn of(mut spans: Vec<Span>, payload: u64) -> Frames {
        if !spans.is_sorted_by_key(|span| span.offset) {
            spans.sort_unstable_by_key(|span| span.offset);
        }
        spans.dedup_by(|next, span| {
            let is_same = next.offset == span.offset;
            if is_same {
                (span.plain, span.last) = (span.plain.max(next.plain), span.last.max(next.last));
            }
            is_same
        });
        Frames { spans, payload }
    }

    /// Say of each chunk how far its frame reaches.
    pub fn place(&self, bodies: &mut [Entry]) {
        let mut at = 0;
        for body in bodies {
            let Kind::Regular(content) = &mut body.kind else { continue };
            // Of zeros there is no frame.
            for ChunkAt { frame, .. } in content.chunks.iter_mut().filter(|chunk| chunk.frame.offset < self.payload) {
                (frame.length, frame.plain) = self.reach(&mut at, frame.offset);
            }
        }
    }

    /// How long the frame at `offset` is, compressed and plain; `at` is kept from the last to the next.
    pub fn reach(&self, at: &mut usize, offset: u64) -> (u32, u32) {
        // Mostly the same or the next.
        *at = match [*at, *at + 1].into_iter().find(|&at| self.begin(at) == offset) {
            Some(at) => at,
            None => self.spans.partition_point(|span| span.offset < offset),
        };
        let Span { plain, last, .. } = self.spans[*at];
        let next = if last == offset { *at + 1 } else { self.spans.partition_point(|s| s.offset <= last) };
        let length = (self.begin(next) - offset).min(plain + plain / 4 + SLACK);
        (length as u32, plain as u32)
    }

    /// Where a frame begins; behind the last, where the data ends.
    fn begin(&self, at: usize) -> u64 {
        self.spans.get(at).map_or(self.payload, |span| span.offset)
    }
}
