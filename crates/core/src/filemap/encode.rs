//! Entries and fence lines as text. Bytes: docs/format.md, "Entry" and "Fence index".

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::entry::{ChunkAt, Entry, Kind};
use super::text::{push_string, push_time};
use crate::digest::{Digest, hex};

/// Appends one JSON object's fields, leaving out those that are zero or empty.
pub struct Line<'a> {
    out: &'a mut Vec<u8>,
    open: bool,
}

impl<'a> Line<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> Line<'a> {
        out.push(b'{');
        Line { out, open: true }
    }

    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.open) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        push_string(self.key(name), value);
    }

    pub fn number(&mut self, name: &str, value: u64) {
        push_number(self.key(name), value);
    }

    fn number_unless_zero(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.number(name, value);
        }
    }

    pub fn digest(&mut self, name: &str, digest: &Digest) {
        let out = self.key(name);
        out.extend_from_slice(b"\"sha256:");
        out.extend_from_slice(hex(&digest.sha256).as_bytes());
        out.push(b'"');
    }

    pub fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

pub fn push_number(out: &mut Vec<u8>, value: u64) {
    write!(out, "{value}").expect("a Vec takes every write");
}

/// One entry's line; `frame` gives the number of a chunk's frame in the page's table.
pub fn entry(out: &mut Vec<u8>, entry: &Entry, mut frame: impl FnMut(&ChunkAt) -> u32) {
    let mut line = Line::begin(out);
    line.bytes("name", if entry.path.is_empty() { b"." } else { &entry.path });
    line.bytes("type", type_of(&entry.kind).as_bytes());
    if let Kind::HardLink { first } = &entry.kind {
        line.bytes("linkName", first);
        line.number_unless_zero("mode", u64::from(entry.mode));
        return line.end();
    }
    if matches!(entry.kind, Kind::Directory { .. } | Kind::Regular(_)) {
        line.number_unless_zero("size", entry.size());
    }
    push_time(line.key("modtime"), entry.mtime);
    if let Kind::Symlink { target } = &entry.kind {
        line.bytes("linkName", target);
    }
    line.number_unless_zero("mode", u64::from(entry.mode));
    line.number_unless_zero("uid", u64::from(entry.uid));
    line.number_unless_zero("gid", u64::from(entry.gid));
    if let Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } = entry.kind {
        line.number_unless_zero("devMajor", u64::from(major));
        line.number_unless_zero("devMinor", u64::from(minor));
    }
    if entry.links > 1 {
        line.number("links", u64::from(entry.links));
    }
    if !entry.xattrs.is_empty() {
        let out = line.key("xattrs");
        for (i, (name, value)) in entry.xattrs.iter().enumerate() {
            out.push(if i == 0 { b'{' } else { b',' });
            push_string(out, name);
            out.extend_from_slice(b":\"");
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
    match &entry.kind {
        Kind::Directory { digest } => {
            let digest = digest.as_ref().expect("the state that a map is made of is sealed");
            line.digest("digest", digest);
        }
        Kind::Regular(content) => {
            if !content.holes.is_empty() {
                push_holes(line.key("holes"), &content.holes);
            }
            line.digest("digest", &content.digest);
            match &content.chunks[..] {
                [] => {}
                [chunk] if chunk.digest == content.digest => {
                    line.number("frame", u64::from(frame(chunk)));
                    line.number("innerOffset", u64::from(chunk.inner));
                }
                chunks => push_chunks(line.key("chunks"), chunks, frame),
            }
        }
        _ => {}
    }
    line.end();
}

pub fn type_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory { .. } => "dir",
        Kind::Regular(_) => "reg",
        Kind::Symlink { .. } => "symlink",
        Kind::HardLink { .. } => "hardlink",
        Kind::CharDevice { .. } => "char",
        Kind::BlockDevice { .. } => "block",
        Kind::Fifo => "fifo",
    }
}

fn push_holes(out: &mut Vec<u8>, holes: &[(u64, u64)]) {
    for (i, (offset, length)) in holes.iter().enumerate() {
        write!(out, "{}[{offset},{length}]", if i == 0 { '[' } else { ',' }).expect("a Vec takes every write");
    }
    out.push(b']');
}

fn push_chunks(out: &mut Vec<u8>, chunks: &[ChunkAt], mut frame: impl FnMut(&ChunkAt) -> u32) {
    for (i, chunk) in chunks.iter().enumerate() {
        out.push(if i == 0 { b'[' } else { b',' });
        let mut line = Line::begin(out);
        line.number("chunkSize", chunk.digest.size);
        line.digest("chunkDigest", &chunk.digest);
        line.number("frame", u64::from(frame(chunk)));
        line.number("innerOffset", u64::from(chunk.inner));
        line.end();
        out.pop();
    }
    out.push(b']');
}
