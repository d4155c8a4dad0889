//! The directory as it fills.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::metadata;
use super::place::Place;
use super::plan::{Needed, Plan, Use, path_of, plan};
use crate::archive::frame;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Entry, FileMap, FrameAt, Kind};
use crate::job::Job;

/// A pull under way: hand `take`'s frames back by `deliver`, from any thread, then `finish`.
pub struct Pull {
    place: Place,
    privileged: bool,
    entries: Vec<Entry>,
    /// Chunks that each regular file still lacks.
    left: Vec<AtomicU64>,
    frames: Vec<Needed>,
    next: AtomicUsize,
    delivered: AtomicUsize,
    notes: Mutex<Vec<String>>,
}

/// What was written, and what could not be set.
pub struct Pulled {
    pub files: u64,
    pub bytes: u64,
    pub notes: Vec<String>,
}

impl Pull {
    /// Into `directory`, which exists, is empty and nobody else's business. Makes the directories, and the files that are empty.
    ///
    /// # Errors
    /// `Damaged` when the map contradicts itself, `Io`.
    pub fn begin(map: &FileMap, directory: &Path, job: &Job) -> Result<Pull> {
        let Plan { entries, frames } = plan(map)?;
        let left = |entry: &Entry| match &entry.kind {
            Kind::Regular(content) => AtomicU64::new(content.chunks.len() as u64),
            _ => AtomicU64::new(0),
        };
        let place = Place::open(directory)?;
        let mut paths: Vec<&[u8]> = entries.iter().skip(1).filter(|e| e.is_directory()).map(|e| &e.path[..]).collect();
        // A parent's path is a prefix, hence before.
        paths.sort_unstable();
        for path in paths {
            let at = place.at(path)?;
            rustix::fs::mkdirat(&at, at.name, Mode::RWXU)
                .map_err(|e| Error::io("make the directory", place.show(path))(e.into()))?;
            job.step(0)?;
        }
        let pull = Pull {
            place,
            privileged: rustix::process::geteuid().is_root(),
            left: entries.iter().map(left).collect(),
            entries,
            frames,
            next: AtomicUsize::new(0),
            delivered: AtomicUsize::new(0),
            notes: Mutex::default(),
        };
        for (number, entry) in pull.entries.iter().enumerate() {
            if let Kind::Regular(content) = &entry.kind {
                pull.create(number, content.digest.size)?;
                if content.chunks.is_empty() {
                    pull.complete(number)?;
                }
                job.step(0)?;
            }
        }
        Ok(pull)
    }

    /// The next frames that are needed, in order of pack and offset; at most `max`, empty when all were taken.
    pub fn take(&self, max: usize) -> Vec<FrameAt> {
        let start = self.next.fetch_add(max, Ordering::Relaxed).min(self.frames.len());
        let end = start.saturating_add(max).min(self.frames.len());
        self.frames[start..end].iter().map(|needed| needed.frame.clone()).collect()
    }

    /// Bytes of all frames that are needed, as they lie in the store.
    pub fn bytes_needed(&self) -> u64 {
        self.frames.iter().map(|needed| u64::from(needed.frame.length)).sum()
    }

    /// Prove and write what a frame holds.
    ///
    /// # Errors
    /// `Damaged` or `Mismatch` when its bytes are not what the map says, naming a file that needs them; `Io`.
    pub fn deliver(&self, frame: &FrameAt, bytes: &[u8], job: &Job) -> Result<()> {
        let at = self.frames.binary_search_by(|needed| needed.frame.cmp(frame));
        let at = at.map_err(|_| Error::Missing { what: "a frame that was asked for".into() })?;
        let Needed { chunks, .. } = &self.frames[at];
        let name = |error: Error| self.name(error, &chunks[0].1);
        let plain = frame::open(bytes, frame.plain).map_err(name)?;
        // All of it is proved before any of it is written: a frame that is delivered again finds nothing done.
        let prove = |(chunk, uses): &(ChunkAt, Vec<Use>)| {
            frame::chunk(&plain, chunk.inner, &chunk.digest).map_err(|error| self.name(error, uses))
        };
        let proved: Vec<&[u8]> = chunks.iter().map(prove).collect::<Result<_>>()?;
        for ((_, uses), bytes) in chunks.iter().zip(proved) {
            for place in uses {
                self.write(*place, bytes)?;
                job.step(bytes.len() as u64)?;
            }
        }
        self.delivered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Damage, with the file it strikes.
    fn name(&self, error: Error, uses: &[Use]) -> Error {
        let path = crate::error::show(&path_of(&self.entries[uses[0].file as usize].path));
        match error {
            Error::Damaged { what, found } => Error::Damaged { what: format!("{what} of {path}"), found },
            Error::Mismatch { what, expected, got } => {
                Error::Mismatch { what: format!("{what} of {path}"), expected, got }
            }
            other => other,
        }
    }

    fn open(&self, doing: &'static str, number: usize, flags: OFlags) -> Result<File> {
        let path = &self.entries[number].path;
        let (at, flags) = (self.place.at(path)?, flags | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC);
        let file = rustix::fs::openat(&at, at.name, flags, Mode::RUSR | Mode::WUSR);
        file.map(File::from).map_err(|e| Error::io(doing, self.place.show(path))(e.into()))
    }

    fn create(&self, number: usize, size: u64) -> Result<()> {
        let file = self.open("create", number, OFlags::CREATE | OFlags::EXCL)?;
        let shown = || self.place.show(&self.entries[number].path);
        if size > 0 { file.set_len(size).map_err(|e| Error::io("write", shown())(e)) } else { Ok(()) }
    }

    fn write(&self, place: Use, bytes: &[u8]) -> Result<()> {
        let number = place.file as usize;
        let Kind::Regular(content) = &self.entries[number].kind else { return Ok(()) };
        let file = self.open("write", number, OFlags::empty())?;
        for (start, end) in data_ranges(&content.holes, place.offset, bytes) {
            let at = place.offset + start as u64;
            let written = file.write_all_at(&bytes[start..end], at);
            written.map_err(|e| Error::io("write", self.place.show(&self.entries[number].path))(e))?;
        }
        drop(file);
        if self.left[number].fetch_sub(1, Ordering::AcqRel) == 1 { self.complete(number) } else { Ok(()) }
    }

    fn complete(&self, number: usize) -> Result<()> {
        let mut notes = Vec::new();
        metadata::set(&self.place, &self.entries[number], self.privileged, &mut notes)?;
        if !notes.is_empty() {
            self.notes.lock().expect("no writer panics with notes").append(&mut notes);
        }
        Ok(())
    }

    /// All frames have been delivered: make what has no content, then set the metadata of directories.
    ///
    /// # Errors
    /// `Missing` when a frame has not been delivered; `Io`.
    pub fn finish(&self, job: &Job) -> Result<Pulled> {
        if self.delivered.load(Ordering::Acquire) != self.frames.len() {
            return Err(Error::Missing { what: "a frame that was asked for".into() });
        }
        let mut pulled = Pulled { files: 0, bytes: 0, notes: Vec::new() };
        let mut refused: BTreeSet<&[u8]> = BTreeSet::new();
        for (number, entry) in self.entries.iter().enumerate() {
            job.step(0)?;
            if let Kind::Regular(content) = &entry.kind {
                pulled.files += 1;
                pulled.bytes += content.digest.size;
            } else if !matches!(entry.kind, Kind::Directory { .. } | Kind::HardLink { .. }) {
                if self.make(number)? {
                    metadata::set(&self.place, entry, self.privileged, &mut pulled.notes)?;
                } else {
                    refused.insert(&entry.path);
                }
            }
        }
        for entry in &self.entries {
            if let Kind::HardLink { first } = &entry.kind {
                if refused.contains(&first[..]) {
                    refused.insert(&entry.path);
                } else {
                    self.link(first, &entry.path)?;
                }
            }
        }
        pulled.notes.extend(refused.into_iter().map(|path| {
            let path = crate::error::show(&self.place.show(path));
            format!("{path}: not made: only root may make devices")
        }));
        let mut directories: Vec<usize> = (0..self.entries.len()).filter(|&n| self.entries[n].is_directory()).collect();
        directories.sort_unstable_by(|&a, &b| self.entries[b].path.cmp(&self.entries[a].path));
        for number in directories {
            metadata::set(&self.place, &self.entries[number], self.privileged, &mut pulled.notes)?;
        }
        pulled.notes.append(&mut self.notes.lock().expect("no writer panics with notes"));
        Ok(pulled)
    }

    /// Make a symlink, device or FIFO; false for a device when this user may not.
    fn make(&self, number: usize) -> Result<bool> {
        let entry = &self.entries[number];
        let at = self.place.at(&entry.path)?;
        let node =
            |kind, major, minor| rustix::fs::mknodat(&at, at.name, kind, Mode::RWXU, rustix::fs::makedev(major, minor));
        let made = match &entry.kind {
            Kind::Symlink { target } => rustix::fs::symlinkat(path_of(target), &at, at.name),
            Kind::CharDevice { major, minor } => node(FileType::CharacterDevice, *major, *minor),
            Kind::BlockDevice { major, minor } => node(FileType::BlockDevice, *major, *minor),
            Kind::Fifo => node(FileType::Fifo, 0, 0),
            Kind::Directory { .. } | Kind::Regular(_) | Kind::HardLink { .. } => return Ok(false),
        };
        match made {
            Ok(()) => Ok(true),
            Err(Errno::PERM) if matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. }) => Ok(false),
            Err(e) => Err(Error::io("create", self.place.show(&entry.path))(e.into())),
        }
    }

    /// Give what is at `first` another name.
    fn link(&self, first: &[u8], name: &[u8]) -> Result<()> {
        let (from, to) = (self.place.at(first)?, self.place.at(name)?);
        let linked = rustix::fs::linkat(&from, from.name, &to, to.name, AtFlags::empty());
        linked.map_err(|e| Error::io("link", self.place.show(name))(e.into()))
    }
}

/// The parts of a chunk that are to be written: all but the holes. A hole with anything but zeros in it is no hole.
fn data_ranges(holes: &[(u64, u64)], offset: u64, bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut out, mut start) = (Vec::new(), 0);
    let end = offset + bytes.len() as u64;
    let first = holes.partition_point(|(hole, length)| hole + length <= offset);
    for (hole, length) in holes[first..].iter().take_while(|(hole, _)| *hole < end) {
        let from = hole.saturating_sub(offset) as usize;
        let to = (hole + length).min(end).saturating_sub(offset) as usize;
        if bytes[from..to].iter().all(|&byte| byte == 0) {
            if start < from {
                out.push((start, from));
            }
            start = to;
        }
    }
    if start < bytes.len() {
        out.push((start, bytes.len()));
    }
    out
}
