//! A gzip stream as its plain bytes and corrections: what those do not say of it, so that it can be made again to the byte.
//!
//! Invariant: corrections are given out only when the stream was made again of them, piece by piece, and was the same. Memory is
//! bounded by that of a piece, whatever the stream. How deflate is predicted is the crate's (preflate), of one fixed version:
//! corrections are of that. Bytes: docs/oci.md, "Corrections".

mod apart;
#[cfg(test)]
mod tests;
mod together;

pub use apart::apart;
pub use together::together;

use std::fs::File;
use std::io::{self, Write};

use crate::convert::input;
use crate::error::{Error, Result};
use crate::job::Job;

/// What corrections begin with; the last byte is their version.
const MAGIC: &[u8; 8] = b"SAPWRGZ\x01";
/// Bytes as they lie.
const RAW: u8 = 1;
/// A deflate stream begins, or goes on.
const FIRST: u8 = 2;
const NEXT: u8 = 3;
/// A whole one as it lies.
const KEPT: u8 = 4;
/// Plain bytes of a piece: a writer's, and what a reader believes, which may be a block's more.
const MOST_PLAIN: usize = 64 << 20;
const MOST_BELIEVED: u32 = 128 << 20;
/// Compressed bytes of a piece, and of a block that a piece cannot end before.
const PIECE: usize = 1 << 20;
/// Of the first one: by that it is found out how the stream was written.
const FIRST_PIECE: usize = 8 << 20;
const MOST_OF_A_BLOCK: usize = 16 << 20;
const MOST_CORRECTIONS: u32 = 64 << 20;

/// Write the plain stream of `stored`, a tar as it lies, to `output`.
///
/// # Errors
/// `Damaged`, `Io`, `Stopped`.
pub fn inflate(what: &str, stored: &File, output: &mut impl Write, job: &Job) -> Result<()> {
    let mut plain = input::open(stored, None, job).map_err(Error::io("read", what))?;
    let copied = io::copy(&mut plain, output);
    job.step(0)?;
    copied.map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::damaged(what, error.to_string()),
        _ => Error::io("decompress", what)(error),
    })
}
