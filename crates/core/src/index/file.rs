//! The index file: read whole, written where it changed.
//!
//! Invariant: each write leaves a file of which every record that passes its checksum is true, wherever it stops.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::record::SIZE;
use super::{State, union};
use crate::error::{Error, Result, show};
use crate::job::Job;
use crate::scan::{Stat, Time};

const MAGIC: &[u8; 8] = b"SAPWIDX\n";
const VERSION: u32 = 2;
const BYTE_ORDER: u32 = 0x0102_0304;
const HEADER: usize = 64;

impl State {
    /// The state at `path`; `None` when there is no usable one: absent, damaged, of another byte order or an older
    /// version.
    ///
    /// # Errors
    /// `NewerFormat`; `Io` when there is a file that may not be opened.
    pub fn read(path: &Path, threads: usize, job: &Job) -> Result<Option<State>> {
        // Without the right to update it in place it can still be read, and be replaced if the directory allows.
        let opened = OpenOptions::new().read(true).write(true).open(path).or_else(|_| File::open(path));
        let file = match opened {
            Err(e) if crate::scan::is_gone(&e) => return Ok(None),
            opened => opened.map_err(Error::io("open", path))?,
        };
        let Ok(Some(Header { version, records, names, names_sum, selection })) = Header::read(&file) else {
            return Ok(None);
        };
        if version > VERSION {
            return Err(Error::NewerFormat { what: show(path), version: u64::from(version) });
        }
        if version < VERSION {
            return Ok(None);
        }
        let mut state = State {
            records: bytemuck::zeroed_vec(records),
            names: vec![0; names],
            marks: vec![0; records],
            pending: Vec::new(),
            began: Time::default(),
            trust_ctime: true,
            selection,
            file: None,
        };
        let names_at = (HEADER + records * SIZE) as u64;
        let is_read = read_shared(&file, bytemuck::cast_slice_mut(&mut state.records), threads).is_ok()
            && file.read_exact_at(&mut state.names, names_at).is_ok()
            && crc32fast::hash(&state.names) == names_sum
            && state.is_sound(threads, job);
        job.step(0)?;
        state.file = Some(file);
        Ok(is_read.then_some(state))
    }

    /// Store a sealed state at `path`. In place when it was read from there and has the same structure, and then only
    /// the records that changed; else as a new file that replaces the old one. When another process writes, it wins:
    /// the next hash does again what was not stored.
    ///
    /// # Errors
    /// `Io` when the place cannot be written.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        if self.file.is_some() && union(&self.marks) == 0 {
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
        // A file opened without the right to write is replaced.
        if self.file.as_ref().is_none_or(|file| self.update(file).is_err()) {
            self.file = Some(self.replace(path)?);
        }
        self.marks.fill(0);
        Ok(())
    }

    /// Whether the names and kinds are those of the file that this state was read from or written to.
    pub fn is_in_place(&self) -> bool {
        self.file.is_some()
    }

    /// What `stat` says of the file that this state was read from or written to; none when that is not all stored.
    pub fn file_stat(&self) -> Option<Stat> {
        if self.marks.iter().any(|&mark| mark != 0) {
            return None;
        }
        let stat = rustix::fs::fstat(self.file.as_ref()?).ok()?;
        Some(stat.into())
    }

    fn update(&self, file: &File) -> io::Result<()> {
        let mut at = 0;
        while let Some(start) = self.next_marked(at) {
            let changed = self.marks[start..].iter().take_while(|&&mark| mark != 0).count();
            at = start + changed;
            file.write_all_at(bytemuck::cast_slice(&self.records[start..at]), (HEADER + start * SIZE) as u64)?;
        }
        Ok(())
    }

    fn replace(&self, path: &Path) -> Result<File> {
        let new_path = beside(path, ".new");
        let io = || Error::io("write", &new_path);
        let mut file = private().create(true).truncate(true).open(&new_path).map_err(io())?;
        let mut write = || {
            file.write_all(&self.header())?;
            file.write_all(bytemuck::cast_slice(&self.records))?;
            file.write_all(&self.names)
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
        header[36..52].copy_from_slice(&self.selection);
        let sum = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// What the first bytes say, proved.
struct Header {
    version: u32,
    /// How many.
    records: usize,
    /// Their bytes.
    names: usize,
    names_sum: u32,
    selection: [u8; 16],
}

impl Header {
    /// `None` when it is none of ours, or not that of a file of this length.
    fn read(file: &File) -> io::Result<Option<Header>> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let is_ours = header[..8] == *MAGIC && u32_at(12) == BYTE_ORDER && u32_at(60) == crc32fast::hash(&header[..60]);
        let (count, names) = (u64_at(16), u64_at(24));
        let version = u32_at(8);
        let length = count.checked_mul(SIZE as u64).and_then(|len| len.checked_add(names)?.checked_add(HEADER as u64));
        let is_whole =
            version != VERSION || count > 0 && count <= u64::from(u32::MAX) && length == Some(file.metadata()?.len());
        let mut selection = [0; 16];
        selection.copy_from_slice(&header[36..52]);
        let found =
            Header { version, records: count as usize, names: names as usize, names_sum: u32_at(32), selection };
        Ok((is_ours && is_whole).then_some(found))
    }
}

/// Fill `bytes` from what follows the header, all threads at once: copying is what it takes.
fn read_shared(file: &File, bytes: &mut [u8], threads: usize) -> io::Result<()> {
    let length = bytes.len().div_ceil(threads.max(1)).max(1 << 20);
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for (number, part) in bytes.chunks_mut(length).enumerate() {
            let read = move || file.read_exact_at(part, (HEADER + number * length) as u64);
            readers.push(scope.spawn(read));
        }
        let read = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        read.collect()
    })
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
