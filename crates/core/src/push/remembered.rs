//! What this machine remembers of the pages of a file map, so that those that cannot have changed are not made again.
//!
//! Invariant: a page is taken from memory only when making it would give the very same bytes: the same entries, by a digest of
//! their records, between the same cuts, all of whose chunks lie where the holdings say. Damage costs time.
//! Bytes: docs/format.md, "Local state".

use serde::{Deserialize, Serialize};

use super::fragment::PackName;
use crate::digest::{Digest, hex, parse_hex};

/// A page as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub first: Vec<u8>,
    pub entries: u32,
    /// It ends where the tree does, not at a cut.
    pub is_last: bool,
    /// Of the records of its entries.
    pub sum: [u8; 32],
    pub digest: Digest,
    /// Of its blobs.
    pub bytes: u64,
    /// That its chunks lie in.
    pub packs: Vec<PackName>,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    format: u32,
    cut: u32,
    packs: Vec<String>,
    pages: Vec<RawPage>,
}

#[derive(Serialize, Deserialize)]
struct RawPage {
    first: String,
    entries: u32,
    last: bool,
    sum: String,
    digest: String,
    size: u64,
    bytes: u64,
    packs: Vec<u32>,
}

/// Spell the memory of pages of this cut.
pub fn encode(cut: u32, pages: &[Remembered]) -> Vec<u8> {
    let mut packs: Vec<PackName> = pages.iter().flat_map(|page| page.packs.iter().copied()).collect();
    packs.sort_unstable();
    packs.dedup();
    let number = |pack: &PackName| packs.binary_search(pack).expect("all packs were collected") as u32;
    let page = |page: &Remembered| RawPage {
        first: hex(&page.first),
        entries: page.entries,
        last: page.is_last,
        sum: hex(&page.sum),
        digest: hex(&page.digest.sha256),
        size: page.digest.size,
        bytes: page.bytes,
        packs: page.packs.iter().map(number).collect(),
    };
    let pages = pages.iter().map(page).collect();
    let raw = Raw { format: 2, cut, packs: packs.iter().map(|pack| hex(pack)).collect(), pages };
    let mut out = serde_json::to_vec(&raw).expect("plain numbers and strings are JSON");
    let sum = Digest::of(&out);
    out.extend_from_slice(&sum.sha256);
    out
}

/// Read the memory of pages of this cut; nothing when it is damaged or of others.
pub fn decode(bytes: &[u8], cut: u32) -> Vec<Remembered> {
    read(bytes, cut).unwrap_or_default()
}

fn read(bytes: &[u8], cut: u32) -> Option<Vec<Remembered>> {
    let (json, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Digest::of(json).sha256 != sum {
        return None;
    }
    let raw: Raw = serde_json::from_slice(json).ok()?;
    if raw.format != 2 || raw.cut != cut {
        return None;
    }
    let packs: Vec<PackName> = raw.packs.iter().map(|pack| parse_hex(pack)).collect::<Option<_>>()?;
    let page = |page: RawPage| {
        Some(Remembered {
            first: unhex(&page.first)?,
            entries: page.entries,
            is_last: page.last,
            sum: parse_hex(&page.sum)?,
            digest: Digest { sha256: parse_hex(&page.digest)?, size: page.size },
            bytes: page.bytes,
            packs: page.packs.iter().map(|&pack| packs.get(pack as usize).copied()).collect::<Option<_>>()?,
        })
    };
    raw.pages.into_iter().map(page).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
