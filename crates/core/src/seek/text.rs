//! Writing an index: windows as they come, the text about all of it at the end, and the footer that finds that.

use std::io::Write as _;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::{Checkpoint, FOOTER, Identity, MAGIC, SKIPPABLE, Stream};
use crate::convert::Out;
use crate::digest::{Digest, Hasher, hex};
use crate::error::Result;
use crate::filemap::{Entry, MapWriter, PageText};
use crate::job::Job;

const LEVEL: i32 = 3;
/// Compressed bytes that are kept before they are written.
const BATCH: usize = 1 << 20;

/// What the text says first.
pub struct Head {
    pub identity: Identity,
    pub stream: Stream,
    pub tree: Digest,
    pub entries: u64,
    pub bytes: u64,
}

pub struct IndexWriter<'a> {
    out: &'a mut Out,
    job: &'a Job,
    compressor: Compressor<'static>,
    written: u64,
}

impl<'a> IndexWriter<'a> {
    pub fn new(out: &'a mut Out, job: &'a Job) -> IndexWriter<'a> {
        let mut compressor = Compressor::new(LEVEL).expect("zstd has memory for a context");
        for parameter in [CParameter::ContentSizeFlag(true), CParameter::ChecksumFlag(true)] {
            compressor.set_parameter(parameter).expect("zstd knows this parameter");
        }
        IndexWriter { out, job, compressor, written: 0 }
    }

    /// Write a window; where it is, and how long.
    ///
    /// # Errors
    /// `Io`, `Stopped`.
    pub fn window(&mut self, plain: &[u8]) -> Result<(u64, u32)> {
        let bytes = self.compressor.compress(plain).expect("the bound of zstd's output is allotted");
        self.give(&skippable(bytes.len()))?;
        let at = self.written;
        self.give(&bytes)?;
        Ok((at, bytes.len() as u32))
    }

    /// Write text and footer: the text's digest, and the bytes of the whole index; `entries` come in file-map order.
    ///
    /// # Errors
    /// `Io`, `Stopped`, and those of an entry.
    pub fn finish(
        self,
        head: &Head,
        points: &[Checkpoint],
        entries: impl Iterator<Item = Result<Entry>>,
    ) -> Result<(Digest, u64)> {
        let offset = self.written;
        let mut text = Text {
            hasher: Hasher::default(),
            encoder: zstd::stream::write::Encoder::new(Vec::new(), LEVEL).expect("zstd has memory for a context"),
            writer: self,
        };
        // Who knows no checkpoints within blocks shall say so.
        let format = if points.iter().any(|point| point.head > 0) { 2 } else { 1 };
        text.add(first_line(head, format, points.len()).as_bytes())?;
        for point in points {
            let Checkpoint { at, bit, plain, window: (begin, length), head } = point;
            let head = if *head > 0 { format!(",{head}") } else { String::new() };
            text.add(format!("[{at},{bit},{plain},{begin},{length}{head}]\n").as_bytes())?;
        }
        let mut map = MapWriter::new(head.entries);
        for entry in entries {
            if let Some(page) = map.push(&entry?) {
                text.page(&page)?;
            }
        }
        if let Some(page) = map.finish() {
            text.page(&page)?;
        }
        let Text { hasher, encoder, writer } = text;
        let mut this = writer;
        this.give(&encoder.finish().expect("a Vec takes every write"))?;
        let digest = hasher.finish();
        let mut footer = Vec::with_capacity(FOOTER);
        footer.extend_from_slice(&skippable(FOOTER - 8));
        for number in [offset, this.written - offset, digest.size] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(&digest.sha256);
        footer.extend_from_slice(&u64::to_le_bytes(format));
        footer.extend_from_slice(MAGIC);
        this.give(&footer)?;
        Ok((digest, this.written))
    }

    fn give(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.give(bytes, self.job)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn skippable(length: usize) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&SKIPPABLE);
    out[4..].copy_from_slice(&(length as u32).to_le_bytes());
    out
}

fn first_line(head: &Head, format: u64, points: usize) -> String {
    let Head { identity: Identity { size, first, last }, stream, tree, entries, bytes } = head;
    format!(
        "{{\"format\":{format},\"stream\":\"{}\",\"size\":{size},\"first\":\"sha256:{}\",\"last\":\"sha256:{}\",\
         \"tree\":\"sha256:{}\",\"treeSize\":{},\"entries\":{entries},\"bytes\":{bytes},\"checkpoints\":{points}}}\n",
        stream.name(),
        hex(first),
        hex(last),
        tree.hex(),
        tree.size,
    )
}

/// The text on its way through hash and compression.
struct Text<'a> {
    hasher: Hasher,
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    writer: IndexWriter<'a>,
}

impl Text<'_> {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.encoder.write_all(bytes).expect("a Vec takes every write");
        if self.encoder.get_ref().len() >= BATCH {
            let ready = std::mem::take(self.encoder.get_mut());
            self.writer.give(&ready)?;
        }
        Ok(())
    }

    fn page(&mut self, page: &PageText) -> Result<()> {
        self.add(format!("{{\"page\":{}}}\n", page.text.len()).as_bytes())?;
        self.add(&page.text)
    }
}
