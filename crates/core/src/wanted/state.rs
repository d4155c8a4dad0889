//! What the queue holds, without its lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Class, Counts, Want};
use crate::filemap::FrameAt;

/// Neighbours with at most this much between them are one range to fetch.
const GAP: u64 = 64 * 1024;

/// Bytes in flight, until somebody knows better.
const IN_FLIGHT: u64 = 2 << 20;

/// What nobody waits for goes on its way when so much of what may be in flight is free: a request costs whoever answers it as
/// much when it is small (decision 0037).
const WHOLE_REQUEST: u64 = 4;

const CLASSES: [Class; 4] = [Class::Demand, Class::Readahead, Class::Profile, Class::Background];

struct Flight {
    class: Class,
    /// When it was handed out.
    since: Instant,
    /// With what else it was handed out.
    batch: u64,
    /// Its bytes are here.
    landed: bool,
    /// The link is free of it: it has landed, or nothing is heard of it.
    off_link: bool,
}

/// What was handed out together, as long as any of it is on its way.
struct Batch {
    pack: Arc<[u8; 32]>,
    left: usize,
}

pub struct State {
    /// Class and turn of each queued frame; sorted by (pack, offset), so neighbours stand together.
    queue: BTreeMap<FrameAt, (Class, u64)>,
    /// Who came first, by class.
    order: [BTreeMap<u64, FrameAt>; 4],
    queued_bytes: [u64; 4],
    /// With those that have landed.
    in_flight: HashMap<FrameAt, Flight>,
    in_flight_bytes: [u64; 4],
    batches: HashMap<u64, Batch>,
    /// How many batches of each pack are on their way.
    of_pack: HashMap<Arc<[u8; 32]>, usize>,
    turn: u32,
    demands: u32,
    last_batch: u64,
    pub most_in_flight: u64,
    /// Batches of one pack that may be on their way, and for what nobody waits for.
    pub most_of_a_pack: (usize, usize),
    pub counts: Counts,
    pub closed: bool,
    /// Who waits for a batch, by the least urgent class they take.
    pub waiting: [usize; 4],
    /// Somebody waits until fewer background frames are queued, or fewer bytes of them; 0 when nobody does.
    pub below: (usize, u64),
}

impl Default for State {
    fn default() -> State {
        State {
            queue: BTreeMap::new(),
            order: Default::default(),
            queued_bytes: [0; 4],
            in_flight: HashMap::new(),
            in_flight_bytes: [0; 4],
            batches: HashMap::new(),
            of_pack: HashMap::new(),
            turn: 0,
            demands: 0,
            last_batch: 0,
            most_in_flight: IN_FLIGHT,
            most_of_a_pack: (usize::MAX, usize::MAX),
            counts: Counts::default(),
            closed: false,
            waiting: [0; 4],
            below: (0, 0),
        }
    }
}

impl State {
    pub fn want(&mut self, frame: &FrameAt, class: Class) -> bool {
        if class == Class::Demand {
            self.demands = self.demands.wrapping_add(1);
        }
        if let Some(flight) = self.in_flight.get_mut(frame) {
            let before = flight.class;
            flight.class = before.min(class);
            if !flight.off_link {
                self.in_flight_bytes[before as usize] -= u64::from(frame.length);
                self.in_flight_bytes[flight.class as usize] += u64::from(frame.length);
            }
            self.counts.joined += 1;
            return false;
        }
        let new = match self.queue.get(frame) {
            Some(&(was, turn)) => {
                self.counts.joined += 1;
                if was < class || (was == class && class != Class::Readahead) {
                    return false;
                }
                self.leave_order(frame, was, turn);
                false
            }
            None => true,
        };
        self.turn = self.turn.wrapping_add(1);
        // What a reader was likely to ask for before its last demand, it has mostly passed by.
        let group = if class == Class::Readahead { u32::MAX - self.demands } else { 0 };
        let turn = u64::from(group) << 32 | u64::from(self.turn);
        self.queue.insert(frame.clone(), (class, turn));
        self.order[class as usize].insert(turn, frame.clone());
        self.queued_bytes[class as usize] += u64::from(frame.length);
        new
    }

    /// It is queued as of this class no more.
    fn leave_order(&mut self, frame: &FrameAt, class: Class, turn: u64) {
        self.order[class as usize].remove(&turn);
        self.queued_bytes[class as usize] -= u64::from(frame.length);
    }

    pub fn batch(&mut self, max: usize, max_bytes: u64, lowest: Class) -> Vec<Want> {
        let Some((class, seed)) = self.next(lowest) else { return Vec::new() };
        let (seed, mut room) = (seed.clone(), max_bytes);
        if class > Class::Demand {
            room = room.min(self.free());
        }
        let frames = self.neighbours(&seed, class, max, room);
        self.last_batch += 1;
        let (since, batch) = (Instant::now(), self.last_batch);
        self.batches.insert(batch, Batch { pack: seed.pack.clone(), left: frames.len() });
        *self.of_pack.entry(seed.pack).or_default() += 1;
        for frame in &frames {
            let (_, turn) = self.queue.remove(frame).expect("neighbours are queued");
            self.leave_order(frame, class, turn);
            self.in_flight.insert(frame.clone(), Flight { class, since, batch, landed: false, off_link: false });
            self.in_flight_bytes[class as usize] += u64::from(frame.length);
            self.counts.taken[class as usize] += 1;
        }
        frames.into_iter().map(|frame| Want { frame, class }).collect()
    }

    /// The frame that goes next, and its class, if one of `lowest` class or above may be handed out now.
    fn next(&self, lowest: Class) -> Option<(Class, &FrameAt)> {
        let (class, frame) = CLASSES.into_iter().filter(|&class| class <= lowest).find_map(|class| {
            let mut full: Option<&Arc<[u8; 32]>> = None;
            let frame = self.order[class as usize].values().find(|frame| {
                // Most of what is queued lies where what is queued before it does.
                let is_full = full == Some(&frame.pack) || !self.has_room(frame, class);
                full = is_full.then_some(&frame.pack);
                !is_full
            })?;
            Some((class, frame))
        })?;
        let least = match class {
            Class::Demand => 0,
            // What is known to come next does not wait for what comes after it.
            Class::Profile => 1,
            Class::Readahead | Class::Background => (self.most_in_flight / WHOLE_REQUEST).max(1),
        };
        (self.free() >= least).then_some((class, frame))
    }

    /// How many more bytes that nobody waits for may be in flight.
    fn free(&self) -> u64 {
        self.most_in_flight.saturating_sub(self.in_flight_bytes.iter().sum())
    }

    /// Of those who wait and may take what goes next the choosiest, by the least urgent class they take.
    pub fn next_taker(&self) -> Option<usize> {
        let least = (0..CLASSES.len()).rev().find(|&lowest| self.waiting[lowest] > 0)?;
        let (class, _) = self.next(CLASSES[least])?;
        (class as usize..=least).find(|&lowest| self.waiting[lowest] > 0)
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

    /// Whether another batch of the frame's pack may be in flight.
    fn has_room(&self, frame: &FrameAt, class: Class) -> bool {
        let (most, unasked) = self.most_of_a_pack;
        let most = if class == Class::Demand { most } else { unasked };
        self.of_pack.get(&frame.pack).is_none_or(|&number| number < most)
    }

    pub fn land(&mut self, frame: &FrameAt) {
        self.free_link(frame);
        if let Some(flight) = self.in_flight.get_mut(frame).filter(|flight| !flight.landed) {
            flight.landed = true;
            let batch = flight.batch;
            self.leave(batch);
        }
    }

    /// It counts as in flight no more, but is not here either.
    pub fn free_link(&mut self, frame: &FrameAt) {
        if let Some(flight) = self.in_flight.get_mut(frame).filter(|flight| !flight.off_link) {
            flight.off_link = true;
            self.in_flight_bytes[flight.class as usize] -= u64::from(frame.length);
        }
    }

    pub fn is_demanded(&self, frame: &FrameAt) -> bool {
        self.in_flight.get(frame).is_some_and(|flight| flight.class == Class::Demand && !flight.landed)
    }

    pub fn overdue(&self, then: Instant) -> HashSet<Arc<[u8; 32]>> {
        let late = self.in_flight.iter().filter(|(_, flight)| flight.since < then && !flight.landed);
        late.map(|(frame, _)| frame.pack.clone()).collect()
    }

    /// Neither queued nor in flight any more.
    pub fn forget(&mut self, frame: &FrameAt) {
        self.land(frame);
        self.in_flight.remove(frame);
        if let Some((class, turn)) = self.queue.remove(frame) {
            self.leave_order(frame, class, turn);
        }
    }

    /// One less of a batch is on its way.
    fn leave(&mut self, batch: u64) {
        let Some(of) = self.batches.get_mut(&batch) else { return };
        of.left -= 1;
        if of.left > 0 {
            return;
        }
        if let Some(Batch { pack, .. }) = self.batches.remove(&batch)
            && let Some(number) = self.of_pack.get_mut(&pack)
        {
            *number -= 1;
            if *number == 0 {
                self.of_pack.remove(&pack);
            }
        }
    }

    pub fn queued(&self, class: Class) -> usize {
        self.order[class as usize].len()
    }

    pub fn queued_bytes(&self, class: Class) -> u64 {
        self.queued_bytes[class as usize]
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
