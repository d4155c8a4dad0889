//! Where each inode and each block lies: decided from sizes alone, before anything is written.

pub const BLOCK: usize = 4096;
/// An inode's number is where it lies, in these.
pub const SLOT: u64 = 32;
/// Behind the superblock.
pub const FIRST: u64 = 1024 + 128;
pub const INODE: usize = 64;

/// What an inode takes: its attributes, and the last piece of its data, which would rather lie beside it.
pub struct Sizes {
    pub attributes: usize,
    /// What stands between attributes and data, aligned by itself: the places of chunks.
    pub chunks: usize,
    /// Blocks of data that are full.
    pub blocks: u32,
    /// Bytes behind them.
    pub tail: usize,
}

/// Where an inode lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// In bytes; 0 of a hard link, which has no inode of its own.
    pub offset: u64,
    /// Blocks of data begin at this one, counted from the first block of data; only of who has any.
    pub block: u32,
    /// Whether the tail lies in the inode's block.
    pub inline: bool,
}

impl Place {
    pub fn node(&self) -> u64 {
        self.offset / SLOT
    }
}

/// Gives out places in the order in which it is asked.
#[derive(Debug)]
pub struct Layout {
    /// Behind the last inode.
    end: u64,
    /// How many blocks of data.
    blocks: u32,
}

impl Layout {
    pub fn new() -> Layout {
        Layout { end: FIRST, blocks: 0 }
    }

    pub fn place(&mut self, sizes: &Sizes) -> Place {
        let body = INODE + sizes.attributes;
        let inline = sizes.tail > 0 && body + sizes.tail <= BLOCK;
        let mut offset = self.end.next_multiple_of(SLOT);
        // Kernels differ in what they take of a tail that lies in another block than its inode.
        if inline && offset as usize % BLOCK + body + sizes.tail > BLOCK {
            offset = offset.next_multiple_of(BLOCK as u64);
        }
        self.end = offset + body as u64 + if inline { sizes.tail as u64 } else { sizes.chunks as u64 };
        let block = self.blocks;
        self.blocks += sizes.blocks + u32::from(sizes.tail > 0 && !inline);
        Place { offset, block, inline }
    }

    /// The first block of data, and how many blocks the image has.
    pub fn ends(&self) -> (u32, u32) {
        let first = self.end.div_ceil(BLOCK as u64) as u32;
        (first, first + self.blocks)
    }
}
