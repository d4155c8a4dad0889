//! Writing: the one form a header has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::block::{BLOCK, ELEVEN, Fields, LINK, NAME, SEVEN, block};
use super::pax::{push_record, spell_time, spell_xattr};
use super::{Header, Kind};
use crate::error::{Error, Result, show};
use crate::scan::parent_and_name;

/// What a stream ends with.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Zeros that follow a content of `size` bytes.
pub fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Append the header of an entry, a pax header before it where it needs one. A sparse file's is that of a plain one.
///
/// # Errors
/// `Invalid` when a device has numbers from 2^21 on, which no header can say.
pub fn push_header(out: &mut Vec<u8>, header: &Header) -> Result<()> {
    push(out, header, header.size(), &[])
}

/// Append the header of an entry whose holes the stream leaves out, as GNU's format 0.1 says them: for streams that only we read.
///
/// # Errors
/// As `push_header`.
pub fn push_sparse_header(out: &mut Vec<u8>, header: &Header) -> Result<()> {
    let Kind::Regular { size, holes } = &header.kind else { return push_header(out, header) };
    let (mut map, mut at, mut stored) = (Vec::new(), 0, 0);
    for &(hole, length) in holes.iter().chain([&(*size, 0)]) {
        if hole > at {
            map.push(format!("{at},{}", hole - at));
            stored += hole - at;
        }
        at = hole + length;
    }
    if map.is_empty() {
        map.push(format!("{size},0"));
    }
    let words = [("major", "0".into()), ("minor", "1".into()), ("size", size.to_string()), ("map", map.join(","))];
    push(out, header, stored, &words.map(|(key, value)| (format!("GNU.sparse.{key}"), value)))
}

/// `stored` is how many bytes the stream has of the content; `more` records stand behind the others.
fn push(out: &mut Vec<u8>, header: &Header, stored: u64, more: &[(String, String)]) -> Result<()> {
    let mut name = header.name.clone();
    let (mut link, mut device) = (&[][..], None);
    let flag = match &header.kind {
        Kind::Regular { .. } => b'0',
        Kind::HardLink { first } => {
            link = first;
            b'1'
        }
        Kind::Symlink { target } => {
            link = target;
            b'2'
        }
        Kind::CharDevice { major, minor } => {
            device = Some((*major, *minor));
            b'3'
        }
        Kind::BlockDevice { major, minor } => {
            device = Some((*major, *minor));
            b'4'
        }
        Kind::Directory => {
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
            b'5'
        }
        Kind::Fifo => b'6',
    };
    if device.is_some_and(|(major, minor)| u64::from(major.max(minor)) >= SEVEN) {
        let what = show(Path::new(OsStr::from_bytes(&header.name)));
        return Err(Error::Invalid { what, why: "a tar cannot say the number of this device".into() });
    }
    let mut records = Vec::new();
    push_records(&mut records, header, &name, link, stored);
    for (key, value) in more {
        push_record(&mut records, key.as_bytes(), value.as_bytes());
    }
    if !records.is_empty() {
        let last = parent_and_name(&header.name).1;
        let extension = [&b"PaxHeaders/"[..], if last.is_empty() { b"." } else { last }].concat();
        let size = records.len() as u64;
        out.extend_from_slice(&block(&Fields { name: &extension, mode: 0o644, size, flag: b'x', ..Fields::default() }));
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(size), 0);
    }
    out.extend_from_slice(&block(&Fields {
        name: &name,
        mode: header.mode & 0o7777,
        uid: header.uid,
        gid: header.gid,
        size: stored,
        mtime: u64::try_from(header.mtime.sec).unwrap_or(0),
        flag,
        link,
        device,
    }));
    Ok(())
}

/// The records of what the header cannot say.
fn push_records(out: &mut Vec<u8>, header: &Header, name: &[u8], link: &[u8], stored: u64) {
    let names = [(&b"path"[..], name, NAME.len()), (b"linkpath", link, LINK.len())];
    let long = || names.iter().filter(|(_, name, fits)| name.len() > *fits);
    if long().any(|(_, name, _)| std::str::from_utf8(name).is_err()) {
        push_record(out, b"hdrcharset", b"BINARY");
    }
    for (key, name, _) in long() {
        push_record(out, key, name);
    }
    for (key, number, limit) in
        [(&b"size"[..], stored, ELEVEN), (b"uid", header.uid, SEVEN), (b"gid", header.gid, SEVEN)]
    {
        if number >= limit {
            push_record(out, key, number.to_string().as_bytes());
        }
    }
    let time = header.mtime;
    if time.nsec != 0 || time.sec < 0 || time.sec as u64 >= ELEVEN {
        push_record(out, b"mtime", spell_time(time).as_bytes());
    }
    for (name, value) in &header.xattrs {
        push_record(out, &spell_xattr(name), value);
    }
}
