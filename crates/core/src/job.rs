//! One piece of work that can be watched and stopped.
//!
//! Invariant: whoever works calls `step` each 100 ms or sooner and passes its error on, so a stop is out within 0.3 s.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Shared by the workers (which add) and the one caller who waits (which reads and may stop).
#[derive(Default)]
pub struct Job {
    stop: AtomicBool,
    pub files_done: AtomicU64,
    pub files_total: AtomicU64,
    pub bytes_done: AtomicU64,
    pub bytes_total: AtomicU64,
}

impl Job {
    /// Count `bytes` done.
    ///
    /// # Errors
    /// `Stopped` once `stop` was called.
    pub fn step(&self, bytes: u64) -> Result<()> {
        self.bytes_done.fetch_add(bytes, Relaxed);
        if self.stop.load(Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }

    pub fn file_done(&self) {
        self.files_done.fetch_add(1, Relaxed);
    }

    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

/// Give back what work before this one took and has freed: the allocator would keep it.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no preconditions and only returns free memory to the system.
    unsafe {
        libc::malloc_trim(0);
    }
}
