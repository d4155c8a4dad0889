//! A tar as it lies: plain, or compressed by gzip or zstd, told apart by the first bytes.
//!
//! Invariant: whoever reads looks at the job with each piece, and damage of the compression is an error of kind `InvalidData`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, get_error_name};

use super::gzip::Members;
use crate::job::Job;
use crate::stargz::Bounds;

const BUFFER: usize = 256 << 10;
/// How far before it is read the system is told of it.
const AHEAD: u64 = 16 << 20;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The second to fourth byte of a skippable frame of zstd.
const SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// The plain stream of a file, from its beginning; where its members begin and the last ends is noted in `bounds`.
///
/// # Errors
/// Of the system.
pub fn open<'a>(file: &'a File, bounds: Option<&'a RefCell<Bounds>>, job: &'a Job) -> io::Result<Box<dyn Read + 'a>> {
    plain(Stored::open(file, job)?, bounds)
}

/// The file itself, if it is not compressed.
///
/// # Errors
/// Of the system.
pub fn open_plain<'a>(file: &'a File, job: &'a Job) -> io::Result<Option<Stored<'a>>> {
    let mut stored = Stored::open(file, job)?;
    let is_plain = matches!(compression(&peek(&mut stored)?), Compression::None);
    stored.at = 0;
    Ok(is_plain.then_some(stored))
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

fn compression(first: &[u8]) -> Compression {
    match first {
        first if first.starts_with(GZIP) => Compression::Gzip,
        first if first == ZSTD || first.len() == 4 && first[1..] == *SKIPPABLE && first[0] & 0xf0 == 0x50 => {
            Compression::Zstd
        }
        _ => Compression::None,
    }
}

/// The first four bytes, or as many as there are.
fn peek(stored: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    stored.take(4).read_to_end(&mut first)?;
    Ok(first)
}

/// The plain stream of what is stored; `bounds` as of `open`.
///
/// # Errors
/// Of the system.
pub fn plain<'a>(mut stored: impl Read + 'a, bounds: Option<&'a RefCell<Bounds>>) -> io::Result<Box<dyn Read + 'a>> {
    let first = peek(&mut stored)?;
    let compression = compression(&first);
    let whole = Cursor::new(first).chain(stored);
    if let Compression::None = compression {
        // Whoever reads a tar has a buffer.
        return Ok(Box::new(whole));
    }
    let buffered = Counted { inner: BufReader::with_capacity(BUFFER, whole), passed: 0 };
    let places = Places { bounds, plain: 0 };
    Ok(if let Compression::Zstd = compression {
        Box::new(Sound(Frames { input: buffered, context: DCtx::create(), within: false, places }))
    } else {
        Box::new(Sound(Gzip { members: Members::new(buffered), places }))
    })
}

/// The bytes of a file as they lie; reading ends when the job is stopped.
pub struct Stored<'a> {
    file: &'a File,
    at: u64,
    size: u64,
    /// Up to here the system was told that it will be read.
    told: u64,
    job: &'a Job,
}

impl<'a> Stored<'a> {
    fn open(file: &'a File, job: &'a Job) -> io::Result<Stored<'a>> {
        Ok(Stored { file, at: 0, size: file.metadata()?.len(), told: 0, job })
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.job.step(0).map_err(io::Error::other)?;
        if self.at + AHEAD / 2 > self.told {
            // Whoever jumps from header to header is no sequential reader for the system; a hint, whatever becomes of it.
            let from = self.told.max(self.at);
            let _ = rustix::fs::fadvise(self.file, from, NonZeroU64::new(AHEAD), rustix::fs::Advice::WillNeed);
            self.told = from + AHEAD;
        }
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Stored<'_> {
    /// To the end at most.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(by) => self.size.saturating_add_signed(by),
        };
        self.at = self.at.min(self.size);
        Ok(self.at)
    }
}

/// Counts what was taken.
struct Counted<R> {
    inner: R,
    passed: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.passed += got as u64;
        Ok(got)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.passed += count as u64;
        self.inner.consume(count);
    }
}

/// Notes where a member ends and the next may begin.
struct Places<'a> {
    bounds: Option<&'a RefCell<Bounds>>,
    plain: u64,
}

impl Places<'_> {
    fn end<R>(&self, input: &Counted<R>) {
        if let Some(bounds) = self.bounds {
            bounds.borrow_mut().note(self.plain, input.passed);
        }
    }
}

/// Gzip members.
struct Gzip<'a, R> {
    members: Members<Counted<R>>,
    places: Places<'a>,
}

impl<R: BufRead> Read for Gzip<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (got, ended) = self.members.next(buffer)?;
            self.places.plain += got as u64;
            if ended {
                self.places.end(self.members.input());
            }
            // An empty member is not the end.
            if got > 0 || !ended {
                return Ok(got);
            }
        }
    }
}

/// Zstd frames end to end, those that are to be passed over among them.
struct Frames<'a, R> {
    input: Counted<R>,
    context: DCtx<'static>,
    within: bool,
    places: Places<'a>,
}

impl<R: BufRead> Read for Frames<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut out = OutBuffer::around(buffer);
        while out.pos() == 0 && out.capacity() > 0 {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "its last frame is cut");
                return if self.within { Err(cut()) } else { Ok(0) };
            }
            let mut input = InBuffer::around(bytes);
            let left = self.context.decompress_stream(&mut out, &mut input);
            let left = left.map_err(|code| io::Error::new(io::ErrorKind::InvalidData, get_error_name(code)))?;
            let passed = input.pos();
            self.input.consume(passed);
            self.places.plain += out.pos() as u64;
            self.within = left > 0;
            if !self.within {
                self.places.end(&self.input);
            }
        }
        Ok(out.pos())
    }
}

/// Calls what a decompressor refuses damage.
struct Sound<R>(R);

impl<R: Read> Read for Sound<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            // What the system says has a number; what a decompressor says has none.
            let ours = error.raw_os_error().is_none() && error.kind() != io::ErrorKind::Interrupted;
            if ours { io::Error::new(io::ErrorKind::InvalidData, error) } else { error }
        })
    }
}
