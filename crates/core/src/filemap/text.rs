//! The spellings of byte strings, times and pairs in JSON.
//!
//! Invariant: each byte string has exactly one spelling and is read back exactly (docs/format.md, first section).

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::scan::Time;

/// What `each` makes of the names and values of an object, in the order of its text, repeated ones too.
pub fn object<'de, D: Deserializer<'de>, K: Deserialize<'de>, V: Deserialize<'de>, T>(
    deserializer: D,
    each: impl Fn((K, V)) -> Result<T, &'static str>,
) -> Result<Vec<T>, D::Error> {
    struct Pairs<F, K, V>(F, PhantomData<(K, V)>);
    impl<'de, F, K, V, T> Visitor<'de> for Pairs<F, K, V>
    where
        F: Fn((K, V)) -> Result<T, &'static str>,
        K: Deserialize<'de>,
        V: Deserialize<'de>,
    {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<T>, A::Error> {
            let mut out = Vec::new();
            while let Some(pair) = map.next_entry()? {
                out.push((self.0)(pair).map_err(A::Error::custom)?);
            }
            Ok(out)
        }
    }
    deserializer.deserialize_map(Pairs(each, PhantomData))
}

/// A JSON string: UTF-8 as it is, other bytes `0xNN` as the escape `\udcNN`.
pub fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for run in bytes.utf8_chunks() {
        for &b in run.valid().as_bytes() {
            match b {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                0..0x20 => {
                    out.extend_from_slice(b"\\u00");
                    out.extend([HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
                }
                _ => out.push(b),
            }
        }
        for &b in run.invalid() {
            out.extend_from_slice(b"\\udc");
            out.extend([HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
    out.push(b'"');
}

/// The bytes of a JSON string that serde_json read as bytes: lone surrogates come as three bytes `ED B2|B3 xx`.
/// `None` when a lone surrogate is not one of ours, or spells a byte that needed no escape.
pub fn unescape(bytes: Vec<u8>) -> Option<Vec<u8>> {
    if std::str::from_utf8(&bytes).is_ok() {
        return Some(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while let Some(&b) = rest.first() {
        match rest {
            [0xed, hi @ 0xb2..=0xb3, lo @ 0x80..=0xbf, tail @ ..] => {
                out.push((hi & 3) << 6 | (lo & 0x3f));
                rest = tail;
            }
            [0xed, 0xa0..=0xbf, ..] => return None,
            _ => {
                out.push(b);
                rest = &rest[1..];
            }
        }
    }
    // Each byte that needs an escape has one, and no other byte has.
    let escaped = bytes.windows(2).filter(|w| w[0] == 0xed && w[1] >= 0xb2).count();
    let needed: usize = out.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (escaped == needed).then_some(out)
}

/// RFC 3339 in UTC with the fractional digits that are needed; years outside 0000 to 9999 are clamped.
pub fn push_time(out: &mut Vec<u8>, time: Time) {
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let (sec, nsec) = match time.sec {
        s if s < FIRST => (FIRST, 0),
        s if s > LAST => (LAST, 999_999_999),
        s => (s, time.nsec),
    };
    let (days, rest) = (sec.div_euclid(86_400), sec.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    out.extend_from_slice(
        format!("\"{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60).as_bytes(),
    );
    if nsec > 0 {
        let fraction = format!(".{nsec:09}");
        out.extend_from_slice(fraction.trim_end_matches('0').as_bytes());
    }
    out.extend_from_slice(b"Z\"");
}

/// The time of a text as `push_time` writes it; `None` for any other.
pub fn parse_time(text: &str) -> Option<Time> {
    let body = text.strip_suffix('Z')?;
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let w = whole.as_bytes();
    if w.len() != 19 || [w[4], w[7], w[10], w[13], w[16]] != *b"--T::" || (body.len() > 19 && fraction.is_empty()) {
        return None;
    }
    let number =
        |text: &str| text.bytes().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')));
    let part = |range: std::ops::Range<usize>| number(whole.get(range)?);
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.len() > 9 {
        return None;
    }
    let nsec = number(fraction)? * 10i64.pow(9 - fraction.len() as u32);
    let sec = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Time { sec, nsec: nsec as u32 })
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year_of_era = y.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of `days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let d = z.rem_euclid(146_097);
    let y = (d - d / 1460 + d / 36_524 - d / 146_096) / 365;
    let day_of_year = d - (365 * y + y / 4 - y / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (y + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * m + 2) / 5 + 1)
}
