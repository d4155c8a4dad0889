//! A TOC's entries out of its text, one by one as it comes. Bytes: docs/archive.md, "TOC" and "Reading".
//!
//! Invariant: memory follows the one entry that is looked at, never what the text says; keys are told apart as Go does it
//! (case folded, the last of several counts), and what Go would crash on is an error that names the entry.

use std::io::Read;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use super::entry::{Kind, TocEntry};
use super::quick;
use super::text::Text;
use super::words::{Bytes, Field, Key, Sha, What, When, Xattrs};
use crate::error::{Error, Result, show};
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
        let number = self.count;
        let entry = match self.text.quick(quick::entry) {
            Some(entry) => entry,
            None => entry(self.text.value()?).map_err(|found| damaged(format!("entry {number}: {found}")))?,
        };
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
        let Key(key) = serde_json::from_slice(key).map_err(|e| damaged(said(&e)))?;
        if !self.text.take(b':')? {
            return Err(damaged("a field without value"));
        }
        match key {
            Field::Entries if self.place == Place::Behind => return Err(damaged("it lists its entries twice")),
            Field::Entries if self.text.take(b'[')? => {
                if !self.text.take(b']')? {
                    self.place = Place::Inside;
                    return Ok(());
                }
            }
            Field::Version => {
                let version: Option<i64> = serde_json::from_slice(self.text.value()?).map_err(|e| damaged(said(&e)))?;
                if let Some(version) = version.and_then(|version| u64::try_from(version).ok()).filter(|&v| v > 1) {
                    return Err(Error::NewerFormat { what: "TOC".into(), version });
                }
            }
            Field::TarSplitDigest => {
                let sha: Option<Sha> = serde_json::from_slice(self.text.value()?).map_err(|e| damaged(said(&e)))?;
                self.tar_split = sha.and_then(|sha| sha.0);
            }
            Field::Entries => {
                let nothing: serde_json::Result<Option<u8>> = serde_json::from_slice(self.text.value()?);
                if !matches!(nothing, Ok(None)) {
                    return Err(damaged("its entries are no list"));
                }
            }
            _ => {
                serde_json::from_slice::<IgnoredAny>(self.text.value()?).map_err(|e| damaged(said(&e)))?;
            }
        }
        let place = if key == Field::Entries { Place::Behind } else { self.place };
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
pub(super) fn entry(text: &[u8]) -> std::result::Result<TocEntry, String> {
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
        while let Some(Key(key)) = map.next_key()? {
            match key {
                Field::Name => set(&mut e.name, map.next_value::<Option<Bytes>>()?.map(|bytes| bytes.0)),
                Field::Kind => {
                    if let Some(What(said)) = map.next_value::<Option<What>>()? {
                        kind = said;
                    }
                }
                Field::Size => number(&mut e.size, &mut map, "size")?,
                Field::ModTime => {
                    if let Some(time) = map.next_value::<Option<When>>()? {
                        e.mtime = time.0;
                    }
                }
                Field::LinkName => set(&mut e.link, map.next_value::<Option<Bytes>>()?.map(|bytes| bytes.0)),
                Field::Mode => set(&mut e.mode, map.next_value::<Option<i64>>()?.map(|mode| (mode & 0o7777) as u32)),
                Field::Uid => number(&mut e.uid, &mut map, "uid")?,
                Field::Gid => number(&mut e.gid, &mut map, "gid")?,
                Field::Offset => number(&mut e.offset, &mut map, "offset")?,
                Field::InnerOffset => number(&mut e.inner, &mut map, "innerOffset")?,
                Field::EndOffset => number(&mut e.end_offset, &mut map, "endOffset")?,
                Field::DevMajor => number(&mut e.dev_major, &mut map, "devMajor")?,
                Field::DevMinor => number(&mut e.dev_minor, &mut map, "devMinor")?,
                Field::Xattrs => {
                    if let Some(xattrs) = map.next_value::<Option<Xattrs>>()? {
                        e.xattrs.extend(xattrs.0);
                    }
                }
                Field::Digest => set(&mut e.digest, map.next_value::<Option<Sha>>()?.map(|sha| sha.0)),
                Field::ChunkOffset => number(&mut e.chunk_offset, &mut map, "chunkOffset")?,
                Field::ChunkSize => number(&mut e.chunk_size, &mut map, "chunkSize")?,
                Field::ChunkDigest => set(&mut e.chunk_digest, map.next_value::<Option<Sha>>()?.map(|sha| sha.0)),
                Field::ChunkType => match map.next_value::<Option<Bytes>>()?.unwrap_or_default().0.as_slice() {
                    b"" => e.zeros = false,
                    b"zeros" => e.zeros = true,
                    _ => return Err(de::Error::custom("a chunk of a type that is not known")),
                },
                Field::Holes => set(&mut e.holes, map.next_value::<Option<Vec<(u64, u64)>>>()?),
                Field::Version | Field::Entries | Field::TarSplitDigest | Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
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
