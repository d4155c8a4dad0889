//! Footers: the last bytes of an archive, which say where its TOC is. Bytes: docs/archive.md, "TOC" and "Reading".
//!
//! Invariant: a range that is given out lies inside the archive and before its footer.

use std::ops::Range;

use crate::error::{Error, Result};

/// Every footer fits in as many of the last bytes.
pub const LONGEST: usize = 72;

/// A gzip member without name, time and flags up to its extra field: eStargz's footers as their writers begin them.
const STORED_NOTHING: [u8; 5] = [1, 0, 0, 0xff, 0xff];
const MAGIC: &[u8; 6] = b"STARGZ";
const EXTERNAL: &[u8; 17] = b"STARGZEXTERNALTOC";
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// containers/storage's, and that of estargz and of containers/storage's first versions.
const ZSTD_MAGICS: [&[u8; 8]; 2] = [b"GNUlInUx", b"GnUlInUx"];

/// Who wrote an archive, as far as its footer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// gzip, a footer of 51 bytes with a subfield `SG`.
    Estargz,
    /// gzip, a footer of 47 bytes.
    Crfs,
    /// gzip, the TOC is somewhere else.
    External,
    /// zstd, a footer with place and length of TOC and tar-split data.
    ZstdChunked,
    /// zstd, a footer with place and length of the TOC.
    ZstdChunkedShort,
}

impl Dialect {
    pub fn is_zstd(self) -> bool {
        matches!(self, Dialect::ZstdChunked | Dialect::ZstdChunkedShort)
    }
}

/// Compressed bytes in the archive, and what they are said to decompress to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub at: Range<u64>,
    /// `None` where the footer does not tell.
    pub plain: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub dialect: Dialect,
    /// Where the tar stream ends, or the TOC's member begins: all data lies before.
    pub payload: u64,
    /// `None` of an external one.
    pub toc: Option<Part>,
    /// The tar-split data.
    pub split: Option<Part>,
}

impl Footer {
    /// The footer in the last bytes of an archive of `size` bytes; `tail` has `LONGEST` of them, or all.
    /// `None` when it has no footer: it may be any file.
    ///
    /// # Errors
    /// `Damaged` when it has one that cannot be.
    pub fn read(tail: &[u8], size: u64) -> Result<Option<Footer>> {
        for read in [estargz, crfs, external, chunked] {
            if let Some(footer) = read(tail, size)? {
                return Ok(Some(footer));
            }
        }
        Ok(None)
    }
}

fn damaged(found: &str) -> Error {
    Error::damaged("archive", found)
}

/// The extra field of an empty gzip member of `length` bytes at the end of `tail`.
fn extra(tail: &[u8], length: usize) -> Option<&[u8]> {
    let member = &tail[tail.len().checked_sub(length)?..];
    let (head, rest) = member.split_at(12);
    let (extra, end) = rest.split_at(length - 12 - 13);
    let is_gzip =
        head[..4] == [0x1f, 0x8b, 8, 4] && usize::from(u16::from_le_bytes([head[10], head[11]])) == extra.len();
    (is_gzip && end[..5] == STORED_NOTHING).then_some(extra)
}

/// `0123456789abcdefSTARGZ` as the TOC's offset; the member ends `footer` bytes before the archive does.
fn offset(field: &[u8], size: u64, footer: u64) -> Option<Result<(u64, Part)>> {
    let digits = field.strip_suffix(MAGIC)?;
    let number = || {
        let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with(['+', '-']))?;
        let (at, end) = (u64::from_str_radix(text, 16).ok()?, size.checked_sub(footer)?);
        (at < end).then_some((at, Part { at: at..end, plain: None }))
    };
    Some(number().ok_or_else(|| damaged("its footer places the TOC outside")))
}

fn estargz(tail: &[u8], size: u64) -> Result<Option<Footer>> {
    let Some([b'S', b'G', 22, 0, field @ ..]) = extra(tail, 51) else { return Ok(None) };
    let Some(found) = offset(field, size, 51) else { return Ok(None) };
    found.map(|(payload, toc)| Some(Footer { dialect: Dialect::Estargz, payload, toc: Some(toc), split: None }))
}

fn crfs(tail: &[u8], size: u64) -> Result<Option<Footer>> {
    let Some(found) = extra(tail, 47).and_then(|field| offset(field, size, 47)) else { return Ok(None) };
    found.map(|(payload, toc)| Some(Footer { dialect: Dialect::Crfs, payload, toc: Some(toc), split: None }))
}

fn external(tail: &[u8], size: u64) -> Result<Option<Footer>> {
    match extra(tail, 46) {
        Some([b'S', b'G', 17, 0, field @ ..]) if field == EXTERNAL => {
            Ok(Some(Footer { dialect: Dialect::External, payload: size.saturating_sub(46), toc: None, split: None }))
        }
        _ => Ok(None),
    }
}

fn chunked(tail: &[u8], size: u64) -> Result<Option<Footer>> {
    for (length, dialect) in [(64, Dialect::ZstdChunked), (40, Dialect::ZstdChunkedShort)] {
        let Some(frame) = tail.len().checked_sub(length + 8).map(|at| &tail[at..]) else { continue };
        let (head, body) = frame.split_at(8);
        let is_footer = head[..4] == SKIPPABLE
            && head[4..] == (length as u32).to_le_bytes()
            && ZSTD_MAGICS.iter().any(|magic| body.ends_with(*magic));
        if !is_footer {
            continue;
        }
        let number = |i: usize| u64::from_le_bytes(body[8 * i..8 * i + 8].try_into().expect("eight bytes were sliced"));
        let end = size.checked_sub(length as u64 + 8).ok_or_else(|| damaged("its footer is longer than it"))?;
        let part = |first: usize| {
            let (at, length) = (number(first), number(first + 1));
            // Before the payload stands the head of a skippable frame.
            let till = at.checked_add(length).filter(|&till| at >= 8 && till <= end && length > 0)?;
            Some(Part { at: at..till, plain: Some(number(first + 2)) })
        };
        if number(3) != 1 {
            return Err(damaged("its TOC is of a type that is not known"));
        }
        let toc = part(0).ok_or_else(|| damaged("its footer places the TOC outside"))?;
        let split = match dialect {
            Dialect::ZstdChunked if number(4) != 0 => {
                Some(part(4).ok_or_else(|| damaged("its footer places the tar-split data outside"))?)
            }
            _ => None,
        };
        let payload = toc.at.start.min(split.as_ref().map_or(u64::MAX, |split| split.at.start)) - 8;
        return Ok(Some(Footer { dialect, payload, toc: Some(toc), split }));
    }
    Ok(None)
}

/// The footer of a gzip archive whose TOC begins at `toc`: from its first byte on eStargz's, from its fifth crfs's.
pub fn gzip(toc: u64) -> [u8; 51] {
    let mut out = [0; 51];
    let head = [0x1f, 0x8b, 8, 4];
    out[..4].copy_from_slice(&head);
    out[4..8].copy_from_slice(&head);
    out[8..16].copy_from_slice(&[0, 0xff, 26, 0, b'S', b'G', 22, 0]);
    out[16..32].copy_from_slice(format!("{toc:016x}").as_bytes());
    out[32..38].copy_from_slice(MAGIC);
    out[38..43].copy_from_slice(&STORED_NOTHING);
    out
}

/// What stands before a payload of `length` bytes that a zstd decoder passes over.
///
/// # Errors
/// `Invalid` when it is too long for that.
pub fn skippable(length: u64) -> Result<[u8; 8]> {
    let why = || Error::Invalid { what: "the TOC".into(), why: "compressed it has more than 4 GiB".into() };
    let length = u32::try_from(length).map_err(|_| why())?.to_le_bytes();
    let mut out = [0; 8];
    out[..4].copy_from_slice(&SKIPPABLE);
    out[4..].copy_from_slice(&length);
    Ok(out)
}

/// The footer of a zstd archive, as a skippable frame; the ranges are those of the payloads.
pub fn zstd_chunked(toc: &Range<u64>, toc_plain: u64, split: &Range<u64>, split_plain: u64) -> [u8; 72] {
    let mut out = [0; 72];
    out[..4].copy_from_slice(&SKIPPABLE);
    out[4] = 64;
    let numbers = [toc.start, toc.end - toc.start, toc_plain, 1, split.start, split.end - split.start, split_plain];
    for (place, number) in out[8..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    out[64..].copy_from_slice(ZSTD_MAGICS[0]);
    out
}
