//! The record of what is open, where files are opened at all (`passthrough`): a file that outlives the server.
//!
//! Invariant: it never says less than is open. It is written before an open is answered and after a close is, so a server that
//! is killed between the two leaves a file that seems open for ever, and goes on as it was opened last.
//! Bytes, of this machine: a head of 16 (whether the kernel agreed, whether there were more than can be written down, both
//! u32), then 16 an open file: inode u64, backing file u32 (0: none), number of opens u32 (0: the place is free).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, Result};

/// Files that may be open at a time and still be passed through.
const PLACES: usize = 16 * 1024;
const LINE: usize = 16;

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub inode: u64,
    /// 0: we answer its reads.
    pub backing: u32,
    pub count: u32,
}

pub struct Opens {
    file: File,
    agreed: bool,
    /// Some are not written down: a server that took over knows nothing of them.
    overflowed: bool,
    /// ...and that is us: what we do not know may be open without passthrough.
    unsure: bool,
    open: HashMap<u64, (Open, Option<usize>)>,
    free: Vec<usize>,
}

impl Opens {
    /// An empty record at `path`; room for all of it is taken now, so that a full disk is no matter later.
    ///
    /// # Errors
    /// `Io`.
    pub fn new(path: &Path) -> Result<Opens> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.map_err(Error::io("make", path))?;
        file.write_all_at(&vec![0; LINE * (PLACES + 1)], 0).map_err(Error::io("write", path))?;
        let free = (0..PLACES).rev().collect();
        Ok(Opens { file, agreed: false, overflowed: false, unsure: false, open: HashMap::new(), free })
    }

    /// No record at `path`: a mount before this one may have left one.
    pub fn none(path: &Path) -> Option<Opens> {
        let _ = fs::remove_file(path);
        None
    }

    /// The record that a server before this one left; `None` if it had none.
    ///
    /// # Errors
    /// `Io`, `Damaged`.
    pub fn inherit(path: &Path) -> Result<Option<Opens>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let mut bytes = vec![0; LINE * (PLACES + 1)];
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", path))?;
        let number = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().expect("within a line"));
        let (mut open, mut free) = (HashMap::new(), Vec::new());
        for place in 0..PLACES {
            let at = LINE * (place + 1);
            let inode = u64::from_ne_bytes(*bytes[at..].first_chunk().expect("within a line"));
            match number(at + 12) {
                0 => free.push(place),
                count => drop(open.insert(inode, (Open { inode, backing: number(at + 8), count }, Some(place)))),
            }
        }
        let (agreed, overflowed) = (number(0) != 0, number(4) != 0);
        Ok(Some(Opens { file, agreed, overflowed, unsure: overflowed, open, free }))
    }

    pub fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// False when that cannot be written down: then nothing may be opened.
    pub fn agree(&mut self) -> bool {
        self.agreed = self.file.write_all_at(&1u32.to_ne_bytes(), 0).is_ok();
        self.agreed
    }

    /// How a file that is open was opened, which is opened once more.
    pub fn again(&mut self, inode: u64) -> Option<u32> {
        let (open, _) = self.open.get_mut(&inode)?;
        open.count = open.count.saturating_add(1);
        let backing = open.backing;
        self.write(inode);
        Some(backing)
    }

    /// Whether a file that is not known to be open may get a backing file.
    pub fn may_pass(&self) -> bool {
        !self.free.is_empty() && !self.unsure
    }

    /// A file is opened that was not open; with a backing file only if it `may_pass`.
    pub fn first(&mut self, open: Open) {
        let place = self.free.pop();
        self.open.insert(open.inode, (open, place));
        self.write(open.inode);
        if place.is_none() && !self.overflowed {
            self.overflowed = self.file.write_all_at(&1u32.to_ne_bytes(), 4).is_ok();
        }
    }

    /// A file is closed once; its backing file, if that was the last time.
    pub fn close(&mut self, inode: u64) -> Option<u32> {
        let (open, _) = self.open.get_mut(&inode)?;
        open.count -= 1;
        let left = *open;
        self.write(inode);
        if left.count > 0 {
            return None;
        }
        self.free.extend(self.open.remove(&inode).and_then(|(_, place)| place));
        Some(left.backing)
    }

    fn write(&self, inode: u64) {
        if let Some((open, Some(place))) = self.open.get(&inode) {
            let mut line = [0; LINE];
            line[..8].copy_from_slice(&open.inode.to_ne_bytes());
            line[8..12].copy_from_slice(&open.backing.to_ne_bytes());
            line[12..].copy_from_slice(&open.count.to_ne_bytes());
            // The room is there. A disk that fails altogether takes the cache with it.
            let _ = self.file.write_all_at(&line, (LINE * (place + 1)) as u64);
        }
    }
}
