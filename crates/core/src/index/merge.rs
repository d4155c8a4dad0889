//! From what was found to the present state.
//!
//! Invariant: entries stay in breadth-first order. Where all names are the old ones records change in place; else the
//! state is copied around what changed, and new directories are listed on the way, a batch at a time: neither the stack
//! nor the number of open files nor the memory besides the state grows with the tree.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;

use super::list::{Listed, Listing};
use super::look::{Finding, Hook, Look, Options, Scope, What};
use super::record::{HAS_DIGEST, RACY, Record};
use super::share::share;
use super::sound::text_end;
use super::{GONE, OTHER, RESEAL, STALE, State, union};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::{Kind, Root, is_denied, is_gone};

/// Directories that are taken over, or listed by all threads, at a time: what they hold is kept twice meanwhile.
const BATCH: usize = 128;

/// Records of the old state that are given up at a time.
const RUN: usize = if cfg!(test) { 4 } else { 1 << 16 };

/// A directory whose entries are to be appended.
struct Task {
    record: u32,
    old: Option<Was>,
}

/// What a directory was in the old state: its number and its entries.
#[derive(Clone)]
struct Was {
    directory: u32,
    entries: Range<u32>,
}

/// The old state, given up from the front: what is carried over keeps its order.
struct Old {
    runs: VecDeque<Vec<Record>>,
    /// How many records have been given up.
    passed: usize,
    names: Vec<u8>,
    marks: Vec<u8>,
}

impl Old {
    fn new(state: State) -> Old {
        let State { mut records, names, marks, .. } = state;
        let mut runs = VecDeque::new();
        while !records.is_empty() {
            runs.push_front(records.split_off((records.len() - 1) / RUN * RUN));
            records.shrink_to_fit();
        }
        Old { runs, passed: 0, names, marks }
    }

    /// The record of `entry` and its mark; those before it are no longer asked for.
    fn take(&mut self, entry: u32) -> (Record, u8) {
        let entry = entry as usize;
        while entry - self.passed >= RUN {
            self.runs.pop_front();
            self.passed += RUN;
        }
        (self.runs[0][entry - self.passed], self.marks[entry])
    }

    /// The name, and a symbolic link's target after it.
    fn text(&self, record: &Record) -> &[u8] {
        &self.names[record.name_at() as usize..text_end(record) as usize]
    }
}

pub(super) enum Visit {
    Listed(Listing),
    Unreadable,
    Gone,
}

impl State {
    /// Look at what is in `scope` below `root` and carry over what still holds of `before`; without it everything is
    /// listed. Directories that may not be listed are returned and left out; sockets are left out; what vanishes
    /// meanwhile is gone. `hook` is called with each directory before its entries are looked at.
    ///
    /// # Errors
    /// `Unreadable` when the root itself is, `Io` for what no permission explains, `Invalid` for a tree beyond the
    /// format's limits, `Unstable`, `Stopped`, and what `hook` says.
    pub fn look(
        root: &Root,
        before: Option<State>,
        scope: Scope<'_>,
        options: &Options,
        hook: Option<Hook<'_>>,
        job: &Job,
    ) -> Result<(State, Vec<PathBuf>)> {
        let look = Look::new(root, options, hook, job)?;
        let mut unreadable = Vec::new();
        let mut state = match before {
            None => look.start(&mut unreadable)?,
            Some(mut before) => {
                before.doubt_other_selection(options);
                let findings = look.findings(&before, scope)?;
                look.take_over(before, findings, &mut unreadable)?
            }
        };
        state.drop_gone();
        look.doubt_rules(&mut state);
        Ok((state, unreadable))
    }
}

impl Look<'_> {
    fn start(&self, unreadable: &mut Vec<PathBuf>) -> Result<State> {
        let top = || {
            let dir = self.root.open_dir(b"")?;
            let stat = dir.own_stat()?;
            self.fresh(&dir, b"", &stat)
        };
        let mut state = State {
            records: vec![top().map_err(|e| self.refused(e))?],
            names: Vec::new(),
            marks: vec![RESEAL | OTHER | STALE],
            pending: Vec::new(),
            began: self.began,
            trust_ctime: self.options.trust_ctime,
            selection: self.options.fingerprint(),
            file: None,
        };
        self.grow(&mut state, None, HashMap::new(), unreadable)?;
        Ok(state)
    }

    fn refused(&self, error: std::io::Error) -> Error {
        match is_denied(&error) {
            true => Error::Unreadable { paths: vec![self.root.path().to_path_buf()] },
            false => Error::io("open", self.root.path())(error),
        }
    }

    fn take_over(&self, mut state: State, findings: Vec<Finding>, unreadable: &mut Vec<PathBuf>) -> Result<State> {
        state.began = self.began;
        state.trust_ctime = self.options.trust_ctime;
        if state.selection != self.options.fingerprint() {
            // It is in the header, which only a new file has.
            state.selection = self.options.fingerprint();
            state.file = None;
        }
        let mut listings = HashMap::new();
        let is_one = findings.len() <= 1;
        for Finding { directory, own, what } in findings {
            if let Some(own) = own {
                state.touch(directory).restat(&own);
            }
            state.marks[directory as usize] |= STALE;
            match what {
                What::Entries(changed) => changed.iter().for_each(|(entry, present)| state.renew(*entry, present)),
                What::Listing(listing) => {
                    listings.insert(directory, listing);
                }
                What::Unreadable if directory == 0 => {
                    return Err(Error::Unreadable { paths: vec![self.root.path().to_path_buf()] });
                }
                What::Unreadable => {
                    unreadable.push(self.root.show(&state.path_of(directory)));
                    state.remove(directory);
                }
                What::Gone if directory == 0 => {
                    return Err(Error::io("open", self.root.path())(rustix::io::Errno::NOENT.into()));
                }
                What::Gone => state.remove(directory),
            }
        }
        if !is_one {
            // The files of one directory may stand behind the others; those of several have their place.
            state.pending.sort_unstable();
        }
        if listings.is_empty() {
            return Ok(state);
        }
        let mut grown = State {
            records: Vec::with_capacity(state.records.len()),
            names: Vec::with_capacity(state.names.len()),
            marks: Vec::with_capacity(state.marks.len()),
            pending: Vec::new(),
            began: self.began,
            trust_ctime: self.options.trust_ctime,
            selection: self.options.fingerprint(),
            file: None,
        };
        grown.records.push(state.records[0]);
        grown.marks.push(state.marks[0] | RESEAL);
        let top = Was { directory: 0, entries: state.entries(0) };
        self.grow(&mut grown, Some((Old::new(state), top)), listings, unreadable)?;
        Ok(grown)
    }

    /// Append everything below the root, which is there.
    fn grow(
        &self,
        state: &mut State,
        old: Option<(Old, Was)>,
        mut listings: HashMap<u32, Listing>,
        unreadable: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let (mut old, top) = old.unzip();
        let mut queue = VecDeque::from([Task { record: 0, old: top }]);
        while !queue.is_empty() {
            let batch: Vec<Task> = queue.drain(..queue.len().min(BATCH)).collect();
            let unknown: Vec<u32> = batch.iter().filter(|task| task.old.is_none()).map(|task| task.record).collect();
            let visits = share(
                self.options.threads,
                unknown.len(),
                || (),
                |(), number| self.visit(&state.path_of(unknown[number])),
            )?;
            let mut visits = visits.into_iter();
            for task in batch {
                let Some((old, was)) = old.as_mut().zip(task.old) else {
                    match visits.next() {
                        Some(Visit::Listed(listing)) => state.append(task.record, listing, None, &mut queue)?,
                        Some(Visit::Unreadable) if task.record == 0 => {
                            return Err(self.refused(rustix::io::Errno::ACCESS.into()));
                        }
                        Some(Visit::Unreadable) => {
                            unreadable.push(self.root.show(&state.path_of(task.record)));
                            state.remove(task.record);
                        }
                        Some(Visit::Gone) | None => state.remove(task.record),
                    }
                    continue;
                };
                let listing = match listings.remove(&was.directory) {
                    Some(listing) => listing,
                    None if state.marks[task.record as usize] & GONE != 0 => Listing::default(),
                    None => Listing { entries: was.entries.map(Listed::Kept).collect(), ..Listing::default() },
                };
                state.append(task.record, listing, Some(old), &mut queue)?;
            }
        }
        let lacks = |&entry: &u32| state.kind(entry) == Kind::File && !state.record(entry).has(HAS_DIGEST);
        state.pending = (0..state.len()).filter(lacks).collect();
        Ok(())
    }

    /// List a directory of which nothing is known.
    pub(super) fn visit(&self, path: &[u8]) -> Result<Visit> {
        self.job.step(0)?;
        let listed = || {
            let dir = self.root.open_dir(path).map_err(Error::io("open", self.root.show(path)))?;
            if self.announce(path, &dir)? { Ok(Listing::default()) } else { self.list(&dir, path, None) }
        };
        match listed() {
            Err(Error::Io { source, .. }) if is_gone(&source) => Ok(Visit::Gone),
            Err(Error::Io { source, .. }) if is_denied(&source) => Ok(Visit::Unreadable),
            listed => Ok(Visit::Listed(listed?)),
        }
    }
}

impl State {
    /// Let every directory be listed anew if `options` leave out other entries than those that this was made with.
    pub fn doubt_other_selection(&mut self, options: &Options) {
        if self.selection == options.fingerprint() {
            return;
        }
        for (record, mark) in self.records.iter_mut().zip(&mut self.marks) {
            // One that is not whole is doubted anyway, and must not look whole now.
            if record.kind() == Kind::Directory && record.is_sealed(b"") {
                record.set(RACY, true);
                record.seal(b"");
                *mark |= RESEAL;
            }
        }
    }

    /// An entry is another than recorded: its digest is to be taken.
    pub(super) fn renew(&mut self, entry: u32, present: &Record) {
        let record = self.touch(entry);
        record.restat(present);
        // A file without a digest is pending already.
        if present.kind() == Kind::File && record.has(HAS_DIGEST) {
            record.set(HAS_DIGEST, false);
            self.pending.push(entry);
        }
    }

    /// Append the entries of `directory`, and to `queue` the directories among them.
    fn append(
        &mut self,
        directory: u32,
        listing: Listing,
        mut old: Option<&mut Old>,
        queue: &mut VecDeque<Task>,
    ) -> Result<()> {
        let first = self.records.len();
        for listed in &listing.entries {
            let number = self.records.len() as u32;
            let base = self.names.len() as u32;
            let (mut record, mark, was) = match (listed, &mut old) {
                (Listed::Kept(entry), Some(old)) => {
                    let (record, mark) = old.take(*entry);
                    self.names.extend_from_slice(old.text(&record));
                    let entries = record.first()..record.first() + record.count();
                    (record, mark | RESEAL, Some(Was { directory: *entry, entries }))
                }
                (Listed::New { record, .. }, _) => {
                    self.names.extend_from_slice(listing.name(record));
                    self.names.extend_from_slice(listing.target(record));
                    (*record, RESEAL | OTHER | STALE, None)
                }
                (Listed::Kept(_), None) => continue,
            };
            record.set_name(base, record.name_len());
            record.set_parent(directory);
            record.set_entries(0, 0);
            if record.kind() == Kind::Directory {
                queue.push_back(Task { record: number, old: was });
            }
            self.records.push(record);
            self.marks.push(mark);
        }
        let too_long = || Error::Invalid { what: "the tree".to_owned(), why: "its names exceed 4 GiB".to_owned() };
        u32::try_from(self.names.len()).map_err(|_| too_long())?;
        let too_many = || Error::Invalid { what: "the tree".to_owned(), why: "more than 2^32 - 1 entries".to_owned() };
        u32::try_from(self.records.len()).map_err(|_| too_many())?;
        let count = self.records.len() - first;
        let first = if count == 0 { 0 } else { first as u32 };
        self.records[directory as usize].set_entries(first, count as u32);
        Ok(())
    }

    /// Renumber without what was removed.
    pub(super) fn drop_gone(&mut self) {
        if union(&self.marks) & GONE == 0 {
            return;
        }
        const NOWHERE: u32 = u32::MAX;
        let mut moved_to = vec![NOWHERE; self.records.len()];
        let (mut kept, mut names_end) = (0_usize, 0_usize);
        for entry in 0..self.records.len() {
            let mut record = self.records[entry];
            let parent = moved_to[record.parent() as usize];
            let is_root = entry == 0;
            if !is_root && (self.marks[entry] & GONE != 0 || parent == NOWHERE) {
                continue;
            }
            let number = kept as u32;
            moved_to[entry] = number;
            let name = record.name_at() as usize;
            let text = usize::from(record.name_len()) + self.target(entry as u32).len();
            self.names.copy_within(name..name + text, names_end);
            record.set_name(names_end as u32, record.name_len());
            names_end += text;
            record.set_entries(0, 0);
            // Entries come after their directory and only move up, so what is overwritten has been read.
            if !is_root {
                record.set_parent(parent);
                let holder = &mut self.records[parent as usize];
                let first = if holder.count() == 0 { number } else { holder.first() };
                holder.set_entries(first, holder.count() + 1);
            }
            self.records[kept] = record;
            self.marks[kept] = self.marks[entry] | RESEAL;
            kept += 1;
        }
        self.records.truncate(kept);
        self.marks.truncate(kept);
        self.names.truncate(names_end);
        let still = |entry: &u32| Some(moved_to[*entry as usize]).filter(|&number| number != NOWHERE);
        self.pending = self.pending.iter().filter_map(still).collect();
        self.file = None;
    }
}
