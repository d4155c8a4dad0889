//! Where the frames of a pack that was moved lie now.
//!
//! Invariant: the plain bytes of a frame are the same at its new place; none is read that is damaged, and of which pack it
//! is can be told, for collection deletes by what redirects say. Bytes: docs/format.md, "Redirect".

use serde::Deserialize;
use zstd::zstd_safe::{self, CParameter};

use super::frame::inflate;
use crate::digest::{hex, parse_hex};
use crate::error::{Error, Result};

/// No redirect is larger: that of a pack of a million frames.
const MAX_TEXT: u64 = 64 << 20;

/// The redirect of one pack: frames of it, and their places in others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The pack that was moved.
    pub of: [u8; 32],
    pub packs: Vec<[u8; 32]>,
    /// Old offset and length, number of the pack, new offset and length; strictly sorted by old offset.
    pub rows: Vec<(u32, u32, u32, u32, u32)>,
}

#[derive(Deserialize)]
struct Head<'a> {
    format: u64,
    #[serde(default)]
    pack: &'a str,
    #[serde(borrow, default)]
    packs: Vec<&'a str>,
}

impl Redirect {
    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let packs: Vec<String> = self.packs.iter().map(|pack| format!("\"{}\"", hex(pack))).collect();
        let mut text = format!("{{\"format\":1,\"pack\":\"{}\",\"packs\":[{}]}}\n", hex(&self.of), packs.join(","));
        for (offset, length, pack, new_offset, new_length) in &self.rows {
            text.push_str(&format!("[{offset},{length},{pack},{new_offset},{new_length}]\n"));
        }
        compress(text.as_bytes()).expect("the bound of zstd's output is allotted")
    }

    /// # Errors
    /// `Damaged`, `NewerFormat`.
    pub fn decode(bytes: &[u8]) -> Result<Redirect> {
        let damaged = |found: &str| Error::damaged("redirect", found);
        let size = zstd_safe::get_frame_content_size(bytes).ok().flatten().filter(|&size| size <= MAX_TEXT);
        let text = inflate("redirect", bytes, size.ok_or_else(|| damaged("it is no zstd frame"))?)?;
        let text = text.strip_suffix(b"\n").ok_or_else(|| damaged("its last line has no end"))?;
        let mut lines = text.split(|&byte| byte == b'\n');
        let head = lines.next().ok_or_else(|| damaged("it is empty"))?;
        let head: Head<'_> = serde_json::from_slice(head).map_err(|_| damaged("its first line does not parse"))?;
        match head.format {
            1 => {}
            0 => return Err(damaged("format 0")),
            version => return Err(Error::NewerFormat { what: "redirect".into(), version }),
        }
        if !has_checksum(bytes) {
            return Err(damaged("it has no checksum"));
        }
        let of = parse_hex(head.pack).ok_or_else(|| damaged("it does not say of which pack it is"))?;
        let packs: Option<Vec<_>> = head.packs.into_iter().map(parse_hex).collect();
        let packs = packs.ok_or_else(|| damaged("a pack's name that is none"))?;
        let row = |line| serde_json::from_slice(line).map_err(|_| damaged("a line does not parse"));
        let rows: Vec<(u32, u32, u32, u32, u32)> = lines.map(row).collect::<Result<_>>()?;
        let inside = rows.iter().all(|row| (row.2 as usize) < packs.len());
        if !inside || rows.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(damaged("its lines contradict each other"));
        }
        Ok(Redirect { of, packs, rows })
    }

    /// # Errors
    /// `Damaged`: it is that of another pack.
    pub fn require_of(&self, pack: &[u8; 32]) -> Result<()> {
        let other = || Error::damaged("redirect", format!("it is that of pack {}", &hex(&self.of)[..12]));
        if self.of == *pack { Ok(()) } else { Err(other()) }
    }

    /// The new place of a frame: pack, offset, length.
    pub fn find(&self, offset: u32, length: u32) -> Option<([u8; 32], u32, u32)> {
        let at = self.rows.binary_search_by_key(&offset, |row| row.0).ok()?;
        let row = self.rows[at];
        (row.1 == length).then(|| (self.packs[row.2 as usize], row.3, row.4))
    }
}

fn compress(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(3)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.compress(text)
}

/// Whether the header of a zstd frame says that a checksum ends it.
fn has_checksum(frame: &[u8]) -> bool {
    frame.get(4).is_some_and(|descriptor| descriptor & 4 != 0)
}
