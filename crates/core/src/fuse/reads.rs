//! Which files were read.

use std::collections::HashMap;

/// Memory: a bit for each file of the stretches of 64 inodes of which one was read.
#[derive(Debug, Default)]
pub struct Reads {
    /// Inode / 64 -> the inodes of that stretch, a bit each.
    stretches: HashMap<u64, u64>,
    pub files: u64,
    pub bytes: u64,
}

impl Reads {
    /// The file at `inode`, of `size` bytes, is read; whether that is for the first time.
    pub fn note(&mut self, inode: u64, size: u64) -> bool {
        let stretch = self.stretches.entry(inode / 64).or_default();
        let bit = 1 << (inode % 64);
        let is_first = *stretch & bit == 0;
        if is_first {
            *stretch |= bit;
            self.files += 1;
            self.bytes += size;
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_counts_once() {
        let mut reads = Reads::default();
        let inodes = [1, 63, 64, 1 + (7 << 20), u64::MAX];
        for (number, inode) in inodes.into_iter().enumerate() {
            assert!(reads.note(inode, 10));
            assert_eq!((reads.files, reads.bytes), (number as u64 + 1, 10 * (number as u64 + 1)));
        }
        assert!(inodes.into_iter().all(|inode| !reads.note(inode, 10)));
        assert_eq!((reads.files, reads.bytes), (5, 50));
    }
}
