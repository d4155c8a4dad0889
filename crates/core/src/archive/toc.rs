//! A pack's footer and TOC, read back: what a pack says of itself. Reading a tree needs neither, because file maps say where
//! chunks lie; upkeep does, to hold packs and maps against each other and to make the maps again.
//!
//! Invariant: what is given out lies inside the pack, and no more memory is used than a few times what was handed in.

use serde::Deserialize;
use zstd::zstd_safe;

use super::Holds;
use super::frame::{self, inflate};
use super::pack::{FOOTER, Lying, MAGIC};
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};

/// The most that the end of the tar takes: 1,024 zero bytes as one zstd frame.
const END: usize = 64;
/// Enough of a pack's end for most TOCs; ask for this much first.
pub const TAIL: u64 = 256 * 1024;

/// What a pack says it holds.
#[derive(Debug)]
pub struct Toc {
    /// The run that wrote it; unknown of packs from before there was one.
    pub push: Option<String>,
    /// In the order of the pack.
    pub entries: Vec<TocEntry>,
    /// Where the last data frame ends.
    pub end: u32,
}

/// One chunk and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TocEntry {
    pub lying: Lying,
    pub holds: Holds,
}

/// What the last bytes of a pack give.
#[derive(Debug)]
pub enum Tail {
    Toc(Toc),
    /// Hand in this many of the last bytes.
    Short(u64),
}

#[derive(Deserialize)]
struct Raw<'a> {
    version: u64,
    #[serde(default)]
    push: Option<&'a str>,
    #[serde(borrow)]
    entries: Vec<RawEntry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    size: u64,
    offset: u32,
    inner_offset: u32,
    digest: &'a str,
    #[serde(default)]
    holds: Option<&'a str>,
}

fn damaged(found: impl Into<String>) -> Error {
    Error::damaged("pack", found)
}

impl Toc {
    /// Of a whole pack in memory.
    ///
    /// # Errors
    /// `Damaged` when footer or TOC do not parse or contradict the pack, `NewerFormat`.
    pub fn of(pack: &[u8]) -> Result<Toc> {
        match Toc::of_tail(pack, pack.len() as u64)? {
            Tail::Toc(toc) => Ok(toc),
            Tail::Short(_) => Err(damaged("its TOC lies outside")),
        }
    }

    /// Of the last bytes of a pack of `size` bytes.
    ///
    /// # Errors
    /// As `of`.
    pub fn of_tail(tail: &[u8], size: u64) -> Result<Tail> {
        let body = tail.len().checked_sub(FOOTER).ok_or_else(|| damaged("it is shorter than a footer"))?;
        let footer = &tail[body..];
        if footer[..8] != [0x50, 0x2a, 0x4d, 0x18, 0x28, 0, 0, 0] || &footer[40..] != MAGIC {
            return Err(damaged("it has no footer"));
        }
        let number =
            |i: usize| u64::from_le_bytes(footer[8 * i..8 * i + 8].try_into().expect("eight bytes were sliced"));
        let (at, length, plain, version) = (number(1), number(2), number(3), number(4));
        if version > 1 {
            return Err(Error::NewerFormat { what: "pack".into(), version });
        }
        let footer_at = size.checked_sub(FOOTER as u64).ok_or_else(|| damaged("it is shorter than a footer"))?;
        if version != 1 || at.checked_add(8).and_then(|end| end.checked_add(length)) != Some(footer_at) {
            return Err(damaged("its TOC lies outside"));
        }
        let end = at.min(END as u64);
        let needed = size - at + end;
        if needed > tail.len() as u64 {
            return Ok(Tail::Short(needed));
        }
        // A TOC is smaller than the chunks it names: no more memory than a few times the pack.
        if plain > 64 * size {
            return Err(damaged("its TOC cannot be that large"));
        }
        let start = (at - (size - tail.len() as u64)) as usize;
        let lead = &tail[start..start + 8];
        if lead[..4] != footer[..4] || lead[4..] != (length as u32).to_le_bytes() {
            return Err(damaged("its TOC is no skippable frame"));
        }
        let json = inflate("a pack's TOC", &tail[start + 8..body], plain)?;
        let end = end_of_data(&tail[start - end as usize..start])?;
        let end = u32::try_from(at - end as u64).map_err(|_| damaged("it is too large"))?;
        parse(&json, end).map(Tail::Toc)
    }

    /// The distinct frames: offset, length in the pack, plain length; in the order of the pack.
    pub fn frames(&self) -> Vec<(u32, u32, u32)> {
        let mut frames: Vec<_> = self.entries.iter().map(|e| (e.lying.offset, e.lying.length, e.lying.plain)).collect();
        frames.dedup();
        frames
    }

    /// Find a chunk by where it lies.
    pub fn at(&self, offset: u32, inner: u32) -> Option<&TocEntry> {
        let place = |e: &TocEntry| (e.lying.offset, e.lying.inner);
        self.entries.binary_search_by_key(&(offset, inner), place).ok().map(|at| &self.entries[at])
    }
}

/// The length of the frame with the end of the tar, which ends where `before` does.
fn end_of_data(before: &[u8]) -> Result<usize> {
    let ends = |&length: &usize| {
        let frame = &before[before.len() - length..];
        zstd_safe::find_frame_compressed_size(frame) == Ok(length)
            && frame::open(frame, 1024).is_ok_and(|plain| plain.iter().all(|&byte| byte == 0))
    };
    (1..=before.len()).find(ends).ok_or_else(|| damaged("its tar has no end"))
}

fn parse(json: &[u8], end: u32) -> Result<Toc> {
    let raw: Raw<'_> = serde_json::from_slice(json).map_err(|e| damaged(format!("its TOC does not parse: {e}")))?;
    let push_fits = |push: &str| push.len() == 16 && push.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if raw.version != 1 || raw.push.is_some_and(|push| !push_fits(push)) {
        return Err(damaged("its TOC is not as sapwood writes it"));
    }
    let mut entries = Vec::with_capacity(raw.entries.len());
    // From the end, so that the frame after each is known: a frame ends where the next begins.
    let (mut next, mut frame) = (end, None);
    for entry in raw.entries.iter().rev() {
        let (offset, inner) = (entry.offset, entry.inner_offset);
        let sha256 = parse_hex(entry.name).filter(|_| entry.kind == "reg" && entry.digest.ends_with(entry.name));
        let sha256 = sha256.ok_or_else(|| damaged("its TOC names no chunk"))?;
        let holds = match entry.holds {
            None => Holds::Content,
            Some("page") => Holds::Page,
            Some("outline") => Holds::Outline,
            Some(_) => return Err(damaged("its TOC holds what nobody knows")),
        };
        let outside = || damaged("its TOC names a chunk outside");
        let (length, plain) = match frame {
            Some((at, length, plain, before)) if at == offset => {
                // The entries of a frame follow each other as those of a tar do.
                let fits = u64::from(inner) + entry.size <= u64::from(before);
                fits.then_some((length, plain)).ok_or_else(outside)?
            }
            _ => {
                let length = next.checked_sub(offset).filter(|&length| length > 0).ok_or_else(outside)?;
                let plain = (u64::from(inner) + entry.size).next_multiple_of(512);
                let plain = u32::try_from(plain).ok().filter(|&plain| plain as usize <= super::MAX_PAGE_FRAME);
                (length, plain.ok_or_else(outside)?)
            }
        };
        frame = Some((offset, length, plain, inner));
        next = offset;
        let lying = Lying { digest: Digest { sha256, size: entry.size }, offset, length, plain, inner };
        entries.push(TocEntry { lying, holds });
    }
    if next != 0 && !entries.is_empty() {
        return Err(damaged("its TOC leaves something out"));
    }
    entries.reverse();
    Ok(Toc { push: raw.push.map(str::to_owned), entries, end })
}
