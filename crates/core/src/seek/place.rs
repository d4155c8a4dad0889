//! In which frame a chunk lies: one reaches from checkpoint to checkpoint, and has what its last chunk needs.
//!
//! Invariant: each chunk is noted when it was read, so no checkpoint before its end is missing, and placed when all were.

use super::content::NOWHERE;
use super::{Checkpoint, LONGEST_FRAME};
use crate::archive::MAX_PAGE_FRAME;
use crate::filemap::{ChunkAt, Content, Entry, Kind};

/// Plain bytes that chunks need of each frame.
#[derive(Default)]
pub struct Needs(Vec<u64>);

impl Needs {
    /// Note the chunks of a file; there are no points in a plain tar.
    pub fn note(&mut self, content: &Content, points: &[Checkpoint]) {
        self.0.resize(points.len(), 0);
        for ChunkAt { frame, .. } in content.chunks.iter().filter(|chunk| chunk.frame.offset != NOWHERE) {
            if let Some(number) = frame_of(frame.offset, points) {
                let need = frame.offset - points[number].plain + u64::from(frame.plain);
                self.0[number] = self.0[number].max(need);
            }
        }
    }

    /// Whether one needs more than is ever decompressed.
    pub fn are_too_many(&self) -> bool {
        self.0.iter().any(|&need| need > MAX_PAGE_FRAME as u64)
    }

    /// Say of each chunk of an entry in which frame it lies; the archive has `size` bytes.
    pub fn place(&self, entry: &mut Entry, points: &[Checkpoint], size: u64) {
        let Kind::Regular(content) = &mut entry.kind else { return };
        for ChunkAt { frame, inner, .. } in &mut content.chunks {
            if frame.offset == NOWHERE {
                (frame.offset, frame.length) = (size, 0);
            } else if let Some(number) = frame_of(frame.offset, points) {
                let point = &points[number];
                let end = points.get(number + 1).map_or(size, |next| next.at + u64::from(next.bit > 0));
                // More of it is no tar: frames that are skipped.
                let length = (end - point.at).min(LONGEST_FRAME) as u32;
                *inner = (frame.offset - point.plain) as u32;
                (frame.offset, frame.length, frame.plain) = (point.at, length, self.0[number] as u32);
            } else {
                frame.length = frame.plain;
            }
        }
    }
}

fn frame_of(plain: u64, points: &[Checkpoint]) -> Option<usize> {
    points.partition_point(|point| point.plain <= plain).checked_sub(1)
}
