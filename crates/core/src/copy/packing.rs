//! Frames from several threads into packs, for whoever puts them.
//!
//! Invariant: never more than `PACKS` packs are filled, sealed or being put at a time; who would fill one more waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::archive::frame::{Frame, FrameWriter};
use crate::archive::{Holds, Lying, PackWriter};
use crate::digest::Digest;
use crate::error::Result;
use crate::filemap::{ChunkAt, FrameAt};
use crate::job::Job;
use crate::push::{Fragment, FragmentWriter, Memory, PackName, Sealed};

const PACKS: usize = 6;

/// How much a copy sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Of blobs.
    pub chunks: u64,
    /// Of them, before compression.
    pub chunk_bytes: u64,
    pub packs: u64,
    pub pack_bytes: u64,
}

/// The packs of one run.
pub struct Packing {
    push: String,
    job: Arc<Job>,
    memory: Memory,
    filling: Mutex<Filling>,
    sealed: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    packs: HashMap<u32, Arc<PackName>>,
    fragment: FragmentWriter,
    sent: Sent,
}

/// Which packs something goes into.
#[derive(Clone, Copy)]
enum Lane {
    Any,
    /// Of what is laid out again, so that nothing else lies between.
    LaidOut,
}

/// A pack that is being filled, and its number.
type Open = Option<(u32, PackWriter)>;

struct Filling {
    /// By lane.
    open: [Open; 2],
    /// How many packs there were.
    packs: u32,
    /// Of chunks whose frame is not taken over.
    rest: FrameWriter,
    places: HashMap<[u8; 32], (u32, Lying)>,
    /// The number of the pack that holds the outline.
    outline: Option<u32>,
    chunks: u64,
    chunk_bytes: u64,
}

impl Packing {
    /// For the run `push`; what an earlier run put is named along with what this one puts.
    pub fn new(push: &str, job: Arc<Job>, pending: &[Fragment]) -> Packing {
        let mut names = Names::default();
        pending.iter().for_each(|pending| names.fragment.fragment(pending));
        let filling = Filling {
            open: [None, None],
            packs: 0,
            rest: FrameWriter::for_chunks(),
            places: HashMap::new(),
            outline: None,
            chunks: 0,
            chunk_bytes: 0,
        };
        let memory = Memory::new(PACKS);
        Packing { push: push.to_owned(), job, memory, filling: Mutex::new(filling), sealed: Mutex::new(names) }
    }

    /// Append a frame; gives the pack that it filled.
    pub fn add(&self, frame: Frame, holds: Holds) -> Result<Vec<Sealed>> {
        self.add_to(Lane::Any, frame, holds)
    }

    /// Append a frame of what is laid out again.
    pub fn lay_out(&self, frame: Frame) -> Result<Vec<Sealed>> {
        self.add_to(Lane::LaidOut, frame, Holds::Content)
    }

    fn add_to(&self, lane: Lane, frame: Frame, holds: Holds) -> Result<Vec<Sealed>> {
        let mut full = Vec::new();
        self.append(&mut lock(&self.filling), lane, frame, holds, &mut full)?;
        Ok(self.seal(full))
    }

    /// Append chunks, which the caller has proved, in frames of their own.
    pub fn add_chunks<'a>(&self, chunks: impl Iterator<Item = (Digest, &'a [u8])>) -> Result<Vec<Sealed>> {
        let mut full = Vec::new();
        let mut filling = lock(&self.filling);
        for (digest, bytes) in chunks {
            if !filling.rest.takes(bytes.len()) {
                let frame = filling.rest.seal();
                self.append(&mut filling, Lane::Any, frame, Holds::Content, &mut full)?;
            }
            filling.rest.add(digest, bytes);
        }
        drop(filling);
        Ok(self.seal(full))
    }

    /// Seal what is left, so that every chunk added so far has its place.
    pub fn flush(&self) -> Result<Vec<Sealed>> {
        let mut full = Vec::new();
        let mut filling = lock(&self.filling);
        if !filling.rest.is_empty() {
            let frame = filling.rest.seal();
            self.append(&mut filling, Lane::Any, frame, Holds::Content, &mut full)?;
        }
        full.extend(filling.open.iter_mut().filter_map(Option::take));
        drop(filling);
        Ok(self.seal(full))
    }

    fn append(
        &self,
        filling: &mut Filling,
        lane: Lane,
        frame: Frame,
        holds: Holds,
        full: &mut Vec<(u32, PackWriter)>,
    ) -> Result<()> {
        let Filling { open, packs, places, outline, chunks, chunk_bytes, .. } = filling;
        let open = &mut open[lane as usize];
        if open.is_none() {
            // All others wait for this one, for they need the same.
            *open = Some((*packs, PackWriter::within(self.memory.take(&self.job)?)));
            *packs += 1;
        }
        let (number, writer) = open.as_mut().expect("it was opened");
        for lying in writer.add(frame, holds) {
            if holds == Holds::Outline {
                *outline = Some(*number);
                continue;
            }
            if holds == Holds::Content {
                *chunks += 1;
                *chunk_bytes += lying.digest.size;
            }
            places.insert(lying.digest.sha256, (*number, *lying));
        }
        if writer.is_full() {
            full.extend(open.take());
        }
        Ok(())
    }

    fn seal(&self, full: Vec<(u32, PackWriter)>) -> Vec<Sealed> {
        let seal = |(number, writer): (u32, PackWriter)| {
            let pack = writer.seal(&self.push);
            let mut fragment = FragmentWriter::default();
            fragment.chunks(&pack.name, pack.chunks.iter().copied());
            let mut names = lock(&self.sealed);
            names.packs.insert(number, Arc::new(pack.name));
            names.fragment.chunks(&pack.name, pack.chunks);
            names.sent.packs += 1;
            names.sent.pack_bytes += pack.bytes.len() as u64;
            Sealed { name: pack.name, bytes: self.memory.lend(pack.bytes), fragment: fragment.finish() }
        };
        full.into_iter().map(seal).collect()
    }

    /// Whether a chunk or a page has been added.
    pub fn has(&self, digest: &Digest) -> bool {
        lock(&self.filling).places.contains_key(&digest.sha256)
    }

    /// Where a chunk lies, once its pack is sealed.
    pub fn place(&self, digest: &Digest) -> Option<ChunkAt> {
        let (number, lying) = *lock(&self.filling).places.get(&digest.sha256)?;
        let pack = lock(&self.sealed).packs.get(&number)?.clone();
        let frame = FrameAt { pack, offset: lying.offset.into(), length: lying.length, plain: lying.plain };
        Some(ChunkAt { digest: *digest, frame, inner: lying.inner })
    }

    /// The pack that the outline lies in, once it is sealed.
    pub fn outline(&self) -> Option<PackName> {
        let number = lock(&self.filling).outline?;
        lock(&self.sealed).packs.get(&number).map(|name| **name)
    }

    /// Name the chunks of a large blob, too.
    pub fn list(&self, blob: Digest, chunks: Vec<Digest>) {
        lock(&self.sealed).fragment.blob(blob, chunks);
    }

    /// A fragment of all that was sealed, if anything was, and how much that is.
    pub fn end(&self) -> (Option<Vec<u8>>, Sent) {
        let filling = lock(&self.filling);
        let Names { fragment, sent, .. } = std::mem::take(&mut *lock(&self.sealed));
        let fragment = (!fragment.is_empty()).then(|| fragment.finish());
        (fragment, Sent { chunks: filling.chunks, chunk_bytes: filling.chunk_bytes, ..sent })
    }
}
