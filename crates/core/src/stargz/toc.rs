//! The TOC while an archive is written: its text is compressed as it grows, and only that is kept.
//!
//! Invariant: the text passes in pieces whose ends the entries decide, so the same entries give the same bytes.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::write::DeflateEncoder;
use zstd::stream::write::Encoder;

use super::encode::{Spelling, TocWriter};
use super::entry::TocEntry;
use super::open::{LONGEST, TOC_NAME};
use super::spool::{Proved, Spool};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::tar;

const STEP: usize = 64 << 10;
/// Of the TOC, whatever the level of the members: everybody reads it whole.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// A member without name, time or flags.
pub(super) const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

pub struct TocPacker {
    writer: TocWriter,
    text: Vec<u8>,
    stream: Stream,
    directory: PathBuf,
}

struct Stream {
    with: With,
    hasher: Hasher,
    crc: crc32fast::Hasher,
}

enum With {
    Gzip(DeflateEncoder<Spool>),
    Zstd(Encoder<'static, Proved>),
}

/// A zstd frame that grows.
pub fn frame(directory: &Path) -> Encoder<'static, Proved> {
    Encoder::new(Proved::new(directory), ZSTD_LEVEL).expect("zstd has memory for a context")
}

/// A finished TOC: a gzip member with its tar entry, or a zstd frame.
pub struct Packed {
    /// Of its text.
    pub digest: Digest,
    /// SHA-256 of the zstd frame.
    pub frame: Option<[u8; 32]>,
    head: Vec<u8>,
    body: Spool,
    tail: Vec<u8>,
}

impl Packed {
    pub fn len(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.body.len()
    }

    /// Give all bytes to `sink`, piece by piece.
    ///
    /// # Errors
    /// `Io` when the temporary file cannot be read, or what the sink returns.
    pub fn give(self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        sink(&self.head)?;
        self.body.give(&mut sink)?;
        sink(&self.tail)
    }
}

impl TocPacker {
    /// A TOC that has 16 MiB when compressed goes to a temporary file in `directory`.
    pub fn begin(spelling: Spelling, directory: &Path) -> TocPacker {
        let mut text = Vec::with_capacity(2 * STEP);
        let writer = TocWriter::begin(spelling, &mut text);
        let with = match spelling {
            Spelling::Lines => {
                With::Gzip(DeflateEncoder::new(Spool::new(directory), flate2::Compression::new(GZIP_LEVEL)))
            }
            Spelling::OneLine => With::Zstd(frame(directory)),
        };
        let stream = Stream { with, hasher: Hasher::default(), crc: crc32fast::Hasher::new() };
        TocPacker { writer, text, stream, directory: directory.to_owned() }
    }

    /// # Errors
    /// `Io` when the temporary file cannot be written.
    pub fn entry(&mut self, entry: &TocEntry) -> Result<()> {
        self.writer.entry(&mut self.text, entry);
        if self.text.len() >= STEP {
            self.stream.write(&self.text).map_err(Error::io("write a temporary file in", &self.directory))?;
            self.text.clear();
        }
        Ok(())
    }

    /// The end; `tar_split` is the SHA-256 of the compressed tar-split data.
    ///
    /// # Errors
    /// As `entry`, and `Invalid` when the text is longer than a reader takes.
    pub fn finish(mut self, tar_split: Option<&[u8; 32]>) -> Result<Packed> {
        self.writer.end(&mut self.text, tar_split);
        let packed = self.stream.write(&self.text).and_then(|()| self.stream.finish());
        let packed = packed.map_err(Error::io("write a temporary file in", &self.directory))?;
        if packed.digest.size > LONGEST {
            return Err(Error::Invalid { what: "the TOC".into(), why: "it has more than 4 GiB".into() });
        }
        Ok(packed)
    }
}

impl Stream {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.hasher.update(text);
        match &mut self.with {
            With::Gzip(encoder) => {
                self.crc.update(text);
                encoder.write_all(text)
            }
            With::Zstd(encoder) => encoder.write_all(text),
        }
    }

    fn finish(self) -> io::Result<Packed> {
        let digest = self.hasher.finish();
        let mut encoder = match self.with {
            With::Gzip(encoder) => encoder,
            With::Zstd(encoder) => {
                let Proved { spool, hasher } = encoder.finish()?;
                let frame = Some(hasher.finish().sha256);
                return Ok(Packed { digest, frame, head: Vec::new(), body: spool, tail: Vec::new() });
            }
        };
        let mut end = vec![0; tar::padding(digest.size)];
        end.extend_from_slice(&tar::END);
        encoder.write_all(&end)?;
        let mut after = self.crc;
        after.update(&end);
        // The size stands before the text but is known behind it: the tar header is a stored block of its own.
        let header = tar::block(&tar::Fields { name: TOC_NAME, size: digest.size, flag: b'0', ..Default::default() });
        let length = header.len() as u16;
        let stored = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        crc.combine(&after);
        let plain = header.len() as u64 + digest.size + end.len() as u64;
        let tail = [crc.finalize().to_le_bytes(), (plain as u32).to_le_bytes()].concat();
        let head = [&GZIP_HEAD, &stored[..], &header].concat();
        Ok(Packed { digest, frame: None, head, body: encoder.finish()?, tail })
    }
}
