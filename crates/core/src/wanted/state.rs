//! What the queue holds, without its lock.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::{Class, Counts, Limits, Want};
use crate::filemap::FrameAt;

/// Neighbours with at most this much between them are one range to fetch.
const GAP: u64 = 64 * 1024;

const CLASSES: [Class; 4] = [Class::Demand, Class::Readahead, Class::Profile, Class::Background];

#[derive(Default)]
pub struct State {
    /// Class and turn of each queued frame; sorted by (pack, offset), so neighbours stand together.
    queue: BTreeMap<FrameAt, (Class, u64)>,
    /// Who came first, by class.
    order: [BTreeMap<u64, FrameAt>; 4],
    in_flight: HashMap<FrameAt, Class>,
    in_flight_bytes: [u64; 4],
    turn: u64,
    last_demand: Option<Instant>,
    pub limits: Limits,
    pub counts: Counts,
    pub closed: bool,
}

impl State {
    pub fn want(&mut self, frame: &FrameAt, class: Class) -> bool {
        if class == Class::Demand {
            self.last_demand = Some(Instant::now());
        }
        if let Some(was) = self.in_flight.get_mut(frame) {
            let before = *was;
            *was = before.min(class);
            self.in_flight_bytes[before as usize] -= u64::from(frame.length);
            self.in_flight_bytes[before.min(class) as usize] += u64::from(frame.length);
            self.counts.joined += 1;
            return false;
        }
        let new = match self.queue.get(frame) {
            Some(&(was, turn)) => {
                self.counts.joined += 1;
                if was <= class {
                    return false;
                }
                self.order[was as usize].remove(&turn);
                false
            }
            None => true,
        };
        self.turn += 1;
        self.queue.insert(frame.clone(), (class, self.turn));
        self.order[class as usize].insert(self.turn, frame.clone());
        new
    }

    pub fn batch(&mut self, max: usize, max_bytes: u64, lowest: Class) -> Vec<Want> {
        let lowest = if self.is_quiet() { lowest } else { lowest.min(Class::Profile) };
        let next = CLASSES.into_iter().filter(|&class| class <= lowest).find_map(|class| {
            let (_, frame) = self.order[class as usize].first_key_value()?;
            Some((class, frame.clone()))
        });
        let Some((class, seed)) = next else { return Vec::new() };
        let mut room = max_bytes;
        if class > Class::Demand {
            let [demand, guessed @ ..] = self.in_flight_bytes;
            let limit = if demand > 0 { self.limits.busy } else { self.limits.idle };
            let used = guessed.iter().sum::<u64>();
            if used >= limit {
                return Vec::new();
            }
            room = room.min(limit - used);
        }
        let frames = self.neighbours(&seed, class, max, room);
        for frame in &frames {
            let (_, turn) = self.queue.remove(frame).expect("neighbours are queued");
            self.order[class as usize].remove(&turn);
            self.in_flight.insert(frame.clone(), class);
            self.in_flight_bytes[class as usize] += u64::from(frame.length);
            self.counts.taken[class as usize] += 1;
        }
        frames.into_iter().map(|frame| Want { frame, class }).collect()
    }

    /// `seed` and the queued frames of its class after and before it in its pack, sorted, as many as fit.
    fn neighbours(&self, seed: &FrameAt, class: Class, max: usize, max_bytes: u64) -> Vec<FrameAt> {
        let mut bytes = u64::from(seed.length);
        let mut found = vec![seed.clone()];
        let mut end = seed.offset.saturating_add(seed.length.into());
        for (frame, &(other, _)) in self.queue.range(seed..).skip(1) {
            let near = frame.pack == seed.pack && frame.offset <= end.saturating_add(GAP) && other == class;
            bytes += u64::from(frame.length);
            if !near || found.len() >= max || bytes > max_bytes {
                bytes -= u64::from(frame.length);
                break;
            }
            end = end.max(frame.offset.saturating_add(frame.length.into()));
            found.push(frame.clone());
        }
        let mut start = seed.offset;
        for (frame, &(other, _)) in self.queue.range(..seed).rev() {
            let frame_end = frame.offset.saturating_add(frame.length.into());
            let near = frame.pack == seed.pack && frame_end.saturating_add(GAP) >= start && other == class;
            bytes += u64::from(frame.length);
            if !near || found.len() >= max || bytes > max_bytes {
                break;
            }
            start = frame.offset;
            found.push(frame.clone());
        }
        found.sort_unstable();
        found
    }

    /// Neither queued nor in flight any more.
    pub fn forget(&mut self, frame: &FrameAt) {
        if let Some(class) = self.in_flight.remove(frame) {
            self.in_flight_bytes[class as usize] -= u64::from(frame.length);
        }
        if let Some((class, turn)) = self.queue.remove(frame) {
            self.order[class as usize].remove(&turn);
        }
    }

    pub fn queued(&self, class: Class) -> usize {
        self.order[class as usize].len()
    }

    fn is_quiet(&self) -> bool {
        self.last_demand.is_none_or(|last| last.elapsed() >= self.limits.quiet)
    }

    pub fn counts(&self) -> Counts {
        Counts {
            queued: CLASSES.map(|class| self.queued(class) as u64),
            in_flight: self.in_flight.len() as u64,
            in_flight_bytes: self.in_flight_bytes,
            ..self.counts
        }
    }
}
