//! Requests that wait for frames, and what each frame on its way is good for.
//!
//! Invariant: a parked request is in `requests` exactly until somebody takes it out to answer it, so it is answered once;
//! and it stands under every frame that it still waits for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::Request;
use crate::filemap::FrameAt;

/// What a frame was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Page(usize),
    /// A chunk, by index, of the regular file at an inode.
    Chunk(u64, usize),
}

pub struct Waiting {
    pub request: Request,
    /// How often in a row the same frame arrived and was of no use.
    pub tries: u8,
    left: usize,
}

#[derive(Default)]
pub struct Parked {
    requests: HashMap<u64, Waiting>,
    by_frame: HashMap<FrameAt, Vec<u64>>,
    purposes: HashMap<FrameAt, Vec<Purpose>>,
    /// Nothing may be parked any more.
    pub closed: bool,
    /// How long something was parked, before now.
    blocked: Duration,
    /// Since when something is.
    since: Option<Instant>,
}

impl Parked {
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn park(&mut self, request: Request, tries: u8, frames: &[FrameAt]) {
        for frame in frames {
            self.by_frame.entry(frame.clone()).or_default().push(request.unique);
        }
        self.requests.insert(request.unique, Waiting { request, tries, left: frames.len() });
        self.since.get_or_insert_with(Instant::now);
    }

    /// How long anything has been parked, all such times together.
    pub fn blocked(&self) -> Duration {
        self.blocked + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// To be called when something was taken out.
    fn note_end(&mut self) {
        if self.requests.is_empty()
            && let Some(since) = self.since.take()
        {
            self.blocked += since.elapsed();
        }
    }

    pub fn intend(&mut self, frame: &FrameAt, purpose: Purpose) {
        let purposes = self.purposes.entry(frame.clone()).or_default();
        if !purposes.contains(&purpose) {
            purposes.push(purpose);
        }
    }

    /// Whether a frame is on its way, or at least asked for.
    pub fn expects(&self, frame: &FrameAt) -> bool {
        self.purposes.contains_key(frame)
    }

    pub fn purposes(&self, frame: &FrameAt) -> Vec<Purpose> {
        self.purposes.get(frame).cloned().unwrap_or_default()
    }

    /// A frame has arrived: the requests that now wait for nothing else, taken out.
    pub fn arrived(&mut self, frame: &FrameAt) -> Vec<Waiting> {
        self.purposes.remove(frame);
        let uniques = self.by_frame.remove(frame).unwrap_or_default();
        let ready = uniques.into_iter().filter(|unique| {
            let Some(waiting) = self.requests.get_mut(unique) else { return false };
            waiting.left -= 1;
            waiting.left == 0
        });
        let ready: Vec<u64> = ready.collect();
        let ready = ready.into_iter().filter_map(|unique| self.requests.remove(&unique)).collect();
        self.note_end();
        ready
    }

    /// A frame will not come: all requests that wait for it, taken out.
    pub fn failed(&mut self, frame: &FrameAt) -> Vec<Waiting> {
        self.purposes.remove(frame);
        let uniques = self.by_frame.remove(frame).unwrap_or_default();
        uniques.into_iter().filter_map(|unique| self.take(unique)).collect()
    }

    /// Take one out, wherever it stands.
    pub fn take(&mut self, unique: u64) -> Option<Waiting> {
        let waiting = self.requests.remove(&unique)?;
        self.note_end();
        self.by_frame.retain(|_, uniques| {
            uniques.retain(|other| *other != unique);
            !uniques.is_empty()
        });
        Some(waiting)
    }

    /// Note that the thread of a request got a signal. False when the request is not parked.
    pub fn signal(&mut self, unique: u64) -> bool {
        let found = self.requests.get_mut(&unique);
        found.map(|waiting| waiting.request.signalled = true).is_some()
    }

    /// The requests whose threads got a signal, and those threads.
    pub fn signalled(&self) -> Vec<(u64, u32)> {
        let signalled = self.requests.values().filter(|waiting| waiting.request.signalled);
        signalled.map(|waiting| (waiting.request.unique, waiting.request.pid)).collect()
    }

    /// Take out those that were read before `then`.
    pub fn take_older(&mut self, then: Instant) -> Vec<Waiting> {
        let older = self.requests.iter().filter(|(_, waiting)| waiting.request.since < then);
        let older: Vec<u64> = older.map(|(&unique, _)| unique).collect();
        older.into_iter().filter_map(|unique| self.take(unique)).collect()
    }

    /// Take out those that were read before `then` and wait for a frame of these packs.
    pub fn take_older_of(&mut self, packs: &HashSet<Arc<[u8; 32]>>, then: Instant) -> Vec<Waiting> {
        let of_packs = self.by_frame.iter().filter(|(frame, _)| packs.contains(&frame.pack));
        let uniques: HashSet<u64> = of_packs.flat_map(|(_, uniques)| uniques).copied().collect();
        let is_older = |unique: &u64| self.requests.get(unique).is_some_and(|waiting| waiting.request.since < then);
        let older: Vec<u64> = uniques.into_iter().filter(is_older).collect();
        older.into_iter().filter_map(|unique| self.take(unique)).collect()
    }

    pub fn take_all(&mut self) -> Vec<Waiting> {
        self.by_frame.clear();
        self.purposes.clear();
        let all = self.requests.drain().map(|(_, waiting)| waiting).collect();
        self.note_end();
        all
    }
}
