//! Frames from all workers into packs, packs to whoever uploads.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};

use super::fragment::{FragmentWriter, PackName};
use super::memory::{Memory, PackBytes};
use crate::archive::frame::Frame;
use crate::archive::{Holds, Lying, Pack, PackWriter};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, FrameAt};
use crate::job::Job;

/// Packs that are filled, sealed and stored at a time: enough to store several while the next are filled.
const PACKS: usize = 6;

/// A sealed pack on its way to the store, with the fragment that names its chunks.
pub struct Sealed {
    pub name: PackName,
    pub bytes: PackBytes,
    pub fragment: Vec<u8>,
}

/// What has been packed so far.
pub struct Packer<'a> {
    push: &'a str,
    /// zstd's; what docs/decisions/0006 says where it is `None`.
    pub level: Option<i32>,
    out: &'a Sender<Sealed>,
    job: &'a Job,
    memory: Memory,
    claimed: Mutex<HashSet<[u8; 32]>>,
    filling: Mutex<Filling>,
    names: Mutex<HashMap<u32, Arc<PackName>>>,
    stored_bytes: AtomicU64,
}

#[derive(Default)]
struct Filling {
    writer: Option<PackWriter>,
    number: u32,
    /// Pack number and place of each chunk of this run.
    places: HashMap<[u8; 32], (u32, Lying)>,
    /// The number of the pack that holds the outline.
    outline: Option<u32>,
    content_bytes: u64,
    plain_bytes: u64,
}

/// How much a run sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub chunks: u64,
    /// Of the chunks, before compression.
    pub chunk_bytes: u64,
    /// Of those, what is content: neither page nor outline.
    pub content_bytes: u64,
    /// Of the packs.
    pub pack_bytes: u64,
    pub packs: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a worker that panicked ends the run")
}

impl<'a> Packer<'a> {
    /// For the run `push`.
    pub fn new(push: &'a str, level: Option<i32>, out: &'a Sender<Sealed>, job: &'a Job) -> Packer<'a> {
        let (claimed, filling, names) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (memory, stored_bytes) = (Memory::new(PACKS), AtomicU64::new(0));
        Packer { push, level, out, job, memory, claimed, filling, names, stored_bytes }
    }

    /// True for the one worker that is to send this chunk.
    pub fn claim(&self, digest: &Digest) -> bool {
        lock(&self.claimed).insert(digest.sha256)
    }

    /// Append a frame; seals and sends the pack that it filled. Waits while too many packs are still being stored.
    pub fn add(&self, frame: Frame) -> Result<()> {
        self.add_held(frame, Holds::Content)
    }

    /// As `add`, of what is no content.
    pub fn add_held(&self, frame: Frame, holds: Holds) -> Result<()> {
        let mut filling = lock(&self.filling);
        let Filling { writer, number, places, outline, content_bytes, plain_bytes } = &mut *filling;
        let writer = match writer {
            Some(writer) => writer,
            // All others wait for this one, for they need the same.
            none => none.insert(PackWriter::within(self.memory.take(self.job)?)),
        };
        for lying in writer.add(frame, holds) {
            if holds == Holds::Outline {
                *outline = Some(*number);
                continue;
            }
            *plain_bytes += lying.digest.size;
            *content_bytes += if holds == Holds::Content { lying.digest.size } else { 0 };
            places.insert(lying.digest.sha256, (*number, *lying));
        }
        let next = writer.is_full().then(|| filling.next()).flatten();
        drop(filling);
        next.map_or(Ok(()), |(number, writer)| self.send(number, writer.seal(self.push)))
    }

    /// Seal and send what is left, so that every chunk added so far has its place.
    pub fn flush(&self) -> Result<()> {
        let next = lock(&self.filling).next();
        next.map_or(Ok(()), |(number, writer)| self.send(number, writer.seal(self.push)))
    }

    fn send(&self, number: u32, pack: Pack) -> Result<()> {
        let Pack { name, bytes, chunks } = pack;
        lock(&self.names).insert(number, Arc::new(name));
        // Not under the lock of `filling`, which is held by whoever waits for this pack to be stored.
        self.stored_bytes.fetch_add(bytes.len() as u64, Relaxed);
        let mut fragment = FragmentWriter::default();
        fragment.chunks(&name, chunks);
        let bytes = self.memory.lend(bytes);
        let mut sealed = Sealed { name, bytes, fragment: fragment.finish() };
        loop {
            self.job.step(0)?;
            match self.out.send_timeout(sealed, Duration::from_millis(100)) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => sealed = back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(Error::Stopped),
            }
        }
    }

    /// Where a chunk of this run lies, once its pack is sealed.
    pub fn place(&self, digest: &Digest) -> Option<ChunkAt> {
        let (number, lying) = *lock(&self.filling).places.get(&digest.sha256)?;
        let pack = lock(&self.names).get(&number)?.clone();
        let frame = FrameAt { pack, offset: lying.offset.into(), length: lying.length, plain: lying.plain };
        Some(ChunkAt { digest: *digest, frame, inner: lying.inner })
    }

    /// The pack that the outline lies in, once it is sealed.
    pub fn outline(&self) -> Option<PackName> {
        let number = lock(&self.filling).outline?;
        lock(&self.names).get(&number).map(|name| **name)
    }

    /// Every chunk of this run, into a fragment; it is forgotten here.
    pub fn describe(&self, fragment: &mut FragmentWriter) {
        let names = lock(&self.names);
        let places = std::mem::take(&mut lock(&self.filling).places);
        // In the order of packs, not of the table.
        let numbers: BTreeSet<u32> = places.values().map(|(number, _)| *number).collect();
        numbers.iter().for_each(|number| fragment.chunks(&names[number], []));
        for (number, lying) in places.into_values() {
            fragment.chunks(&names[&number], [lying]);
        }
    }

    pub fn sent(&self) -> Sent {
        let filling = lock(&self.filling);
        Sent {
            chunks: filling.places.len() as u64,
            chunk_bytes: filling.plain_bytes,
            content_bytes: filling.content_bytes,
            pack_bytes: self.stored_bytes.load(Relaxed),
            packs: lock(&self.names).len() as u64,
        }
    }
}

impl Filling {
    /// Take out the pack that is being filled, if any, and its number.
    fn next(&mut self) -> Option<(u32, PackWriter)> {
        let writer = self.writer.take()?;
        self.number += 1;
        Some((self.number - 1, writer))
    }
}
