//! The text of a TOC out of the compressed bytes that a footer points at.
//!
//! Invariant: what is decompressed is bounded by what came in and by `LONGEST`, and hashed as it goes by.

use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::Footer;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};

/// The one entry of a gzip archive's last tar.
pub const TOC_NAME: &[u8] = b"stargz.index.json";
/// No TOC has more bytes; nor more than `RATIO` times those it is compressed to: deflate cannot do better than 1,032.
pub const LONGEST: u64 = 4 << 30;
const RATIO: u64 = 1_100;
/// Padding and the end of the tar, as any writer has them.
const LONGEST_END: u64 = 64 << 10;

/// A TOC's text, as a reader; its digest is known when it has been read to its end.
pub struct TocText<'a> {
    from: Box<dyn Read + Send + 'a>,
    left: u64,
    hasher: Hasher,
}

fn damaged(found: impl Into<String>) -> Error {
    Error::damaged("archive", found)
}

impl<'a> TocText<'a> {
    /// `compressed` are the `length` bytes of `footer.toc`, or an external TOC.
    ///
    /// # Errors
    /// `Damaged` when they are no TOC, or a larger one than any is.
    pub fn open(footer: &Footer, compressed: impl Read + Send + 'a, length: u64) -> Result<TocText<'a>> {
        let bound = LONGEST.min(length.saturating_mul(RATIO).saturating_add(4096));
        let too_large = || damaged("its TOC is larger than any can be");
        if let Some(plain) = footer.toc.as_ref().and_then(|toc| toc.plain) {
            if plain > bound {
                return Err(too_large());
            }
            let decoder = zstd::stream::read::Decoder::new(compressed).map_err(|e| damaged(e.to_string()))?;
            return Ok(TocText { from: Box::new(decoder.single_frame()), left: plain, hasher: Hasher::default() });
        }
        let mut member = GzDecoder::new(BufReader::with_capacity(128 << 10, compressed));
        let mut header = [0; 512];
        member.read_exact(&mut header).map_err(|e| damaged(format!("its TOC cannot be read: {e}")))?;
        let size = toc_size(&header).ok_or_else(|| damaged("there is no TOC where its footer says"))?;
        if size > bound {
            return Err(too_large());
        }
        Ok(TocText { from: Box::new(member), left: size, hasher: Hasher::default() })
    }

    /// The TOC's digest.
    ///
    /// # Errors
    /// `Damaged` unless the text was read to its end, and what follows it bears it out.
    pub fn digest(self) -> Result<Digest> {
        if self.left > 0 {
            return Err(damaged("its TOC is cut"));
        }
        // A member's checksum stands at its end.
        let rest = io::copy(&mut self.from.take(LONGEST_END), &mut io::sink());
        rest.map_err(|e| damaged(format!("its TOC cannot be read: {e}")))?;
        Ok(self.hasher.finish())
    }
}

impl Read for TocText<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut out[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its text is cut"));
        }
        self.hasher.update(&out[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}

/// The size of the TOC whose tar header this is.
fn toc_size(header: &[u8; 512]) -> Option<u64> {
    let name = header[..100].split(|&b| b == 0).next()?;
    let digits = header[124..136].trim_ascii_start().split(|&b| b == 0 || b == b' ').next()?;
    let octal = !digits.is_empty() && digits.iter().all(|b| matches!(b, b'0'..=b'7'));
    let sum: u32 =
        header.iter().enumerate().map(|(i, &b)| u32::from(if (148..156).contains(&i) { b' ' } else { b })).sum();
    let said = std::str::from_utf8(&header[148..156]).ok()?.trim_matches(['\0', ' ']);
    let plain = name == TOC_NAME && matches!(header[156], b'0' | 0) && octal && u32::from_str_radix(said, 8) == Ok(sum);
    if plain { u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok() } else { None }
}
