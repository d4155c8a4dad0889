//! A pack's footer and TOC, read back: what tests hold written packs against. Reading a tree needs neither, because file maps
//! say where chunks lie.

use serde::Deserialize;

use super::frame::inflate;
use super::pack::{FOOTER, MAGIC};
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};

/// What a pack says it holds.
pub struct Toc {
    pub entries: Vec<TocEntry>,
}

/// One chunk: its frame begins at `offset` in the pack, the chunk at `inner` in the decompressed frame.
#[derive(Debug, PartialEq, Eq)]
pub struct TocEntry {
    pub digest: Digest,
    pub offset: u64,
    pub inner: u32,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    entries: Vec<RawEntry<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry<'a> {
    name: &'a str,
    size: u64,
    offset: u64,
    inner_offset: u32,
}

impl Toc {
    /// Of a whole pack in memory.
    ///
    /// # Errors
    /// `Damaged` when footer or TOC do not parse, `NewerFormat`.
    pub fn of(pack: &[u8]) -> Result<Toc> {
        let damaged = |found: &str| Error::damaged("pack", found);
        let body = pack.len().checked_sub(FOOTER).ok_or_else(|| damaged("it is shorter than a footer"))?;
        let footer = &pack[body..];
        if footer[..8] != [0x50, 0x2a, 0x4d, 0x18, 0x28, 0, 0, 0] || &footer[40..] != MAGIC {
            return Err(damaged("it has no footer"));
        }
        let number =
            |i: usize| u64::from_le_bytes(footer[8 * i..8 * i + 8].try_into().expect("eight bytes were sliced"));
        let (at, length, size, version) = (number(1), number(2), number(3), number(4));
        if version > 1 {
            return Err(Error::NewerFormat { what: "pack".into(), version });
        }
        let start = usize::try_from(at).ok().and_then(|at| at.checked_add(8));
        let range = start.and_then(|start| Some(start..start.checked_add(usize::try_from(length).ok()?)?));
        let payload = range.filter(|range| range.end <= body).map(|range| &pack[range]);
        let payload = payload.ok_or_else(|| damaged("its TOC lies outside"))?;
        // A TOC is smaller than the chunks it names: no more memory than a few times the pack.
        if size > 64 * pack.len() as u64 {
            return Err(damaged("its TOC cannot be that large"));
        }
        let json = inflate("a pack's TOC", payload, size)?;
        let raw: Raw = serde_json::from_slice(&json).map_err(|e| damaged(&format!("its TOC does not parse: {e}")))?;
        let entry = |raw: RawEntry| {
            let sha256 = parse_hex(raw.name)?;
            let digest = Digest { sha256, size: raw.size };
            (raw.offset < at).then_some(TocEntry { digest, offset: raw.offset, inner: raw.inner_offset })
        };
        let entries = raw.entries.into_iter().map(|raw| entry(raw).ok_or_else(|| damaged("its TOC names no chunk")));
        Ok(Toc { entries: entries.collect::<Result<_>>()? })
    }
}
