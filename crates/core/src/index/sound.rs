//! Whether stored records form one tree in the order that `State` promises. Checksums are the look's to check.
//!
//! Invariant: of a sound state every number, name and target can be followed, whatever its records say.

use std::ops::Range;

use super::State;
use super::record::{HAS_DIGEST, Record};
use super::share::share;
use crate::job::Job;
use crate::scan::Kind;

/// Records that one thread checks at a time.
const RUN: usize = 8192;

/// What a run adds up to.
struct Run {
    entries: u64,
    pending: Vec<u32>,
}

impl State {
    /// Check the whole, and note the files without a digest.
    pub(super) fn is_sound(&mut self, threads: usize, job: &Job) -> bool {
        if self.records.last().map(text_end) != Some(self.names.len() as u64) {
            return false;
        }
        let runs = self.records.len().div_ceil(RUN);
        let checked = share(
            threads,
            runs,
            || (),
            |(), run| {
                job.step(0)?;
                Ok(self.check(run * RUN..self.records.len().min((run + 1) * RUN)))
            },
        );
        let Ok(Some(checked)) = checked.map(|runs| runs.into_iter().collect::<Option<Vec<Run>>>()) else {
            return false;
        };
        // Each record lies in its directory's range, and the ranges have room for no more: so they do not overlap.
        let entries: u64 = checked.iter().map(|run| run.entries).sum();
        self.pending = checked.into_iter().flat_map(|run| run.pending).collect();
        entries == self.records.len() as u64 - 1
    }

    /// `None` for a run that is not sound.
    fn check(&self, run: Range<usize>) -> Option<Run> {
        let mut checked = Run { entries: 0, pending: Vec::new() };
        let mut name_at = if run.start == 0 { 0 } else { text_end(&self.records[run.start - 1]) };
        for number in run {
            let record = &self.records[number];
            let kind = record.kind();
            let end = text_end(record);
            if u64::from(record.name_at()) != name_at || end > self.names.len() as u64 {
                return None;
            }
            name_at = end;
            let count = u64::from(record.count());
            checked.entries += count;
            let is_empty = count == 0;
            if is_empty != (record.first() == 0) || !is_empty && kind != Kind::Directory {
                return None;
            }
            if kind == Kind::File && !record.has(HAS_DIGEST) {
                checked.pending.push(number as u32);
            }
            if number == 0 {
                if record.name_len() != 0 || kind != Kind::Directory || record.parent() != 0 {
                    return None;
                }
                continue;
            }
            let parent = record.parent() as usize;
            let holder = self.records.get(parent).filter(|_| parent < number && record.name_len() != 0)?;
            let first = holder.first() as usize;
            if number < first || number - first >= holder.count() as usize {
                return None;
            }
            // The one before has been proved by now, or will be by another thread.
            let before = &self.records[number - 1];
            let is_ordered = match (before.parent() as usize).cmp(&parent) {
                _ if number == 1 => true,
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => self.text(before)? < self.text(record)?,
                std::cmp::Ordering::Greater => false,
            };
            if !is_ordered {
                return None;
            }
        }
        Some(checked)
    }

    fn text(&self, record: &Record) -> Option<&[u8]> {
        let at = record.name_at() as usize;
        self.names.get(at..at + usize::from(record.name_len()))
    }
}

/// Where the name, and a symbolic link's target after it, end.
pub(super) fn text_end(record: &Record) -> u64 {
    let target = if record.kind() == Kind::Symlink { record.length() } else { 0 };
    u64::from(record.name_at()) + u64::from(record.name_len()) + u64::from(target)
}
