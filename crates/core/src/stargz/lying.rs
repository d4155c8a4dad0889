//! Where the chunks of one large file lie, until its end is known and its digest with it: its first entry says that.
//!
//! Invariant: in memory up to a spool's bound; a file of millions of chunks goes through a temporary file.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::spool::Spool;
use crate::error::{Error, Result};

/// A chunk of a file that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Lying {
    pub size: u64,
    pub digest: [u8; 32],
    pub offset: u64,
    pub inner: u64,
    pub end: u64,
}

pub struct Rows {
    spool: Spool,
    count: u64,
    end: u64,
    directory: PathBuf,
}

impl Rows {
    /// `directory` is where they go when they are many.
    pub fn new(directory: &Path) -> Rows {
        Rows { spool: Spool::new(directory), count: 0, end: 0, directory: directory.to_owned() }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Where the last chunk ends in the archive.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// # Errors
    /// `Io`.
    pub fn push(&mut self, row: &Lying) -> Result<()> {
        (self.count, self.end) = (self.count + 1, row.end);
        let written = self.spool.write_all(bytemuck::bytes_of(row));
        written.map_err(Error::io("write a temporary file in", &self.directory))
    }

    /// Give all of them to `sink`, in order.
    ///
    /// # Errors
    /// `Io`, or what the sink returns.
    pub fn each(&mut self, mut sink: impl FnMut(&Lying) -> Result<()>) -> Result<()> {
        let io = || Error::io("read a temporary file in", &self.directory);
        let mut rows = BufReader::with_capacity(64 << 10, self.spool.read().map_err(io())?);
        let mut row = [0; size_of::<Lying>()];
        for _ in 0..self.count {
            rows.read_exact(&mut row).map_err(io())?;
            sink(&bytemuck::pod_read_unaligned(&row))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_than_are_kept_in_memory_come_back_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let row = |n: u64| Lying { size: n, digest: [n as u8; 32], offset: 2 * n, inner: 3 * n, end: 4 * n };
        // 19 MB.
        let count = 300_000;
        let mut rows = Rows::new(directory.path());
        (0..count).try_for_each(|n| rows.push(&row(n))).unwrap();
        assert_eq!((rows.count(), rows.end()), (count, 4 * (count - 1)));
        let mut next = 0;
        rows.each(|got| {
            assert_eq!(*got, row(next));
            next += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(next, count);
    }
}
