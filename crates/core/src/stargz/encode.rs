//! A TOC's text. Bytes: docs/archive.md, "TOC".
//!
//! Invariant: of entries that Go can hold, the text is what Go's `encoding/json` writes of them (tests/golden/toc.json).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::entry::{Kind, TocEntry};
use crate::digest::hex;
use crate::filemap::push_time;

/// How the text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// A field a line, with tabs: `json.MarshalIndent(toc, "", "\t")`, as stargz and eStargz have it.
    Lines,
    /// All in one line: `json.Marshal(toc)`, as zstd:chunked has it.
    OneLine,
}

/// Gives the text piece by piece, so that it need never be in memory whole.
pub struct TocWriter {
    spelling: Spelling,
    entries: u64,
}

impl TocWriter {
    /// Append the beginning to `out`.
    pub fn begin(spelling: Spelling, out: &mut Vec<u8>) -> TocWriter {
        out.extend_from_slice(match spelling {
            Spelling::Lines => b"{\n\t\"version\": 1,\n\t\"entries\": [",
            Spelling::OneLine => b"{\"version\":1,\"entries\":[",
        });
        TocWriter { spelling, entries: 0 }
    }

    /// Append an entry to `out`.
    pub fn entry(&mut self, out: &mut Vec<u8>, entry: &TocEntry) {
        if self.entries > 0 {
            out.push(b',');
        }
        self.entries += 1;
        let mut object = Object::begin(out, self.spelling, 2);
        fields(&mut object, entry);
        object.end();
    }

    /// The end of the text; `tar_split` is the SHA-256 of the tar-split data of zstd:chunked.
    pub fn end(self, out: &mut Vec<u8>, tar_split: Option<&[u8; 32]>) {
        if self.spelling == Spelling::Lines && self.entries > 0 {
            out.extend_from_slice(b"\n\t");
        }
        out.push(b']');
        if let Some(sha256) = tar_split {
            let mut object = Object { out, spelling: self.spelling, depth: 0, empty: false };
            object.digest("tarSplitDigest", Some(sha256));
        }
        out.extend_from_slice(if self.spelling == Spelling::Lines { b"\n}" } else { b"}" });
    }
}

fn fields(object: &mut Object<'_>, entry: &TocEntry) {
    match (object.spelling, entry.kind, &entry.name[..]) {
        // Held against the tar headers by its readers, letter for letter.
        (Spelling::OneLine, Kind::Directory, b"") => object.string("name", b"./"),
        (Spelling::OneLine, Kind::Directory, name) => object.string("name", &[name, b"/"].concat()),
        (_, _, b"") => object.string("name", b"."),
        (_, _, name) => object.string("name", name),
    }
    object.string("type", entry.kind.word().as_bytes());
    object.number("size", entry.size);
    if let Some(time) = entry.mtime {
        push_time(object.key("modtime"), time);
    }
    if !entry.link.is_empty() {
        object.string("linkName", &entry.link);
    }
    object.number("mode", u64::from(entry.mode));
    object.number("uid", entry.uid);
    object.number("gid", entry.gid);
    object.number("offset", entry.offset);
    object.number("innerOffset", entry.inner);
    object.number("devMajor", u64::from(entry.dev_major));
    object.number("devMinor", u64::from(entry.dev_minor));
    if !entry.xattrs.is_empty() {
        let (spelling, depth) = (object.spelling, object.depth + 1);
        let mut xattrs = Object::begin_value(object.key("xattrs"), spelling, depth);
        for (name, value) in &entry.xattrs {
            let out = xattrs.any_key(|out| push_string(out, name));
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.push(b'"');
        }
        xattrs.end();
    }
    object.digest("digest", entry.digest.as_ref());
    object.number("endOffset", entry.end_offset);
    object.number("chunkOffset", entry.chunk_offset);
    object.number("chunkSize", entry.chunk_size);
    object.digest("chunkDigest", entry.chunk_digest.as_ref());
    if entry.zeros {
        object.string("chunkType", b"zeros");
    }
    if !entry.holes.is_empty() {
        let out = object.key("holes");
        for (i, (offset, length)) in entry.holes.iter().enumerate() {
            write!(out, "{}[{offset},{length}]", if i == 0 { '[' } else { ',' }).expect("a Vec takes every write");
        }
        out.push(b']');
    }
}

/// Appends one JSON object's fields, leaving out those that are zero or empty.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    spelling: Spelling,
    depth: usize,
    empty: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>, spelling: Spelling, depth: usize) -> Object<'a> {
        let mut object = Object { out, spelling, depth, empty: true };
        object.line();
        object.out.push(b'{');
        object
    }

    fn begin_value(out: &'a mut Vec<u8>, spelling: Spelling, depth: usize) -> Object<'a> {
        out.push(b'{');
        Object { out, spelling, depth, empty: true }
    }

    fn line(&mut self) {
        if self.spelling == Spelling::Lines {
            self.out.push(b'\n');
            self.out.extend(std::iter::repeat_n(b'\t', self.depth));
        }
    }

    /// `quoted` appends the key, in quotes.
    fn any_key(&mut self, quoted: impl FnOnce(&mut Vec<u8>)) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.depth += 1;
        self.line();
        self.depth -= 1;
        quoted(self.out);
        self.out.extend_from_slice(if self.spelling == Spelling::Lines { b": " } else { b":" });
        self.out
    }

    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        self.any_key(|out| {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        })
    }

    fn string(&mut self, name: &str, value: &[u8]) {
        push_string(self.key(name), value);
    }

    fn number(&mut self, name: &str, value: u64) {
        if value != 0 {
            write!(self.key(name), "{value}").expect("a Vec takes every write");
        }
    }

    fn digest(&mut self, name: &str, sha256: Option<&[u8; 32]>) {
        if let Some(sha256) = sha256 {
            let out = self.key(name);
            out.extend_from_slice(b"\"sha256:");
            out.extend_from_slice(hex(sha256).as_bytes());
            out.push(b'"');
        }
    }

    fn end(mut self) {
        self.line();
        self.out.push(b'}');
    }
}

/// A JSON string as Go spells it, a byte that is not UTF-8 as the escape `\udcNN`.
fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for run in bytes.utf8_chunks() {
        for c in run.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\u{8}' => out.extend_from_slice(b"\\b"),
                '\u{c}' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..' ' | '<' | '>' | '&' => {
                    let b = c as u8;
                    out.extend_from_slice(b"\\u00");
                    out.extend([HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
                }
                '\u{2028}' => out.extend_from_slice(b"\\u2028"),
                '\u{2029}' => out.extend_from_slice(b"\\u2029"),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &b in run.invalid() {
            out.extend_from_slice(b"\\udc");
            out.extend([HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
    out.push(b'"');
}
