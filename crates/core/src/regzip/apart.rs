//! From a gzip stream to its plain bytes and corrections.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use preflate_rs::{ExitCode, PreflateConfig, PreflateStreamChunkResult, PreflateStreamProcessor};

use super::{FIRST, FIRST_PIECE, KEPT, MAGIC, MOST_CORRECTIONS, MOST_OF_A_BLOCK, MOST_PLAIN, NEXT, PIECE, RAW};
use crate::error::{Error, Result};
use crate::job::Job;

const MAX_CHAIN: u32 = 4096;
const HEADER: usize = 10;
const TRAILER: usize = 8;
/// Of a gzip header: what an extra field, a name and a comment may have together.
const MOST_OF_A_HEADER: usize = 128 << 10;

/// Write the plain bytes of `input`, a run of gzip members, to `plain`, and what they do not say of it to `corrections`.
/// False if it cannot be said: what was written is of no use then.
///
/// # Errors
/// `Io`, `Stopped`.
pub fn apart(
    what: &str,
    input: impl Read,
    plain: &mut impl Write,
    corrections: &mut impl Write,
    job: &Job,
) -> Result<bool> {
    let mut members = Members { input, buffer: Vec::new(), at: 0, is_all: false, raw: Vec::new() };
    let done = members.all(plain, corrections, job);
    job.step(0)?;
    done.map_err(Error::io("take apart", what))
}

struct Members<R> {
    input: R,
    /// What has been read, of which all before `at` is done.
    buffer: Vec<u8>,
    at: usize,
    is_all: bool,
    /// Bytes of headers and trailers that are yet to be written.
    raw: Vec<u8>,
}

impl<R: Read> Members<R> {
    fn all(&mut self, plain: &mut impl Write, out: &mut impl Write, job: &Job) -> io::Result<bool> {
        out.write_all(MAGIC)?;
        while !self.is_at_end()? {
            let Some(length) = self.header()? else { return Ok(false) };
            self.take(length);
            if !self.body(plain, out, job)? || !self.has(TRAILER)? {
                return Ok(false);
            }
            self.take(TRAILER);
        }
        write_record(out, RAW, &self.raw, None)?;
        Ok(true)
    }

    /// Have so many bytes of what comes, if there are.
    fn has(&mut self, count: usize) -> io::Result<bool> {
        while self.buffer.len() - self.at < count && !self.is_all {
            self.buffer.drain(..std::mem::take(&mut self.at));
            let wanted = (count - self.buffer.len()).max(PIECE) as u64;
            self.is_all = (&mut self.input).take(wanted).read_to_end(&mut self.buffer)? < wanted as usize;
        }
        Ok(self.buffer.len() - self.at >= count)
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(!self.has(1)?)
    }

    fn ahead(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn take(&mut self, count: usize) {
        self.raw.extend_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
    }

    /// How long the header is that comes; `None` if none does.
    fn header(&mut self) -> io::Result<Option<usize>> {
        self.has(MOST_OF_A_HEADER)?;
        Ok(header(self.ahead()))
    }

    /// A deflate stream. False if it cannot be said.
    fn body(&mut self, plain: &mut impl Write, out: &mut impl Write, job: &Job) -> io::Result<bool> {
        let config =
            PreflateConfig { max_chain_length: MAX_CHAIN, plain_text_limit: MOST_PLAIN, verify_compression: true };
        let mut processor = PreflateStreamProcessor::new(&config);
        let (mut kind, mut wanted) = (FIRST, FIRST_PIECE);
        while !processor.is_done() {
            job.step(0).map_err(io::Error::other)?;
            self.has(wanted)?;
            let piece = &self.ahead()[..wanted.min(self.buffer.len() - self.at)];
            // What is known of these streams is that they were written; the crate may not have thought of all of them.
            let done = catch_unwind(AssertUnwindSafe(|| processor.decompress(piece)));
            let made = match done {
                Ok(Ok(made)) => made,
                Ok(Err(error)) if error.exit_code() == ExitCode::ShortRead && piece.len() == wanted => {
                    wanted *= 2;
                    if wanted > MOST_OF_A_BLOCK {
                        return Ok(false);
                    }
                    continue;
                }
                // How it was written is not found out by its beginning.
                _ => return if kind == FIRST { self.whole(wanted, plain, out) } else { Ok(false) },
            };
            let PreflateStreamChunkResult { corrections, compressed_size, .. } = made;
            let text = processor.plain_text().text();
            let is_stuck = compressed_size == 0 && text.is_empty() && !processor.is_done();
            if is_stuck || corrections.len() > MOST_CORRECTIONS as usize || text.len() > MOST_PLAIN {
                return Ok(false);
            }
            write_record(out, RAW, &self.raw, None)?;
            self.raw.clear();
            write_record(out, kind, &corrections, Some(text.len() as u32))?;
            plain.write_all(text)?;
            processor.shrink_to_dictionary();
            self.at += compressed_size;
            job.bytes_done.fetch_add(compressed_size as u64, std::sync::atomic::Ordering::Relaxed);
            (kind, wanted) = (NEXT, PIECE);
        }
        Ok(true)
    }

    /// A deflate stream that ends within the next `length` bytes, kept as it lies. False if it does not.
    fn whole(&mut self, length: usize, plain: &mut impl Write, out: &mut impl Write) -> io::Result<bool> {
        let stream = &self.ahead()[..length.min(self.buffer.len() - self.at)];
        let mut inflating = flate2::Decompress::new(false);
        let mut text = Vec::new();
        loop {
            text.reserve(PIECE);
            let rest = &stream[inflating.total_in() as usize..];
            let before = text.len();
            match inflating.decompress_vec(rest, &mut text, flate2::FlushDecompress::None) {
                Ok(flate2::Status::StreamEnd) => break,
                Ok(_) if text.len() > before && text.len() <= MOST_PLAIN => {}
                _ => return Ok(false),
            }
        }
        let length = inflating.total_in() as usize;
        let kept = stream[..length].to_vec();
        write_record(out, RAW, &self.raw, None)?;
        self.raw.clear();
        write_record(out, KEPT, &kept, Some(text.len() as u32))?;
        plain.write_all(&text)?;
        self.at += length;
        Ok(true)
    }
}

fn write_record(out: &mut impl Write, kind: u8, bytes: &[u8], plain: Option<u32>) -> io::Result<()> {
    if kind == RAW && bytes.is_empty() {
        return Ok(());
    }
    out.write_all(&[kind])?;
    if let Some(plain) = plain {
        out.write_all(&plain.to_le_bytes())?;
    }
    out.write_all(&(bytes.len() as u32).to_le_bytes())?;
    out.write_all(bytes)
}

/// How long the gzip header is that begins here (RFC 1952).
fn header(bytes: &[u8]) -> Option<usize> {
    if bytes.get(..3)? != [0x1f, 0x8b, 8] || bytes[3] & 0xe0 != 0 {
        return None;
    }
    let (flags, mut at) = (bytes[3], HEADER);
    if flags & 4 != 0 {
        let length = bytes.get(at..at + 2)?;
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += 1 + bytes.get(at..)?.iter().position(|&byte| byte == 0)?;
        }
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    (at <= bytes.len()).then_some(at)
}
