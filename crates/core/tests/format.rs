//! The worked examples of docs/format.md, held against what the code writes and reads.

#![allow(clippy::unwrap_used, reason = "all of it is test code, also the helpers")]

use std::sync::Arc;

use sapwood_core::archive::frame::{self, FrameWriter};
use sapwood_core::archive::{Holds, Lying, PackWriter};
use sapwood_core::digest::{Digest, parse_hex};
use sapwood_core::directory::Directory;
use sapwood_core::filemap::{
    ChunkAt, Content, Entry, FileMap, FrameAt, Kind, MapWriter, PageRef, Summary, content_of, fence,
};
use sapwood_core::index;
use sapwood_core::job::Job;
use sapwood_core::push::{Fragment, FragmentWriter};
use sapwood_core::scan::Time;

const DOC: &str = include_str!("../../../docs/format.md");

/// The text of the example with this label.
fn example(label: &str) -> &'static str {
    let (_, rest) = DOC.split_once(&format!("```{label}\n")).unwrap_or_else(|| panic!("no example {label}"));
    rest.split_once("```").unwrap().0
}

fn bytes_of(label: &str) -> Vec<u8> {
    let digits: Vec<u8> = example(&format!("hex {label}")).bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The run that the examples are of.
const PUSH: &str = "00f1e2d3c4b5a697";

fn hi() -> Digest {
    Digest::of(b"hi\n")
}

fn tree() -> Digest {
    let mut root = Directory::default();
    root.directory(b"d", Digest::of(b""));
    root.file(b"a", hi(), true);
    root.digest()
}

#[test]
fn directory() {
    assert_eq!(Digest::of(&bytes_of("directory")), tree());
}

#[test]
fn tar_header_of_a_chunk() {
    let mut frames = FrameWriter::new(1);
    frames.add(hi(), b"hi\n");
    let frame = frames.seal();
    let plain = frame::open(&frame.bytes, frame.plain).unwrap();
    let header = bytes_of("tar-header");
    assert_eq!(plain[..header.len()], header);
    assert!(plain[header.len()..512].iter().all(|&byte| byte == 0));
    assert_eq!(&plain[512..515], b"hi\n");
}

#[test]
fn footer_of_a_pack() {
    let (mut frames, mut pack) = (FrameWriter::new(1), PackWriter::default());
    frames.add(hi(), b"hi\n");
    let place = pack.add(frames.seal(), Holds::Content)[0];
    frames.add(Digest::of(b"page\n"), b"page\n");
    let page = pack.add(frames.seal(), Holds::Page)[0];
    assert_eq!((place.offset, page.offset), (0, place.length));
    let bytes = pack.seal(PUSH).bytes;
    let footer = &bytes[bytes.len() - 48..];
    assert_eq!(&footer[..8], [0x50, 0x2a, 0x4d, 0x18, 0x28, 0, 0, 0]);
    assert_eq!(&footer[40..], b"SAPWPACK");
    let (at, length, size) = (u64_at(footer, 8) as usize, u64_at(footer, 16) as usize, u64_at(footer, 24));
    assert_eq!(u32_at(&bytes, at), 0x184d_2a50);
    assert_eq!(u32_at(&bytes, at + 4) as usize, length);
    let toc = frame::inflate("toc", &bytes[at + 8..at + 8 + length], size).unwrap();
    // Where the second frame begins is up to the compressor.
    let expected = example("text toc").trim_end().replace("\"offset\":127", &format!("\"offset\":{}", page.offset));
    assert_eq!(String::from_utf8(toc).unwrap(), expected);
}

fn entries() -> Vec<Entry> {
    let noon = Time { sec: 1_709_208_000, nsec: 0 };
    let pack = "b6705ba50837fa37b313cbf56cecd7c96cd3547f3e734dd2ac1ef9783487df1d";
    let frame = FrameAt { pack: Arc::new(parse_hex(pack).unwrap()), offset: 0, length: 121, plain: 1024 };
    let chunk = ChunkAt { digest: hi(), frame, inner: 512 };
    let entry = |path: &[u8], kind, mode, mtime| Entry {
        path: path.to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime,
        links: 1,
        xattrs: vec![],
    };
    let content = Content { digest: hi(), chunks: vec![chunk], holes: vec![] };
    let mut file = entry(b"a", Kind::Regular(content), 0o755, Time { nsec: 500_000_000, ..noon });
    (file.uid, file.gid) = (1000, 100);
    file.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
    vec![
        entry(b"", Kind::Directory { digest: Some(tree()) }, 0o755, noon),
        file,
        entry(b"d", Kind::Directory { digest: Some(Digest::of(b"")) }, 0o700, Time { sec: -1, nsec: 0 }),
        entry(b"l\xff", Kind::Symlink { target: b"a".to_vec() }, 0o777, noon),
    ]
}

#[test]
fn page_and_fence_are_written_and_read_as_shown() {
    let mut writer = MapWriter::new(4);
    for entry in &entries() {
        assert!(writer.push(entry).is_none());
    }
    let page = writer.finish().unwrap();
    assert_eq!(String::from_utf8(page.text.clone()).unwrap(), example("text page"));
    let pack = "51f3117ed24afc76a9f19bf8f532e84d662098a0ee6b3ff8564b4b9bebc07db8";
    let frame = FrameAt { pack: Arc::new(parse_hex(pack).unwrap()), offset: 0, length: 445, plain: 2048 };
    let at = PageRef { first: vec![], digest: page.digest, entries: page.entries, frame, inner: 512 };
    let summary = Summary { push: Some(PUSH.into()), tree: tree(), entries: 4, bytes: 3, tar: None };
    let text = fence(&summary, std::slice::from_ref(&at));
    assert_eq!(String::from_utf8(text.clone()).unwrap(), example("text fence"));
    // One that was pushed as a tar says more behind.
    let with_tar = Summary { tar: Some(Digest::of(&[0; 10240])), ..summary.clone() };
    let frame = FrameAt { offset: 445, length: 40, plain: 1536, ..at.frame.clone() };
    let split = PageRef { first: vec![], digest: Digest::of(b"page\n"), entries: 0, frame, inner: 512 };
    let told = fence(&with_tar, &[at.clone(), split.clone()]);
    assert_eq!(String::from_utf8(told.clone()).unwrap(), example("text fence-tar"));
    let map = FileMap::from_fence(&told).unwrap();
    assert_eq!((map.summary.tar, map.pages(), map.splits()), (with_tar.tar, &[at.clone()][..], &[split][..]));
    assert_eq!(FileMap::from_fence(&text).unwrap().splits(), []);
    // Maps from before there were pushes are without, and have the same content.
    let before = fence(&Summary { push: None, ..summary }, &[at]);
    assert_eq!(
        String::from_utf8(before.clone()).unwrap(),
        example("text fence").replace(&format!("\"push\":\"{PUSH}\","), "")
    );
    assert_eq!(content_of(&before), content_of(&text));
    assert_eq!(FileMap::from_fence(&before).unwrap().summary.push, None);

    let map = FileMap::from_fence(example("text fence").as_bytes()).unwrap();
    map.add_page(0, example("text page").as_bytes()).unwrap();
    assert_eq!(map.rows(0).unwrap(), entries());
    assert_eq!(map.find(b"").unwrap(), Some(1));
    assert_eq!(map.find(b"d").unwrap(), Some(3));
}

#[test]
fn fragment() {
    let pack = parse_hex("b6705ba50837fa37b313cbf56cecd7c96cd3547f3e734dd2ac1ef9783487df1d").unwrap();
    let lying = Lying { digest: hi(), offset: 0, length: 121, plain: 1024, inner: 512 };
    let large = Digest { sha256: [0x11; 32], size: 3 };
    let mut writer = FragmentWriter::default();
    writer.chunks(&pack, [lying]);
    writer.blob(large, vec![hi()]);
    assert_eq!(writer.finish(), bytes_of("fragment"));

    let read = Fragment::parse(bytes_of("fragment")).unwrap();
    assert_eq!((*read.pack(0), read.chunk(0)), (pack, (0, lying)));
    assert_eq!(read.blob(&large), Some(vec![hi()]));
}

#[test]
fn index_has_the_header_and_the_record_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (root, path) = (folder.path().join("tree"), folder.path().join("index"));
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::write(root.join("a"), "hi\n").unwrap();
    std::fs::set_permissions(root.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    index::hash(&root, Some(&path), &index::Options::new(1), &Job::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..64], bytes_of("index-header"));
    assert_eq!(bytes.len(), 64 + 3 * 128 + 2);

    // The record of `a`: all that does not depend on the place and the time is as shown.
    let (record, shown) = (&bytes[64 + 128..64 + 256], bytes_of("index-record"));
    assert_eq!(shown.len(), 128);
    for same in [4..8, 24..32, 56..98, 99..120] {
        assert_eq!(record[same.clone()], shown[same.clone()], "bytes {same:?}");
    }
    for record in [record, &shown] {
        let sum = crc32fast::hash(&record[4..]);
        assert_eq!(u32_at(record, 0), sum);
    }
    use std::os::unix::fs::MetadataExt;
    let stat = std::fs::symlink_metadata(root.join("a")).unwrap();
    assert_eq!((u64_at(record, 8), u64_at(record, 16)), (stat.dev(), stat.ino()));
    assert_eq!(u64_at(record, 32) as i64, stat.mtime());
    assert_eq!(u64_at(record, 48) as i64, stat.ctime());
    assert_eq!((u32_at(record, 40), u32_at(record, 44)), (stat.mtime_nsec() as u32, stat.ctime_nsec() as u32));
    assert_eq!((u32_at(record, 120), u32_at(record, 124)), (stat.uid(), stat.gid()));

    // The root: two entries from record 1 on, and the sum over their checksums.
    let root = &bytes[64..192];
    assert_eq!((u32_at(root, 104), u32_at(root, 108)), (1, 2));
    let sum = (0..2u64).fold(0u64, |sum, i| {
        let crc = u64::from(u32_at(&bytes, 64 + 128 * (1 + i as usize)));
        sum.wrapping_add(crc.wrapping_mul(2 * i + 1))
    });
    assert_eq!(u64_at(root, 112), sum);
    assert_eq!(root[56..88], tree().sha256);
}
