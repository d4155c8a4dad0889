//! What convert and pack promise, tried on small inputs; the whole commands are tried from Python.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use super::gzip::Members;
use super::*;
use crate::error::{Error, Result};
use crate::index;
use crate::job::Job;
use crate::scan::Time;
use crate::stargz::{Compression, Options};
use crate::tar::{self, Header, Kind, Reader};

fn options(compression: Compression, copy: bool) -> Options {
    Options {
        compression,
        chunk_size: None,
        min_chunk_size: 0,
        compatible_times: false,
        copy,
        threads: 2,
        temporary: std::env::temp_dir(),
    }
}

fn file(name: &str, size: usize) -> (Header, Vec<u8>) {
    let kind = Kind::Regular { size: size as u64, holes: Vec::new() };
    let mtime = Time { sec: 1, nsec: 0 };
    let header = Header { name: name.into(), kind, mode: 0o644, uid: 1, gid: 2, mtime, xattrs: Vec::new() };
    (header, (0..size).map(|at| (at / 7 % 251) as u8).collect())
}

/// The tar of entries, in a file without a name.
fn tar_of(entries: &[(Header, Vec<u8>)], at: &Path) -> File {
    let mut bytes = Vec::new();
    for (header, content) in entries {
        tar::push_header(&mut bytes, header).unwrap();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + tar::padding(content.len() as u64), 0);
    }
    bytes.extend_from_slice(&tar::END);
    stored(&bytes, at)
}

fn stored(bytes: &[u8], at: &Path) -> File {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(at).unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn bytes_of(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn converted(input: &File, at: &Path, options: &Options) -> Result<Vec<u8>> {
    let out = stored(b"", at);
    convert("in", input, false, &[], options, &mut Out::new(out.try_clone().unwrap(), at.into())?, &Job::default())?;
    Ok(bytes_of(&out))
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn members_stay_only_in_an_archive_of_the_same_compression() {
    let dir = place();
    let entries = [file("a", 100_000), file("b", 5_000_000), file("c", 0), file("d", 3)];
    let tar = tar_of(&entries, &dir.path().join("tar"));
    let to = |name: &str| dir.path().join(name);
    for (kind, other) in [(Compression::Gzip(1), Compression::Gzip(9)), (Compression::Zstd(1), Compression::Zstd(9))] {
        let fast = converted(&tar, &to("fast"), &options(kind, true)).unwrap();
        let fast_file = File::open(to("fast")).unwrap();
        assert_eq!(converted(&fast_file, &to("copied"), &options(other, true)).unwrap(), fast);
        let anew = converted(&fast_file, &to("anew"), &options(other, false)).unwrap();
        assert_eq!(anew, converted(&tar, &to("direct"), &options(other, true)).unwrap());
        assert_ne!(anew, fast);
    }
    let crossed = converted(&File::open(to("fast")).unwrap(), &to("x"), &options(Compression::GZIP, true)).unwrap();
    assert_eq!(crossed, converted(&tar, &to("y"), &options(Compression::GZIP, true)).unwrap());
}

#[test]
fn links_of_a_layer_to_what_is_below_it_stay_and_in_any_other_tar_are_refused() {
    let dir = place();
    let link = |name: &str, first: &str| {
        let (header, _) = file(name, 0);
        (Header { kind: Kind::HardLink { first: first.into() }, ..header }, Vec::new())
    };
    let entries = [link("a", "below/file"), file("b", 3), link("c", "a"), link("d", "b")];
    let tar = tar_of(&entries, &dir.path().join("tar"));
    let to = |name: &str| dir.path().join(name);
    for compression in [Compression::GZIP, Compression::ZSTD] {
        assert!(matches!(converted(&tar, &to("x"), &options(compression, true)), Err(Error::Damaged { .. })));
        let layer = |input: &File, at: &Path| {
            let (out, front) = (stored(b"", at), [b"c".to_vec()]);
            let mut sink = Out::new(out.try_clone().unwrap(), at.into()).unwrap();
            convert("in", input, true, &front, &options(compression, true), &mut sink, &Job::default()).unwrap();
            bytes_of(&out)
        };
        let made = layer(&tar, &to("made"));
        let input = File::open(to("made")).unwrap();
        assert_eq!(layer(&input, &to("again")), made);
        let plain: Box<dyn Read> = match compression {
            Compression::Gzip(_) => Box::new(flate2::read::MultiGzDecoder::new(&made[..])),
            Compression::Zstd(_) => Box::new(zstd::Decoder::new(&made[..]).unwrap()),
        };
        let mut reader = Reader::new("out", plain);
        let mut found = Vec::new();
        while let Some(header) = reader.next_entry().unwrap() {
            let first = if let Kind::HardLink { first } = header.kind { first } else { Vec::new() };
            found.push((String::from_utf8(header.name).unwrap(), String::from_utf8(first).unwrap()));
        }
        let expected = [("a", "below/file"), ("c", "a"), (".prefetch.landmark", ""), ("b", ""), ("d", "b")];
        assert_eq!(found[..5], expected.map(|(name, first)| (name.to_string(), first.to_string())));
    }
}

#[test]
fn a_member_that_is_damaged_is_never_copied() {
    let dir = place();
    let tar = tar_of(&[file("a", 100_000), file("b", 100_000)], &dir.path().join("tar"));
    let whole = converted(&tar, &dir.path().join("whole"), &options(Compression::GZIP, true)).unwrap();
    for at in (30..whole.len() / 2).step_by(97) {
        let damaged = stored(&whole, &dir.path().join("damaged"));
        damaged.write_all_at(&[whole[at] ^ 4], at as u64).unwrap();
        // Where a sum or the TOC's member is hit, or a header that says less, nothing else may come of it.
        if let Ok(out) = converted(&damaged, &dir.path().join("out"), &options(Compression::GZIP, true)) {
            assert_eq!(out, whole, "byte {at}");
        }
    }
}

/// Gives a byte at a time.
struct Slow<R>(R);

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

fn inflated(bytes: impl Read) -> io::Result<(Vec<u8>, usize)> {
    let mut members = Members::new(io::BufReader::with_capacity(1, bytes));
    let (mut out, mut ends) = (Vec::new(), 0);
    let mut buffer = [0; 1000];
    loop {
        let (got, ended) = members.next(&mut buffer)?;
        out.extend_from_slice(&buffer[..got]);
        ends += usize::from(ended);
        if got == 0 && !ended {
            return Ok((out, ends));
        }
    }
}

#[test]
fn gzip_members_are_read_to_their_ends_whatever_their_headers_have() {
    let plain = file("a", 5000).1;
    let mut bytes = Vec::new();
    let mut builder = flate2::GzBuilder::new().filename("name").comment("comment").extra(vec![1; 300]);
    for content in [&plain[..], b"", &plain[..1000], b"end"] {
        let mut encoder = std::mem::take(&mut builder).write(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(content).unwrap();
        bytes.extend_from_slice(&encoder.finish().unwrap());
    }
    let expected = [&plain[..], &plain[..1000], b"end"].concat();
    assert_eq!(inflated(Slow(&bytes[..])).unwrap(), (expected.clone(), 4));
    let padded = [&bytes[..], &[0; 700]].concat();
    assert_eq!(inflated(&padded[..]).unwrap(), (expected, 4));
    for wrong in [&[&bytes[..], b"x"].concat()[..], &[&bytes[..], &[0; 9], b"x"].concat()] {
        assert_eq!(inflated(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    for cut in (1..bytes.len()).filter(|cut| cut % 17 == 0) {
        match inflated(&bytes[..cut]) {
            // Between two members.
            Ok((_, ends)) => assert!(ends > 0 && bytes[cut] == 0x1f),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}"),
        }
    }
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    assert_eq!(inflated(&bytes[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn holes_that_a_stream_leaves_out_are_read_again() {
    let size = 1 << 20;
    for holes in [vec![(0, size)], vec![(4096, 8192)], vec![(0, 512), (1000, 24), (size - 1, 1)]] {
        let (mut header, _) = file("sparse", 0);
        header.kind = Kind::Regular { size, holes: holes.clone() };
        let mut bytes = Vec::new();
        tar::push_sparse_header(&mut bytes, &header).unwrap();
        let stored = size - holes.iter().map(|hole| hole.1).sum::<u64>();
        bytes.resize(bytes.len() + stored as usize, 7);
        bytes.resize(bytes.len() + tar::padding(stored), 0);
        bytes.extend_from_slice(&tar::END);
        let mut reader = Reader::new("test", &bytes[..]);
        assert_eq!(reader.next_entry().unwrap().unwrap(), header);
        let mut content = Vec::new();
        reader.content().read_to_end(&mut content).unwrap();
        let is_hole = |at: u64| holes.iter().any(|(hole, length)| (*hole..hole + length).contains(&at));
        assert!((0..size).zip(&content).all(|(at, &byte)| byte == if is_hole(at) { 0 } else { 7 }));
        assert_eq!((content.len() as u64, reader.next_entry().unwrap()), (size, None));
    }
}

#[test]
fn a_directory_is_packed_with_its_links_and_neither_the_archive_nor_what_archives_have_for_themselves() {
    let dir = place();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::write(root.join("d/b"), "b").unwrap();
    std::fs::hard_link(root.join("d/b"), root.join("a")).unwrap();
    symlink("target", root.join("link")).unwrap();
    std::fs::write(root.join(".prefetch.landmark"), "x").unwrap();
    std::fs::write(root.join("d/before"), "x").unwrap();
    let out = stored(b"", &root.join("d/out"));
    let mut to = Out::new(out.try_clone().unwrap(), "out".into()).unwrap();
    let front = [b"d/b".to_vec(), b"none".to_vec()];
    let looking = index::Options::new(2);
    let before = root.canonicalize().unwrap().join("d/before");
    let made =
        pack(&root, &looking, &front, &options(Compression::GZIP, false), &mut to, Some(&before), &Job::default())
            .unwrap();
    assert_eq!((made.left_out, made.absent), (vec![b".prefetch.landmark".to_vec()], vec![b"none".to_vec()]));
    let mut reader = Reader::new("out", flate2::read::MultiGzDecoder::new(io::Cursor::new(bytes_of(&out))));
    let mut names = Vec::new();
    while let Some(header) = reader.next_entry().unwrap() {
        let link = if let Kind::HardLink { first } = header.kind { first } else { Vec::new() };
        names.push((String::from_utf8(header.name).unwrap(), String::from_utf8(link).unwrap()));
    }
    let expected = [("", ""), ("a", ""), ("d", ""), ("d/b", "a"), (".prefetch.landmark", ""), ("link", "")];
    assert_eq!(names[..6], expected.map(|(name, link)| (name.to_string(), link.to_string())));
    assert_eq!(names[6].0, "stargz.index.json");
}

#[test]
fn a_job_that_is_stopped_says_so() {
    let dir = place();
    let tar = tar_of(&[file("a", 100_000)], &dir.path().join("tar"));
    let job = Job::default();
    job.stop();
    let out = stored(b"", &dir.path().join("out"));
    let mut to = Out::new(out, "out".into()).unwrap();
    let made = convert("in", &tar, false, &[], &options(Compression::GZIP, true), &mut to, &job);
    assert!(matches!(made, Err(Error::Stopped)));
}
