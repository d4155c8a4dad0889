//! Numbers and times as headers and records spell them.
//!
//! Invariant: what is given out was said in full; a text that goes on in another way is no number.

use crate::scan::Time;

/// A number field: octal between blanks and NULs, or with the first bit set two's complement of base 256. Empty is 0.
/// `None` when it is neither, or beyond 63 bits.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    if let Some(&first) = bytes.first().filter(|&&first| first & 0x80 != 0) {
        let sign = if first & 0x40 != 0 { i128::from(first) - 0x100 } else { i128::from(first & 0x7f) };
        let number = bytes[1..].iter().try_fold(sign, |number, &byte| {
            number.checked_mul(256).and_then(|number| number.checked_add(i128::from(byte)))
        })?;
        return i64::try_from(number).ok();
    }
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(|byte| !matches!(byte, b'0'..=b'7')).unwrap_or(digits.len());
    let ended = digits.get(end).is_none_or(|byte| matches!(byte, b' ' | 0));
    // Twelve digits of three bits are the most there can be.
    ended.then(|| digits[..end].iter().fold(0, |number, digit| number << 3 | i64::from(digit - b'0')))
}

/// Decimal digits and nothing else; `None` from 2^63 on.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digit = |&byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let number = text.iter().try_fold(0u64, |number, byte| number.checked_mul(10)?.checked_add(digit(byte)?))?;
    (!text.is_empty() && i64::try_from(number).is_ok()).then_some(number)
}

/// Seconds since 1970, negative or not, with a fraction or without. What is finer than a nanosecond is cut towards the past.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|&byte| byte == b'.');
    let sec = decimal(&text[..point.unwrap_or(text.len())])? as i64;
    let fraction = point.map_or(&[][..], |point| &text[point + 1..]);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let nsec = (0..9).fold(0, |nsec, at| nsec * 10 + digit(at));
    if !negative {
        return Some(Time { sec, nsec });
    }
    let finer = fraction.iter().skip(9).any(|&digit| digit != b'0');
    match nsec + u32::from(finer) {
        0 => Some(Time { sec: -sec, nsec: 0 }),
        1_000_000_000 => Some(Time { sec: (-sec).checked_sub(1)?, nsec: 0 }),
        nsec => Some(Time { sec: (-sec).checked_sub(1)?, nsec: 1_000_000_000 - nsec }),
    }
}
