//! The index file: read whole, written where it changed.
//!
//! Invariant: each write leaves a file of which every record that passes its checksum is true, wherever it stops.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::State;
use super::record::{Record, SIZE};
use crate::error::{Error, Result, show};
use crate::scan::{Kind, Time};

const MAGIC: &[u8; 8] = b"SAPWIDX\n";
const VERSION: u32 = 1;
const BYTE_ORDER: u32 = 0x0102_0304;
const HEADER: usize = 64;

impl State {
    /// The state at `path`; `None` when there is no usable one: absent, damaged, of another byte order.
    ///
    /// # Errors
    /// `NewerFormat`; `Io` when there is a file that may not be opened.
    pub fn read(path: &Path) -> Result<Option<State>> {
        // Without the right to update it in place it can still be read, and be replaced if the directory allows.
        let opened = OpenOptions::new().read(true).write(true).open(path).or_else(|_| File::open(path));
        let file = match opened {
            Err(e) if crate::scan::is_gone(&e) => return Ok(None),
            opened => opened.map_err(Error::io("open", path))?,
        };
        let Ok(Some(parts)) = Parts::read(&file) else { return Ok(None) };
        if parts.version > VERSION {
            return Err(Error::NewerFormat { what: show(path), version: u64::from(parts.version) });
        }
        let Parts { records, names, .. } = parts;
        let marks = vec![0; records.len()];
        let state = State { records, names, marks, extras: Vec::new(), began: Time::default(), file: Some(file) };
        Ok(state.is_sound().then_some(state))
    }

    /// Whether the records form one tree in the order that `State` promises. Checksums are the scan's to check.
    fn is_sound(&self) -> bool {
        let mut next = 1;
        let mut name_at = 0;
        for (number, record) in (0_u64..).zip(&self.records) {
            let kind = record.kind();
            let is_root = number == 0;
            if is_root != (record.name_len() == 0) || is_root && (kind != Kind::Directory || record.parent() != 0) {
                return false;
            }
            let target_len = if kind == Kind::Symlink { u64::from(record.length()) } else { 0 };
            let name_end = name_at + u64::from(record.name_len());
            if u64::from(record.name_at()) != name_at || name_end + target_len > self.names.len() as u64 {
                return false;
            }
            name_at = name_end + target_len;
            let (first, count) = (u64::from(record.first()), u64::from(record.count()));
            if count == 0 {
                if first != 0 {
                    return false;
                }
                continue;
            }
            let end = first + count;
            if kind != Kind::Directory || first != next || first <= number || end > self.records.len() as u64 {
                return false;
            }
            let entries = &self.records[first as usize..end as usize];
            if entries.iter().any(|entry| u64::from(entry.parent()) != number) {
                return false;
            }
            next = end;
        }
        next == self.records.len() as u64 && name_at == self.names.len() as u64 && self.has_sorted_names()
    }

    fn has_sorted_names(&self) -> bool {
        (2..self.len())
            .all(|entry| self.parent(entry) != self.parent(entry - 1) || self.name(entry - 1) < self.name(entry))
    }

    /// Store a sealed state at `path`. In place when `before`, which was read from there, has the same structure, and
    /// then only the records that differ; else as a new file that replaces the old one. When another process writes,
    /// it wins: the next hash does again what was not stored.
    ///
    /// # Errors
    /// `Io` when the place cannot be written.
    pub fn write(&mut self, path: &Path, before: Option<&State>) -> Result<()> {
        let updatable = before.filter(|before| self.has_structure_of(before));
        if updatable.is_some_and(|before| before.file.is_some() && before.records == self.records) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let lock_path = beside(path, ".lock");
        let lock = private().create(true).truncate(false).open(&lock_path).map_err(Error::io("open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(()),
            locked => locked.map_err(|e| Error::io("lock", &lock_path)(e.into()))?,
        }
        self.file = match updatable.and_then(|before| Some((before, before.file.as_ref()?))) {
            // A file opened without the right to write is replaced.
            Some((before, file)) if self.update(file, before).is_ok() => file.try_clone().ok(),
            _ => Some(self.replace(path)?),
        };
        Ok(())
    }

    fn has_structure_of(&self, other: &State) -> bool {
        self.names == other.names
            && self.records.len() == other.records.len()
            && self.records.iter().zip(&other.records).all(|(ours, theirs)| ours.has_place_of(theirs))
    }

    fn update(&self, file: &File, before: &State) -> io::Result<()> {
        let differs = |at: &usize| self.records[*at] != before.records[*at];
        let mut bytes = Vec::new();
        let mut at = 0;
        while let Some(start) = (at..self.records.len()).find(differs) {
            let end = (start..self.records.len()).find(|at| !differs(at)).unwrap_or(self.records.len());
            bytes.clear();
            bytes.extend(self.records[start..end].iter().flat_map(|record| record.0));
            file.write_all_at(&bytes, (HEADER + start * SIZE) as u64)?;
            at = end;
        }
        Ok(())
    }

    fn replace(&self, path: &Path) -> Result<File> {
        let new_path = beside(path, ".new");
        let io = || Error::io("write", &new_path);
        let mut file = private().create(true).truncate(true).open(&new_path).map_err(io())?;
        let mut write = || {
            let mut out = io::BufWriter::with_capacity(1 << 20, &mut file);
            out.write_all(&self.header())?;
            for record in &self.records {
                out.write_all(&record.0)?;
            }
            out.write_all(&self.names)?;
            out.flush()
        };
        let written = write().map_err(io()).and_then(|()| std::fs::rename(&new_path, path).map_err(io()));
        if let Err(error) = written {
            // What failed is told; the left-over would be overwritten next time anyway.
            let _ = std::fs::remove_file(&new_path);
            return Err(error);
        }
        Ok(file)
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&BYTE_ORDER.to_le_bytes());
        header[16..24].copy_from_slice(&(self.records.len() as u64).to_le_bytes());
        header[24..32].copy_from_slice(&(self.names.len() as u64).to_le_bytes());
        header[32..36].copy_from_slice(&crc32fast::hash(&self.names).to_le_bytes());
        let sum = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// What the file holds, its header and names proved.
struct Parts {
    version: u32,
    records: Vec<Record>,
    names: Vec<u8>,
}

impl Parts {
    /// `None` for anything that is not a whole index.
    fn read(mut file: &File) -> io::Result<Option<Parts>> {
        let mut header = [0; HEADER];
        file.read_exact(&mut header)?;
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let is_ours = header[..8] == *MAGIC && u32_at(12) == BYTE_ORDER && u32_at(60) == crc32fast::hash(&header[..60]);
        let version = u32_at(8);
        if !is_ours || version < VERSION {
            return Ok(None);
        }
        if version > VERSION {
            return Ok(Some(Parts { version, records: Vec::new(), names: Vec::new() }));
        }
        let (count, names_len) = (u64_at(16), u64_at(24));
        let records_len = count.checked_mul(SIZE as u64);
        let length = records_len.and_then(|len| len.checked_add(names_len)?.checked_add(HEADER as u64));
        if count == 0 || count > u64::from(u32::MAX) || length != Some(file.metadata()?.len()) {
            return Ok(None);
        }
        let mut records = Vec::with_capacity(count as usize);
        let mut piece = vec![0; SIZE * 2048];
        while records.len() < count as usize {
            let want = (count as usize - records.len()).min(2048) * SIZE;
            file.read_exact(&mut piece[..want])?;
            records.extend(piece[..want].as_chunks().0.iter().map(|bytes| Record(*bytes)));
        }
        let mut names = vec![0; names_len as usize];
        file.read_exact(&mut names)?;
        Ok((u32_at(32) == crc32fast::hash(&names)).then_some(Parts { version, records, names }))
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Names of files are nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}
