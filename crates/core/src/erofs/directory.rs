//! Lines of directories, packed into blocks.

use super::layout::BLOCK;

/// Bytes of a line without its name: inode, where the name begins, type.
const LINE: usize = 12;

/// A directory's lines as they are packed: where each block begins among them, and bytes of the last block.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Indexes of the lines that begin blocks; the first is 0.
    pub starts: Vec<u32>,
    /// Bytes of the last block.
    pub tail: usize,
}

impl Packed {
    /// Of lines with names of these lengths.
    pub fn of(lengths: impl Iterator<Item = usize>) -> Packed {
        let mut packed = Packed { starts: vec![0], tail: 0 };
        for (index, length) in lengths.enumerate() {
            if packed.tail + LINE + length > BLOCK {
                packed.starts.push(index as u32);
                packed.tail = 0;
            }
            packed.tail += LINE + length;
        }
        packed
    }

    /// Bytes of the directory: whole blocks and the last.
    pub fn size(&self) -> u64 {
        ((self.starts.len() - 1) * BLOCK + self.tail) as u64
    }
}

/// One line: a name, the number of its inode and `FT_*`.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub name: &'a [u8],
    pub node: u64,
    pub kind: u8,
}

/// The bytes of one block of lines, as long as they are.
pub fn block(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK);
    let mut name_at = lines.len() * LINE;
    for line in lines {
        out.extend(line.node.to_le_bytes());
        out.extend((name_at as u16).to_le_bytes());
        out.extend([line.kind, 0]);
        name_at += line.name.len();
    }
    out.extend(lines.iter().flat_map(|line| line.name));
    out
}
