//! Leads: what must be known to enter a stream that was not made to be entered, before the bytes of a frame.
//!
//! Invariant: a frame with its lead is all that is needed to decompress it, and no more is than it is said to have. A wrong
//! lead gives wrong bytes, which their digests find out. They are made where they are read, so they have no format.
//! Not here: where one can enter (`seek`).

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::MAX_PAGE_FRAME;
use super::frame::{begin_into, inflate as unpack};
use super::inflate::{At, Inflater, WINDOW};
use crate::error::{Error, Result};

/// How a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is not compressed.
    Plain,
    /// With a gzip member or a zstd frame.
    Member,
    /// With a block of deflate, at so many bits of its first byte; the plain bytes before it, compressed, are the rest of
    /// the lead.
    Block { bit: u8 },
    /// With a code of deflate, within a block; behind the plain bytes, compressed with them, stand as many bits of the head of
    /// that block, beginning with the lowest of a byte.
    Code { bit: u8, head: u16 },
    /// It is zeros, which lie nowhere.
    Zeros,
}

const HEAD: usize = 6;
/// Behind each gzip member: its checksum and size.
const TRAILER: usize = 8;

/// No head of a block is longer: 3 and 14 bits, 19 of 3, and 320 lengths of at most 14.
pub const LONGEST_HEAD: u16 = 3 + 14 + 19 * 3 + 320 * 14;

/// How the lead of a frame begins whose window, compressed, has so many bytes: 0 but for `Block` and `Code`.
pub fn head(entry: Entry, window: u32) -> Vec<u8> {
    let (how, bit, head) = match entry {
        Entry::Plain => (0, 0, None),
        Entry::Member => (1, 0, None),
        Entry::Block { bit } => (2, bit, None),
        Entry::Zeros => (3, 0, None),
        Entry::Code { bit, head } => (4, bit, Some(head)),
    };
    let mut out = vec![how, bit];
    out.extend_from_slice(&window.to_le_bytes());
    out.extend(head.iter().flat_map(|head| head.to_le_bytes()));
    out
}

/// Decompress the first `plain` bytes of a frame with its lead.
///
/// # Errors
/// `Damaged` when it has fewer, or is not what its lead says.
pub fn open_into(led: &[u8], plain: u32, out: &mut Vec<u8>) -> Result<()> {
    let damaged = |found: &str| Error::damaged("frame", found);
    let wanted = plain as usize;
    if wanted > MAX_PAGE_FRAME {
        return Err(damaged("it would decompress to more than 64 MiB"));
    }
    let (head, rest) = led.split_first_chunk::<HEAD>().ok_or_else(|| damaged("it is cut"))?;
    let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
    let (block, rest) = match rest.split_first_chunk() {
        Some((&bits, rest)) if head[0] == 4 => (u16::from_le_bytes(bits), rest),
        _ => (0, rest),
    };
    let (window, stored) = rest.split_at_checked(length).ok_or_else(|| damaged("it is cut"))?;
    if head[0] == 1 {
        return begin_into(stored, plain, out);
    }
    out.clear();
    out.reserve_exact(wanted);
    match head[0] {
        0 => out.extend_from_slice(&stored[..wanted.min(stored.len())]),
        2 | 4 => enter(stored, head[1], window, block, wanted, out)?,
        _ => out.resize(wanted, 0),
    }
    if out.len() != wanted {
        return Err(damaged("it ends too early"));
    }
    Ok(())
}

/// Decompress from the middle of a gzip member on, and from those behind it; within a block whose head has `head` bits, if it
/// has any.
fn enter(stored: &[u8], bit: u8, window: &[u8], head: u16, wanted: usize, out: &mut Vec<u8>) -> Result<()> {
    let damaged = |found: &str| Error::damaged("frame", found);
    let behind = usize::from(head.min(LONGEST_HEAD).div_ceil(8));
    let window = match zstd::zstd_safe::get_frame_content_size(window).ok().flatten() {
        Some(size) if size <= (WINDOW + behind) as u64 => unpack("a window of the seek index", window, size)?,
        _ => return Err(damaged("its window is damaged")),
    };
    let cut = window.len().checked_sub(behind).ok_or_else(|| damaged("its window is damaged"))?;
    let (window, block) = window.split_at(cut);
    let (first, mut left) = match stored {
        [first, left @ ..] if bit > 0 && bit < 8 => (first >> bit, left),
        _ if bit == 0 => (0, stored),
        _ => return Err(damaged("it is cut")),
    };
    let mut inflater = Inflater::resumed_within(first, (8 - bit) % 8, window, block, head).map_err(damaged)?;
    out.resize(wanted, 0);
    let mut filled = 0;
    while filled < wanted {
        let step = inflater.step(left, &mut out[filled..], false).map_err(damaged)?;
        left = &left[step.read..];
        filled += step.written;
        match step.at {
            At::End => break,
            _ if step.read == 0 && step.written == 0 => return Err(damaged("it ends too early")),
            _ => {}
        }
    }
    out.truncate(filled);
    if filled < wanted {
        let next = left.get(TRAILER..).ok_or_else(|| damaged("it ends too early"))?;
        let more = MultiGzDecoder::new(next).take((wanted - filled) as u64).read_to_end(out);
        more.map_err(|e| damaged(&e.to_string()))?;
    }
    Ok(())
}
