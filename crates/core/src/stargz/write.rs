//! Archives from entries: what may be chosen, and what was made.

use std::ops::Range;
use std::path::PathBuf;

use super::copies::Copies;
use super::members::{Compression, Workers};
use super::writer::Writer;
use crate::digest::{Digest, hex};
use crate::error::{Error, Result};
use crate::job::Job;

/// Sizes that `Options::chunk_size` may have.
pub const CHUNK_SIZES: Range<usize> = 64 << 10..4_000_000;

/// A smaller file is one chunk, unless somebody says otherwise: mostly all of it is read.
const WHOLE: u64 = 512 << 10;
/// What a larger file is cut into: docs/decisions/0035. Twice as much, up to the most, of one that would be cut into more
/// pieces than these.
const PIECE: u64 = 128 << 10;
const MOST_OF_A_PIECE: u64 = 2 << 20;
const PIECES: u64 = 512;

#[derive(Clone, Debug)]
pub struct Options {
    pub compression: Compression,
    /// Cut by this size instead of that which the file's own suggests.
    pub chunk_size: Option<usize>,
    /// Of gzip: let chunks share a member until they have this many bytes; 0 for a member a chunk.
    pub min_chunk_size: usize,
    /// Of gzip: whole seconds in the TOC, rounded.
    pub compatible_times: bool,
    /// Of an archive that is converted, take members over that are right as they are.
    pub copy: bool,
    pub threads: usize,
    /// Where a large TOC is kept until the end.
    pub temporary: PathBuf,
}

impl Options {
    /// A file of up to so many bytes is one chunk.
    pub fn most_of_one_chunk(&self) -> u64 {
        self.chunk_size.map_or(WHOLE - 1, |size| size as u64)
    }

    /// How many bytes each chunk but the last has of a file of `size` that is cut.
    pub fn piece_of(&self, size: u64) -> u64 {
        let mut piece = PIECE;
        while piece < MOST_OF_A_PIECE && size.div_ceil(piece) > PIECES {
            piece *= 2;
        }
        self.chunk_size.map_or(piece, |size| size as u64)
    }
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    pub size: u64,
    /// The compressed TOC.
    pub toc: Range<u64>,
    pub toc_digest: Digest,
    /// Of the whole tar stream, the TOC's entry and the end included: what OCI calls diffID.
    pub tar: Digest,
    pub entries: u64,
    pub chunks: u64,
    pub chunked: Option<Chunked>,
}

/// What is told of a zstd:chunked archive besides.
#[derive(Debug)]
pub struct Chunked {
    /// SHA-256 of the TOC as it lies in the archive.
    pub toc_frame: [u8; 32],
    /// The compressed tar-split data.
    pub split: Range<u64>,
    pub split_plain: u64,
}

impl Written {
    /// What podman and buildah want to find as annotations of a layer that is this archive; of a gzip archive what containerd
    /// wants.
    ///
    /// What readers of zstd:chunked need is said by its former names too: podman 4.3 and buildah 1.28 know no others.
    pub fn annotations(&self) -> Vec<(&'static str, String)> {
        let digest = |sha256: &[u8; 32]| format!("sha256:{}", hex(sha256));
        let Some(chunked) = &self.chunked else {
            return vec![("containerd.io/snapshot/stargz/toc.digest", digest(&self.toc_digest.sha256))];
        };
        let place = |at: &Range<u64>, plain: u64| format!("{}:{}:{plain}", at.start, at.end - at.start);
        let (checksum, position) =
            (digest(&chunked.toc_frame), format!("{}:1", place(&self.toc, self.toc_digest.size)));
        vec![
            ("io.containers.zstd-chunked.manifest-checksum", checksum.clone()),
            ("io.containers.zstd-chunked.manifest-position", position.clone()),
            ("io.github.containers.zstd-chunked.manifest-checksum", checksum),
            ("io.github.containers.zstd-chunked.manifest-position", position),
            ("io.github.containers.zstd-chunked.tarsplit-position", place(&chunked.split, chunked.split_plain)),
        ]
    }
}

/// Write an archive: `feed` gives the writer each entry, `sink` takes the bytes. What lies in `copies` already is not compressed
/// again, whatever its level.
///
/// # Errors
/// `Invalid` when the options cannot be, `Io` when a temporary file fails, `Stopped`, and what `feed` and `sink` return.
pub fn write(
    options: &Options,
    copies: Option<&Copies<'_>>,
    job: &Job,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    feed: impl FnOnce(&mut Writer<'_>) -> Result<()>,
) -> Result<Written> {
    options.compression.check()?;
    if options.chunk_size.is_some_and(|size| !CHUNK_SIZES.contains(&size)) {
        let why = format!("it may be {} bytes to below {}", CHUNK_SIZES.start, CHUNK_SIZES.end);
        return Err(Error::Invalid { what: "the size of chunks".into(), why });
    }
    if options.min_chunk_size > 0 && matches!(options.compression, Compression::Zstd(_)) {
        let why = "chunks of a zstd archive have a frame each".into();
        return Err(Error::Invalid { what: "the least size of members".into(), why });
    }
    std::thread::scope(|scope| {
        let workers = Workers::start(scope, options.compression, copies.map(|copies| copies.file), options.threads);
        let mut writer = Writer::new(options, copies, job, sink, workers);
        feed(&mut writer)?;
        writer.finish()
    })
}
