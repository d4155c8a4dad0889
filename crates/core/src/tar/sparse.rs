//! Sparse files: where the bytes that a stream has belong in the file.
//!
//! Invariant: the runs of a `Layout` are in order, do not overlap, lie inside the file, and have together as many bytes as
//! the stream has.

use super::number;

/// The most runs of data, and so of holes, that are read.
pub const MAX_RUNS: usize = 1_000_000;

/// What is said of a file's runs, as it is collected.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    pairs: Vec<(u64, u64)>,
}

/// Where a file has data; the rest are holes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub size: u64,
    /// `(offset, length)`, none empty.
    pub data: Vec<(u64, u64)>,
}

impl Runs {
    pub fn push(&mut self, offset: u64, length: u64) -> Result<(), &'static str> {
        if self.pairs.len() == MAX_RUNS {
            return Err("it has more than 1,000,000 holes");
        }
        self.pairs.push((offset, length));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The text of GNU's format 0.1: numbers with commas between.
    pub fn from_text(text: &[u8]) -> Result<Runs, &'static str> {
        let mut numbers = text.split(|&byte| byte == b',');
        let mut runs = Runs::default();
        while let Some(offset) = numbers.next() {
            let length = numbers.next().ok_or("its map of holes has an odd end")?;
            let pair = number::decimal(offset).zip(number::decimal(length));
            let (offset, length) = pair.ok_or("its map of holes has what is no number")?;
            runs.push(offset, length)?;
        }
        Ok(runs)
    }

    /// One slot of an old map, of 12 bytes each; false when it is empty and so the last.
    pub fn slot(&mut self, slot: &[u8]) -> Result<bool, &'static str> {
        let (offset, length) = slot.split_at(12);
        if length[0] == 0 {
            return Ok(false);
        }
        let number = |bytes| number::field(bytes).and_then(|number| u64::try_from(number).ok());
        let pair = number(offset).zip(number(length));
        let (offset, length) = pair.ok_or("its map of holes has what is no number")?;
        self.push(offset, length)?;
        Ok(true)
    }

    /// Hold what was said against itself: `size` of the file, `stored` bytes in the stream.
    pub fn layout(self, size: u64, stored: u64) -> Result<Layout, &'static str> {
        let (mut end, mut sum) = (0u64, 0u64);
        for &(offset, length) in &self.pairs {
            let after = offset.checked_add(length).filter(|&after| offset >= end && after <= size);
            end = after.ok_or("its map of holes contradicts itself")?;
            sum += length;
        }
        if sum != stored {
            return Err("its map of holes tells of another number of bytes than there are");
        }
        let mut data = self.pairs;
        data.retain(|run| run.1 > 0);
        Ok(Layout { size, data })
    }
}

impl Layout {
    /// Of a file without holes.
    pub fn plain(size: u64) -> Layout {
        Layout { size, data: if size == 0 { Vec::new() } else { vec![(0, size)] } }
    }

    pub fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut end = 0;
        for &(offset, length) in self.data.iter().chain(&[(self.size, 0)]) {
            if offset > end {
                holes.push((end, offset - end));
            }
            end = offset + length;
        }
        holes
    }
}
