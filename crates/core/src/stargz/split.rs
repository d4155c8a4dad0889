//! The tar-split data of a zstd:chunked archive, while its stream is written: lines, compressed as they come.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use zstd::stream::write::Encoder;

use super::spool::{Proved, Spool};
use super::toc::frame;
use crate::error::{Error, Result};
use crate::tar::split::{SplitWriter, Stored};
use crate::tar::{self, Crc};

const STEP: usize = 64 << 10;

pub struct Split {
    writer: SplitWriter,
    lines: Vec<u8>,
    encoder: Encoder<'static, Proved>,
    crc: Crc,
    plain: u64,
    directory: PathBuf,
}

/// Finished tar-split data: a zstd frame.
pub struct PackedSplit {
    pub bytes: Spool,
    /// SHA-256 of the frame.
    pub frame: [u8; 32],
    /// Bytes of the lines.
    pub plain: u64,
}

impl Split {
    /// What has 16 MiB when compressed goes to a temporary file in `directory`.
    pub fn begin(directory: &Path) -> Split {
        let (writer, lines, crc) = (SplitWriter::default(), Vec::new(), Crc::default());
        Split { writer, lines, encoder: frame(directory), crc, plain: 0, directory: directory.to_owned() }
    }

    /// Bytes of the stream that are no content.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.writer.raw(&mut self.lines, bytes);
    }

    /// The next bytes of a content.
    pub fn content(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
    }

    /// The end of an entry's content, which may be none.
    ///
    /// # Errors
    /// `Io` when the temporary file cannot be written.
    pub fn entry(&mut self, header: &tar::Header) -> Result<()> {
        let crc = std::mem::take(&mut self.crc).value();
        let mut name = header.name.clone();
        if header.kind == tar::Kind::Directory {
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
        }
        let size = header.size();
        self.writer.content(&mut self.lines, &Stored { name, size, crc, holes: Vec::new() });
        if self.lines.len() >= STEP {
            self.flush().map_err(Error::io("write a temporary file in", &self.directory))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.plain += self.lines.len() as u64;
        self.encoder.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }

    /// # Errors
    /// As `entry`.
    pub fn finish(mut self) -> Result<PackedSplit> {
        std::mem::take(&mut self.writer).finish(&mut self.lines);
        let finished = self.flush().and_then(|()| self.encoder.finish());
        let Proved { spool, hasher } = finished.map_err(Error::io("write a temporary file in", &self.directory))?;
        Ok(PackedSplit { bytes: spool, frame: hasher.finish().sha256, plain: self.plain })
    }
}
