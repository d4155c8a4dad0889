//! How much memory the entries of an archive may take.
//!
//! Invariant: it follows the bytes that came, not what they decompress to: a thousand million entries in a few MiB are refused
//! before they are kept.

/// What any archive may need, as `Room` counts: about 1,500,000 entries.
pub const LEAST_ROOM: u64 = 512 << 20;
/// What an archive may need for each of its compressed bytes. A file's digest alone takes 32 of them.
pub const ROOM_A_BYTE: u64 = 32;

/// What is left of it.
#[derive(Debug)]
pub struct Room {
    total: u64,
    left: u64,
}

impl Room {
    /// For entries that came out of so many compressed bytes.
    pub fn of(compressed: u64) -> Room {
        let total = compressed.saturating_mul(ROOM_A_BYTE).max(LEAST_ROOM);
        Room { total, left: total }
    }

    /// About what attributes take of it.
    pub fn of_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> usize {
        xattrs.iter().map(|(name, value)| 96 + name.len() + value.len()).sum()
    }

    /// Now it is so many compressed bytes in all.
    pub fn widen(&mut self, compressed: u64) {
        let total = Room::of(compressed).total.max(self.total);
        self.left += total - self.total;
        self.total = total;
    }

    /// Take so many bytes of it; false when there are not as many.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}
