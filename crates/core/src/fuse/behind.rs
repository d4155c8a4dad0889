//! The background stays behind the programs that a profile is for: they have what they will read soon, and all that is
//! fetched and proved meanwhile takes the processor and the link from them.
//!
//! Invariant: it stays behind no longer than somebody reads what was foreseen, and for a bounded time.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::server::Server;
use crate::wanted::Class;

/// A mount is quiet when for so long nobody asked anything of it, and nobody waits.
const QUIET: Duration = Duration::from_secs(2);
/// When the profile is here, who goes on reading has so long; and so long it may bring nothing before that.
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

/// As long as this lives, a profile is being queued.
pub(super) struct UnderWay<'a>(&'a Followed);

impl Followed {
    pub fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Relaxed);
        self.lately.store(true, Relaxed);
        UnderWay(self)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// Something that is looked at again and again, and since when it has been as it is.
struct Unchanged<T> {
    seen: T,
    since: Instant,
}

impl<T: PartialEq> Unchanged<T> {
    fn of(seen: T) -> Unchanged<T> {
        Unchanged { seen, since: Instant::now() }
    }

    /// For how long it has been as it is `now`.
    fn look(&mut self, now: T) -> Duration {
        if now != self.seen {
            *self = Unchanged::of(now);
        }
        self.since.elapsed()
    }
}

impl Server {
    /// Wait until what was lately followed is here, and its readers have had their time; or the mount has ended.
    pub(super) fn stay_behind(&self) {
        if !self.followed.lately.swap(false, Relaxed) {
            return;
        }
        let requests = || self.requests.load(Relaxed);
        let waited = || self.waited.load(Relaxed);
        let mut coming = Unchanged::of(self.coming());
        let mut asked = Unchanged::of(requests());
        let mut here: Option<(Instant, u64)> = None;
        let mut parked = self.parked();
        while !parked.closed {
            let now = self.coming();
            let stays = if now == Coming::default() {
                if parked.len() > 0 {
                    asked = Unchanged::of(requests());
                }
                let quiet = asked.look(requests());
                let (since, before) = *here.get_or_insert_with(|| (Instant::now(), waited()));
                stays_when_here(quiet, since.elapsed(), waited() - before)
            } else {
                here = None;
                coming.look(now) < LONGEST
            };
            if !stays {
                return;
            }
            parked = self.page.wait_timeout(parked, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What of profiles is yet to come.
    fn coming(&self) -> Coming {
        let (wanted, profile) = (self.wanted.counts(), Class::Profile as usize);
        Coming {
            under_way: self.followed.under_way.load(Relaxed),
            queued: wanted.queued[profile],
            in_flight: wanted.in_flight_bytes[profile],
        }
    }
}

#[derive(Default, PartialEq)]
struct Coming {
    under_way: usize,
    queued: u64,
    in_flight: u64,
}

/// Whether to stay behind when the mount has been quiet for so long, the profile been here for so long, and so many requests
/// have waited since.
fn stays_when_here(quiet: Duration, here: Duration, unforeseen: u64) -> bool {
    quiet < QUIET && here < LONGEST && unforeseen < UNFORESEEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_three_reasons_ends_it() {
        let short = Duration::from_millis(1);
        assert!(stays_when_here(QUIET - short, LONGEST - short, UNFORESEEN - 1));
        assert!(!stays_when_here(QUIET, Duration::ZERO, 0), "nobody reads");
        assert!(!stays_when_here(Duration::ZERO, LONGEST, 0), "somebody reads on and on");
        assert!(!stays_when_here(Duration::ZERO, Duration::ZERO, UNFORESEEN), "what is read was not foreseen");
    }
}
