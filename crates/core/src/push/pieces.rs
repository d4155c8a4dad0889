//! One file after the other into frames; the pieces of a large one through a queue that every worker empties.
//!
//! Invariant: as many pieces as `Pieces` has room for are in memory, for whoever finds no room packs one itself. A digest is
//! that of the very bytes that are packed. Not here: which files, and what became of them (`read`).

use std::mem::take;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::known::Known;
use super::send::Packer;
use crate::archive::frame::{FrameWriter, HEADER, LITTLE, PARTED, THOROUGH};
use crate::chunk::{Cutter, MAX_CHUNK};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::scan::{Sink, Stat};

/// A chunk of a large blob before it has a name.
pub struct Piece {
    of: Arc<Large>,
    number: usize,
    /// From byte `HEADER` on.
    bytes: Vec<u8>,
}

/// The chunks of one reading of a large file; each gets its digest from the worker that packs it.
#[derive(Default)]
pub struct Large(Mutex<Vec<Option<Digest>>>);

impl Large {
    /// Once all workers are done.
    pub fn digests(&self) -> Vec<Digest> {
        let digests = self.0.lock().expect("no worker panicked");
        digests.iter().map(|digest| digest.expect("each piece was packed")).collect()
    }

    fn announce(&self) -> usize {
        let mut digests = self.0.lock().expect("a worker that panicked ends the run");
        digests.push(None);
        digests.len() - 1
    }

    fn name(&self, number: usize, digest: Digest) {
        self.0.lock().expect("a worker that panicked ends the run")[number] = Some(digest);
    }
}

/// The way into the queue of pieces, and the memory of those that have been packed.
#[derive(Clone)]
pub struct Pieces {
    queue: Sender<Piece>,
    pub spare: Spare,
}

#[derive(Clone)]
pub struct Spare {
    used: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
}

impl Spare {
    fn take(&self) -> Vec<u8> {
        let mut memory = self.free.try_recv().unwrap_or_else(|_| Vec::with_capacity(HEADER + MAX_CHUNK));
        memory.clear();
        memory.resize(HEADER, 0);
        memory
    }

    fn give(&self, memory: Vec<u8>) {
        // More than enough may be there.
        let _ = self.used.try_send(memory);
    }
}

impl Pieces {
    /// For so many workers; the queue ends when each has closed its way in.
    pub fn new(workers: usize) -> (Pieces, Receiver<Piece>) {
        let (queue, waiting) = bounded(workers + 1);
        let (used, free) = bounded(2 * workers + 1);
        (Pieces { queue, spare: Spare { used, free } }, waiting)
    }

    /// Queue a piece of `large`; pack one when there is no room.
    fn add(&self, large: &Arc<Large>, bytes: &[u8], packing: &mut Packing<'_>) -> Result<()> {
        let mut memory = self.spare.take();
        memory.extend_from_slice(bytes);
        let piece = Piece { of: large.clone(), number: large.announce(), bytes: memory };
        match self.queue.try_send(piece) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => packing.piece(piece, &self.spare),
        }
    }

    pub fn close(self) -> Spare {
        self.spare
    }
}

/// What one worker packs with.
pub struct Packing<'a> {
    known: &'a Known,
    packer: &'a Packer<'a>,
    frames: FrameWriter,
}

impl<'a> Packing<'a> {
    /// For files of so many bytes.
    pub fn new(known: &'a Known, packer: &'a Packer<'a>, bytes: u64) -> Packing<'a> {
        let frames = match packer.level {
            Some(level) => FrameWriter::new(level),
            None if bytes <= LITTLE => FrameWriter::new(THOROUGH),
            None => FrameWriter::for_chunks(),
        };
        Packing { known, packer, frames }
    }

    fn lacks(&self, digest: &Digest) -> bool {
        !self.known.has(digest) && self.packer.claim(digest)
    }

    /// Pack a blob that is one chunk, if the store lacks it.
    pub fn blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        // One that was cut is known by its pieces.
        if digest.size == 0 || self.known.pieces(&digest).is_some() || !self.packer.claim(&digest) {
            return Ok(());
        }
        if !self.frames.takes(bytes.len()) {
            self.flush()?;
        }
        self.frames.add(digest, bytes);
        Ok(())
    }

    /// A piece of a large blob never shares a frame: so the chunks of a shared frame are whole blobs.
    pub fn piece(&mut self, piece: Piece, spare: &Spare) -> Result<()> {
        let Piece { of, number, mut bytes } = piece;
        let digest = Digest::of(&bytes[HEADER..]);
        of.name(number, digest);
        if self.lacks(&digest) {
            self.packer.add(self.frames.alone(digest, &mut bytes))?;
        }
        spare.give(bytes);
        Ok(())
    }

    /// Begin another frame with what is of another kind, if this one is worth the reading.
    pub fn part(&mut self) -> Result<()> {
        if self.frames.plain().len() >= PARTED { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> Result<()> {
        if self.frames.is_empty() { Ok(()) } else { self.packer.add(self.frames.seal()) }
    }
}

/// Takes one file after the other and packs what is missing of each.
pub struct Reader<'a> {
    pub packing: Packing<'a>,
    pub pieces: Pieces,
    pub file: File,
}

/// The file that is being read.
#[derive(Default)]
pub struct File {
    /// Set when it is large.
    large: Option<Arc<Large>>,
    cutter: Cutter,
    hasher: Hasher,
    size: u64,
    /// Of a small one that came as one.
    whole: Option<Digest>,
    /// Of a small one that did not.
    parts: Vec<u8>,
}

impl Reader<'_> {
    /// A file of so many bytes comes.
    pub fn begin_of(&mut self, size: u64) {
        let file = &mut self.file;
        file.size = size;
        file.large = (size >= MAX_CHUNK as u64).then(Arc::default);
        file.cutter.clear();
        file.hasher = Hasher::default();
        file.whole = None;
        file.parts.clear();
    }

    /// The file has been read and did not change meanwhile: its digest, and the pieces of a large one.
    pub fn end(&mut self) -> Result<(Digest, Option<Arc<Large>>)> {
        if let Some(large) = self.file.large.take() {
            let Reader { packing, pieces, file } = self;
            file.cutter.finish(|bytes| pieces.add(&large, bytes, packing))?;
            return Ok((take(&mut file.hasher).finish(), Some(large)));
        }
        if let Some(whole) = self.file.whole {
            return Ok((whole, None));
        }
        let digest = Digest::of(&self.file.parts);
        self.packing.blob(digest, &self.file.parts)?;
        Ok((digest, None))
    }
}

impl Sink for Reader<'_> {
    fn begin(&mut self, stat: &Stat) -> Result<()> {
        self.begin_of(stat.size);
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        let Reader { packing, pieces, file } = self;
        if let Some(large) = &file.large {
            file.hasher.update(bytes);
            return file.cutter.piece(bytes, |bytes| pieces.add(large, bytes, packing));
        }
        if bytes.len() as u64 == file.size {
            // Should it turn out to have changed, these bytes are packed and nobody names them.
            let digest = Digest::of(bytes);
            file.whole = Some(digest);
            return packing.blob(digest, bytes);
        }
        file.parts.extend_from_slice(bytes);
        Ok(())
    }
}
