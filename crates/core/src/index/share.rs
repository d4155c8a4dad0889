//! Spreading work over threads.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::error::Result;

/// The results of `work` for each number below `count`, in order, by `threads` threads that take the next number when
/// free. Each thread has scratch memory made by `scratch`. The first error ends all soon and is returned.
pub fn share<S, T: Send>(
    threads: usize,
    count: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut scratch = scratch();
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= count {
                return Ok(done);
            }
            match work(&mut scratch, number) {
                Ok(result) => done.push((number, result)),
                Err(error) => {
                    next.store(count, Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let helpers = threads.clamp(1, count.max(1)) - 1;
    let mut done = thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for helper in helpers {
            let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done = done.and_then(|mut done| {
                done.extend(helped?);
                Ok(done)
            });
        }
        done
    })?;
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
