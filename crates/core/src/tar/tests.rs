use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::digest::{Digest, hex};
use crate::error::{Error, Result};

mod damage;
mod foreign;
mod read;
mod sparse;
mod split;
mod tree;

fn entry(name: &[u8], kind: Kind) -> Header {
    let mtime = Time { sec: 1_700_000_000, nsec: 0 };
    Header { name: name.to_vec(), kind, mode: 0o644, uid: 1000, gid: 100, mtime, xattrs: Vec::new() }
}

fn file(name: &[u8], size: u64) -> Header {
    entry(name, Kind::Regular { size, holes: Vec::new() })
}

/// What a header becomes.
fn written(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    push_header(&mut out, header).unwrap();
    out
}

/// The records of the pax header that a header needs, without their lengths.
fn records(header: &Header) -> Vec<String> {
    let bytes = written(header);
    let mut text = &bytes[BLOCK..bytes.len() - BLOCK];
    let mut out = Vec::new();
    while text.first().is_some_and(|&byte| byte != 0) {
        let blank = text.iter().position(|&byte| byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&text[..blank]).unwrap().parse().unwrap();
        assert_eq!(text[length - 1], b'\n');
        out.push(text[blank + 1..length - 1].escape_ascii().to_string());
        text = &text[length..];
    }
    out
}

/// Headers of every kind, short and long, with what ustar can say and what it cannot.
fn hard_cases() -> Vec<Header> {
    let long = [b"long/".repeat(20), b"name".to_vec()].concat();
    let mut out = vec![
        Header { mode: 0o755, ..entry(b"", Kind::Directory) },
        Header { mode: 0o1777, ..entry(b"dir", Kind::Directory) },
        file(b"dir/empty", 0),
        file(b"dir/data", 513),
        Header { mode: 0o4755, uid: 2_097_151, gid: 2_097_152, ..file(b"owners", 0) },
        entry(b"symlink", Kind::Symlink { target: b"../not here/".to_vec() }),
        entry(b"hard", Kind::HardLink { first: b"dir/data".to_vec() }),
        entry(b"char", Kind::CharDevice { major: 1, minor: 3 }),
        entry(b"block", Kind::BlockDevice { major: 259, minor: 65_536 }),
        entry(b"fifo", Kind::Fifo),
        file(&long, 1),
        entry(&b"d".repeat(100), Kind::Directory),
        file(&b"f".repeat(100), 0),
        entry(b"far", Kind::Symlink { target: b"t".repeat(101) }),
        entry(b"near", Kind::HardLink { first: long }),
        file(b"caf\xe9", 0),
        file(&[&b"caf\xe9".repeat(25)[..], b"."].concat(), 0),
    ];
    let times =
        [(0, 0), (-1, 0), (-1, 500_000_000), (-2, 1), (1, 1), (1, 120_000_000), (1 << 33, 0), ((1 << 33) - 1, 0)];
    for (sec, nsec) in times {
        let name = format!("time {sec} {nsec}");
        out.push(Header { mtime: Time { sec, nsec }, ..file(name.as_bytes(), 0) });
    }
    let xattrs = vec![
        (b"security.capability".to_vec(), b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        (b"user.100%=all".to_vec(), b"a\nb=c".to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
    ];
    out.push(Header { xattrs, ..file(b"attributes", 0) });
    out
}

/// The stream of those headers; the contents are zeros.
fn stream(headers: &[Header]) -> Vec<u8> {
    let mut out = Vec::new();
    for header in headers {
        push_header(&mut out, header).unwrap();
        out.resize(out.len() + header.size() as usize + padding(header.size()), 0);
    }
    out.extend_from_slice(&END);
    out
}

/// The whole content of the entry that a reader is at.
fn content(reader: &mut Reader<&[u8]>) -> Result<Vec<u8>> {
    let (mut out, mut buffer) = (Vec::new(), [0; 1000]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(out),
            count => out.extend_from_slice(&buffer[..count]),
        }
    }
}

/// All entries of a stream with their contents.
fn entries(stream: &[u8]) -> Result<Vec<(Header, Vec<u8>)>> {
    let mut reader = Reader::new("test", stream);
    let mut out = Vec::new();
    while let Some(header) = reader.next_entry()? {
        out.push((header, content(&mut reader)?));
    }
    Ok(out)
}

#[test]
fn the_stream_of_the_hard_cases_never_changes() {
    let digest = Digest::of(&stream(&hard_cases()));
    assert_eq!(hex(&digest.sha256), "f668c2679536c6c80197b4060e87d3d3db5c612153391329d7f64f3738fa8ecf");
}

#[test]
fn gnu_tar_lists_what_was_written() {
    let mut tar = Command::new("tar")
        .args(["--list", "--verbose", "--full-time", "--utc", "--numeric-owner", "--quoting-style=escape", "--file=-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&stream(&hard_cases())).unwrap();
    let output = tar.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "tar: Ignoring unknown extended header keyword 'hdrcharset'\n");
    assert!(output.status.success());
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(squeeze).collect();
    // Of a time before 1970 with a fraction it prints the next second; it sets the right one.
    let expected: Vec<&str> = include_str!("tests/listed.txt").lines().collect();
    assert_eq!(listed, expected);
}

#[test]
fn a_header_that_ustar_can_say_is_one_block() {
    for name in [&b"a"[..], &b"n".repeat(100)] {
        assert_eq!(written(&file(name, (1 << 33) - 1)).len(), BLOCK);
    }
    assert_eq!(written(&entry(&b"n".repeat(99), Kind::Directory)).len(), BLOCK);
    assert_eq!(written(&file(b"caf\xe9", 0)).len(), BLOCK);
}

#[test]
fn what_ustar_cannot_say_is_in_records_in_their_order() {
    let name = [&b"\xff".repeat(99)[..], b"/b"].concat();
    let header = Header {
        uid: 1 << 21,
        gid: u64::MAX,
        mtime: Time { sec: -1, nsec: 250_000_000 },
        xattrs: vec![(b"user.a=b%".to_vec(), b"1\0".to_vec()), (b"user.b".to_vec(), Vec::new())],
        ..file(&name, 1 << 33)
    };
    let path = format!("path={}/b", "\\xff".repeat(99));
    let expected = [
        "hdrcharset=BINARY",
        &path,
        "size=8589934592",
        "uid=2097152",
        "gid=18446744073709551615",
        "mtime=-0.75",
        "SCHILY.xattr.user.a%3Db%25=1\\x00",
        "SCHILY.xattr.user.b=",
    ];
    assert_eq!(records(&header), expected);
    assert_eq!(written(&header)[..12], *b"PaxHeaders/b");
}

#[test]
fn the_length_of_a_record_counts_its_own_digits() {
    // 9 and 99 are where one digit more makes the record longer again.
    for length in 0..1200 {
        let mut out = Vec::new();
        pax::push_record(&mut out, b"k", &b"v".repeat(length));
        let said: usize = std::str::from_utf8(&out).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(said, out.len());
    }
}

#[test]
fn a_device_that_no_header_can_name_is_refused_by_name() {
    let refused = push_header(&mut Vec::new(), &entry(b"dev/x", Kind::CharDevice { major: 1 << 21, minor: 0 }));
    match refused.unwrap_err() {
        Error::Invalid { what, .. } => assert_eq!(what, "dev/x"),
        other => panic!("{other}"),
    }
}
