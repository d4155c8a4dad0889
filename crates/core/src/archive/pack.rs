//! Frames into a pack.

use serde::Serialize;

use super::frame::Frame;
use crate::digest::{Digest, hex};

/// A pack is sealed when it has this many bytes.
const FULL: usize = 16 * 1024 * 1024;
/// The memory of a pack: a frame and a TOC may come above `FULL`.
const ROOM: usize = FULL + FULL / 4;
const SKIPPABLE: u32 = 0x184d_2a50;
pub const FOOTER: usize = 48;
pub const MAGIC: &[u8; 8] = b"SAPWPACK";

/// A sealed pack: its bytes, its name, and where each chunk lies, but for an outline, which nothing refers to.
pub struct Pack {
    pub name: [u8; 32],
    pub bytes: Vec<u8>,
    pub chunks: Vec<Lying>,
}

/// What a chunk of a pack is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// A chunk of a blob.
    #[default]
    Content,
    /// A page of a file map.
    Page,
    /// What fence index, snapshot and ref can be made of again.
    Outline,
}

impl Holds {
    fn is_content(&self) -> bool {
        *self == Holds::Content
    }
}

/// A chunk's place in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lying {
    pub digest: Digest,
    pub offset: u32,
    pub length: u32,
    pub plain: u32,
    pub inner: u32,
}

#[derive(Default)]
pub struct PackWriter {
    bytes: Vec<u8>,
    chunks: Vec<Lying>,
    holds: Vec<Holds>,
}

#[derive(Serialize)]
struct Toc<'a> {
    version: u32,
    push: &'a str,
    entries: &'a [Entry],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    offset: u32,
    inner_offset: u32,
    digest: String,
    #[serde(skip_serializing_if = "Holds::is_content")]
    holds: Holds,
}

impl PackWriter {
    /// A writer that fills memory which another pack has had.
    pub fn within(mut memory: Vec<u8>) -> PackWriter {
        memory.clear();
        PackWriter { bytes: memory, ..PackWriter::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether it is time to seal.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// Append a frame, all of whose chunks are what `holds` says; tells where each of them lies.
    pub fn add(&mut self, frame: Frame, holds: Holds) -> &[Lying] {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(ROOM);
        }
        let (offset, length, plain) = (self.bytes.len() as u32, frame.bytes.len() as u32, frame.plain);
        self.bytes.extend_from_slice(&frame.bytes);
        let before = self.chunks.len();
        let lying = |(digest, inner)| Lying { digest, offset, length, plain, inner };
        self.chunks.extend(frame.chunks.into_iter().map(lying));
        self.holds.resize(self.chunks.len(), holds);
        &self.chunks[before..]
    }

    /// Close the pack with the end of the tar, the TOC and the footer. `push` is the run that writes it.
    pub fn seal(self, push: &str) -> Pack {
        let PackWriter { mut bytes, chunks, holds } = self;
        bytes.extend_from_slice(&deflate(&[0; 1024], 1));
        let toc = toc_json(push, &chunks, &holds);
        let payload = deflate(&toc, 3);
        let at = bytes.len() as u64;
        push_skippable(&mut bytes, &payload);
        let mut footer = Vec::with_capacity(FOOTER - 8);
        for number in [at, payload.len() as u64, toc.len() as u64, 1] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(MAGIC);
        push_skippable(&mut bytes, &footer);
        let referred = chunks.into_iter().zip(holds).filter(|(_, holds)| *holds != Holds::Outline);
        Pack { name: Digest::of(&bytes).sha256, bytes, chunks: referred.map(|(lying, _)| lying).collect() }
    }
}

fn toc_json(push: &str, chunks: &[Lying], holds: &[Holds]) -> Vec<u8> {
    let entry = |(lying, &holds): (&Lying, &Holds)| Entry {
        name: hex(&lying.digest.sha256),
        kind: "reg",
        size: lying.digest.size,
        offset: lying.offset,
        inner_offset: lying.inner,
        digest: format!("sha256:{}", hex(&lying.digest.sha256)),
        holds,
    };
    let entries: Vec<Entry> = chunks.iter().zip(holds).map(entry).collect();
    serde_json::to_vec(&Toc { version: 1, push, entries: &entries }).expect("plain numbers and strings are JSON")
}

/// Compress with the size stated, as every frame of ours is.
pub fn deflate(bytes: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(bytes, level).expect("the bound of zstd's output is allotted")
}

fn push_skippable(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&SKIPPABLE.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
}
