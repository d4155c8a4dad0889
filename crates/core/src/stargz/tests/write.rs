use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use super::*;
use crate::job::Job;
use crate::stargz::spool::{Spool, unique};
use crate::tar;

pub(super) fn options(compression: Compression) -> Options {
    Options {
        compression,
        chunk_size: None,
        min_chunk_size: 0,
        compatible_times: false,
        copy: false,
        threads: 2,
        temporary: std::env::temp_dir(),
    }
}

fn header(name: &[u8], kind: tar::Kind) -> tar::Header {
    let mtime = Time { sec: NOON, nsec: 1 };
    tar::Header { name: name.to_vec(), kind, mode: 0o644, uid: 1000, gid: 100, mtime, xattrs: Vec::new() }
}

/// Bytes that do not compress, the same each time.
pub(super) fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

pub(super) type Listed = Vec<(tar::Header, Vec<u8>)>;

pub(super) fn file(name: &[u8], content: &[u8]) -> (tar::Header, Vec<u8>) {
    let kind = tar::Kind::Regular { size: content.len() as u64, holes: Vec::new() };
    (header(name, kind), content.to_vec())
}

pub(super) fn other(name: &[u8], kind: tar::Kind) -> (tar::Header, Vec<u8>) {
    (header(name, kind), Vec::new())
}

/// An entry of every kind, files of no, one and several chunks.
pub(super) fn corpus() -> Listed {
    let mut out = vec![
        other(b"", tar::Kind::Directory),
        other(b"d", tar::Kind::Directory),
        file(b"d/empty", b""),
        file(b"d/small", b"small\n"),
        file(b"d/block", &[7; 512]),
        other(b"d/hard", tar::Kind::HardLink { first: b"d/small".to_vec() }),
        other(b"symlink", tar::Kind::Symlink { target: b"/anywhere/../at all".to_vec() }),
        other(b"char", tar::Kind::CharDevice { major: 1, minor: 3 }),
        other(b"block", tar::Kind::BlockDevice { major: 259, minor: 1 }),
        other(b"fifo", tar::Kind::Fifo),
        file(b"large", &noise(5_000_000)),
        file(b"zeros", &vec![0; 4_500_000]),
        file(&[b"long/".repeat(40), b"name".to_vec()].concat(), b"x"),
        file(b"caf\xe9 <&>", b"not text"),
    ];
    for number in 0..3000 {
        let name = format!("d/file {number}");
        out.push(file(name.as_bytes(), name.repeat(number % 50).as_bytes()));
    }
    out[3].0.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), vec![0, 255])];
    out[10].0.kind = tar::Kind::Regular { size: 5_000_000, holes: vec![(0, 4096)] };
    out
}

pub(super) fn written(options: &Options, entries: &Listed) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let mut sink = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    let feed = |writer: &mut Writer<'_>| {
        entries.iter().try_for_each(|(header, content)| writer.entry(header, &mut &content[..]))
    };
    let written = write(options, None, &Job::default(), &mut sink, feed).unwrap();
    assert_eq!((written.size, written.entries), (out.len() as u64, entries.len() as u64));
    (out, written)
}

/// The tar stream of entries, without its end.
pub(super) fn stream(entries: &Listed) -> Vec<u8> {
    let mut out = Vec::new();
    for (header, content) in entries {
        tar::push_header(&mut out, header).unwrap();
        out.extend_from_slice(content);
        out.resize(out.len() + tar::padding(header.size()), 0);
    }
    out
}

/// Where each gzip member of a file begins, and what it decompresses to.
fn members(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut plain = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        decoder.read_to_end(&mut plain).unwrap();
        out.push(((bytes.len() - rest.len()) as u64, plain));
        rest = decoder.into_inner();
    }
    out
}

/// Hold an archive of gzip members against docs/archive.md and the rules that its readers need.
fn check(bytes: &[u8], written: &Written, entries: &Listed, shared: bool) {
    let members = members(bytes);
    let (toc, data) = members.split_last().unwrap().1.split_last().unwrap();
    assert_eq!((toc.0, written.toc.end), (written.toc.start, bytes.len() as u64 - 51));
    assert_eq!(bytes[bytes.len() - 51..], footer::gzip(toc.0));
    let (read, digest) = open(bytes).unwrap();
    assert_eq!(digest, written.toc_digest);
    let size = digest.size as usize;
    assert_eq!(Digest::of(&toc.1[512..512 + size]), digest);
    assert_eq!(toc.1[..512], tests_header(size as u64));
    assert_eq!(toc.1.len(), 512 + size.next_multiple_of(512) + 1024);
    assert!(toc.1[512 + size..].iter().all(|&byte| byte == 0));

    let plain: Vec<u8> = data.iter().flat_map(|(_, plain)| plain).copied().collect();
    assert!(plain == stream(entries), "the members are another stream");
    let names: Vec<_> = read.iter().filter(|entry| entry.kind != Kind::Chunk).map(|entry| &entry.name).collect();
    assert_eq!(names, entries.iter().map(|(header, _)| &header.name).collect::<Vec<_>>());

    let mut told = read.iter().peekable();
    let mut last = (0, 0);
    for (header, content) in entries {
        let first = told.next().unwrap();
        assert_eq!((first.mode, first.uid, first.gid, &first.xattrs), (0o644, 1000, 100, &header.xattrs));
        assert_eq!((first.mtime, first.size), (Some(header.mtime), header.size()));
        let regular = matches!(header.kind, tar::Kind::Regular { .. });
        assert_eq!(first.digest, regular.then(|| Digest::of(content).sha256));
        let mut chunks = if content.is_empty() { vec![] } else { vec![first] };
        while let Some(chunk) = told.next_if(|next| next.kind == Kind::Chunk) {
            chunks.push(chunk);
        }
        let mut at = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.chunk_offset, at as u64);
            let is_last = number + 1 == chunks.len();
            assert_eq!(chunk.chunk_size == 0, is_last);
            let end = if is_last { content.len() } else { at + chunk.chunk_size as usize };
            assert!(end - at < 4_000_000);
            let sha256 = Digest::of(&content[at..end]).sha256;
            assert_eq!(chunk.chunk_digest, Some(sha256));
            let (_, plain) = &data[data.binary_search_by_key(&chunk.offset, |(start, _)| *start).unwrap()];
            assert_eq!(plain[chunk.inner as usize..][..end - at], content[at..end]);
            let place = (chunk.offset, chunk.inner);
            assert!(
                place > last && (shared || (chunk.inner == 0 && chunk.offset > last.0)),
                "{place:?} after {last:?}"
            );
            (last, at) = (place, end);
        }
        assert_eq!(at, content.len());
    }
    assert!(told.next().is_none());
}

fn tests_header(size: u64) -> [u8; 512] {
    tar::block(&tar::Fields { name: TOC_NAME, size, flag: b'0', ..Default::default() })
}

#[test]
fn a_gzip_archive_is_as_its_readers_need_it_at_every_level() {
    let entries = corpus();
    for level in [0, 1, 6, 10] {
        let (bytes, written) = written(&options(Compression::Gzip(level)), &entries);
        check(&bytes, &written, &entries, false);
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    }
}

/// Where each zstd frame begins and ends, skippable ones too.
fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = zstd::zstd_safe::find_frame_compressed_size(&bytes[at..]).unwrap();
        out.push(at..at + length);
        at += length;
    }
    out
}

fn inflate(frame: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(frame).unwrap()
}

fn part(bytes: &[u8], at: &Range<u64>) -> Vec<u8> {
    bytes[at.start as usize..at.end as usize].to_vec()
}

#[test]
fn a_zstd_archive_says_where_each_chunk_begins_and_ends() {
    let mut entries = corpus();
    // containers/storage holds names against the tar headers as text.
    entries.retain(|(header, _)| std::str::from_utf8(&header.name).is_ok());
    let (bytes, written) = written(&options(Compression::ZSTD), &entries);
    let chunked = written.chunked.as_ref().unwrap();
    let footer = Footer::read(&bytes, written.size).unwrap().unwrap();
    assert_eq!(footer.dialect, Dialect::ZstdChunked);
    assert_eq!(footer.toc, Some(Part { at: written.toc.clone(), plain: Some(written.toc_digest.size) }));
    assert_eq!(footer.split, Some(Part { at: chunked.split.clone(), plain: Some(chunked.split_plain) }));
    let frames = frames(&bytes);
    let end = frames[frames.len() - 3].start;
    assert_eq!(footer.payload, end as u64);
    let whole = [stream(&entries), tar::END.to_vec()].concat();
    assert!(inflate(&bytes) == whole, "the frames are another stream");
    assert_eq!(inflate(&bytes[frames[frames.len() - 4].clone()]), tar::END);

    let toc = inflate(&part(&bytes, &written.toc));
    assert_eq!(Digest::of(&toc), written.toc_digest);
    assert_eq!(Digest::of(&part(&bytes, &written.toc)).sha256, chunked.toc_frame);
    assert_eq!(open(&bytes).unwrap(), (read(&toc).unwrap(), written.toc_digest));
    assert!(toc.starts_with(br#"{"version":1,"entries":[{"name":"./","type":"dir","#));
    let read = read(&toc).unwrap();
    let mut told = read.iter().peekable();
    for (header, content) in &entries {
        let first = told.next().unwrap();
        assert_eq!(first.name, header.name);
        let mut chunks = vec![first];
        while let Some(chunk) = told.next_if(|next| next.kind == Kind::Chunk) {
            chunks.push(chunk);
        }
        let mut at = 0;
        for (number, chunk) in chunks.iter().enumerate().filter(|_| !content.is_empty()) {
            let size = if chunks.len() == 1 { content.len() } else { chunk.chunk_size as usize };
            let sha256 = Digest::of(&content[at..at + size]).sha256;
            assert_eq!(chunk.chunk_digest, (chunks.len() > 1).then_some(sha256));
            let place = frames.binary_search_by_key(&(chunk.offset as usize), |frame| frame.start).unwrap();
            assert_eq!(inflate(&bytes[frames[place].clone()])[..size], content[at..at + size]);
            let last = if number == 0 { chunks[chunks.len() - 1].offset as usize } else { frames[place].start };
            let last = frames.binary_search_by_key(&last, |frame| frame.start).unwrap();
            assert_eq!(chunk.end_offset as usize, frames[last].end);
            at += size;
        }
        assert_eq!(at, content.len());
    }
    let (at, digest) = (&written.toc, written.toc_digest);
    let position = format!("{}:{}:{}:1", at.start, at.end - at.start, digest.size);
    assert!(written.annotations().contains(&("io.github.containers.zstd-chunked.manifest-position", position)));
}

#[test]
fn the_stream_can_be_made_again_from_tar_split_data_and_contents() {
    let entries = corpus();
    let (bytes, written) = written(&options(Compression::ZSTD), &entries);
    let chunked = written.chunked.unwrap();
    let frame = part(&bytes, &chunked.split);
    let text = inflate(&part(&bytes, &written.toc));
    let mut toc = Entries::new(&text[..]);
    assert_eq!(toc.by_ref().filter(|entry| entry.as_ref().unwrap().kind != Kind::Chunk).count(), entries.len());
    assert_eq!(toc.tar_split(), Some(Digest::of(&frame).sha256));
    let lines = inflate(&frame);
    assert_eq!(lines.len() as u64, chunked.split_plain);
    let mut contents = entries.iter();
    let mut again = Vec::new();
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        match tar::split::parse(line).unwrap() {
            tar::split::Line::Raw(raw) => again.extend(raw),
            tar::split::Line::Content(stored) => {
                let (_, content) = contents.next().unwrap();
                let mut pouring = tar::split::Pouring::new(&stored);
                pouring.pour(content, &mut again).unwrap();
                pouring.finish().unwrap();
            }
        }
    }
    assert!(again == [stream(&entries), tar::END.to_vec()].concat());
}

#[test]
fn chunks_are_cut_and_share_members_as_told() {
    let entries = corpus();
    let mut counts = BTreeSet::new();
    for (chunk_size, min_chunk_size) in
        [(Some(65_536), 0), (Some(3_999_999), 0), (None, 50_000), (Some(100_000), 400_000), (None, 1 << 40)]
    {
        let options = Options { chunk_size, min_chunk_size, ..options(Compression::GZIP) };
        let (bytes, written) = written(&options, &entries);
        check(&bytes, &written, &entries, min_chunk_size > 0);
        counts.insert((written.chunks, members(&bytes).len()));
    }
    assert_eq!(counts.len(), 5);
}

#[test]
fn a_large_file_is_cut_every_128_kib_and_a_very_large_one_into_few_pieces() {
    let chunks = |size| {
        let entries = vec![file(b"a", &noise(size))];
        let (bytes, written) = written(&options(Compression::GZIP), &entries);
        check(&bytes, &written, &entries, false);
        written.chunks
    };
    assert_eq!([(512 << 10) - 1, 512 << 10, (640 << 10) + 1].map(chunks), [1, 4, 6]);
    let piece = |size| options(Compression::GZIP).piece_of(size);
    assert_eq!([64 << 20, (64 << 20) + 1, 1 << 30, 1 << 40].map(piece), [128 << 10, 256 << 10, 2 << 20, 2 << 20]);
}

#[test]
fn neither_threads_nor_their_timing_change_a_byte() {
    let entries = corpus();
    let once = written(&options(Compression::GZIP), &entries).0;
    for threads in [1, 3, 16] {
        assert!(written(&Options { threads, ..options(Compression::GZIP) }, &entries).0 == once);
    }
    let once = written(&options(Compression::ZSTD), &entries).0;
    assert!(written(&Options { threads: 1, ..options(Compression::ZSTD) }, &entries).0 == once);
}

#[test]
fn plain_tar_reads_an_archive() {
    let (bytes, _) = written(&options(Compression::GZIP), &corpus());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar.gz");
    std::fs::write(&path, bytes).unwrap();
    let output = std::process::Command::new("tar").arg("--list").arg("--file").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = output.stdout.split(|&byte| byte == b'\n').count() - 1;
    assert_eq!(listed, corpus().len() + 1);
}

#[test]
fn many_entries_without_content_make_no_endless_member() {
    let mut entries = vec![file(b"a", b"a")];
    entries.extend((0..30_000).map(|number| other(format!("d{number}").as_bytes(), tar::Kind::Directory)));
    let mtime = Time { sec: NOON, nsec: 0 };
    entries.iter_mut().for_each(|(header, _)| header.mtime = mtime);
    let (bytes, written) = written(&options(Compression::GZIP), &entries);
    check(&bytes, &written, &entries, false);
    let longest = members(&bytes).iter().rev().skip(2).map(|(_, plain)| plain.len()).max().unwrap();
    assert!(longest <= (4 << 20) + 2048, "{longest}");
}

#[test]
fn times_are_rounded_for_those_who_ask() {
    let mut entries = corpus();
    entries.truncate(4);
    entries[1].0.mtime = Time { sec: NOON, nsec: 499_999_999 };
    entries[2].0.mtime = Time { sec: NOON, nsec: 500_000_000 };
    entries[3].0.mtime = Time { sec: -2, nsec: 900_000_000 };
    let options = Options { compatible_times: true, ..options(Compression::GZIP) };
    let (read, _) = open(&written(&options, &entries).0).unwrap();
    let told: Vec<_> = read.iter().map(|entry| entry.mtime.unwrap()).collect();
    assert_eq!(told, [NOON, NOON, NOON + 1, -1].map(|sec| Time { sec, nsec: 0 }));
}

#[test]
fn an_archive_of_nothing_is_one_too() {
    let (bytes, written) = written(&options(Compression::GZIP), &Vec::new());
    assert_eq!((written.toc.start, written.chunks), (0, 0));
    assert_eq!(open(&bytes).unwrap().0, []);
}

#[test]
fn what_fails_ends_the_writing_and_says_so() {
    let run = |options: &Options, job: &Job, sink: &mut dyn FnMut(&[u8]) -> Result<()>, size: u64| {
        let content = noise(3 << 20);
        let kind = tar::Kind::Regular { size, holes: Vec::new() };
        write(options, None, job, sink, |writer| {
            (0..20).try_for_each(|_| writer.entry(&header(b"a\n", kind.clone()), &mut &content[..]))
        })
        .unwrap_err()
    };
    let good = options(Compression::GZIP);
    let mut nowhere = |_: &[u8]| Ok(());
    let full = 3 << 20;
    for size in [full + 1, 5 << 20] {
        let cut = run(&good, &Job::default(), &mut nowhere, size).to_string();
        assert_eq!(cut, "a\\n is damaged: its content is cut");
    }
    let stopped = Job::default();
    stopped.stop();
    assert!(matches!(run(&good, &stopped, &mut nowhere, full), Error::Stopped));
    let mut broken = |_: &[u8]| Err(Error::Missing { what: "the place".into() });
    assert!(matches!(run(&good, &Job::default(), &mut broken, full), Error::Missing { .. }));
    for bad in [
        Options { compression: Compression::Gzip(13), ..good.clone() },
        Options { compression: Compression::Zstd(0), ..good.clone() },
        Options { chunk_size: Some(4_000_000), ..good.clone() },
        Options { chunk_size: Some(65_535), ..good.clone() },
        Options { compression: Compression::ZSTD, min_chunk_size: 1, ..good.clone() },
    ] {
        assert!(matches!(run(&bad, &Job::default(), &mut nowhere, full), Error::Invalid { .. }), "{bad:?}");
    }
}

#[test]
fn a_spool_gives_back_what_went_through_a_file() {
    let bytes = noise(1 << 20);
    let mut spool = Spool::new(&std::env::temp_dir());
    (0..40).for_each(|_| spool.write_all(&bytes).unwrap());
    assert_eq!(spool.len(), 40 << 20);
    let (mut total, mut at) = (0, 0);
    spool
        .give(|mut piece| {
            total += piece.len();
            while !piece.is_empty() {
                let most = piece.len().min(bytes.len() - at);
                assert!(piece[..most] == bytes[at..at + most]);
                piece = &piece[most..];
                at = (at + most) % bytes.len();
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(total, 40 << 20);
    let mut nowhere = Spool::new(Path::new("/does/not/exist"));
    assert!((0..40).any(|_| nowhere.write_all(&bytes).is_err()));
}

#[test]
fn no_two_threads_give_a_file_the_same_name() {
    let names = || std::thread::spawn(|| (0..100).map(|_| unique()).collect::<Vec<_>>());
    let threads: Vec<_> = (0..4).map(|_| names()).collect();
    let all: std::collections::HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(all.len(), 400);
}
