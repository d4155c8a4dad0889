//! Reading the map of a sparse file, which may go on behind the header.

use std::io::Read;

use super::block::BLOCK;
use super::entry::Said;
use super::read::Reader;
use super::sparse::Layout;
use crate::error::Result;

/// Where the content of the entry that a reader is at belongs: `stored` bytes, of which format 1.0 takes some for the map.
///
/// # Errors
/// `Damaged` when the map contradicts itself or the content.
pub(super) fn layout_of<R: Read>(
    reader: &mut Reader<R>,
    block: &[u8; BLOCK],
    said: &mut Said,
    stored: u64,
) -> Result<Layout> {
    if let Some((mut runs, size, mut more)) = said.old_sparse(block).map_err(|e| reader.damaged(e))? {
        while more {
            let extension = reader.needed_block()?;
            for slot in extension[..504].chunks_exact(24) {
                if !runs.slot(slot).map_err(|e| reader.damaged(e))? {
                    break;
                }
            }
            more = extension[504] != 0;
        }
        return runs.layout(size, stored).map_err(|e| reader.damaged(e));
    }
    let Some((mut runs, size, in_content)) = said.sparse().map_err(|e| reader.damaged(e))? else {
        return Ok(Layout::plain(stored));
    };
    if in_content {
        let begin = reader.position();
        let mut text = MapText { block: [0; BLOCK], at: BLOCK, left: stored };
        let count = text.number(reader)?;
        for _ in 0..count {
            let (offset, length) = (text.number(reader)?, text.number(reader)?);
            runs.push(offset, length).map_err(|e| reader.damaged(e))?;
        }
        said.map_bytes = reader.position() - begin;
    }
    runs.layout(size, stored - said.map_bytes).map_err(|e| reader.damaged(e))
}

/// The map of GNU's format 1.0: numbers, a line each, in whole blocks before the content.
struct MapText {
    block: [u8; BLOCK],
    at: usize,
    /// Bytes of the map and the content together.
    left: u64,
}

impl MapText {
    fn number<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<u64> {
        let mut number = Some(0u64);
        let mut digits = 0;
        loop {
            if self.at == BLOCK {
                if self.left < BLOCK as u64 {
                    return Err(reader.damaged("its map of holes has no end"));
                }
                self.block = reader.needed_block()?;
                (self.at, self.left) = (0, self.left - BLOCK as u64);
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'0'..=b'9' if digits < 20 => {
                    digits += 1;
                    number = number.and_then(|n| n.checked_mul(10)?.checked_add(u64::from(byte - b'0')));
                }
                b'\n' if digits > 0 => break,
                _ => return Err(reader.damaged("its map of holes has what is no number")),
            }
        }
        let number = number.filter(|&number| i64::try_from(number).is_ok());
        number.ok_or_else(|| reader.damaged("its map of holes has what is no number"))
    }
}
