//! The wanted queue: frames that have been asked for and are not here yet, most urgent first.
//!
//! Invariant: a frame is in the queue or in flight at most once, however many ask for it; one that somebody waits for
//! (`Demand`) is handed out before any other, and what nobody waits for only while little is in flight; one pack never has
//! all who fetch.
//! Not here: fetching (callers take batches and say `done` or `fail`), what a frame is good for (`fuse`, pull).

mod state;

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::filemap::FrameAt;
use state::State;

/// Why a frame is wanted; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody is blocked until it is here.
    Demand,
    /// Somebody is likely to ask for it next. What the last demand made likely goes first.
    Readahead,
    /// It was read when somebody recorded what is read of this tree.
    Profile,
    /// It belongs to the tree.
    Background,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub frame: FrameAt,
    pub class: Class,
}

/// What the queue has seen, by class where four are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub queued: [u64; 4],
    pub in_flight: u64,
    pub in_flight_bytes: [u64; 4],
    /// Handed out, by the class they had then.
    pub taken: [u64; 4],
    /// Asked for while already queued or in flight.
    pub joined: u64,
    pub done: u64,
    pub failed: u64,
}

#[derive(Default)]
pub struct Wanted {
    state: Mutex<State>,
    /// By the least urgent class that who waits takes: something may be taken, or the queue was closed.
    ready: [Condvar; 4],
    /// Less is queued in the background, or the queue was closed.
    drained: Condvar,
}

impl Wanted {
    /// `in_flight`: see `set_in_flight`. Of one pack `of_a_pack` batches may be on their way at a time; what nobody
    /// waits for is handed out while fewer than the second number are.
    pub fn new(in_flight: u64, of_a_pack: (usize, usize)) -> Wanted {
        let wanted = Wanted::default();
        wanted.lock().most_of_a_pack = of_a_pack;
        wanted.set_in_flight(in_flight);
        wanted
    }

    /// Ask for a frame. If it is queued or in flight already it only becomes as urgent as `class`.
    /// Tells whether it was new.
    pub fn want(&self, frame: &FrameAt, class: Class) -> bool {
        let mut state = self.lock();
        let new = state.want(frame, class);
        self.wake(&state);
        new
    }

    /// Ask for frames, in this order.
    pub fn want_all<'f>(&self, frames: impl Iterator<Item = &'f FrameAt>, class: Class) {
        let mut state = self.lock();
        for frame in frames {
            state.want(frame, class);
        }
        self.wake(&state);
    }

    /// The next batch: the most urgent frame that is of `lowest` class or above, and its queued neighbours of the same
    /// class in the same pack, sorted by offset; at most `max` frames and `max_bytes` (but always one frame).
    /// Waits up to `timeout` for one; empty when there is none by then, or the queue is closed.
    pub fn take(&self, max: usize, max_bytes: u64, lowest: Class, timeout: Duration) -> Vec<Want> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if state.closed {
                return Vec::new();
            }
            let batch = state.batch(max, max_bytes, lowest);
            if !batch.is_empty() {
                // What is left is another one's: whoever wakes somebody wakes one.
                self.wake(&state);
                self.drain(&mut state);
                return batch;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return batch;
            }
            state.waiting[lowest as usize] += 1;
            let ready = &self.ready[lowest as usize];
            state = ready.wait_timeout(state, left).expect("no one panics holding the queue").0;
            state.waiting[lowest as usize] -= 1;
        }
    }

    /// The bytes of these frames are here, so the link is free of them; what they are good for is yet to be said.
    pub fn landed<'f>(&self, frames: impl Iterator<Item = &'f FrameAt>) {
        let mut state = self.lock();
        frames.for_each(|frame| state.land(frame));
        self.wake(&state);
    }

    /// Nothing is heard of these: the link counts as free of them, though they are still in flight.
    pub fn silent<'f>(&self, frames: impl Iterator<Item = &'f FrameAt>) {
        let mut state = self.lock();
        frames.for_each(|frame| state.free_link(frame));
        self.wake(&state);
    }

    /// Whether somebody waits for any of these, which are in flight and have not landed.
    pub fn are_demanded<'f>(&self, mut frames: impl Iterator<Item = &'f FrameAt>) -> bool {
        let state = self.lock();
        frames.any(|frame| state.is_demanded(frame))
    }

    /// Packs of which something was handed out before `then` and is not here.
    pub fn overdue(&self, then: Instant) -> HashSet<Arc<[u8; 32]>> {
        self.lock().overdue(then)
    }

    /// The frame has arrived and was of use.
    pub fn done(&self, frame: &FrameAt) {
        let mut state = self.lock();
        state.forget(frame);
        state.counts.done += 1;
        self.wake(&state);
        self.drain(&mut state);
    }

    /// The frame will not come. Who asks again queues it again.
    pub fn fail(&self, frame: &FrameAt) {
        let mut state = self.lock();
        state.forget(frame);
        state.counts.failed += 1;
        self.wake(&state);
        self.drain(&mut state);
    }

    /// Wait until fewer than `below` background frames are queued, or of small ones fewer `bytes`. False when the queue is
    /// closed.
    pub fn wait_for_room(&self, below: usize, bytes: u64) -> bool {
        let mut state = self.lock();
        while !state.closed
            && state.queued(Class::Background) >= below
            && state.queued_bytes(Class::Background) >= bytes
        {
            state.below = (state.below.0.max(below), state.below.1.max(bytes));
            state = self.drained.wait(state).expect("no one panics holding the queue");
        }
        !state.closed
    }

    /// Whether any frame of this class is queued.
    pub fn has_queued(&self, class: Class) -> bool {
        self.lock().queued(class) > 0
    }

    /// What nobody waits for is handed out only while fewer bytes than this are in flight, demands included: what is demanded
    /// next then finds the link free enough.
    pub fn set_in_flight(&self, bytes: u64) {
        let mut state = self.lock();
        state.most_in_flight = bytes;
        self.wake(&state);
    }

    /// Nothing more will be handed out; who waits returns at once.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.iter().for_each(Condvar::notify_all);
        self.drained.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Wake one who may take the next batch, if there is one: the choosiest, so that others are left for what follows.
    fn wake(&self, state: &State) {
        if let Some(lowest) = state.next_taker() {
            self.ready[lowest].notify_one();
        }
    }

    /// Wake those who wait for room, if there is some.
    fn drain(&self, state: &mut State) {
        let (below, bytes) = state.below;
        if state.queued(Class::Background) < below || state.queued_bytes(Class::Background) < bytes {
            state.below = (0, 0);
            self.drained.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics holding the queue")
    }
}

#[cfg(test)]
mod tests;
