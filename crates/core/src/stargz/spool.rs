//! Bytes that are written now and needed at the end: in memory, and from `MEMORY` on in a nameless temporary file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{CWD, Mode, OFlags};

use crate::digest::Hasher;
use crate::error::{Error, Result};

const MEMORY: usize = 16 << 20;

pub struct Spool {
    directory: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
}

impl Spool {
    /// `directory` is where the file is made when it comes to that.
    pub fn new(directory: &Path) -> Spool {
        Spool { directory: directory.to_owned(), memory: Vec::new(), file: None, length: 0 }
    }

    pub fn len(&self) -> u64 {
        self.length
    }

    /// Everything, from the beginning.
    ///
    /// # Errors
    /// Of the system.
    pub fn read(&mut self) -> io::Result<impl Read> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
        }
        let file = self.file.as_ref().map(|file| file.take(u64::MAX));
        Ok(Either(file).chain(&self.memory[..]))
    }

    /// Fill `buffer` from byte `at` on.
    ///
    /// # Errors
    /// Of the system.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let spilled = self.length - self.memory.len() as u64;
        let cut = spilled.saturating_sub(at).min(buffer.len() as u64);
        let (first, rest) = buffer.split_at_mut(cut as usize);
        if let Some(file) = &self.file {
            file.read_exact_at(first, at)?;
        }
        let begin = (at + cut).saturating_sub(spilled) as usize;
        rest.copy_from_slice(&self.memory[begin..begin + rest.len()]);
        Ok(())
    }

    /// Give everything to `sink`, piece by piece.
    ///
    /// # Errors
    /// `Io`, or what the sink returns.
    pub fn give(mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.rewind().map_err(Error::io("read a temporary file in", &self.directory))?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                match file.read(&mut buffer).map_err(Error::io("read a temporary file in", &self.directory))? {
                    0 => break,
                    read => sink(&buffer[..read])?,
                }
            }
        }
        sink(&self.memory)
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(nameless(&self.directory)?),
        };
        file.write_all(&self.memory)?;
        self.memory.clear();
        Ok(())
    }
}

/// What may be absent, and is then empty.
struct Either<R>(Option<R>);

impl<R: Read> Read for Either<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |inner| inner.read(buffer))
    }
}

/// A spool that knows the SHA-256 of what it holds.
pub struct Proved {
    pub spool: Spool,
    pub hasher: Hasher,
}

impl Proved {
    pub fn new(directory: &Path) -> Proved {
        Proved { spool: Spool::new(directory), hasher: Hasher::default() }
    }
}

impl Write for Proved {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.spool.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.memory.len() + bytes.len() > MEMORY {
            self.spill()?;
        }
        self.memory.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name that no other thread has, nor another process.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".sapwood-{}-{:x}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

/// A file that vanishes with its descriptor.
fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // File systems that know no such file.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = directory.join(unique());
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        Err(errno) => Err(errno.into()),
    }
}
