//! Where an archive goes: a file, or a pipe that somebody may be slow to empty.
//!
//! Invariant: a stop is heard within 100 ms, however long nobody reads.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};
use crate::job::Job;

/// What a pipe that says it has room takes without blocking.
const ROOM: usize = 4096;
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

pub struct Out {
    file: File,
    path: PathBuf,
    is_plain: bool,
    /// Device and number.
    inode: (u64, u64),
}

impl Out {
    /// `path` names it in messages.
    ///
    /// # Errors
    /// `Io`.
    pub fn new(file: File, path: PathBuf) -> Result<Out> {
        let about = file.metadata().map_err(Error::io("write", &path))?;
        Ok(Out { file, path, is_plain: about.is_file(), inode: (about.dev(), about.ino()) })
    }

    /// Device and number of what it goes to.
    pub fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// # Errors
    /// `Io`, `Stopped`.
    pub fn give(&mut self, mut bytes: &[u8], job: &Job) -> Result<()> {
        if self.is_plain {
            return self.file.write_all(bytes).map_err(Error::io("write", &self.path));
        }
        while !bytes.is_empty() {
            job.step(0)?;
            let mut wait = [PollFd::new(&self.file, PollFlags::OUT)];
            match poll(&mut wait, Some(&TICK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(Error::io("write", &self.path)(errno.into())),
            }
            match self.file.write(&bytes[..bytes.len().min(ROOM)]) {
                Ok(written) => bytes = &bytes[written..],
                Err(e) if matches!(e.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(Error::io("write", &self.path)(e)),
            }
        }
        Ok(())
    }
}
