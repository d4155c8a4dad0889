//! What is fuzzed: each target takes any bytes, and what it finds wrong is a panic.
//!
//! Invariant: no input makes a target panic, take more memory than docs/archive.md says, or hang. Besides, laws: what is
//! accepted leads nowhere outside, and what was written is read back the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use sapwood_core::archive::frame::Form;
use sapwood_core::convert::{Out, convert as of_tar, input};
use sapwood_core::digest::Digest;
use sapwood_core::error::Error;
use sapwood_core::filemap::{self, FileMap, parent_and_name};
use sapwood_core::job::Job;
use sapwood_core::seek::{Found, SeekIndex};
use sapwood_core::serve::{Batch, Finding, Here, Piece, Staged};
use sapwood_core::stargz::{
    self, Compression, Dialect, Entries, Footer, Options, Part, Spelling, TocEntry, TocWriter, footer as footers,
};
use sapwood_core::tar::split::{Line, Pouring, SplitWriter, Stored, parse};
use sapwood_core::tar::{self as tars, BLOCK, Header, Reader, TreeBuilder};

pub type Target = fn(&[u8]);

/// Each target by its name.
pub const TARGETS: [(&str, Target); 9] = [
    ("seek", seek),
    ("lead", lead),
    ("footer", footer),
    ("toc", toc),
    ("tar", tar),
    ("members", members),
    ("convert", convert),
    ("split", split),
    ("calls", calls),
];

/// Contents and frames that are looked at have at most so many bytes: there is nothing to learn from more.
const MOST: u64 = 1 << 20;

fn number<const N: usize>(data: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = data.split_first_chunk::<N>()?;
    Some((head.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)), rest))
}

/// Calls of clients to a server of blobs.
pub fn calls(message: &[u8]) {
    let staged = Staged::default();
    let here = Here { staged: &staged, held: &[] };
    if let Some(finding) = Finding::of(message) {
        assert!(finding.answer(message, here).len() <= message.len() + 16);
    }
    if let Some(piece) = Piece::of(message) {
        assert!(piece.data.len() <= message.len() && message.get(piece.data).is_some());
    }
    let Some(mut batch) = Batch::of(message).filter(|batch| batch.size() < MOST) else { return };
    batch.prove(message);
    let (records, places) = batch.records(message, here);
    for (digest, at) in &places {
        assert_eq!(Digest::of(&records[*at..*at + usize::try_from(digest.size).expect("it is there")]), *digest);
    }
    staged.put_records(1, 0, &places);
    assert!(batch.records(message, here).0.is_empty());
    batch.answer(message, &BTreeMap::new());
}

/// The size of an archive, and its last bytes.
pub fn footer(data: &[u8]) {
    let Some((size, tail)) = number::<8>(data) else { return };
    let size = if tail.len() < footers::LONGEST { tail.len() as u64 } else { size.max(tail.len() as u64) };
    let tail = &tail[tail.len().saturating_sub(footers::LONGEST)..];
    if let Ok(Some(Footer { payload, toc, split, .. })) = Footer::read(tail, size) {
        assert!(payload <= size);
        for Part { at, .. } in toc.iter().chain(&split) {
            assert!(at.start < at.end && at.end < size && at.start >= payload);
        }
    }
    let at = size.saturating_sub(1);
    let archive_size = at.checked_add(52).filter(|_| at < u64::MAX / 2);
    if let Some(archive_size) = archive_size {
        let read = Footer::read(&footers::gzip(at), archive_size).expect("what was written is right");
        assert_eq!(read.map(|read| read.payload), Some(at));
    }
}

/// The text of a TOC.
pub fn toc(text: &[u8]) {
    let plain = [
        &tars::block(&tars::Fields {
            name: stargz::TOC_NAME,
            size: text.len() as u64,
            flag: b'0',
            ..Default::default()
        })[..],
        text,
    ]
    .concat();
    let member = stored(&plain);
    let payload = MOST;
    let end = payload + member.len() as u64;
    let part = Part { at: payload..end, plain: None };
    let footer = Footer { dialect: Dialect::Estargz, payload, toc: Some(part), split: None };
    let map = stargz::file_map(&footer, &member[..], member.len() as u64, false, &Job::default()).map(|(map, _)| map);
    if let Ok(map) = &map {
        is_sound(map, payload);
    }
    // What comes byte by byte is read by the slower of two ways.
    let all = |from: &mut dyn Read| Entries::new(from).collect::<Result<Vec<TocEntry>, Error>>();
    let (mut whole, mut trickle) = (text, Trickle(text));
    let (entries, again) = (all(&mut whole), all(&mut trickle));
    assert_eq!(entries.as_ref().ok(), again.as_ref().ok());
    let Ok(entries) = entries else { return };
    if let Ok(map) = &map {
        is_the_tree_of(map, &entries, payload);
    }
    let sayable: Vec<TocEntry> = entries.into_iter().filter_map(sayable).collect();
    for spelling in [Spelling::Lines, Spelling::OneLine] {
        let mut spelled = Vec::new();
        let mut writer = TocWriter::begin(spelling, &mut spelled);
        sayable.iter().for_each(|entry| writer.entry(&mut spelled, entry));
        writer.end(&mut spelled, None);
        let read: Vec<TocEntry> =
            Entries::new(&spelled[..]).collect::<Result<_, _>>().expect("what was spelled can be read");
        assert_eq!(read, sayable);
    }
}

struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(1);
        self.0.read(&mut out[..most])
    }
}

/// The names are those that remain when the entries are unpacked one after the other.
fn is_the_tree_of(map: &FileMap, entries: &[TocEntry], payload: u64) {
    let mut builder = TreeBuilder::new("test");
    for file in stargz::Files::new(entries.iter().cloned().map(Ok), payload) {
        builder.push(&file.expect("the map has it").header).expect("the map has it");
    }
    let tree = builder.finish().expect("the map has it");
    let mut names: Vec<Vec<u8>> = tree.entries.into_iter().map(|placed| placed.name).chain(tree.invented).collect();
    names.push(Vec::new());
    names.sort();
    names.dedup();
    let mut found: Vec<Vec<u8>> = rows(map).map(|row| row.path.clone()).collect();
    found.sort();
    assert_eq!(found, names);
}

/// An entry of a TOC as a writer has it: the name of a chunk is not heeded, and links are to something.
fn sayable(mut entry: TocEntry) -> Option<TocEntry> {
    match entry.kind {
        stargz::Kind::Chunk => entry.name = b"chunk".to_vec(),
        stargz::Kind::HardLink if entry.link.is_empty() => return None,
        _ => {}
    }
    // Years that four digits cannot say.
    entry.mtime = entry.mtime.filter(|time| (-62_167_219_200..253_402_300_800).contains(&time.sec));
    Some(entry)
}

/// A gzip member of bytes as they are.
fn stored(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut left = plain;
    loop {
        let (now, later) = left.split_at(left.len().min(0xffff));
        let length = now.len() as u16;
        out.push(u8::from(later.is_empty()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(now);
        left = later;
        if left.is_empty() {
            break;
        }
    }
    let mut sum = !0u32;
    for &byte in plain {
        sum ^= u32::from(byte);
        (0..8).for_each(|_| sum = sum >> 1 ^ (0xedb8_8320 & (sum & 1).wrapping_neg()));
    }
    out.extend_from_slice(&(!sum).to_le_bytes());
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    out
}

fn rows(map: &FileMap) -> impl Iterator<Item = &filemap::Entry> {
    (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap_or_else(|_| panic!("all is there")))
}

/// Every entry in order, below a directory, and all its frames before `payload`.
fn is_sound(map: &FileMap, payload: u64) {
    let rows = || rows(map);
    let find = |path: &[u8]| map.find(path).ok().flatten().and_then(|inode| map.entry(inode).ok().flatten());
    assert!(rows().next().is_some_and(|root| root.path.is_empty()));
    assert!(
        rows().map(|row| parent_and_name(&row.path)).is_sorted_by(|a, b| a < b || a.0.is_empty() && a.1.is_empty())
    );
    let mut bytes = 0;
    for row in rows() {
        assert_eq!(tars::clean(&row.path).as_ref(), Ok(&row.path));
        let parent = find(parent_and_name(&row.path).0).expect("each parent is there");
        assert!(matches!(parent.kind, filemap::Kind::Directory { .. }));
        match &row.kind {
            filemap::Kind::HardLink { first } => {
                let first = find(first).expect("the first name is there");
                assert!(!matches!(first.kind, filemap::Kind::HardLink { .. } | filemap::Kind::Directory { .. }));
            }
            filemap::Kind::Regular(content) => {
                let size: u64 = content.chunks.iter().map(|chunk| chunk.digest.size).sum();
                assert_eq!(size, content.digest.size);
                bytes += size;
                for chunk in &content.chunks {
                    assert!(chunk.frame.offset + u64::from(chunk.frame.length) <= payload);
                    assert!(u64::from(chunk.inner) + chunk.digest.size <= u64::from(chunk.frame.plain));
                }
            }
            _ => {}
        }
    }
    // A seek index may say another: nobody reckons with it.
    assert!(bytes == map.summary.bytes || map.form == Form::Led);
    assert_eq!(rows().count() as u64, map.summary.entries);
}

/// A tar, with the right sum in each header that has none.
fn summed(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    for block in out.chunks_exact_mut(BLOCK).filter(|block| block[148..156] == [0; 8] && block[0] != 0) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    out
}

/// What a stream has, in order: entries with their contents and what it has of them, between them what is no content.
struct Taken {
    entries: Vec<(Header, Vec<u8>)>,
    raw: Vec<Vec<u8>>,
    stored: Vec<Stored>,
}

/// `None` when it is refused, or has more than is looked at.
fn take(stream: &[u8]) -> Option<Taken> {
    let mut out = Taken { entries: Vec::new(), raw: Vec::new(), stored: Vec::new() };
    let mut reader = Reader::keeping_raw("test", stream);
    while let Some(header) = reader.next_entry().ok()? {
        assert_eq!(tars::clean(&header.name).as_ref(), Ok(&header.name));
        assert!(header.mode <= 0o7777 && header.mtime.nsec < 1_000_000_000);
        out.raw.push(reader.take_raw());
        let mut content = Vec::new();
        if header.size() > MOST {
            reader.skip_content().ok()?;
            return None;
        }
        reader.content().read_to_end(&mut content).ok()?;
        assert_eq!(content.len() as u64, header.size());
        let (size, crc) = reader.stored();
        let holes = if let tars::Kind::Regular { holes, .. } = &header.kind { holes.clone() } else { Vec::new() };
        out.stored.push(Stored { name: reader.raw_name().to_vec(), size, crc, holes });
        out.entries.push((header, content));
    }
    let mut end = reader.take_raw();
    let mut rest = [0; 1000];
    while let count @ 1.. = reader.rest(&mut rest).ok()? {
        end.extend_from_slice(&rest[..count]);
    }
    out.raw.push(end);
    Some(out)
}

/// A plain tar.
pub fn tar(data: &[u8]) {
    let stream = summed(data);
    let Some(Taken { mut entries, raw, stored }) = take(&stream) else { return };
    let mut again = Vec::new();
    for ((between, stored), (_, content)) in raw.iter().zip(&stored).zip(&entries) {
        again.extend_from_slice(between);
        let mut pouring = Pouring::new(stored);
        pouring.pour(content, &mut again).expect("it is the content");
        pouring.finish().expect("it is the content");
    }
    again.extend_from_slice(raw.last().expect("there is an end"));
    assert!(again == stream, "the pieces of a stream go together again");

    let mut tree = TreeBuilder::new("test");
    if entries.iter().try_for_each(|(header, _)| tree.push(header)).is_ok()
        && let Ok(tree) = tree.finish()
    {
        let names: std::collections::HashSet<_> = tree.entries.iter().map(|placed| &placed.name).collect();
        assert_eq!(names.len(), tree.entries.len());
        for (at, placed) in tree.entries.iter().enumerate() {
            assert!((placed.entry as usize) < entries.len());
            assert!(
                placed.first.is_none_or(|first| (first as usize) < at && tree.entries[first as usize].first.is_none())
            );
        }
    }

    let mut written = Vec::new();
    for (header, content) in &mut entries {
        if let tars::Kind::Regular { holes, .. } = &mut header.kind {
            holes.clear();
        }
        // A device that no header can name.
        let Ok(()) = tars::push_header(&mut written, header) else { return };
        written.extend_from_slice(content);
        written.resize(written.len() + tars::padding(header.size()), 0);
    }
    written.extend_from_slice(&tars::END);
    assert_eq!(take(&written).expect("what was written can be read").entries, entries);
}

/// How many bytes of a frame stand before a chunk, how many it has, and the frame.
pub fn members(data: &[u8]) {
    let Some((inner, rest)) = number::<2>(data) else { return };
    let Some((size, frame)) = number::<2>(rest) else { return };
    if let Ok(plain) = Form::Archive.open(frame, (inner + size) as u32) {
        assert_eq!(plain.len() as u64, inner + size);
        assert_eq!(
            &Form::Archive.open(frame, inner as u32).expect("a part of it can be read")[..],
            &plain[..inner as usize]
        );
    }
    let _ = Form::Pack.open(frame, (inner + size) as u32);
}

/// How it is converted, and a tar in any compression.
pub fn convert(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let archive = |input: &[u8], copy| {
        let options = Options {
            compression: if how & 1 == 0 { Compression::GZIP } else { Compression::ZSTD },
            chunk_size: (how & 2 != 0).then_some(64 << 10),
            min_chunk_size: if how & 5 == 4 { 4096 } else { 0 },
            compatible_times: how & 9 == 8,
            copy,
            threads: 1,
            temporary: std::env::temp_dir(),
        };
        let (input, output) = (held(input), held(b""));
        let mut out = Out::new(output.try_clone().expect("a descriptor"), "out".into()).expect("it is a file");
        let made = of_tar("in", &input, false, &[], &options, &mut out, &Job::default()).ok()?;
        assert_eq!(output.metadata().expect("it is a file").len(), made.written.size);
        let mut bytes = vec![0; made.written.size as usize];
        output.read_exact_at(&mut bytes, 0).expect("it is all there");
        Some((bytes, made))
    };
    let copied = how & 16 != 0;
    let summed = summed(data);
    if !is_small(&summed) {
        return;
    }
    let Some((bytes, made)) = archive(&summed, copied) else { return };
    let size = bytes.len() as u64;
    let tail = &bytes[bytes.len().saturating_sub(footers::LONGEST)..];
    let footer = Footer::read(tail, size).expect("it has a footer").expect("it has a footer");
    let at = footer.toc.clone().expect("it has a TOC").at;
    let toc = &bytes[at.start as usize..at.end as usize];
    match stargz::file_map(&footer, toc, toc.len() as u64, false, &Job::default()) {
        Ok((map, digest)) => {
            assert_eq!(digest, made.written.toc_digest);
            is_sound(&map, footer.payload);
            // What was sparse is plain in the tar, and stays so.
            if rows(&map).any(|row| matches!(&row.kind, filemap::Kind::Regular(content) if !content.holes.is_empty())) {
                return;
            }
        }
        // Owners beyond 32 bits, which a tar may have and no file.
        Err(error) => assert!(error.to_string().contains("no such number here"), "{error}"),
    }
    // Members that were taken over may be such as we never write.
    for copy in [copied, true] {
        let (again, _) = archive(&bytes, copy).expect("an archive is a tar");
        assert!(again == bytes, "an archive is converted to itself");
    }
}

/// Whether the contents of a tar in any compression are together no more than is looked at.
fn is_small(stored: &[u8]) -> bool {
    let Ok(plain) = input::plain(stored, None) else { return true };
    let mut reader = Reader::new("in", plain);
    let mut all = 0_u64;
    while let Ok(Some(header)) = reader.next_entry() {
        all = all.saturating_add(header.size());
        if all > MOST {
            return false;
        }
    }
    true
}

/// A file in memory.
fn held(bytes: &[u8]) -> File {
    let file = File::from(rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory"));
    file.write_all_at(bytes, 0).expect("there is memory");
    file
}

/// The text of a seek index.
pub fn seek(text: &[u8]) {
    // Where windows would be.
    const BEFORE: u64 = 4096;
    let frame = raw_frame(text);
    let mut footer = vec![0x50, 0x2a, 0x4d, 0x18, 72, 0, 0, 0];
    for number in [BEFORE, frame.len() as u64, text.len() as u64] {
        footer.extend_from_slice(&number.to_le_bytes());
    }
    footer.extend_from_slice(&Digest::of(text).sha256);
    footer.extend_from_slice(&1u64.to_le_bytes());
    footer.extend_from_slice(b"SAPWSEEK");
    let size = BEFORE + (frame.len() + footer.len()) as u64;
    let found = Found::read(&footer, size).expect("the footer is right");
    let Ok((index, map)) = SeekIndex::open(&found, &frame, false, &Job::default()) else { return };
    is_sound(&map, u64::MAX);
    for row in rows(&map) {
        let filemap::Kind::Regular(content) = &row.kind else { continue };
        for chunk in &content.chunks {
            let (_, rest) = index.lead(chunk.frame.offset).expect("each frame can be entered");
            assert!(rest.start <= rest.end && rest.end <= BEFORE);
        }
    }
}

/// A zstd frame of bytes as they are.
fn raw_frame(plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    let mut left = plain;
    loop {
        let (now, later) = left.split_at(left.len().min(100_000));
        let head = u32::from(later.is_empty()) | (now.len() as u32) << 3;
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(now);
        left = later;
        if left.is_empty() {
            return out;
        }
    }
}

/// How many plain bytes are wanted of a frame, and it, with its lead.
pub fn lead(data: &[u8]) {
    let Some((plain, led)) = number::<2>(data) else { return };
    if let Ok(opened) = Form::Led.open(led, plain as u32) {
        assert_eq!(opened.len() as u64, plain);
        let part = Form::Led.open(led, plain as u32 / 2).expect("a part of it can be read");
        assert_eq!(&part[..], &opened[..plain as usize / 2]);
    }
}

/// Lines of split metadata.
pub fn split(data: &[u8]) {
    for line in data.split(|&byte| byte == b'\n') {
        let Ok(said) = parse(line) else { continue };
        let (mut lines, mut writer) = (Vec::new(), SplitWriter::default());
        match &said {
            Line::Raw(raw) => writer.raw(&mut lines, raw),
            Line::Content(stored) => {
                let mut pouring = Pouring::new(stored);
                let mut out = Vec::new();
                for _ in 0..3 {
                    if pouring.pour(&[0; 400], &mut out).is_err() {
                        break;
                    }
                }
                assert!(out.len() as u64 <= stored.size);
                let _ = pouring.finish();
                writer.content(&mut lines, stored);
            }
        }
        writer.finish(&mut lines);
        let read: Vec<Line> = (lines.split_inclusive(|&byte| byte == b'\n'))
            .map(|line| parse(line).expect("what was written can be read"))
            .collect();
        match (said, &read[..]) {
            // Nothing is no line, and much is several.
            (Line::Raw(raw), read) => {
                let all: Vec<u8> = (read.iter())
                    .flat_map(|line| if let Line::Raw(raw) = line { raw.clone() } else { panic!("it is raw") })
                    .collect();
                assert!(all == raw);
            }
            (Line::Content(mut stored), [Line::Content(again)]) => {
                stored.crc *= u64::from(stored.size > 0);
                assert_eq!(&stored, again);
            }
            (_, read) => panic!("one content is {} lines", read.len()),
        }
    }
}
