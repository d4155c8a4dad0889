//! Memory of packs, used again and again.
//!
//! Invariant: there are never more than so many packs at a time, from the first frame of one until whoever stores it lets go
//! of it: who would fill one more waits. So a push is as fast as its uploads and no larger than its packs.

use std::ops::Deref;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::error::{Error, Result};
use crate::job::Job;

pub struct Memory {
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Memory {
    /// For `packs` packs at a time.
    pub fn new(packs: usize) -> Memory {
        let (home, free) = bounded(packs);
        (0..packs).for_each(|_| home.send(Vec::new()).expect("it has room for all"));
        Memory { free, home }
    }

    /// Wait until a pack may be filled.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn take(&self, job: &Job) -> Result<Vec<u8>> {
        loop {
            job.step(0)?;
            match self.free.recv_timeout(Duration::from_millis(50)) {
                Ok(memory) => return Ok(memory),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped),
            }
        }
    }

    /// What `take` gave, filled; it comes back when the result is dropped.
    pub fn lend(&self, bytes: Vec<u8>) -> PackBytes {
        PackBytes { bytes, home: self.home.clone() }
    }
}

/// The bytes of a sealed pack.
pub struct PackBytes {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Deref for PackBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PackBytes {
    fn drop(&mut self) {
        // The push may be over.
        let _ = self.home.try_send(std::mem::take(&mut self.bytes));
    }
}
