//! An index of a tree that was made elsewhere: what a working directory should be, proved against what it is.
//!
//! Invariant: a record is given a stat only when what has that stat was found to be what the tree says; the others are
//! never valid, so each later look reads them and `status` tells them as changed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::hash::Reading;
use super::record::{HAS_DIGEST, HAS_XATTRS, RACY, Record};
use super::{OTHER, Options, RESEAL, STALE, State};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::{Dir, Kind, Root, Stat, Time, is_gone, parent_and_name};

/// An entry of the tree; a directory's own come after it.
pub struct Given {
    /// Empty for the root.
    pub path: Vec<u8>,
    /// Type and permission bits.
    pub mode: u32,
    /// Of a file.
    pub digest: Option<Digest>,
    /// Of a symbolic link.
    pub target: Vec<u8>,
}

/// Make the index at `index` that of the tree `given`, whose plain form lies in `root`; it has no other entries. Reads
/// each file of the right size that the index there knew nothing of.
///
/// # Errors
/// `Absent` naming what does not exist in plain form, or is of another kind; `Invalid` for what is no tree; what
/// `State::read`, `read_stable` and `State::write` say.
pub fn adopt(root: &Path, index: &Path, given: Vec<Given>, options: &Options, job: &Job) -> Result<()> {
    let root = Root::open(root)?;
    let before = State::read(index, options.threads, job)?;
    let mut state = State::of_given(given, options)?;
    state.began = Time::now();
    let unknown = state.find_plain(&root, before.as_ref(), job)?;
    state.read_plain(&root, &unknown, options, job)?;
    state.seal();
    state.write(index)
}

impl State {
    fn of_given(given: Vec<Given>, options: &Options) -> Result<State> {
        let invalid = |path: &[u8], why: &str| Error::Invalid {
            what: crate::error::show(Path::new(OsStr::from_bytes(path))),
            why: why.to_owned(),
        };
        let mut entries: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Given>> = BTreeMap::new();
        let mut top = None;
        for entry in given {
            let (above, name) = parent_and_name(&entry.path);
            if name.is_empty() && above.is_empty() {
                top = Some(entry);
                continue;
            }
            if name.is_empty() || name == b"." || name == b".." {
                return Err(invalid(&entry.path, "no clean path"));
            }
            let (above, name) = (above.to_vec(), name.to_vec());
            entries.entry(above).or_default().insert(name, entry);
        }
        let top = top.ok_or_else(|| invalid(b"", "a tree without a root"))?;
        let mut state = State {
            records: vec![record_of(&top)],
            names: Vec::new(),
            marks: vec![RESEAL | OTHER | STALE],
            pending: Vec::new(),
            began: Time::default(),
            trust_ctime: options.trust_ctime,
            selection: options.fingerprint(),
            file: None,
        };
        let mut directory = 0;
        while directory < state.records.len() {
            let below = match state.records[directory].kind() {
                Kind::Directory => entries.remove(&state.path_of(directory as u32)).unwrap_or_default(),
                _ => BTreeMap::new(),
            };
            let (first, count) = (state.records.len(), below.len());
            for (name, entry) in below {
                let mut record = record_of(&entry);
                let name_len = u16::try_from(name.len()).map_err(|_| invalid(&entry.path, "too long a name"))?;
                let name_at = u32::try_from(state.names.len()).map_err(|_| invalid(b"", "its names exceed 4 GiB"))?;
                record.set_name(name_at, name_len);
                record.set_parent(directory as u32);
                state.names.extend_from_slice(&name);
                state.names.extend_from_slice(&entry.target);
                state.records.push(record);
                state.marks.push(RESEAL | OTHER | STALE);
            }
            if count > 0 {
                state.records[directory].set_entries(first as u32, count as u32);
            }
            directory += 1;
        }
        match entries.into_values().flat_map(BTreeMap::into_values).next() {
            Some(entry) => Err(invalid(&entry.path, "the tree has no directory for it")),
            None => Ok(state),
        }
    }

    /// Stat each entry. Returns the files to be read, with their records as they are; the others' are as they should be.
    fn find_plain(&mut self, root: &Root, before: Option<&State>, job: &Job) -> Result<Vec<(u32, Record)>> {
        let (mut absent, mut unknown) = (Vec::new(), Vec::new());
        for directory in 0..self.len() {
            if self.kind(directory) != Kind::Directory {
                continue;
            }
            job.step(0)?;
            let path = self.path_of(directory);
            let dir = match root.open_dir(&path) {
                // Told as missing where its name is looked for.
                Err(e) if is_gone(&e) => continue,
                opened => opened.map_err(Error::io("open", root.show(&path)))?,
            };
            if directory == 0 {
                let stat = dir.own_stat().map_err(Error::io("stat", root.path()))?;
                self.compare_plain(0, &dir, b".", &stat, None);
            }
            for entry in self.entries(directory) {
                let name = self.name(entry).to_vec();
                let stat = match dir.stat(&name) {
                    Err(e) if is_gone(&e) => Stat::default(),
                    stat => stat.map_err(Error::io("stat", root.show(&self.path_of(entry))))?,
                };
                if stat == Stat::default() || stat.kind() != self.kind(entry) {
                    absent.push(root.show(&self.path_of(entry)));
                    continue;
                }
                let unread = self.compare_plain(entry, &dir, &name, &stat, before);
                unknown.extend(unread.map(|now| (entry, now)));
            }
        }
        if absent.is_empty() { Ok(unknown) } else { Err(Error::Absent { paths: absent }) }
    }

    /// The record as it is of a file that must be read.
    fn compare_plain(
        &mut self,
        entry: u32,
        dir: &Dir,
        name: &[u8],
        stat: &Stat,
        before: Option<&State>,
    ) -> Option<Record> {
        let now = present(dir, name, stat);
        if self.mode(entry) != stat.mode {
            return None;
        }
        match stat.kind() {
            Kind::File if self.record(entry).size() != stat.size => {}
            Kind::File => {
                let known = before.and_then(|before| Some((before, before.find(&self.path_of(entry))?)));
                match known.filter(|(before, old)| before.record(*old).has_stat(stat, true) && before.is_settled(*old))
                {
                    Some((before, old)) if before.digest(old) == self.digest(entry) => {
                        self.records[entry as usize].restat(&now);
                    }
                    Some(_) => {}
                    None => return Some(now),
                }
            }
            Kind::Symlink => {
                if dir.read_link(name).is_ok_and(|target| target == self.target(entry)) {
                    self.records[entry as usize].restat(&now);
                }
            }
            _ => self.records[entry as usize].restat(&now),
        }
        None
    }

    fn read_plain(&mut self, root: &Root, unknown: &[(u32, Record)], options: &Options, job: &Job) -> Result<()> {
        let files: Vec<u32> = unknown.iter().map(|(file, _)| *file).collect();
        let readings = self.read_files(root, &files, options.threads, job)?;
        for ((file, now), reading) in unknown.iter().zip(readings) {
            let file = *file;
            match reading {
                Reading::Read(digest, stat) if self.digest(file) == Some(digest) && self.mode(file) == stat.mode => {
                    self.records[file as usize].restat(now);
                    self.set_digest(file, digest, &stat);
                }
                Reading::Read(..) => {}
                Reading::Unreadable => return Err(Error::Unreadable { paths: vec![root.show(&self.path_of(file))] }),
                Reading::Gone => return Err(Error::Absent { paths: vec![root.show(&self.path_of(file))] }),
            }
        }
        Ok(())
    }
}

/// What the tree says, with a stat that nothing has.
fn record_of(given: &Given) -> Record {
    let mut record = Record::of_stat(&Stat {
        mode: given.mode,
        size: given.digest.map_or(0, |digest| digest.size),
        ..Stat::default()
    });
    if let Some(digest) = given.digest.filter(|_| record.kind() == Kind::File) {
        record.set_sha256(&digest.sha256);
        record.set(HAS_DIGEST, true);
    }
    record.set(RACY, true);
    record.set_length(given.target.len() as u32);
    record
}

/// What `dir` has under `name`, whose attributes are looked for when it is looked at.
fn present(dir: &Dir, name: &[u8], stat: &Stat) -> Record {
    let mut record = Record::of_stat(stat);
    record.set(HAS_XATTRS, dir.has_xattrs(name).unwrap_or(false));
    // There may be more in a directory than the tree has: the next look lists it.
    record.set(RACY, stat.kind() != Kind::File);
    record
}
