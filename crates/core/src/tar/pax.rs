//! Pax records: `LENGTH KEY=VALUE\n`, where the length counts itself.

use crate::scan::Time;

/// Before the name of an extended attribute.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

pub(super) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A blank, an equals sign and a newline.
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Decimal seconds with the fractional digits that are needed: of half a second before the epoch `-0.5`.
pub(super) fn spell_time(time: Time) -> String {
    let (sign, sec, nsec) = match time {
        Time { sec, nsec: 0 } if sec < 0 => ("-", sec.unsigned_abs(), 0),
        Time { sec, nsec } if sec < 0 => ("-", (sec + 1).unsigned_abs(), 1_000_000_000 - nsec),
        Time { sec, nsec } => ("", sec as u64, nsec),
    };
    let fraction = if nsec == 0 { String::new() } else { format!(".{nsec:09}") };
    format!("{sign}{sec}{}", fraction.trim_end_matches('0'))
}

/// The name of an attribute as GNU tar writes it into a key, where `=` would end the key.
pub(super) fn spell_xattr(name: &[u8]) -> Vec<u8> {
    let mut out = XATTR.to_vec();
    for &byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            _ => out.push(byte),
        }
    }
    out
}
