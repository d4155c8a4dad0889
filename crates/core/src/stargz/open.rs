//! The text of a TOC out of the compressed bytes that a footer points at.
//!
//! Invariant: what is decompressed is bounded by what came in and by `LONGEST`; all of it is hashed as it goes by.

use std::io::{self, BufReader, Read};

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::bufread::GzDecoder;

use super::Footer;
use super::decode::Entries;
use super::entry::TocEntry;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::job::Job;

/// The one entry of a gzip archive's last tar.
pub const TOC_NAME: &[u8] = b"stargz.index.json";
/// No TOC has more bytes; nor more than `RATIO` times those it is compressed to: deflate cannot do better than 1,032.
pub const LONGEST: u64 = 4 << 30;
const RATIO: u64 = 1_100;
/// Padding and the end of the tar, as any writer has them.
const LONGEST_END: u64 = 64 << 10;

/// A TOC's text, as a reader.
pub struct TocText<'a> {
    from: Box<dyn Read + Send + 'a>,
    left: u64,
}

fn damaged(found: impl Into<String>) -> Error {
    Error::damaged("archive", found)
}

impl<'a> TocText<'a> {
    /// `compressed` are the `length` bytes of `footer.toc`, or an external TOC.
    ///
    /// # Errors
    /// `Damaged` when they are no TOC, `TocTooLarge` when it is a larger one than any is.
    pub fn open(footer: &Footer, compressed: impl Read + Send + 'a, length: u64) -> Result<TocText<'a>> {
        let bound = LONGEST.min(length.saturating_mul(RATIO).saturating_add(4096));
        let too_large = |size| {
            let found = format!("it says that it has {size} bytes, and {bound} are the most that it can have");
            Error::TocTooLarge { found }
        };
        if let Some(plain) = footer.toc.as_ref().and_then(|toc| toc.plain) {
            if plain > bound {
                return Err(too_large(plain));
            }
            let decoder = zstd::stream::read::Decoder::new(compressed).map_err(|e| damaged(e.to_string()))?;
            return Ok(TocText { from: Box::new(decoder.single_frame()), left: plain });
        }
        let mut member = GzDecoder::new(BufReader::with_capacity(128 << 10, compressed));
        let mut header = [0; 512];
        member.read_exact(&mut header).map_err(|e| damaged(format!("its TOC cannot be read: {e}")))?;
        let size = toc_size(&header).ok_or_else(|| damaged("there is no TOC where its footer says"))?;
        if size > bound {
            return Err(too_large(size));
        }
        Ok(TocText { from: Box::new(member), left: size })
    }

    /// See that the text was read to its end, and that what follows bears it out.
    ///
    /// # Errors
    /// `Damaged` when not.
    pub fn finish(self) -> Result<()> {
        if self.left > 0 {
            return Err(damaged("its TOC is cut"));
        }
        // A member's checksum stands at its end.
        let rest = io::copy(&mut self.from.take(LONGEST_END), &mut io::sink());
        rest.map(drop).map_err(|e| damaged(format!("its TOC cannot be read: {e}")))
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
        self.left -= read as u64;
        Ok(read)
    }
}

/// What a TOC says besides its entries.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub digest: Digest,
    /// SHA-256 of the compressed tar-split data.
    pub tar_split: Option<[u8; 32]>,
}

/// Read a TOC to its end: `each` gets its entries in order, while another thread decompresses and hashes what comes next.
/// Nothing is known to be whole before this returns.
///
/// # Errors
/// `Damaged`, `TocTooLarge`, `NewerFormat`, `Stopped`, and what `each` returns.
pub fn read_toc<R: Read + Send>(
    footer: &Footer,
    compressed: R,
    length: u64,
    job: &Job,
    mut each: impl FnMut(TocEntry) -> Result<()>,
) -> Result<Said> {
    let mut text = TocText::open(footer, compressed, length)?;
    let (blocks, arrived) = bounded(AHEAD);
    let (used, again) = bounded::<Vec<u8>>(AHEAD + 2);
    std::thread::scope(|scope| {
        let inflating = scope.spawn(move || {
            let mut hasher = Hasher::default();
            loop {
                let mut block = again.try_recv().unwrap_or_else(|_| vec![0; BLOCK]);
                let read = text.read(&mut block);
                let last = !matches!(read, Ok(1..));
                if let Ok(read) = read {
                    hasher.update(&block[..read]);
                }
                // Whoever reads is gone when it has failed.
                if blocks.send(read.map(|read| (block, read))).is_err() || last {
                    return (text, hasher);
                }
            }
        });
        let mut entries = Entries::new(Arriving { arrived, used, job, block: Vec::new(), at: 0, end: 0 });
        // What a stop cut short is not damaged.
        let told = |error| job.step(0).err().unwrap_or(error);
        for entry in entries.by_ref() {
            each(entry.map_err(told)?)?;
            job.step(0)?;
        }
        let tar_split = entries.tar_split();
        drop(entries.finish().map_err(told)?);
        let (text, hasher) = inflating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        text.finish()?;
        Ok(Said { digest: hasher.finish(), tar_split })
    })
}

/// Blocks on their way from one thread to the other.
const AHEAD: usize = 8;
const BLOCK: usize = 256 << 10;

/// Bytes that another thread makes.
struct Arriving<'a> {
    arrived: Receiver<io::Result<(Vec<u8>, usize)>>,
    /// Blocks to be filled again.
    used: Sender<Vec<u8>>,
    job: &'a Job,
    block: Vec<u8>,
    at: usize,
    end: usize,
}

impl Read for Arriving<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            // There may be nothing but blanks for long.
            self.job.step(0).map_err(io::Error::other)?;
            let Ok(arrived) = self.arrived.recv() else { return Ok(0) };
            let (block, end) = arrived?;
            let used = std::mem::replace(&mut self.block, block);
            (self.at, self.end) = (0, end);
            if !used.is_empty() {
                // Who fills them may have enough, or be gone.
                let _ = self.used.try_send(used);
            }
        }
        let count = out.len().min(self.end - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
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
