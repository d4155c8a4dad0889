//! A zstd stream that somebody else makes, decompressed as it comes.
//!
//! Invariant: nothing is given out, nor kept, beyond what was asked for and what was fed, whatever the stream says of itself;
//! a frame whose window is larger than every decoder must know is refused.

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use crate::error::{Error, Result};

/// 8 MiB: what RFC 8878 wants of a decoder.
const LARGEST_WINDOW: u32 = 23;

/// Frames, one after the other.
pub struct Expand {
    decoder: Decoder<'static>,
    fed: Vec<u8>,
    at: usize,
    /// Whether what was decompressed ends where a frame does.
    ended: bool,
}

impl Default for Expand {
    fn default() -> Expand {
        let mut decoder = Decoder::new().expect("zstd has memory for a context");
        decoder.set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW)).expect("zstd knows this parameter");
        Expand { decoder, fed: Vec::new(), at: 0, ended: true }
    }
}

impl Expand {
    /// Give it more of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed.drain(..self.at);
        self.at = 0;
        self.fed.extend_from_slice(bytes);
    }

    /// The next bytes, at most `most` of them; none when more is to be fed, or all was given out.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn take(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut out = vec![0; most];
        let mut filled = 0;
        while filled < most {
            let mut input = InBuffer::around(&self.fed[self.at..]);
            let mut output = OutBuffer::around(&mut out[filled..]);
            let hint = self.decoder.run(&mut input, &mut output);
            let hint = hint.map_err(|error| Error::damaged("zstd stream", error.to_string()))?;
            let (read, wrote) = (input.pos(), output.pos());
            self.at += read;
            filled += wrote;
            if read == 0 && wrote == 0 {
                break;
            }
            self.ended = hint == 0;
        }
        out.truncate(filled);
        Ok(out)
    }

    /// Whether the stream may end here: at the end of a frame, with nothing left of what was fed.
    pub fn is_whole(&self) -> bool {
        self.ended && self.at == self.fed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(expand: &mut Expand, most: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match expand.take(most)? {
                piece if piece.is_empty() => return Ok(out),
                piece => {
                    assert!(piece.len() <= most);
                    out.extend(piece);
                }
            }
        }
    }

    #[test]
    fn frames_come_out_however_they_are_cut_and_only_whole_ones_are_an_end() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut stored = zstd::bulk::compress(&plain[..400_000], 3).expect("compressed");
        stored.extend(zstd::bulk::compress(&plain[400_000..], 1).expect("compressed"));
        for piece in [7_777, stored.len()] {
            let mut expand = Expand::default();
            let mut out = Vec::new();
            assert!(expand.is_whole());
            for fed in stored.chunks(piece) {
                expand.feed(fed);
                out.extend(all(&mut expand, 65_536).expect("sound"));
            }
            assert!(out == plain && expand.is_whole());
        }
        let mut cut = Expand::default();
        cut.feed(&stored[..stored.len() - 1]);
        all(&mut cut, 65_536).expect("as far as it goes");
        assert!(!cut.is_whole());
    }

    #[test]
    fn what_is_no_zstd_and_what_wants_a_huge_window_is_damage() {
        let mut expand = Expand::default();
        expand.feed(b"neither magic nor frame");
        assert!(matches!(expand.take(100), Err(Error::Damaged { .. })));
        // A frame header that asks for a window of 128 MiB.
        let mut expand = Expand::default();
        expand.feed(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0, 0, 0]);
        assert!(matches!(expand.take(100), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_bomb_gives_no_more_than_is_taken() {
        let mut expand = Expand::default();
        expand.feed(&zstd::bulk::compress(&vec![0; 8 << 20], 1).expect("compressed"));
        assert_eq!(expand.take(1000).expect("sound").len(), 1000);
        assert!(!expand.is_whole());
    }
}
