//! The background stays behind the programs that a profile is for: they have what they will read soon, and all that is
//! fetched and proved meanwhile takes the processor and the link from them.
//!
//! Invariant: it stays behind no longer than somebody reads what was foreseen, and for a bounded time.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::server::Server;
use crate::wanted::Class;

/// A mount is quiet when for so long nobody asked anything of it, and nothing came.
const QUIET: Duration = Duration::from_secs(2);
/// When the profile is here, who goes on reading has so long.
const LONGEST: Duration = Duration::from_secs(10);
/// So many requests that waited all the same: the profile is of another program, or of another tree.
const UNFORESEEN: u64 = 16;
const LOOK: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Followed {
    /// Profiles that are being queued.
    under_way: AtomicUsize,
    /// One was followed since the background last waited for that.
    lately: AtomicBool,
}

impl Followed {
    pub fn begin(&self) {
        self.under_way.fetch_add(1, Relaxed);
        self.lately.store(true, Relaxed);
    }

    pub fn end(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }
}

impl Server {
    /// Wait until what was lately followed is here, and its readers have had their time; or the mount has ended.
    pub(super) fn stay_behind(&self) {
        if !self.followed.lately.load(Relaxed) {
            return;
        }
        let (mut active, mut seen) = (Instant::now(), self.activity());
        let mut here = None;
        let mut parked = self.parked();
        while !parked.closed {
            let waited = self.waited.load(Relaxed);
            let (since, before) = if self.is_following() {
                here = None;
                (Duration::ZERO, waited)
            } else {
                let (since, before): (Instant, u64) = *here.get_or_insert_with(|| (Instant::now(), waited));
                (since.elapsed(), before)
            };
            if !stays(active.elapsed(), since, waited - before) {
                break;
            }
            parked = self.page.wait_timeout(parked, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            let now = self.activity();
            if now != seen {
                (active, seen) = (Instant::now(), now);
            }
        }
        drop(parked);
        self.followed.lately.store(false, Relaxed);
    }

    fn is_following(&self) -> bool {
        let wanted = self.wanted.counts();
        let profile = Class::Profile as usize;
        self.followed.under_way.load(Relaxed) > 0 || wanted.queued[profile] > 0 || wanted.in_flight_bytes[profile] > 0
    }

    fn activity(&self) -> (u64, u64) {
        (self.requests.load(Relaxed), self.frames.load(Relaxed))
    }
}

/// Whether to stay behind: after so long a time without anything going on, and since the profile came, and after so many
/// requests that have waited since.
fn stays(quiet: Duration, here: Duration, unforeseen: u64) -> bool {
    quiet < QUIET && here < LONGEST && unforeseen < UNFORESEEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_three_reasons_ends_it() {
        let short = Duration::from_millis(1);
        assert!(stays(QUIET - short, LONGEST - short, UNFORESEEN - 1));
        assert!(!stays(QUIET, Duration::ZERO, 0), "nobody reads");
        assert!(!stays(Duration::ZERO, LONGEST, 0), "somebody reads on and on");
        assert!(!stays(Duration::ZERO, Duration::ZERO, UNFORESEEN), "what is read was not foreseen");
    }
}
