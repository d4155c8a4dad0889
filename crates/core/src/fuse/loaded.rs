//! What of a program or a library is loaded when it runs: all but the symbols and what is for debuggers, at its end.
//!
//! Invariant: a hint, from bytes that anybody may have written: what makes no sense says nothing.
//! Source: the ELF format, as in the kernel's `include/uapi/linux/elf.h`.

use super::ahead::are_large;
use super::bounds::Bounds;
use super::server::Server;
use crate::cache::Read;
use crate::filemap::Content;

/// The headers of all that linkers make.
const HEAD: usize = 4096;
/// 64 bits, little-endian.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const PHOFF: usize = 0x20;
const PHENTSIZE: usize = 0x36;
const PHNUM: usize = 0x38;
const PT_LOAD: u64 = 1;

impl Server {
    /// How many chunks of a large file, from its first, are loaded, if its head is here and says that these are not large.
    pub(super) fn loaded(&self, content: &Content) -> Option<usize> {
        let mut head = vec![0; HEAD];
        let Read::Hit(length) = self.cache.read_at(content, 0, &mut head) else { return None };
        let chunks = Bounds::of(content).under(0, loaded_end(head.get(..length)?)?).end;
        (!are_large(&content.chunks[..chunks])).then_some(chunks)
    }
}

/// Where the last segment that is loaded ends in its file.
fn loaded_end(head: &[u8]) -> Option<u64> {
    if !head.starts_with(MAGIC) {
        return None;
    }
    let begin = usize::try_from(number(head, PHOFF, 8)?).ok()?;
    let (size, count) = (number(head, PHENTSIZE, 2)? as usize, number(head, PHNUM, 2)? as usize);
    let headers = (0..count).map_while(|index| head.get(begin.checked_add(index * size)?..));
    let loaded = headers.filter(|header| number(header, 0, 4) == Some(PT_LOAD));
    loaded.filter_map(|header| number(header, 8, 8)?.checked_add(number(header, 0x20, 8)?)).max()
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(segments: &[(u32, u64, u64)]) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[PHOFF] = 64;
        head[PHENTSIZE] = 56;
        head[PHNUM] = segments.len() as u8;
        for (kind, offset, size) in segments {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&offset.to_le_bytes());
            header[32..40].copy_from_slice(&size.to_le_bytes());
            head.extend(header);
        }
        head
    }

    #[test]
    fn what_is_loaded_ends_with_the_last_segment_that_is() {
        assert_eq!(loaded_end(&elf(&[(1, 0, 100), (1, 4096, 5000), (6, 1 << 30, 9)])), Some(9096));
        assert_eq!(loaded_end(&elf(&[(4, 0, 100)])), None);
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        assert_eq!(loaded_end(b"#!/bin/sh\n"), None);
        assert_eq!(loaded_end(&elf(&[(1, u64::MAX, 1)])), None);
        let whole = elf(&[(1, 0, 100)]);
        for length in 0..whole.len() - 16 {
            assert_eq!(loaded_end(&whole[..length]), None, "{length}");
        }
        let mut far = whole;
        far[PHOFF..PHOFF + 8].fill(0xff);
        assert_eq!(loaded_end(&far), None);
    }
}
