//! One frame: tar entries of chunks, compressed as one.

use std::io::Read;
use std::ops::Range;

use flate2::bufread::MultiGzDecoder;

use libdeflater::Decompressor;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter, Strategy};

use super::{MAX_FRAME, MAX_PAGE_FRAME, lead};
use crate::digest::{Digest, hex, parse_hex};
use crate::error::{Error, Result};
use crate::tar::{self, BLOCK, Fields};

/// What stands before a chunk in a frame: its tar header.
pub const HEADER: usize = BLOCK;

/// No fence index or TOC is larger: that of a hundred million files takes a tenth of it.
const MAX_INFLATED: usize = 1 << 30;

/// Whole blobs share a frame until it holds this much.
pub const SHARED: usize = 256 * 1024;

/// ... or this much, and what comes next is of another directory or suffix.
pub const PARTED: usize = SHARED / 4;

/// Of a gzip member so much is decompressed, too, that is behind what is wanted: what stands between two files.
const MOST_BEHIND: usize = 64 * 1024;

/// What is laid out again shares a frame until it holds this much: docs/decisions/0020.
const LAID_OUT: usize = 1024 * 1024;
/// zstd level of it, which is written once, off everybody's way, and read at every cold start.
const LAID_OUT_LEVEL: i32 = 19;

/// So little is compressed well in no time anybody would notice: docs/decisions/0014.
pub const LITTLE: u64 = 1024 * 1024;
/// zstd level of it.
pub const THOROUGH: i32 = 9;

/// Collects chunks and compresses them; used again and again by one thread.
pub struct FrameWriter {
    plain: Vec<u8>,
    chunks: Vec<(Digest, u32)>,
    compressor: Compressor<'static>,
    /// Chunks join until there is so much.
    shared: usize,
}

/// A compressed frame and the chunks in it with their places in the plain bytes.
pub struct Frame {
    pub bytes: Vec<u8>,
    pub plain: u32,
    pub chunks: Vec<(Digest, u32)>,
}

impl FrameWriter {
    pub fn new(level: i32) -> FrameWriter {
        let mut compressor = Compressor::new(level).expect("zstd has memory for a context");
        compressor.include_contentsize(true).expect("zstd knows this parameter");
        FrameWriter { plain: Vec::new(), chunks: Vec::new(), compressor, shared: SHARED }
    }

    /// For chunks of blobs: between zstd's levels 2 and 3; docs/decisions/0006.
    pub fn for_chunks() -> FrameWriter {
        let mut out = FrameWriter::new(1);
        let finder = CParameter::Strategy(Strategy::ZSTD_dfast);
        for parameter in [finder, CParameter::HashLog(15), CParameter::ChainLog(14), CParameter::MinMatch(5)] {
            out.compressor.set_parameter(parameter).expect("zstd knows this parameter");
        }
        out
    }

    /// For what is laid out again.
    pub fn for_layout() -> FrameWriter {
        FrameWriter { shared: LAID_OUT, ..FrameWriter::new(LAID_OUT_LEVEL) }
    }

    /// Whether a chunk of `size` bytes may join `plain` bytes of a frame of `for_layout`.
    pub fn fits_layout(plain: usize, size: usize) -> bool {
        fits(plain, size, LAID_OUT)
    }

    /// How much a chunk of `size` bytes adds to the plain bytes of a frame.
    pub fn room(size: usize) -> usize {
        HEADER + size.next_multiple_of(BLOCK)
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether a chunk of `size` bytes may still join.
    pub fn takes(&self, size: usize) -> bool {
        fits(self.plain.len(), size, self.shared)
    }

    /// Add a chunk whose digest the caller has taken of these very bytes.
    pub fn add(&mut self, digest: Digest, bytes: &[u8]) {
        debug_assert!(self.takes(bytes.len()) && digest.size == bytes.len() as u64);
        self.plain.extend_from_slice(&header(&digest));
        self.chunks.push((digest, self.plain.len() as u32));
        self.plain.extend_from_slice(bytes);
        self.plain.resize(self.plain.len().next_multiple_of(BLOCK), 0);
    }

    /// What was added so far, as it will be when it is decompressed.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Compress what was added; the writer is empty again.
    pub fn seal(&mut self) -> Frame {
        let bytes = self.compressor.compress(&self.plain).expect("the bound of zstd's output is allotted");
        let frame = Frame { bytes, plain: self.plain.len() as u32, chunks: std::mem::take(&mut self.chunks) };
        self.plain.clear();
        frame
    }

    /// Compress one chunk as a frame of its own. It is in `buffer` already, from byte `HEADER` on.
    pub fn alone(&mut self, digest: Digest, buffer: &mut Vec<u8>) -> Frame {
        debug_assert_eq!(buffer.len() as u64, HEADER as u64 + digest.size);
        buffer[..HEADER].copy_from_slice(&header(&digest));
        buffer.resize(buffer.len().next_multiple_of(BLOCK), 0);
        let bytes = self.compressor.compress(buffer).expect("the bound of zstd's output is allotted");
        Frame { bytes, plain: buffer.len() as u32, chunks: vec![(digest, HEADER as u32)] }
    }
}

fn fits(plain: usize, size: usize, shared: usize) -> bool {
    plain == 0 || (plain < shared && plain + size + 2 * BLOCK <= MAX_FRAME)
}

/// The header of a chunk: nothing in it but name and size.
fn header(digest: &Digest) -> [u8; BLOCK] {
    let name = hex(&digest.sha256);
    tar::block(&Fields { name: name.as_bytes(), mode: 0o444, size: digest.size, flag: b'0', ..Fields::default() })
}

/// How the frames of a file map lie in its packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each is one zstd frame of tar entries of chunks, of exactly its plain length.
    Pack,
    /// Each begins a gzip member or a zstd frame; what follows its plain length, in it or behind it, is not looked at. One of
    /// no length is zeros.
    Archive,
    /// Each is a lead, which says where in a stream it begins, and the bytes of an archive that has a seek index.
    Led,
    /// Each is a blob as it is, of a pack of its own.
    Blob,
}

impl Form {
    /// As `open_into`, for frames of this form.
    ///
    /// # Errors
    /// `Damaged` when it does not decompress to `plain` bytes; no more memory than that is used to find out.
    pub fn open_into(self, compressed: &[u8], plain: u32, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Form::Pack => open_into(compressed, plain, out),
            Form::Archive if compressed.is_empty() && plain as usize <= MAX_PAGE_FRAME => {
                out.clear();
                out.resize(plain as usize, 0);
                Ok(())
            }
            Form::Archive => begin_into(compressed, plain, out),
            Form::Led => lead::open_into(compressed, plain, out),
            Form::Blob if compressed.len() == plain as usize => {
                out.clear();
                out.extend_from_slice(compressed);
                Ok(())
            }
            Form::Blob => Err(Error::damaged("blob", format!("it has {} bytes, not {plain}", compressed.len()))),
        }
    }

    /// As `open_into`.
    ///
    /// # Errors
    /// The same.
    pub fn open(self, compressed: &[u8], plain: u32) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.open_into(compressed, plain, &mut out)?;
        Ok(out)
    }
}

/// Decompress the first `plain` bytes of what begins with a gzip member or a zstd frame.
pub(super) fn begin_into(compressed: &[u8], plain: u32, out: &mut Vec<u8>) -> Result<()> {
    let damaged = |found: String| Error::damaged("frame", found);
    if plain as usize > MAX_PAGE_FRAME {
        return Err(damaged(format!("it would decompress to {plain} bytes")));
    }
    if whole_member_into(compressed, plain as usize, out) {
        return Ok(());
    }
    let reader: Box<dyn Read + '_> = match compressed {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(compressed)),
        _ => Box::new(zstd::stream::read::Decoder::with_buffer(compressed).map_err(|e| damaged(e.to_string()))?),
    };
    out.clear();
    out.reserve_exact(plain as usize);
    reader.take(u64::from(plain)).read_to_end(out).map_err(|e| damaged(e.to_string()))?;
    if out.len() != plain as usize {
        return Err(damaged(format!("it decompresses to {} bytes, not {plain}", out.len())));
    }
    Ok(())
}

/// Decompress a gzip member that ends with `compressed` and has little behind its first `plain` bytes, by what is twice as fast
/// as what stops in the middle. False when it is no such member, or damaged: what is wrong with it is for others to say.
fn whole_member_into(compressed: &[u8], plain: usize, out: &mut Vec<u8>) -> bool {
    let ([0x1f, 0x8b, ..], Some(size)) = (compressed, compressed.last_chunk()) else { return false };
    let size = u32::from_le_bytes(*size) as usize;
    if !(plain..=plain + MOST_BEHIND).contains(&size) {
        return false;
    }
    out.clear();
    out.resize(size, 0);
    let is_whole = Decompressor::new().gzip_decompress(compressed, out).is_ok_and(|got| got == size);
    out.truncate(plain);
    is_whole
}

/// Decompress a frame that is said to hold `plain` bytes.
///
/// # Errors
/// `Damaged` when it does not decompress to exactly that; no more memory than `plain` is used to find out.
pub fn open(compressed: &[u8], plain: u32) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    open_into(compressed, plain, &mut out)?;
    Ok(out)
}

/// As `open`, into memory that is used again and again.
pub fn open_into(compressed: &[u8], plain: u32, out: &mut Vec<u8>) -> Result<()> {
    let damaged = |found: String| Error::damaged("frame", found);
    if plain as usize > MAX_PAGE_FRAME {
        return Err(damaged(format!("it would decompress to {plain} bytes")));
    }
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|e| damaged(e.to_string()))?;
    out.clear();
    out.reserve_exact(plain as usize);
    decompressor.decompress_to_buffer(compressed, out).map_err(|e| damaged(e.to_string()))?;
    if out.len() != plain as usize {
        return Err(damaged(format!("it decompresses to {} bytes, not {plain}", out.len())));
    }
    Ok(())
}

/// The chunks that a decompressed frame claims to hold: claimed SHA-256 and where the bytes are. Nothing is proved yet.
/// Ends at the first thing that is no such header.
pub fn chunks(plain: &[u8]) -> impl Iterator<Item = ([u8; 32], Range<usize>)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = plain.get(at..at + BLOCK)?;
        let name = parse_hex(std::str::from_utf8(&header[..64]).ok()?)?;
        let size = usize::from_str_radix(std::str::from_utf8(&header[124..135]).ok()?, 8).ok()?;
        let start = at + BLOCK;
        let end = start.checked_add(size).filter(|&end| end <= plain.len())?;
        at = end.next_multiple_of(BLOCK);
        Some((name, start..end))
    })
}

/// Whether a frame is what a `FrameWriter` makes of these chunks (sorted by place, proved by the caller), and nothing else: one
/// zstd frame that states its size, and in it the chunks with their headers and padding.
pub fn is_spelt(compressed: &[u8], plain: &[u8], chunks: &[(Digest, u32)]) -> bool {
    let mut at = 0;
    let follows = |(digest, inner): &(Digest, u32)| {
        let start = at + HEADER;
        let end = start + digest.size as usize;
        let next = end.next_multiple_of(BLOCK);
        let spelt = *inner as usize == start
            && plain.get(at..start).is_some_and(|found| found == header(digest))
            && plain.get(end..next).is_some_and(|padding| padding.iter().all(|&byte| byte == 0));
        at = next;
        spelt
    };
    chunks.iter().all(follows)
        && at == plain.len()
        && plain.len() <= MAX_FRAME
        && zstd_safe::find_frame_compressed_size(compressed) == Ok(compressed.len())
        && zstd_safe::get_frame_content_size(compressed).ok().flatten() == Some(plain.len() as u64)
}

/// The chunk at `inner`, proved by its digest.
///
/// # Errors
/// `Damaged` when it lies outside, `Mismatch` when its bytes are others.
pub fn chunk<'a>(plain: &'a [u8], inner: u32, digest: &Digest) -> Result<&'a [u8]> {
    let start = inner as usize;
    let bytes = usize::try_from(digest.size).ok().and_then(|size| plain.get(start..start.checked_add(size)?));
    let bytes = bytes.ok_or_else(|| Error::damaged("frame", "it ends before a chunk it should hold"))?;
    let got = Digest::of(bytes);
    if got != *digest {
        return Err(Error::Mismatch { what: format!("chunk {}", digest.short()), expected: *digest, got });
    }
    Ok(bytes)
}

/// Decompress any bytes whose exact size is known, such as a fence index or a TOC.
///
/// # Errors
/// `Damaged`, naming `what`.
pub fn inflate(what: &str, compressed: &[u8], size: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(size).ok().filter(|&size| size <= MAX_INFLATED);
    let size = size.ok_or_else(|| Error::damaged(what, "its size cannot be"))?;
    let stated = zstd_safe::get_frame_content_size(compressed).ok().flatten();
    if stated != Some(size as u64) {
        return Err(Error::damaged(what, format!("it is not {size} bytes compressed")));
    }
    let mut out = Vec::new();
    out.try_reserve_exact(size).map_err(|_| Error::damaged(what, format!("{size} bytes are more than memory")))?;
    let got = zstd::bulk::Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress_to_buffer(compressed, &mut out))
        .map_err(|e| Error::damaged(what, e.to_string()))?;
    if got != size {
        return Err(Error::damaged(what, format!("it decompresses to {got} bytes, not {size}")));
    }
    Ok(out)
}
