//! What a state tells, in one number.

use super::State;
use super::record::{RACY, SIZE};
use crate::digest::{Digest, Hasher};

/// Records at a time.
const RUN: usize = 512;

impl State {
    /// Of everything that the records say of the entries, but for which are racy: two states of a directory with the same
    /// fingerprint were sealed with the very same entries in it, down to inodes and times.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = Hasher::default();
        let mut bytes = Vec::with_capacity(RUN * SIZE);
        for run in self.records.chunks(RUN) {
            bytes.clear();
            for record in run {
                let mut record = *record;
                record.set(RACY, false);
                record.set_entries_sum(0);
                // The checksum tells nothing more.
                bytes.extend_from_slice(&record.0[4..]);
            }
            hasher.update(&bytes);
        }
        hasher.update(&self.names);
        hasher.finish()
    }
}
