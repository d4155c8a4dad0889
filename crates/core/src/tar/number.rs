//! Numbers and times as headers and records spell them.
//!
//! Invariant: what is given out was said in full; a text that goes on in another way is no number.

use std::borrow::Cow;

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

/// Seconds since 1970, negative or not, with a fraction or without, with an exponent or without, as Python has it near 1970.
/// What is finer than a nanosecond is cut towards the past.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let text = &without_exponent(text)?[..];
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

/// `1.5e-09` as `0.0000000015`; `None` of an exponent that no time has.
fn without_exponent(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(end) = text.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e')) else { return Some(text.into()) };
    text.first().filter(|byte| byte.is_ascii_digit())?;
    let exponent: i8 = std::str::from_utf8(&text[end + 1..]).ok()?.parse().ok()?;
    let mut digits = text[..end].to_vec();
    let point = digits.iter().position(|&byte| byte == b'.');
    if let Some(point) = point {
        digits.remove(point);
    }
    let point = isize::try_from(point.unwrap_or(digits.len())).ok()? + isize::from(exponent);
    let before = point.max(0) as usize;
    if point < 0 {
        digits.splice(..0, std::iter::repeat_n(b'0', point.unsigned_abs()));
    }
    let plain = digits.iter().copied().chain(std::iter::repeat(b'0'));
    let whole = std::iter::once(b'0').chain(plain.take(before)).chain(std::iter::once(b'.'));
    Some(whole.chain(digits.iter().copied().skip(before)).collect())
}
