//! An entry of a TOC as writers spell it, read in one pass.
//!
//! Invariant: what is read here `decode` reads alike. Whatever is not plain (escapes, other letters than ASCII, null, attributes,
//! keys that no writer uses, a name to be cleaned, an end that is not in sight) is left to it, and so is every error.

use super::entry::{Kind, TocEntry};
use crate::digest::parse_hex;
use crate::filemap::parse_time;
use crate::tar::{MAX_NAME, MAX_PART, MAX_PARTS};

/// The entry that `text` begins with, and how many bytes it has.
pub fn entry(text: &[u8]) -> Option<(TocEntry, usize)> {
    let mut at = At { text, at: 0 };
    at.space();
    at.byte(b'{')?;
    let mut e = TocEntry::new(Vec::new(), Kind::Chunk);
    let (mut name, mut link): (&[u8], &[u8]) = (b"", b"");
    let mut kind = None;
    // A file of one chunk has the same twice.
    let mut last: (&[u8], Option<[u8; 32]>) = (b"", None);
    loop {
        at.space();
        let key = at.string()?;
        at.space();
        at.byte(b':')?;
        at.space();
        match key {
            b"name" => name = at.string()?,
            b"type" => {
                let word = at.string()?;
                kind = Some(Kind::ALL.iter().find(|(_, known)| known.as_bytes() == word)?.0);
            }
            b"size" => e.size = at.number()?,
            b"modtime" => e.mtime = Some(parse_time(std::str::from_utf8(at.string()?).ok()?)?),
            b"linkName" => link = at.string()?,
            b"mode" => e.mode = (at.number()? & 0o7777) as u32,
            b"uid" => e.uid = at.number()?,
            b"gid" => e.gid = at.number()?,
            b"offset" => e.offset = at.number()?,
            b"innerOffset" => e.inner = at.number()?,
            b"endOffset" => e.end_offset = at.number()?,
            b"devMajor" => e.dev_major = u32::try_from(at.number()?).ok()?,
            b"devMinor" => e.dev_minor = u32::try_from(at.number()?).ok()?,
            b"chunkOffset" => e.chunk_offset = at.number()?,
            b"chunkSize" => e.chunk_size = at.number()?,
            b"digest" | b"chunkDigest" => {
                let said = at.string()?;
                if said != last.0 {
                    let hex = std::str::from_utf8(said.strip_prefix(b"sha256:")?).ok()?;
                    last = (said, Some(parse_hex(hex)?));
                }
                let place = if key == b"digest" { &mut e.digest } else { &mut e.chunk_digest };
                *place = last.1;
            }
            b"userName" | b"groupName" => {
                at.string()?;
            }
            _ => return None,
        }
        at.space();
        if at.byte(b',').is_none() {
            at.byte(b'}')?;
            break;
        }
    }
    e.kind = kind?;
    e.name = match e.kind {
        Kind::Chunk => name,
        Kind::Directory => plain(name.strip_suffix(b"/").unwrap_or(name))?,
        _ => plain(name)?,
    }
    .to_vec();
    match e.kind {
        Kind::HardLink => e.link = plain(link)?.to_vec(),
        Kind::Symlink if link.is_empty() || link.len() > MAX_NAME => return None,
        _ => e.link = link.to_vec(),
    }
    Some((e, at.at))
}

/// A name that is clean as it stands.
fn plain(name: &[u8]) -> Option<&[u8]> {
    let (mut start, mut parts) = (0, 0);
    for end in memchr::memchr_iter(b'/', name).chain([name.len()]) {
        let part = &name[start..end];
        if part.is_empty() || part == b"." || part == b".." || part.len() > MAX_PART {
            return None;
        }
        (start, parts) = (end + 1, parts + 1);
    }
    (name.len() <= MAX_NAME && parts <= MAX_PARTS).then_some(name)
}

/// A place in a text.
struct At<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> At<'a> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Go behind a byte that must stand here.
    fn byte(&mut self, byte: u8) -> Option<()> {
        let is_there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_there);
        is_there.then_some(())
    }

    /// A string of printed ASCII without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let rest = &self.text[self.at..];
        let string = &rest[..memchr::memchr(b'"', rest)?];
        let is_plain = string.iter().fold(true, |plain, &b| plain & (0x20..0x80).contains(&b) & (b != b'\\'));
        self.at += string.len() + 1;
        is_plain.then_some(string)
    }

    /// A number of at most 18 digits; what follows it is in sight and no part of it.
    fn number(&mut self) -> Option<u64> {
        let digits = self.text[self.at..].iter().take(19).take_while(|b| b.is_ascii_digit()).count();
        let number = &self.text[self.at..self.at + digits];
        self.at += digits;
        let is_plain = matches!(self.text.get(self.at)?, b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r')
            && matches!((number, digits), ([b'0'], 1) | ([b'1'..=b'9', ..], 1..=18));
        is_plain.then(|| number.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }
}
