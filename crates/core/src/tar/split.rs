//! Split metadata: all of a tar stream but the contents, in lines as tar-split's packer writes them, and the stream made again.
//!
//! Invariant: lines and contents together give the stream back byte for byte, or an error; no content is passed on further
//! than its line says. Bytes: docs/archive.md, "Split metadata".

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::crc::Crc;
use super::name::shown;
use crate::error::{Error, Result};

/// The most raw bytes of one line: so that no such line is longer than a page.
pub const SEGMENT: usize = 192 << 10;

/// A content as a line names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// As it stands in the stream.
    pub name: Vec<u8>,
    /// Bytes in the stream.
    pub size: u64,
    pub crc: u64,
    /// Of a sparse file: what the stream leaves out of the content.
    pub holes: Vec<(u64, u64)>,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Raw(Vec<u8>),
    Content(Stored),
}

#[derive(Serialize, Deserialize)]
struct Spelled<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(borrow, default)]
    payload: Option<Cow<'a, str>>,
    position: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holes: Vec<(u64, u64)>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Appends lines to what it is given. Raw bytes are gathered until a content comes.
#[derive(Default)]
pub struct SplitWriter {
    position: u64,
    raw: Vec<u8>,
}

impl SplitWriter {
    pub fn raw(&mut self, lines: &mut Vec<u8>, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        while self.raw.len() > SEGMENT {
            let rest = self.raw.split_off(SEGMENT);
            self.flush(lines);
            self.raw = rest;
        }
    }

    /// A content that the stream has here and the tree under this name. One that the tree has not, because a later entry
    /// replaced it, is raw.
    pub fn content(&mut self, lines: &mut Vec<u8>, stored: &Stored) {
        self.flush(lines);
        let payload = (stored.size > 0).then(|| STANDARD.encode(stored.crc.to_be_bytes()).into());
        let (name, name_raw) = match std::str::from_utf8(&stored.name) {
            Ok(name) => (Some(name.into()), None),
            Err(_) => (None, Some(STANDARD.encode(&stored.name).into())),
        };
        let holes = stored.holes.clone();
        self.line(lines, Spelled { kind: 1, name, name_raw, size: stored.size, payload, position: 0, holes });
    }

    /// Write what is left.
    pub fn finish(mut self, lines: &mut Vec<u8>) {
        self.flush(lines);
    }

    /// End the line of raw bytes that were gathered.
    pub fn flush(&mut self, lines: &mut Vec<u8>) {
        if !self.raw.is_empty() {
            let payload = Some(STANDARD.encode(&self.raw).into());
            self.raw.clear();
            let (name, name_raw, holes) = (None, None, Vec::new());
            self.line(lines, Spelled { kind: 2, name, name_raw, size: 0, payload, position: 0, holes });
        }
    }

    fn line(&mut self, lines: &mut Vec<u8>, mut spelled: Spelled<'_>) {
        spelled.position = self.position;
        self.position += 1;
        serde_json::to_writer(&mut *lines, &spelled).expect("a line has nothing that JSON cannot say");
        lines.push(b'\n');
    }
}

fn damaged(found: impl Into<String>) -> Error {
    Error::damaged("split metadata", found)
}

/// Read one line.
///
/// # Errors
/// `Damaged`.
pub fn parse(line: &[u8]) -> Result<Line> {
    let spelled: Spelled<'_> =
        serde_json::from_slice(line).map_err(|e| damaged(format!("a line does not parse: {e}")))?;
    let payload = spelled.payload.as_deref().unwrap_or("");
    let payload = STANDARD.decode(payload).map_err(|_| damaged("a line has what is no base64"))?;
    match spelled.kind {
        2 => Ok(Line::Raw(payload)),
        1 => {
            let name = match (spelled.name, spelled.name_raw) {
                (Some(name), None) => name.into_owned().into_bytes(),
                (None, Some(raw)) => STANDARD.decode(&*raw).map_err(|_| damaged("a name is no base64"))?,
                _ => return Err(damaged("a line of a content has no name")),
            };
            // An empty content has no sum, or that of nothing.
            let crc = match <[u8; 8]>::try_from(payload) {
                Ok(sum) => u64::from_be_bytes(sum),
                Err(_) if spelled.size == 0 => 0,
                Err(_) => return Err(damaged(format!("{} has no sum", shown(&name)))),
            };
            let mut end = 0u64;
            for &(offset, length) in &spelled.holes {
                let after = offset.checked_add(length).filter(|_| offset >= end);
                end = after.ok_or_else(|| damaged(format!("the holes of {} contradict each other", shown(&name))))?;
            }
            Ok(Line::Content(Stored { name, size: spelled.size, crc, holes: spelled.holes }))
        }
        other => Err(damaged(format!("a line has type {other}"))),
    }
}

/// Takes a file's whole content in order and passes on what the stream has of it.
pub struct Pouring<'a> {
    stored: &'a Stored,
    place: u64,
    hole: usize,
    poured: u64,
    crc: Crc,
}

impl<'a> Pouring<'a> {
    pub fn new(stored: &'a Stored) -> Pouring<'a> {
        Pouring { stored, place: 0, hole: 0, poured: 0, crc: Crc::default() }
    }

    /// # Errors
    /// `Damaged` when the content is longer than the line says; `Io` of `out`.
    pub fn pour(&mut self, mut bytes: &[u8], out: &mut impl Write) -> Result<()> {
        while !bytes.is_empty() {
            let (offset, length) = self.stored.holes.get(self.hole).copied().unwrap_or((u64::MAX, 0));
            let inside = self.place >= offset;
            let until = if inside { offset + length } else { offset };
            let count = usize::try_from(until - self.place).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            if !inside {
                self.poured += count as u64;
                if self.poured > self.stored.size {
                    return Err(self.other());
                }
                self.crc.update(now);
                out.write_all(now).map_err(Error::io("write", "the tar"))?;
            }
            self.place += count as u64;
            self.hole += usize::from(inside && self.place == until);
            bytes = later;
        }
        Ok(())
    }

    /// # Errors
    /// `Damaged` when what was poured is not what the line says.
    pub fn finish(self) -> Result<()> {
        let same = self.poured == self.stored.size && (self.poured == 0 || self.crc.value() == self.stored.crc);
        if same { Ok(()) } else { Err(self.other()) }
    }

    fn other(&self) -> Error {
        damaged(format!("the content of {} is not the one that its tar had", shown(&self.stored.name)))
    }
}
