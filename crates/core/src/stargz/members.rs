//! Members: runs of the tar stream that are compressed as one, by all threads at once.
//!
//! Invariant: what a member becomes depends on its plain bytes, the kind and the level alone; batches come back in the order
//! in which they were given.

use std::fs::File;
use std::ops::Range;
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use libdeflater::CompressionLvl;
use zstd::bulk;

use super::copies::Copier;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// The compression of an archive, with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// libdeflate's levels, 0 to 12.
    Gzip(i32),
    /// zstd's levels, 1 to 19.
    Zstd(i32),
}

impl Compression {
    pub const GZIP: Compression = Compression::Gzip(5);
    pub const ZSTD: Compression = Compression::Zstd(3);

    /// # Errors
    /// `Invalid` when there is no such level.
    pub fn check(self) -> Result<()> {
        let (level, levels) = match self {
            Compression::Gzip(level) => (level, 0..=12),
            Compression::Zstd(level) => (level, 1..=19),
        };
        if levels.contains(&level) {
            return Ok(());
        }
        let why = format!("there are only levels {} to {}", levels.start(), levels.end());
        Err(Error::Invalid { what: format!("level {level}"), why })
    }
}

/// Members that are compressed by one thread in one go.
#[derive(Default)]
pub struct Batch {
    pub plain: Vec<u8>,
    /// Where each member ends in `plain`.
    pub members: Vec<usize>,
    /// Where chunks lie in `plain`.
    pub chunks: Vec<Range<usize>>,
    /// SHA-256 of each chunk; empty when they are not known yet.
    pub digests: Vec<[u8; 32]>,
    /// Where each member lies already, perhaps.
    pub copies: Vec<Option<Range<u64>>>,
    /// Memory for what it becomes.
    pub out: Vec<u8>,
}

/// What a batch became.
pub struct Done {
    pub bytes: Vec<u8>,
    /// Where each member ends in `bytes`.
    pub members: Vec<usize>,
    /// SHA-256 of each chunk.
    pub chunks: Vec<[u8; 32]>,
    /// The plain bytes, whose memory can be used again.
    pub plain: Vec<u8>,
}

struct Task {
    batch: Batch,
    reply: Sender<Done>,
}

/// The threads that compress. They end when this is dropped.
pub struct Workers {
    tasks: Sender<Task>,
}

impl Workers {
    /// `copies` is the file in which members may lie already.
    pub fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        compression: Compression,
        copies: Option<&'env File>,
        threads: usize,
    ) -> Workers {
        let (tasks, queue) = unbounded::<Task>();
        for _ in 0..threads.max(1) {
            let queue = queue.clone();
            let copier = copies.map(|file| Copier::new(file, matches!(compression, Compression::Zstd(_))));
            scope.spawn(move || work(&queue, compression, copier));
        }
        Workers { tasks }
    }

    /// Hand in a batch; the receiver gets what it becomes.
    pub fn give(&self, batch: Batch) -> Receiver<Done> {
        let (reply, receiver) = bounded(1);
        self.tasks.send(Task { batch, reply }).expect("workers live as long as this does");
        receiver
    }
}

fn work(queue: &Receiver<Task>, compression: Compression, mut copier: Option<Copier<'_>>) {
    let mut packer = Packer::new(compression);
    for Task { batch, reply } in queue {
        let Batch { plain, members, chunks, mut digests, copies, out } = batch;
        if digests.is_empty() {
            digests.extend(chunks.into_iter().map(|at| Digest::of(&plain[at]).sha256));
        }
        let mut done = Done { bytes: out, members: Vec::with_capacity(members.len()), chunks: digests, plain };
        done.bytes.reserve(done.plain.len() / 2);
        let mut start = 0;
        for (end, copy) in members.into_iter().zip(copies) {
            let plain = &done.plain[start..end];
            match copy.zip(copier.as_mut()).and_then(|(at, copier)| copier.copy(&at, plain)) {
                Some(stored) => done.bytes.extend_from_slice(stored),
                None => packer.pack(plain, &mut done.bytes),
            }
            done.members.push(done.bytes.len());
            start = end;
        }
        // Nobody waits for it any more when the writer has failed.
        let _ = reply.send(done);
    }
}

/// Compresses members one after another.
pub struct Packer {
    with: With,
    scratch: Vec<u8>,
}

enum With {
    Gzip(libdeflater::Compressor),
    Zstd(bulk::Compressor<'static>),
}

impl Packer {
    pub fn new(compression: Compression) -> Packer {
        let with = match compression {
            Compression::Gzip(level) => {
                let level = CompressionLvl::new(level).expect("the level was checked");
                With::Gzip(libdeflater::Compressor::new(level))
            }
            Compression::Zstd(level) => {
                let mut compressor = bulk::Compressor::new(level).expect("zstd has memory for a context");
                compressor.include_contentsize(true).expect("zstd knows this parameter");
                compressor.include_checksum(false).expect("zstd knows this parameter");
                With::Zstd(compressor)
            }
        };
        Packer { with, scratch: Vec::new() }
    }

    /// Append one member, or one frame, to `out`.
    pub fn pack(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let bound = match &mut self.with {
            With::Gzip(compressor) => compressor.gzip_compress_bound(plain.len()),
            With::Zstd(_) => zstd::zstd_safe::compress_bound(plain.len()),
        };
        if self.scratch.len() < bound {
            self.scratch.resize(bound, 0);
        }
        let length = match &mut self.with {
            With::Gzip(compressor) => {
                let length = compressor.gzip_compress(plain, &mut self.scratch).expect("the bound is allotted");
                // libdeflate says here how hard it tried.
                self.scratch[8] = 0;
                length
            }
            With::Zstd(compressor) => {
                compressor.compress_to_buffer(plain, &mut self.scratch[..]).expect("the bound is allotted")
            }
        };
        out.extend_from_slice(&self.scratch[..length]);
    }
}
