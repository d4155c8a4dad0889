//! Chunks into files.
//!
//! Invariant: bytes are written only after their chunk's digest is proved, and a file has its name only when it is whole
//! and has its metadata; in a directory that nobody sees it has its name at once.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Mode, OFlags, renameat};
use rustix::io::Errno;

use super::compare::Action;
use super::place::{At, Near};
use super::plan::{Needed, Use, path_of};
use super::run::{Pull, Written, below};
use crate::archive::frame;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, FrameAt, Kind};
use crate::job::Job;
use crate::scan::Stat;

/// How a file is made: readable, too, for others may have its content.
const NEW: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::RDWR).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

thread_local! {
    /// What a frame is decompressed into, again and again.
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Pull {
    /// Prove and write what a frame holds.
    ///
    /// # Errors
    /// `Damaged` or `Mismatch` when its bytes are not what the map says, naming a file that needs them; `Io`; `Stopped`
    /// once closed.
    pub fn deliver(&self, frame: &FrameAt, bytes: &[u8], job: &Job) -> Result<()> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(Error::Stopped);
        }
        let Needed { chunks, .. } = Needed::find(&self.frames, frame)?;
        PLAIN.with_borrow_mut(|plain| {
            self.tree.form.open_into(bytes, frame.plain, plain).map_err(|error| self.name(error, &chunks[0].1))?;
            // All of it is proved before any of it is written: a frame that is delivered again finds nothing done.
            let prove = |(chunk, uses): &(ChunkAt, Vec<Use>)| {
                frame::chunk(plain, chunk.inner, &chunk.digest).map_err(|error| self.name(error, uses))
            };
            let proved: Vec<&[u8]> = chunks.iter().map(prove).collect::<Result<_>>()?;
            self.prepare(job)?;
            let mut near = Near::default();
            for ((_, uses), bytes) in chunks.iter().zip(proved) {
                for place in uses {
                    self.write(&mut near, *place, bytes)?;
                    job.step(bytes.len() as u64)?;
                }
            }
            Ok(())
        })?;
        self.delivered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Damage, with the file it strikes.
    fn name(&self, error: Error, uses: &[Use]) -> Error {
        let path = crate::error::show(&path_of(&self.tree.entries[uses[0].file as usize].path));
        match error {
            Error::Damaged { what, found } => Error::Damaged { what: format!("{what} of {path}"), found },
            Error::Mismatch { what, expected, got } => {
                Error::Mismatch { what: format!("{what} of {path}"), expected, got }
            }
            other => other,
        }
    }

    fn write(&self, near: &mut Near, place: Use, bytes: &[u8]) -> Result<()> {
        let number = place.file as usize;
        let entry = &self.tree.entries[number];
        let Kind::Regular(content) = &entry.kind else { return Ok(()) };
        let at = self.place.at(near, &entry.path)?;
        let is_whole = place.offset == 0 && content.chunks.len() == 1;
        let file = if is_whole { self.create(at, number) } else { self.open(at, number) }?;
        let written = || -> std::io::Result<()> {
            for (start, end) in data_ranges(&content.holes, place.offset, bytes) {
                file.write_all_at(&bytes[start..end], place.offset + start as u64)?;
            }
            // A hole at the end is written by nothing.
            if is_whole && content.holes.last().is_some_and(|(hole, length)| hole + length == content.digest.size) {
                file.set_len(content.digest.size)?;
            }
            Ok(())
        };
        let written = written().map_err(Error::io("write", self.place.show(&entry.path)));
        let is_last = || self.left[number].fetch_sub(1, Ordering::AcqRel) == 1;
        match written.and_then(|()| if is_last() { self.complete(at, number, &file) } else { Ok(()) }) {
            Ok(()) => Ok(()),
            Err(error) => {
                // One of several chunks, of which others write, is removed at the end.
                if self.before.is_some() && (is_whole || self.left[number].load(Ordering::Acquire) == 0) {
                    // What cannot be removed the next pull finds.
                    let _ = self.partial(number, at, |at| at.remove(false));
                }
                Err(error)
            }
        }
    }

    /// Make a regular file, empty.
    pub(super) fn create(&self, at: At<'_>, number: usize) -> Result<File> {
        let entry = &self.tree.entries[number];
        // Nobody may see more of it than of what it becomes; to set attributes takes the right to write.
        let mode =
            if entry.xattrs.is_empty() { Mode::from_raw_mode(entry.mode & 0o777) } else { Mode::RUSR | Mode::WUSR };
        let made = self.partial(number, at, |at| rustix::fs::openat(at, at.name, NEW, mode));
        made.map(File::from).map_err(|e| Error::io("create", self.place.show(&entry.path))(e.into()))
    }

    /// Make a file of several chunks, to be written by `open`.
    pub(super) fn create_large(&self, near: &mut Near, number: usize) -> Result<()> {
        let entry = &self.tree.entries[number];
        let at = self.place.at(near, &entry.path)?;
        let made = self.partial(number, at, |at| rustix::fs::openat(at, at.name, NEW, Mode::RUSR | Mode::WUSR));
        let file = made.map(File::from).map_err(|e| Error::io("create", self.place.show(&entry.path))(e.into()))?;
        file.set_len(entry.size()).map_err(Error::io("write", self.place.show(&entry.path)))
    }

    fn open(&self, at: At<'_>, number: usize) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = self.partial(number, at, |at| rustix::fs::openat(at, at.name, flags, Mode::empty()));
        let path = || self.place.show(&self.tree.entries[number].path);
        opened.map(File::from).map_err(|e| Error::io("write", path())(e.into()))
    }

    /// The file has its content: give it its metadata and its name, and its content to those that have the same.
    pub(super) fn complete(&self, at: At<'_>, number: usize, file: &File) -> Result<()> {
        for &copy in self.copies.get(&(number as u32)).into_iter().flatten() {
            self.copy(file, copy as usize)?;
        }
        let path = self.place.show(&self.tree.entries[number].path);
        let mut notes = Vec::new();
        self.setting(number, &path).set_open(file, &mut notes)?;
        self.note(notes);
        self.give_name(at, number)?;
        let stat: Stat = rustix::fs::fstat(file).map_err(|e| Error::io("stat", &path)(e.into()))?.into();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(number as u32, Written::of(&stat));
        Ok(())
    }

    /// Make a file of the content of another one, which is complete but for its name.
    fn copy(&self, source: &File, number: usize) -> Result<()> {
        let entry = &self.tree.entries[number];
        let path = self.place.show(&entry.path);
        let mut near = Near::default();
        let to = self.place.at(&mut near, &entry.path)?;
        let made = self.create(to, number).and_then(|file| {
            let is_cloned = self.clones.load(Ordering::Relaxed)
                && match rustix::fs::ioctl_ficlone(&file, source) {
                    Ok(()) => true,
                    Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => {
                        self.clones.store(false, Ordering::Relaxed);
                        false
                    }
                    Err(error) => return Err(Error::io("write", &path)(error.into())),
                };
            if !is_cloned {
                self.copy_ranges(source, &file, number).map_err(Error::io("write", &path))?;
            }
            self.complete(to, number, &file)
        });
        if made.is_err() && self.before.is_some() {
            let _ = self.partial(number, to, |at| at.remove(false));
        }
        made
    }

    fn copy_ranges(&self, source: &File, file: &File, number: usize) -> std::io::Result<()> {
        let Kind::Regular(content) = &self.tree.entries[number].kind else { return Ok(()) };
        let (size, mut at) = (content.digest.size, 0);
        file.set_len(size)?;
        for (hole, length) in content.holes.iter().copied().chain([(size, 0)]) {
            while at < hole {
                let (mut from, mut to) = (at, at);
                let left = usize::try_from(hole - at).unwrap_or(usize::MAX).min(1 << 30);
                match rustix::fs::copy_file_range(source, Some(&mut from), file, Some(&mut to), left)? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    copied => at += copied as u64,
                }
            }
            at = hole + length;
        }
        Ok(())
    }

    /// What was made becomes what has the entry's name.
    pub(super) fn give_name(&self, at: At<'_>, number: usize) -> Result<()> {
        if self.before.is_none() {
            return Ok(());
        }
        let path = || self.place.show(&self.tree.entries[number].path);
        let rename = || self.partial(number, at, |partial| renameat(partial, partial.name, at, at.name));
        match rename() {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                self.clear_the_way(number, at)?;
                rename().map_err(|e| Error::io("replace", path())(e.into()))
            }
            renamed => renamed.map_err(|e| Error::io("replace", path())(e.into())),
        }
    }

    /// Remove the directory that stands where something else is to be.
    fn clear_the_way(&self, number: usize, at: At<'_>) -> Result<()> {
        let path = self.place.show(&self.tree.entries[number].path);
        if let Some(before) = &self.before
            && before.delete
            && let Some(&record) = before.blocked.get(&(number as u32))
            && let Some(state) = &*before.state.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let inside: Vec<u32> = below(state, record).into_iter().skip(1).collect();
            self.remove_records(state, inside)?;
        }
        match at.remove(true) {
            Ok(_) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let removable = self.before.as_ref().is_some_and(|before| !before.delete);
                Err(Error::InTheWay { paths: vec![path], removable })
            }
            Err(error) => Err(Error::io("remove", path)(error.into())),
        }
    }

    /// Whether an entry is to be made here.
    pub(super) fn makes(&self, number: usize) -> bool {
        self.actions[number] == Action::Make
    }

    /// Tell of a file that another name was given to.
    pub(super) fn renew_written(&self, first: u32, at: At<'_>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = written.get_mut(&first)
            && let Ok(stat) = rustix::fs::statat(at, at.name, AtFlags::SYMLINK_NOFOLLOW)
            && known.ino == stat.st_ino
        {
            *known = Written::of(&stat.into());
        }
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
