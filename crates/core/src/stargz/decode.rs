//! A TOC's entries out of its text, one by one as it comes. Bytes: docs/archive.md, "TOC" and "Reading".
//!
//! Invariant: memory follows the one entry that is looked at, never what the text says; keys are told apart as Go does it
//! (case folded, the last of several counts), and what Go would crash on is an error that names the entry.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use super::entry::{Kind, TocEntry};
use super::text::Text;
use crate::digest::parse_hex;
use crate::error::{Error, Result, show};
use crate::filemap::{parse_time, unescape};
use crate::scan::Time;
use crate::tar;

/// The entries of a TOC, in its order; ends after the first error.
pub struct Entries<R> {
    text: Text<R>,
    place: Place,
    count: u64,
    tar_split: Option<[u8; 32]>,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Start,
    Before,
    Inside,
    Behind,
    End,
}

fn damaged(found: impl Into<String>) -> Error {
    Error::damaged("TOC", found)
}

impl<R: Read> Entries<R> {
    pub fn new(text: R) -> Entries<R> {
        Entries { text: Text::new(text), place: Place::Start, count: 0, tar_split: None }
    }

    /// What the text says outside of its entries, once they have been read: the SHA-256 of the tar-split data.
    pub fn tar_split(&self) -> Option<[u8; 32]> {
        self.tar_split
    }

    /// Read on to the end of the text, whatever stands there, and give back where it came from.
    ///
    /// # Errors
    /// `Damaged` when it cannot be read.
    pub fn finish(mut self) -> Result<R> {
        self.text.drain()?;
        Ok(self.text.into_inner())
    }

    fn step(&mut self) -> Result<Option<TocEntry>> {
        if self.place == Place::Start {
            if !self.text.take(b'{')? {
                return Err(damaged("it is no object"));
            }
            self.place = Place::Before;
            if self.text.take(b'}')? {
                self.place = Place::End;
            }
        }
        while matches!(self.place, Place::Before | Place::Behind) {
            self.field()?;
        }
        if self.place == Place::End {
            return Ok(None);
        }
        let text = self.text.value()?;
        let number = self.count;
        let entry = entry(text).map_err(|found| damaged(format!("entry {number}: {found}")))?;
        self.count += 1;
        if self.text.take(b']')? {
            self.after_value(Place::Behind)?;
        } else if !self.text.take(b',')? {
            return Err(damaged(format!("something between the entries {number} and {}", self.count)));
        }
        Ok(Some(entry))
    }

    /// One field of the whole.
    fn field(&mut self) -> Result<()> {
        let key = self.text.value()?;
        let key: Word = serde_json::from_slice(key).map_err(|e| damaged(said(&e)))?;
        if !self.text.take(b':')? {
            return Err(damaged("a field without value"));
        }
        match &key.0[..] {
            b"entries" if self.place == Place::Behind => return Err(damaged("it lists its entries twice")),
            b"entries" if self.text.take(b'[')? => {
                if !self.text.take(b']')? {
                    self.place = Place::Inside;
                    return Ok(());
                }
            }
            b"version" => {
                let version: Option<i64> = serde_json::from_slice(self.text.value()?).map_err(|e| damaged(said(&e)))?;
                if let Some(version) = version.and_then(|version| u64::try_from(version).ok()).filter(|&v| v > 1) {
                    return Err(Error::NewerFormat { what: "TOC".into(), version });
                }
            }
            b"tarsplitdigest" => {
                let sha: Option<Sha> = serde_json::from_slice(self.text.value()?).map_err(|e| damaged(said(&e)))?;
                self.tar_split = sha.and_then(|sha| sha.0);
            }
            b"entries" => {
                let nothing: serde_json::Result<Option<u8>> = serde_json::from_slice(self.text.value()?);
                if !matches!(nothing, Ok(None)) {
                    return Err(damaged("its entries are no list"));
                }
            }
            _ => {
                serde_json::from_slice::<IgnoredAny>(self.text.value()?).map_err(|e| damaged(said(&e)))?;
            }
        }
        let place = if key.0 == b"entries" { Place::Behind } else { self.place };
        self.after_value(place)
    }

    fn after_value(&mut self, place: Place) -> Result<()> {
        self.place = place;
        if self.text.take(b'}')? {
            self.place = Place::End;
        } else if !self.text.take(b',')? {
            return Err(damaged("something between two fields"));
        }
        Ok(())
    }
}

impl<R: Read> Iterator for Entries<R> {
    type Item = Result<TocEntry>;

    fn next(&mut self) -> Option<Result<TocEntry>> {
        let step = self.step();
        if step.is_err() {
            self.place = Place::End;
        }
        step.transpose()
    }
}

/// What serde says, without a place in a text that nobody sees.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}

/// One entry's text.
fn entry(text: &[u8]) -> std::result::Result<TocEntry, String> {
    if text == b"null" {
        return Err("there is none".into());
    }
    let raw: Raw = serde_json::from_slice(text).map_err(|e| said(&e))?;
    let mut entry = raw.0;
    let known = raw.1.ok_or_else(|| format!("{} is of no type that is known", shown(&entry.name)))?;
    entry.kind = known;
    if known != Kind::Chunk {
        entry.name = clean(&entry.name)?;
    }
    match known {
        Kind::HardLink => entry.link = clean(&entry.link)?,
        Kind::Symlink if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > tar::MAX_NAME => {
            return Err(format!("{} links to no path", shown(&entry.name)));
        }
        _ => {}
    }
    Ok(entry)
}

fn shown(name: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    let text = show(std::path::Path::new(std::ffi::OsStr::from_bytes(&name[..name.len().min(1024)])));
    if text.is_empty() { "one without name".into() } else { text }
}

/// The path that is meant; empty for the root.
fn clean(name: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let cleaned = if name.is_empty() { Err("a name that is no path") } else { tar::clean(name) };
    cleaned.map_err(|why| format!("{}: {why}", shown(name)))
}

/// The fields of an entry, and what it is.
struct Raw(TocEntry, Option<Kind>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Raw, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Raw, A::Error> {
        let mut e = TocEntry::new(Vec::new(), Kind::Chunk);
        let mut kind = None;
        while let Some(Word(key)) = map.next_key::<Word>()? {
            match &key[..] {
                b"name" => set(&mut e.name, map.next_value::<Option<Bytes>>()?.map(|bytes| bytes.0)),
                b"type" => {
                    if let Some(word) = map.next_value::<Option<Bytes>>()? {
                        kind = Kind::ALL.iter().find(|(_, known)| known.as_bytes() == word.0).map(|&(kind, _)| kind);
                    }
                }
                b"size" => number(&mut e.size, &mut map, "size")?,
                b"modtime" => {
                    if let Some(time) = map.next_value::<Option<When>>()? {
                        e.mtime = time.0;
                    }
                }
                b"linkname" => set(&mut e.link, map.next_value::<Option<Bytes>>()?.map(|bytes| bytes.0)),
                b"mode" => set(&mut e.mode, map.next_value::<Option<i64>>()?.map(|mode| (mode & 0o7777) as u32)),
                b"uid" => number(&mut e.uid, &mut map, "uid")?,
                b"gid" => number(&mut e.gid, &mut map, "gid")?,
                b"offset" => number(&mut e.offset, &mut map, "offset")?,
                b"inneroffset" => number(&mut e.inner, &mut map, "innerOffset")?,
                b"endoffset" => number(&mut e.end_offset, &mut map, "endOffset")?,
                b"devmajor" => number(&mut e.dev_major, &mut map, "devMajor")?,
                b"devminor" => number(&mut e.dev_minor, &mut map, "devMinor")?,
                b"xattrs" => {
                    if let Some(xattrs) = map.next_value::<Option<Xattrs>>()? {
                        e.xattrs.extend(xattrs.0);
                    }
                }
                b"digest" => set(&mut e.digest, map.next_value::<Option<Sha>>()?.map(|sha| sha.0)),
                b"chunkoffset" => number(&mut e.chunk_offset, &mut map, "chunkOffset")?,
                b"chunksize" => number(&mut e.chunk_size, &mut map, "chunkSize")?,
                b"chunkdigest" => set(&mut e.chunk_digest, map.next_value::<Option<Sha>>()?.map(|sha| sha.0)),
                b"chunktype" => match map.next_value::<Option<Bytes>>()?.unwrap_or_default().0.as_slice() {
                    b"" => e.zeros = false,
                    b"zeros" => e.zeros = true,
                    _ => return Err(de::Error::custom("a chunk of a type that is not known")),
                },
                b"holes" => set(&mut e.holes, map.next_value::<Option<Vec<(u64, u64)>>>()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // Of one attribute named twice the last counts: it comes first after this.
        e.xattrs.reverse();
        e.xattrs.sort_by(|a, b| a.0.cmp(&b.0));
        e.xattrs.dedup_by(|later, kept| later.0 == kept.0);
        Ok(Raw(e, kind))
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// A number as Go's int64 holds it; null changes nothing.
fn number<'de, T: TryFrom<i64>, A: MapAccess<'de>>(
    place: &mut T,
    map: &mut A,
    name: &str,
) -> std::result::Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<i64>>()? {
        *place = T::try_from(value).map_err(|_| de::Error::custom(format_args!("{name} {value} cannot be")))?;
    }
    Ok(())
}

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
struct Bytes(Vec<u8>);
of_bytes!(Bytes, |bytes: &[u8]| {
    unescape(bytes.to_vec()).map(Bytes).ok_or("a string that is neither text nor bytes in escapes")
});

/// `sha256:<hex>`; of what else proves nothing here, `None`.
struct Sha(Option<[u8; 32]>);
of_bytes!(Sha, |bytes: &[u8]| {
    match bytes.strip_prefix(b"sha256:") {
        Some(hex) => std::str::from_utf8(hex).ok().and_then(parse_hex).map(|sha| Sha(Some(sha))).ok_or("a digest cut"),
        None => Ok(Sha(None)),
    }
});

/// A key, folded as Go compares it: letters without case, and the two that fold to `s` and `k`.
struct Word(Vec<u8>);
of_bytes!(Word, |bytes: &[u8]| {
    let mut out = bytes.to_ascii_lowercase();
    if !out.is_ascii() {
        out = String::from_utf8_lossy(&out).replace('\u{17f}', "s").replace('\u{212a}', "k").into_bytes();
    }
    Ok::<_, &str>(Word(out))
});

/// A time of RFC 3339; `None` where it is none, as for Go's readers.
struct When(Option<Time>);
of_bytes!(When, |bytes: &[u8]| Ok::<_, &str>(When(std::str::from_utf8(bytes).ok().and_then(time))));

/// Also of other time zones.
fn time(text: &str) -> Option<Time> {
    if text.ends_with('Z') {
        return parse_time(text);
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = zone[1..].split_once(':')?;
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
struct Xattrs(Vec<(Vec<u8>, Vec<u8>)>);

impl<'de> Deserialize<'de> for Xattrs {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Xattrs, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Xattrs;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Xattrs, A::Error> {
                let mut out = Vec::new();
                while let Some((name, value)) = map.next_entry::<Bytes, Option<Bytes>>()? {
                    let mut value = value.unwrap_or_default().0;
                    value.retain(|b| !matches!(b, b'\n' | b'\r'));
                    let value =
                        STANDARD.decode(value).map_err(|_| de::Error::custom("an attribute that is no base64"))?;
                    out.push((name.0, value));
                }
                Ok(Xattrs(out))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
