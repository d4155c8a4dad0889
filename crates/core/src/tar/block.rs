//! A header block: its fields, its numbers and its checksum.
//!
//! Invariant: what cannot be said in a field is not said half: the field is 0 then, and a pax record says it.

use std::ops::Range;

/// Headers are of this size, and contents are padded to it.
pub const BLOCK: usize = 512;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const SUM: Range<usize> = 148..156;
pub(super) const FLAG: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;

/// The least number that seven octal digits, as in the fields of owners, cannot say.
pub(super) const SEVEN: u64 = 1 << 21;
/// The least that eleven digits, as in the fields of size and time, cannot say.
pub(super) const ELEVEN: u64 = 1 << 33;

/// What goes into a ustar header. Names longer than 100 bytes are cut, numbers that are too large left 0.
#[derive(Default)]
pub struct Fields<'a> {
    pub name: &'a [u8],
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    /// Whole seconds.
    pub mtime: u64,
    pub flag: u8,
    pub link: &'a [u8],
    /// Major and minor number of a device; of other things the fields stay empty.
    pub device: Option<(u32, u32)>,
}

/// A ustar header without names of users and groups.
pub fn block(fields: &Fields<'_>) -> [u8; BLOCK] {
    let mut out = [0u8; BLOCK];
    let name = &fields.name[..fields.name.len().min(NAME.len())];
    out[..name.len()].copy_from_slice(name);
    octal(&mut out[MODE], u64::from(fields.mode));
    octal(&mut out[UID], fields.uid);
    octal(&mut out[GID], fields.gid);
    octal(&mut out[SIZE], fields.size);
    octal(&mut out[MTIME], fields.mtime);
    out[FLAG] = fields.flag;
    let link = &fields.link[..fields.link.len().min(LINK.len())];
    out[LINK.start..LINK.start + link.len()].copy_from_slice(link);
    out[MAGIC].copy_from_slice(b"ustar\x0000");
    if let Some((major, minor)) = fields.device {
        octal(&mut out[MAJOR], u64::from(major));
        octal(&mut out[MINOR], u64::from(minor));
    }
    let sum = sums(&out).0;
    octal(&mut out[SUM.start..SUM.end - 1], u64::from(sum));
    out[SUM.end - 1] = b' ';
    out
}

/// Octal digits that fill the field but for a NUL at its end.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let mut rest = if number >> (3 * digits) == 0 { number } else { 0 };
    for at in (0..digits).rev() {
        field[at] = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    field[digits] = 0;
}

/// The sum of a header's bytes with that of its own field read as blanks: of the bytes as unsigned numbers, which is right, and
/// as signed ones, which some old programs took.
pub(super) fn sums(block: &[u8; BLOCK]) -> (u32, i32) {
    // Runs that the processor sums many bytes at a time.
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let high = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte >> 7)).sum::<u32>();
    let blanks = SUM.len() as u32 * u32::from(b' ');
    let unsigned = blanks + sum(block) - sum(&block[SUM]);
    // Each byte from 0x80 on counts 256 less.
    let high = (high(block) - high(&block[SUM])) as i32;
    (unsigned, unsigned as i32 - 256 * high)
}
