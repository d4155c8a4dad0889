//! Seek indexes: what it takes to read single files of an archive that was not made for it.
//!
//! Invariant: an index says of which archive it is, and has a digest of every chunk, so that it gives the bytes that were there
//! when it was made, or an error. Memory of who reads one is that of the file map, of who makes one that of the
//! names, whatever the archive. Not here: where both lie, and that the archive is still the one. Bytes: docs/archive.md, "Seek index".

mod bodies;
mod build;
mod content;
mod open;
mod place;
mod remaining;
mod stream;
mod text;

pub use build::{Built, Ends, build};
pub use open::{Found, SeekIndex};

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::archive::lead::Entry;
use crate::digest::Digest;
use crate::error::show;

/// How much of an archive's beginning and end is hashed to know it by.
pub const ENDS: u64 = 64 << 10;
/// Plain bytes between two checkpoints, where blocks allow it.
const SPACING: u64 = 1 << 20;
/// In a gzip member one is set within a block, when none has ended for so long, or soon after, where a stored block ends.
const FORCED: u64 = (2 << 20) - (64 << 10);
/// The most that may lie between them: of zstd, which cannot be entered within a frame.
const GAP: u64 = 64 << 20;
/// No frame is longer, compressed, than that takes where nothing can be compressed.
const LONGEST_FRAME: u64 = GAP + GAP / 4 + (64 << 10);
/// The index's own footer: a skippable frame.
const FOOTER: usize = 80;
const MAGIC: &[u8; 8] = b"SAPWSEEK";
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// What kind of stream the tar is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Tar,
    Gzip,
    Zstd,
}

impl Stream {
    const ALL: [(Stream, &'static str); 3] = [(Stream::Tar, "tar"), (Stream::Gzip, "gzip"), (Stream::Zstd, "zstd")];

    fn name(self) -> &'static str {
        Stream::ALL.iter().find(|(stream, _)| *stream == self).expect("all are there").1
    }
}

/// A place where the stream can be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Checkpoint {
    /// The byte of the archive, and the bit of it, where a block begins; a member or frame begins at bit 0.
    at: u64,
    bit: u8,
    /// Where that is in the plain stream.
    plain: u64,
    /// Where in the index the plain bytes before it are, compressed; of no length where a member or frame begins.
    window: (u64, u32),
    /// Of one within a block: how many bits the head of that has, which stands behind the window.
    head: u16,
}

impl Checkpoint {
    fn entry(&self) -> Entry {
        match self {
            Checkpoint { window: (_, 0), .. } => Entry::Member,
            &Checkpoint { bit, head: 0, .. } => Entry::Block { bit },
            &Checkpoint { bit, head, .. } => Entry::Code { bit, head },
        }
    }
}

/// What an archive is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    size: u64,
    /// SHA-256 of its first and its last 64 KiB.
    first: [u8; 32],
    last: [u8; 32],
}

impl Identity {
    /// What stands for the archive in its file map.
    fn pack(&self) -> Arc<[u8; 32]> {
        let mut bytes = self.size.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.first);
        bytes.extend_from_slice(&self.last);
        Arc::new(Digest::of(&bytes).sha256)
    }
}

/// A name for a message.
fn shown(name: &[u8]) -> String {
    show(Path::new(OsStr::from_bytes(&name[..name.len().min(200)])))
}

#[cfg(test)]
mod tests;
