//! The strings of a TOC, and what they mean.
//!
//! Invariant: a key or value means here what it means to Go's readers, or is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Visitor};

use super::entry::Kind;
use crate::digest::parse_hex;
use crate::filemap::{object, parse_time, unescape};
use crate::scan::Time;

/// Implements `Deserialize` for what is made of a string's bytes.
macro_rules! of_bytes {
    ($name:ident, $make:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<$name, D::Error> {
                struct Raw;
                impl Visitor<'_> for Raw {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> std::result::Result<$name, E> {
                        $make(bytes).map_err(E::custom)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<$name, E> {
                        $make(text.as_bytes()).map_err(E::custom)
                    }
                }
                deserializer.deserialize_bytes(Raw)
            }
        }
    };
}

/// A string of any bytes.
#[derive(Default)]
pub struct Bytes(pub Vec<u8>);
of_bytes!(Bytes, |bytes: &[u8]| {
    unescape(bytes.to_vec()).map(Bytes).ok_or("a string that is neither text nor bytes in escapes")
});

/// `sha256:<hex>`; of what else proves nothing here, `None`.
pub struct Sha(pub Option<[u8; 32]>);
of_bytes!(Sha, |bytes: &[u8]| {
    match bytes.strip_prefix(b"sha256:") {
        Some(hex) => std::str::from_utf8(hex).ok().and_then(parse_hex).map(|sha| Sha(Some(sha))).ok_or("a digest cut"),
        None => Ok(Sha(None)),
    }
});

/// The word for a type; `None` for one that is not known.
pub struct What(pub Option<Kind>);
of_bytes!(What, |bytes: &[u8]| {
    let found = Kind::ALL.iter().find(|(_, word)| word.as_bytes() == bytes);
    Ok::<_, &str>(What(found.map(|&(kind, _)| kind)))
});

pub struct Key(pub Field);
of_bytes!(Key, |bytes: &[u8]| Ok::<_, &str>(Key(Field::of(bytes))));

/// The fields of a TOC and of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Name,
    Kind,
    Size,
    ModTime,
    LinkName,
    Mode,
    Uid,
    Gid,
    Offset,
    InnerOffset,
    EndOffset,
    DevMajor,
    DevMinor,
    Xattrs,
    Digest,
    ChunkOffset,
    ChunkSize,
    ChunkDigest,
    ChunkType,
    Holes,
    Version,
    Entries,
    TarSplitDigest,
    Other,
}

impl Field {
    const ALL: [(&[u8], Field); 23] = [
        (b"name", Field::Name),
        (b"type", Field::Kind),
        (b"size", Field::Size),
        (b"modtime", Field::ModTime),
        (b"linkName", Field::LinkName),
        (b"mode", Field::Mode),
        (b"uid", Field::Uid),
        (b"gid", Field::Gid),
        (b"offset", Field::Offset),
        (b"innerOffset", Field::InnerOffset),
        (b"endOffset", Field::EndOffset),
        (b"devMajor", Field::DevMajor),
        (b"devMinor", Field::DevMinor),
        (b"xattrs", Field::Xattrs),
        (b"digest", Field::Digest),
        (b"chunkOffset", Field::ChunkOffset),
        (b"chunkSize", Field::ChunkSize),
        (b"chunkDigest", Field::ChunkDigest),
        (b"chunkType", Field::ChunkType),
        (b"holes", Field::Holes),
        (b"version", Field::Version),
        (b"entries", Field::Entries),
        (b"tarSplitDigest", Field::TarSplitDigest),
    ];

    /// The field that a key means to Go: letters count without case, and two more fold to `s` and `k`.
    fn of(key: &[u8]) -> Field {
        let find = |same: &dyn Fn(&[u8]) -> bool| {
            Field::ALL.iter().find(|(name, _)| same(name)).map_or(Field::Other, |&(_, field)| field)
        };
        if let Some(&(_, field)) = Field::ALL.iter().find(|(name, _)| *name == key) {
            return field;
        }
        if key.is_ascii() {
            return find(&|name| name.eq_ignore_ascii_case(key));
        }
        let folded = String::from_utf8_lossy(key).replace('\u{17f}', "s").replace('\u{212a}', "k");
        find(&|name| name.eq_ignore_ascii_case(folded.as_bytes()))
    }
}

/// A time of RFC 3339; `None` where it is none, as for Go's readers.
pub struct When(pub Option<Time>);
of_bytes!(When, |bytes: &[u8]| Ok::<_, &str>(When(std::str::from_utf8(bytes).ok().and_then(time))));

/// Also of other time zones.
fn time(text: &str) -> Option<Time> {
    if text.ends_with('Z') {
        return parse_time(text);
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let seconds = i64::from(number(hours)?) * 3600 + i64::from(number(minutes)?) * 60;
    let mut time = parse_time(&format!("{local}Z"))?;
    match zone.as_bytes()[0] {
        b'+' => time.sec -= seconds,
        b'-' => time.sec += seconds,
        _ => return None,
    }
    Some(time)
}

/// Attributes in the order of the text.
pub struct Xattrs(pub Vec<(Vec<u8>, Vec<u8>)>);

impl<'de> Deserialize<'de> for Xattrs {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Xattrs, D::Error> {
        let each = |(name, value): (Bytes, Option<Bytes>)| {
            let mut value = value.unwrap_or_default().0;
            value.retain(|b| !matches!(b, b'\n' | b'\r'));
            STANDARD.decode(value).map(|value| (name.0, value)).map_err(|_| "an attribute that is no base64")
        };
        object(deserializer, each).map(Xattrs)
    }
}
