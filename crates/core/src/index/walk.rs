//! The walk: from the last state and the disk to the present state.
//!
//! Invariant: an entry is carried over only when its record is whole, its stat is the one recorded and not racy; a
//! directory's list of names only when that holds for the directory and for each of its entries.
//! The directories of one level are visited by all threads, then those of the next: so numbers come out breadth first,
//! and neither the stack nor the number of open files grows with the tree.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{HAS_DIGEST, HAS_XATTRS, RACY, Record, entry_term};
use super::share::share;
use super::{Extra, SEALED, State, VALID};
use crate::error::{Error, Result, show};
use crate::job::Job;
use crate::scan::{Dir, Kind, Root, Stat, Time, is_denied, is_gone};

/// How many directories of a level stay open for those below them. The others are found by path, which is dear in deep
/// places only.
const KEPT_OPEN: usize = 64;

/// A level with fewer directories is not worth starting threads for.
const WORTH_THREADS: usize = 4;

/// For an entry that is another thing each time we look.
const TRIES: u32 = 5;

/// A directory to be visited.
struct Task {
    record: u32,
    path: Vec<u8>,
    /// The directory above, when still open.
    above: Option<Arc<Dir>>,
    /// Its record in the state before.
    before: Option<u32>,
    /// Whether its own record is valid.
    is_valid: bool,
}

enum Visit {
    Entries { entries: Entries, directories: Vec<Below>, dir: Option<Arc<Dir>> },
    Unreadable,
    Gone,
}

enum Entries {
    /// Those of the state before, stat for stat; their checksums add up to its sum if `is_summed`.
    Same { extras: Vec<Extra>, is_summed: bool },
    /// Names follow each other in `names`, a target after its name; `name_at` counts from its beginning.
    Found { entries: Vec<(Record, Extra, u8)>, names: Vec<u8> },
}

/// A directory among the entries, by its number counted from the first.
struct Below {
    number: u32,
    before: Option<u32>,
}

impl State {
    /// Look at everything below `root` with `threads` threads, carrying over what still holds in `before`. Directories
    /// that may not be listed are returned and left out; sockets are left out; what vanishes meanwhile is gone.
    ///
    /// # Errors
    /// `Unreadable` when the root itself is, `Io` for what no permission explains, `Invalid` for a tree beyond the
    /// format's limits, `Unstable`, `Stopped`.
    pub fn scan(root: &Root, before: Option<&State>, threads: usize, job: &Job) -> Result<(State, Vec<PathBuf>)> {
        let walk = Walk { root, before, began: Time::now(), job };
        let (mut state, top) = walk.start()?;
        let mut unreadable = Vec::new();
        let mut level = vec![top];
        while !level.is_empty() {
            let threads = if level.len() < WORTH_THREADS { 1 } else { threads };
            let visits =
                share(threads, level.len(), || (), |(), number| walk.visit(&level[number], number < KEPT_OPEN))?;
            let mut next = Vec::new();
            for (task, visit) in level.iter().zip(visits) {
                match visit {
                    Visit::Entries { entries, directories, dir } => {
                        let first = state.append(task, entries, before)?;
                        next.extend(directories.iter().map(|below| state.task(task, first, below, dir.clone())));
                        continue;
                    }
                    Visit::Unreadable if task.record == 0 => {
                        return Err(Error::Unreadable { paths: vec![root.path().to_path_buf()] });
                    }
                    Visit::Unreadable => unreadable.push(root.show(&task.path)),
                    Visit::Gone => {}
                }
                state.remove(task.record);
            }
            level = next;
        }
        state.drop_gone();
        Ok((state, unreadable))
    }

    /// Append what a visit found; the number of the first.
    fn append(&mut self, task: &Task, entries: Entries, before: Option<&State>) -> Result<u32> {
        let first = self.records.len();
        match entries {
            Entries::Same { extras, is_summed } => {
                if let Some((before, record)) = before.zip(task.before) {
                    self.append_same(task.record, before, record)?;
                }
                self.extras.extend(extras);
                if !is_summed {
                    self.marks[task.record as usize] &= !VALID;
                }
            }
            Entries::Found { entries, names } => {
                let base = self.append_names(&names)?;
                for (mut record, extra, mark) in entries {
                    record.set_name(base + record.name_at(), record.name_len());
                    record.set_parent(task.record);
                    self.records.push(record);
                    self.marks.push(mark & !SEALED);
                    self.extras.push(extra);
                }
                self.marks[task.record as usize] &= !VALID;
            }
        }
        let count = self.records.len() - first;
        let too_many = || Error::Invalid { what: "the tree".to_owned(), why: "more than 2^32 - 1 entries".to_owned() };
        u32::try_from(self.records.len()).map_err(|_| too_many())?;
        let holder = &mut self.records[task.record as usize];
        let place = if count == 0 { (0, 0) } else { (first as u32, count as u32) };
        if (holder.first(), holder.count()) != place {
            holder.set_entries(place.0, place.1);
            self.marks[task.record as usize] &= !SEALED;
        }
        Ok(first as u32)
    }

    fn append_same(&mut self, parent: u32, before: &State, record: u32) -> Result<()> {
        let entries = before.entries(record);
        let Some(last) = entries.clone().last() else { return Ok(()) };
        let from = before.record(entries.start).name_at();
        let to = before.record(last).name_at() as usize + before.name(last).len() + before.target(last).len();
        let base = self.append_names(&before.names[from as usize..to])?;
        let first = self.records.len();
        self.records.extend_from_slice(&before.records[entries.start as usize..entries.end as usize]);
        let has_moved = (base, parent) != (from, record);
        self.marks.resize(self.records.len(), if has_moved { VALID } else { VALID | SEALED });
        if has_moved {
            for moved in &mut self.records[first..] {
                moved.set_name(moved.name_at() - from + base, moved.name_len());
                moved.set_parent(parent);
            }
        }
        Ok(())
    }

    fn append_names(&mut self, names: &[u8]) -> Result<u32> {
        let base = self.names.len();
        self.names.extend_from_slice(names);
        let too_long = || Error::Invalid { what: "the tree".to_owned(), why: "its names exceed 4 GiB".to_owned() };
        u32::try_from(self.names.len()).map_err(|_| too_long())?;
        Ok(base as u32)
    }

    fn task(&self, above: &Task, first: u32, below: &Below, dir: Option<Arc<Dir>>) -> Task {
        let record = first + below.number;
        let mut path = Vec::with_capacity(above.path.len() + 1 + self.name(record).len());
        path.extend_from_slice(&above.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(self.name(record));
        Task { record, path, above: dir, before: below.before, is_valid: self.is_valid(record) }
    }
}

/// One entry as it is.
struct Present {
    stat: Stat,
    record: Record,
    mark: u8,
    target: Vec<u8>,
}

struct Walk<'a> {
    root: &'a Root,
    before: Option<&'a State>,
    began: Time,
    job: &'a Job,
}

impl Walk<'_> {
    /// A state of the root alone, and its visit to be made.
    fn start(&self) -> Result<(State, Task)> {
        let before = self.before.map(|_| 0);
        let look = || {
            let dir = self.root.open_dir(b"")?;
            let stat = dir.stat(b".")?;
            Ok((stat, self.record(&dir, b"", &stat, before)?))
        };
        let (stat, (record, mark)) = look().map_err(|e: std::io::Error| match is_denied(&e) {
            true => Error::Unreadable { paths: vec![self.root.path().to_path_buf()] },
            false => Error::io("open", self.root.path())(e),
        })?;
        let mut state = State {
            records: Vec::with_capacity(self.before.map_or(1, |before| before.records.len())),
            names: Vec::with_capacity(self.before.map_or(0, |before| before.names.len())),
            marks: Vec::new(),
            extras: Vec::new(),
            began: self.began,
            file: None,
        };
        state.records.push(record);
        state.marks.push(mark);
        state.extras.push(Extra::of(&stat));
        Ok((state, Task { record: 0, path: Vec::new(), above: None, before, is_valid: mark & VALID != 0 }))
    }

    fn visit(&self, task: &Task, keep_open: bool) -> Result<Visit> {
        self.job.step(0)?;
        match self.look(task, keep_open) {
            Err(Error::Io { source, .. }) if is_gone(&source) => Ok(Visit::Gone),
            Err(Error::Io { source, .. }) if is_denied(&source) => Ok(Visit::Unreadable),
            other => other,
        }
    }

    fn look(&self, task: &Task, keep_open: bool) -> Result<Visit> {
        let name = task.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let opened = match &task.above {
            Some(above) => Dir::open(above.as_fd(), name),
            None => self.root.open_dir(&task.path),
        };
        let dir = opened.map_err(Error::io("open", self.root.show(&task.path)))?;
        let before = self.before.zip(task.before);
        let same = match before.filter(|_| task.is_valid) {
            Some((before, record)) => self.same(&dir, before, record),
            None => None,
        };
        let (entries, directories) = match same {
            Some(same) => same,
            None => self.list(&dir, &task.path, before)?,
        };
        let dir = (keep_open && !directories.is_empty()).then(|| Arc::new(dir));
        Ok(Visit::Entries { entries, directories, dir })
    }

    /// Without listing it: whether all entries are as they were. `None` at the first that is not.
    fn same(&self, dir: &Dir, before: &State, record: u32) -> Option<(Entries, Vec<Below>)> {
        let entries = before.entries(record);
        let mut extras = Vec::with_capacity(entries.len());
        let mut directories = Vec::new();
        let mut sum = 0_u64;
        for (number, entry) in entries.enumerate() {
            let name = before.name(entry);
            let stat = dir.stat(name).ok()?;
            if !before.holds(entry, &Record::of_stat(&stat)) {
                return None;
            }
            if stat.kind() == Kind::Directory {
                directories.push(Below { number: number as u32, before: Some(entry) });
            }
            sum = sum.wrapping_add(entry_term(before.record(entry).sum(), number));
            extras.push(Extra::of(&stat));
        }
        let record = before.record(record);
        let is_summed = record.has(HAS_DIGEST) && record.entries_sum() == sum;
        Some((Entries::Same { extras, is_summed }, directories))
    }

    fn list(&self, dir: &Dir, path: &[u8], before: Option<(&State, u32)>) -> Result<(Entries, Vec<Below>)> {
        let listed = dir.list().map_err(Error::io("list", self.root.show(path)))?;
        let mut listed: Vec<&[u8]> = listed.split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
        listed.sort_unstable();
        let mut old = before.map_or(0..0, |(before, record)| before.entries(record)).peekable();
        let mut entries = Vec::with_capacity(listed.len());
        let mut directories = Vec::new();
        let mut names = Vec::with_capacity(listed.len() * 16);
        for name in listed {
            let old_name = |entry: u32| before.map_or(&b""[..], |(before, _)| before.name(entry));
            while old.next_if(|&entry| old_name(entry) < name).is_some() {}
            let old = old.next_if(|&entry| old_name(entry) == name);
            let Some(present) = self.entry(dir, path, name, old)? else { continue };
            let Present { stat, mut record, mark, target } = present;
            let name_len = u16::try_from(name.len()).map_err(|_| too_long(name))?;
            record.set_name(u32::try_from(names.len()).map_err(|_| too_long(path))?, name_len);
            names.extend_from_slice(name);
            names.extend_from_slice(&target);
            if stat.kind() == Kind::Directory {
                directories.push(Below { number: entries.len() as u32, before: old });
            }
            entries.push((record, Extra::of(&stat), mark));
        }
        Ok((Entries::Found { entries, names }, directories))
    }

    /// The present record of an entry, with the target of a symbolic link; `None` when it is gone or a socket.
    fn entry(&self, dir: &Dir, path: &[u8], name: &[u8], old: Option<u32>) -> Result<Option<Present>> {
        let show = || self.root.show(path).join(OsStr::from_bytes(name));
        for _ in 0..TRIES {
            let stat = match dir.stat(name) {
                Err(e) if is_gone(&e) => return Ok(None),
                // Without the right to search it a directory is as good as unreadable.
                stat => stat.map_err(Error::io("stat", self.root.show(path)))?,
            };
            if stat.kind() == Kind::Socket {
                return Ok(None);
            }
            let (mut record, mark) = match self.record(dir, name, &stat, old) {
                Err(e) if is_gone(&e) => continue,
                made => made.map_err(Error::io("list extended attributes of", show()))?,
            };
            if stat.kind() != Kind::Symlink {
                return Ok(Some(Present { stat, record, mark, target: Vec::new() }));
            }
            let target = match self.before.zip(old).filter(|_| mark & VALID != 0) {
                Some((before, old)) => before.target(old).to_vec(),
                None => match dir.read_link(name) {
                    // Gone, or no link any more.
                    Err(e) if is_gone(&e) || e.kind() == std::io::ErrorKind::InvalidInput => continue,
                    target => target.map_err(Error::io("read the link", show()))?,
                },
            };
            record.set_length(u32::try_from(target.len()).map_err(|_| too_long(name))?);
            return Ok(Some(Present { stat, record, mark, target }));
        }
        Err(Error::Unstable { path: show() })
    }

    /// The old record when it still holds, else a new one.
    fn record(&self, dir: &Dir, name: &[u8], stat: &Stat, old: Option<u32>) -> std::io::Result<(Record, u8)> {
        let mut record = Record::of_stat(stat);
        if let Some((before, old)) = self.before.zip(old)
            && before.holds(old, &record)
        {
            return Ok((*before.record(old), VALID | SEALED));
        }
        record.set(HAS_XATTRS, dir.has_xattrs(name)?);
        record.set(RACY, stat.kind() != Kind::File && stat.is_racy(self.began));
        Ok((record, 0))
    }
}

impl State {
    /// Whether the record of `entry` is whole, not racy, and has the stat of `present`.
    fn holds(&self, entry: u32, present: &Record) -> bool {
        let record = self.record(entry);
        record.has_stat_of(present) && !record.has(RACY) && record.is_sealed(self.name(entry))
    }
}

fn too_long(name: &[u8]) -> Error {
    Error::Invalid { what: show(Path::new(OsStr::from_bytes(name))), why: "too long a name for the index".to_owned() }
}
