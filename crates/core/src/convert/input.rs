//! A tar as it lies: plain, or compressed by gzip or zstd, told apart by the first bytes.
//!
//! Invariant: whoever reads looks at the job with each piece, and damage of the compression is an error of kind `InvalidData`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder;

use crate::job::Job;

const BUFFER: usize = 256 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The second to fourth byte of a skippable frame of zstd.
const SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// The plain stream of a file, from its beginning.
///
/// # Errors
/// Of the system.
pub fn open<'a>(mut file: &'a File, job: &'a Job) -> io::Result<Box<dyn Read + 'a>> {
    file.rewind()?;
    let mut first = [0; 4];
    let mut got = 0;
    while got < first.len() {
        match file.read(&mut first[got..])? {
            0 => break,
            read => got += read,
        }
    }
    let whole = Watched { inner: Cursor::new(first).take(got as u64).chain(file), job };
    let buffered = BufReader::with_capacity(BUFFER, whole);
    Ok(if first.starts_with(GZIP) {
        Box::new(Sound(Members { member: Some(GzDecoder::new(buffered)) }))
    } else if first == ZSTD || first[1..] == *SKIPPABLE && first[0] & 0xf0 == 0x50 {
        Box::new(Sound(Decoder::with_buffer(buffered)?))
    } else {
        Box::new(buffered)
    })
}

/// Ends when the job is stopped.
struct Watched<'a, R> {
    inner: R,
    job: &'a Job,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.job.step(0).map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

/// Gzip members end to end, and zeros after them, with which tapes are filled.
struct Members<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let got = member.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            let mut rest = self.member.take().expect("it was there").into_inner();
            if !rest.fill_buf()?.is_empty() && rest.fill_buf()?[0] != 0 {
                self.member = Some(GzDecoder::new(rest));
                continue;
            }
            let mut zeros = [0; 4096];
            loop {
                match rest.read(&mut zeros)? {
                    0 => return Ok(0),
                    got if zeros[..got].iter().all(|&byte| byte == 0) => {}
                    _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "what follows the gzip data is none")),
                }
            }
        }
        Ok(0)
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
