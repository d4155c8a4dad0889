use std::sync::Arc;

use super::*;
use crate::digest::Digest;
use crate::error::Error;
use crate::scan::Time;

fn entry(path: &str, kind: Kind) -> Entry {
    let mtime = Time { sec: 1_709_208_000, nsec: 1 };
    Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 5, mtime, links: 1, xattrs: Vec::new() }
}

fn directory(path: &str) -> Entry {
    entry(path, Kind::Directory { digest: Some(Digest::of(path.as_bytes())) })
}

fn file(path: &str, text: &str) -> Entry {
    let digest = Digest::of(text.as_bytes());
    let frame = FrameAt { pack: Arc::new([9; 32]), offset: 70, length: 200, plain: 4096 };
    let chunks = if text.is_empty() { vec![] } else { vec![ChunkAt { digest, frame, inner: 512 }] };
    entry(path, Kind::Regular(Content { digest, chunks, holes: vec![] }))
}

/// The pages of a map of `entries`.
fn pages_of(entries: &[Entry]) -> (Vec<PageText>, u64, u64) {
    let (mut writer, mut pages) = (MapWriter::new(entries.len() as u64), Vec::new());
    pages.extend(entries.iter().filter_map(|entry| writer.push(entry)));
    pages.extend(writer.finish());
    (pages, entries.len() as u64, entries.iter().filter(|entry| !entry.is_directory()).map(Entry::size).sum())
}

fn fence_of(map: &FileMap) -> Vec<u8> {
    fence(&map.summary, map.pages())
}

/// A map of `entries`, with its pages brought.
fn map_of(entries: &[Entry]) -> FileMap {
    let (pages, count, bytes) = pages_of(entries);
    let at = |(number, page): (usize, &PageText)| PageRef {
        first: page.first.clone(),
        digest: page.digest,
        entries: page.entries,
        frame: FrameAt { pack: Arc::new([8; 32]), offset: number as u64, length: 10, plain: 16 << 20 },
        inner: 512,
    };
    let refs: Vec<PageRef> = pages.iter().enumerate().map(at).collect();
    let map = FileMap::from_fence(&fence(
        &Summary { push: None, tree: Digest::of(b"tree"), entries: count, bytes, tar: None },
        &refs,
    ))
    .unwrap();
    assert_eq!(map.pages(), refs);
    for (number, page) in pages.iter().enumerate() {
        map.add_page(number, &page.text).unwrap();
    }
    map
}

fn all(map: &FileMap) -> Vec<Entry> {
    (0..map.pages().len()).flat_map(|page| map.rows(page).unwrap().to_vec()).collect()
}

#[test]
fn every_kind_with_every_field_comes_back_exactly() {
    let frame = FrameAt { pack: Arc::new([1; 32]), offset: 0, length: 9, plain: 2_000_000 };
    let piece = |text: &[u8], inner| ChunkAt { digest: Digest::of(text), frame: frame.clone(), inner };
    let content = Content {
        digest: Digest { sha256: [3; 32], size: 7 },
        chunks: vec![piece(b"abc", 512), piece(b"defg", 1024)],
        holes: vec![(0, 2), (3, 4)],
    };
    let mut odd = entry("odd", Kind::Fifo);
    odd.path = b"odd \xff\xed\xb2\x80\"\\\n\x01 \xe2\x82\xac \\udc80 \\xff".to_vec();
    odd.xattrs = vec![(b"user.a".to_vec(), vec![0, 255]), (b"user.\xfe".to_vec(), vec![])];
    odd.links = 3;
    let mut old = entry("old", Kind::CharDevice { major: 1, minor: 3 });
    old.mtime = Time { sec: -1, nsec: 999_999_999 };
    let mut entries = vec![
        directory(""),
        entry("big", Kind::Regular(content)),
        entry("block", Kind::BlockDevice { major: 8, minor: 0 }),
        directory("d"),
        file("empty", ""),
        entry("link", Kind::Symlink { target: b"../\xffx".to_vec() }),
        odd,
        old,
        file("d/a", "text"),
    ];
    let hard = Kind::HardLink { first: b"d/a".to_vec() };
    let zero = Time { sec: 0, nsec: 0 };
    entries.push(Entry { gid: 0, mtime: zero, ..entry("d/hard", hard) });
    assert_eq!(all(&map_of(&entries)), entries);
}

#[test]
fn lookups_agree_with_a_plain_list_over_many_pages() {
    let mut paths: Vec<String> = vec![String::new()];
    for d in 0..40 {
        paths.push(format!("d{d}"));
        paths.push(format!("d{d}/sub"));
        paths.extend((0..d * 11).map(|f| format!("d{d}/file-{f:03}-with-a-name-of-some-length")));
    }
    paths.sort_by(|a, b| parent_and_name(a.as_bytes()).cmp(&parent_and_name(b.as_bytes())));
    let is_directory = |path: &str| path.is_empty() || path.ends_with("sub") || !path.contains('/');
    let entries: Vec<Entry> =
        paths.iter().map(|path| if is_directory(path) { directory(path) } else { file(path, path) }).collect();
    let map = map_of(&entries);
    let texts: Vec<Vec<u8>> = pages_of(&entries).0.into_iter().map(|page| page.text).collect();
    assert!(map.pages().len() > 10);
    for path in &paths {
        let inode = map.find(path.as_bytes()).unwrap().unwrap();
        assert_eq!(map.entry(inode).unwrap().unwrap().path, path.as_bytes());
        if !is_directory(path) {
            continue;
        }
        let children: Vec<_> = map.children(path.as_bytes()).unwrap().iter().map(|(_, e)| e.path.clone()).collect();
        let expected = paths.iter().filter(|p| !p.is_empty() && parent_and_name(p.as_bytes()).0 == path.as_bytes());
        assert_eq!(children, expected.map(|p| p.clone().into_bytes()).collect::<Vec<_>>(), "{path}");
        let pages = map.pages_of(path.as_bytes());
        // They suffice: nothing else is needed to list the directory.
        let few = FileMap::from_fence(&fence_of(&map)).unwrap();
        pages.clone().for_each(|page| few.add_page(page, &texts[page]).unwrap());
        assert_eq!(few.children(path.as_bytes()).map(|list| list.len()), Ok(children.len()));
        for (inode, _) in map.children(path.as_bytes()).unwrap() {
            assert!(pages.contains(&place_of(inode).unwrap().0));
        }
    }
    assert_eq!(map.find(b"d3/none").unwrap(), None);
    assert_eq!(map.find(b"").unwrap(), Some(1));
    assert_eq!(map.entry(0).unwrap(), None);
    assert_eq!(map.entry(u64::MAX).unwrap(), None);
}

#[test]
fn the_row_of_a_very_large_file_may_make_a_very_large_page() {
    let piece = |n: u32| {
        let frame = FrameAt { pack: Arc::new([7; 32]), offset: n.into(), length: 9, plain: 2048 };
        ChunkAt { digest: Digest { sha256: [n as u8; 32], size: 100 }, frame, inner: 512 }
    };
    let digest = Digest { sha256: [1; 32], size: 3_000_000 };
    let content = Content { digest, chunks: (0..30_000).map(piece).collect(), holes: vec![] };
    let entries = [directory(""), entry("huge", Kind::Regular(content)), file("next", "x")];
    let map = map_of(&entries);
    assert!(map.pages()[0].digest.size > crate::archive::MAX_FRAME as u64);
    assert_eq!(all(&map), entries);
}

#[test]
fn a_change_leaves_the_other_pages_as_they_were() {
    let mut entries = vec![directory("")];
    entries.extend((0..5000).map(|n| file(&format!("file-{n:05}"), &n.to_string())));
    let digests = |entries: &[Entry]| -> std::collections::HashSet<Digest> {
        map_of(entries).pages().iter().map(|page| page.digest).collect()
    };
    let before = digests(&entries);
    entries.insert(2500, file("file-02498a", "new"));
    assert!(digests(&entries).difference(&before).count() <= 2);
}

#[test]
fn a_page_that_is_not_here_is_asked_for() {
    let brought = map_of(&[directory(""), file("a", "a")]);
    let map =
        FileMap::from_fence(&fence(&Summary { entries: 2, bytes: 1, ..brought.summary.clone() }, brought.pages()))
            .unwrap();
    assert_eq!(map.find(b"a"), Err(Missing(0)));
    assert!(matches!(map.add_page(0, b"other\n"), Err(Error::Mismatch { .. })));
    assert_eq!(map.find(b"a"), Err(Missing(0)));
}

/// The page of `lines`, named by its own digest: what a hostile store could serve.
#[test]
fn of_two_directories_what_may_differ_is_given_in_order_and_nothing_else() {
    let link = |first: &str| entry("d/h", Kind::HardLink { first: first.into() });
    let symlink = |target: &str| entry("d/s", Kind::Symlink { target: target.into() });
    let device = |minor| entry("d/null", Kind::CharDevice { major: 1, minor });
    let root = || entry("", Kind::Directory { digest: Some(Digest::of(b"")) });
    let map = |entries: Vec<Entry>| map_of(&[vec![root(), directory("d"), file("first", "")], entries].concat());
    let unknown = entry("d/u", Kind::Directory { digest: None });
    let old =
        map(vec![file("d/a", "1"), directory("d/b"), file("d/c", "c"), link("first"), symlink("x"), file("d/z", "")]);
    let mut touched = file("d/c", "c");
    (touched.mtime.sec, touched.uid) = (1, 1);
    let executable = Entry { mode: 0o755, ..file("d/z", "") };
    let new = map(vec![directory("d/b"), touched, link("first"), device(3), symlink("y"), executable]);
    let names = |a: &FileMap, b: &FileMap| -> Vec<(Option<String>, Option<String>)> {
        let (mine, theirs) = (nodes_of_map(a, b"d").unwrap(), nodes_of_map(b, b"d").unwrap());
        let name = |node: Node<'_>| String::from_utf8(node.entry().unwrap().name().to_vec()).unwrap();
        differing(&mine, &theirs).into_iter().map(|(a, b)| (a.map(name), b.map(name))).collect()
    };
    let pair = |a: &str, b: &str| {
        let some = |name: &str| (!name.is_empty()).then(|| name.to_string());
        (some(a), some(b))
    };
    assert_eq!(names(&old, &new), [pair("a", ""), pair("h", "h"), pair("", "null"), pair("s", "s"), pair("z", "z")]);
    let devices = (map(vec![device(3)]), map(vec![device(5)]));
    assert_eq!(names(&devices.0, &devices.1), [pair("null", "null")]);
    assert_eq!(names(&devices.0, &devices.0), []);
    let unknowns = [Node::Entry(&unknown)];
    assert_eq!(differing(&unknowns, &unknowns).len(), 1, "what is not known is not equal");
}

fn hostile(lines: &str) -> crate::error::Result<()> {
    let text =
        format!("{{\"format\":1,\"packs\":[\"{}\"],\"frames\":[[0,0,9,1000]]}}\n{lines}", crate::digest::hex(&[1; 32]));
    let page = PageRef {
        first: Vec::new(),
        digest: Digest::of(text.as_bytes()),
        entries: lines.lines().count() as u32,
        frame: FrameAt { pack: Arc::new([1; 32]), offset: 0, length: 9, plain: 1 << 20 },
        inner: 512,
    };
    let map = FileMap::from_fence(&fence(
        &Summary { push: None, tree: Digest::of(b""), entries: page.entries.into(), bytes: 0, tar: None },
        &[page],
    ))
    .unwrap();
    map.add_page(0, text.as_bytes())
}

#[test]
fn hostile_pages_are_refused() {
    let sha = format!("\"digest\":\"sha256:{}\"", crate::digest::hex(&[2; 32]));
    let time = "\"modtime\":\"2024-02-29T12:00:00Z\"";
    let root = format!("{{\"name\":\".\",\"type\":\"dir\",{time},\"mode\":493,{sha}}}\n");
    hostile(&root).unwrap();
    let rows = [
        format!("{{\"name\":\"../x\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\"/x\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\"a//b\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\"a\\u0000\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\"\\ud800\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\"\\udc41\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\".\",\"type\":\"dir\",{time},{sha}}}\n"),
        format!(
            "{{\"name\":\"a\",\"type\":\"reg\",{time},\"size\":2305843009213693952,{sha},\"frame\":0,\"innerOffset\":512}}\n"
        ),
        format!("{{\"name\":\"a\",\"type\":\"reg\",{time},\"size\":600,{sha},\"frame\":0,\"innerOffset\":512}}\n"),
        format!("{{\"name\":\"a\",\"type\":\"reg\",{time},\"size\":6,{sha},\"frame\":7,\"innerOffset\":512}}\n"),
        format!("{{\"name\":\"a\",\"type\":\"reg\",{time},\"size\":6,{sha}}}\n"),
        format!("{{\"name\":\"a\",\"type\":\"reg\",{time},\"size\":0,{sha},\"holes\":[[0,1]]}}\n"),
        "{\"name\":\"a\",\"type\":\"hardlink\",\"linkName\":\"../b\"}\n".into(),
        "{\"name\":\"a\",\"type\":\"hardlink\",\"linkName\":\"a\"}\n".into(),
        format!("{{\"name\":\"a\",\"type\":\"fifo\",{time},\"mode\":99999}}\n"),
        "{\"name\":\"a\",\"type\":\"fifo\",\"modtime\":\"2024-13-29T12:00:00Z\"}\n".into(),
        format!("{{\"name\":\"a\",\"type\":\"socket\",{time}}}\n"),
        "null\n".into(),
        format!("{{\"name\":\"b\",\"type\":\"fifo\",{time}}}\n{{\"name\":\"a\",\"type\":\"fifo\",{time}}}\n"),
        format!("{{\"name\":\"a\",\"type\":\"fifo\",{time}}}\n{{\"name\":\"a\",\"type\":\"fifo\",{time}}}\n"),
    ];
    for row in rows {
        assert!(matches!(hostile(&format!("{root}{row}")), Err(Error::Damaged { .. })), "{row}");
    }
    assert!(matches!(FileMap::from_fence(b"{\"format\":2}\n"), Err(Error::NewerFormat { version: 2, .. })));
    assert!(matches!(FileMap::from_fence(b""), Err(Error::Damaged { .. })));
}

#[test]
fn times_are_spelled_as_rfc_3339() {
    let spell = |sec, nsec| {
        let mut out = Vec::new();
        super::text::push_time(&mut out, Time { sec, nsec });
        let text = String::from_utf8(out).unwrap();
        let text = text.trim_matches('"').to_string();
        (super::text::parse_time(&text).unwrap(), text)
    };
    let cases = [
        (0, 0, "1970-01-01T00:00:00Z"),
        (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
        (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
        (-62_167_219_200, 0, "0000-01-01T00:00:00Z"),
        (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
    ];
    for (sec, nsec, text) in cases {
        assert_eq!(spell(sec, nsec), (Time { sec, nsec }, text.to_string()));
    }
    assert_eq!(spell(i64::MAX, 5).1, "9999-12-31T23:59:59.999999999Z");
    assert_eq!(spell(i64::MIN, 5).1, "0000-01-01T00:00:00Z");
}

#[test]
fn a_frame_behind_the_first_4_gib_of_a_pack_is_refused() {
    for (offset, is_good) in [(u64::from(u32::MAX), true), (1 << 32, false)] {
        let mut late = file("f", "content");
        let Kind::Regular(content) = &mut late.kind else { unreachable!() };
        content.chunks[0].frame.offset = offset;
        let page = page_of(&[directory(""), late]).unwrap();
        assert_eq!(page_alone(&page.text, page.digest).is_ok(), is_good);
    }
}

#[test]
fn fences_of_tars_that_contradict_themselves_are_refused() {
    let (pages, count, bytes) = pages_of(&[directory("")]);
    let frame = FrameAt { pack: Arc::new([8; 32]), offset: 0, length: 10, plain: 4096 };
    let page = PageRef { first: Vec::new(), digest: pages[0].digest, entries: 1, frame: frame.clone(), inner: 512 };
    let split = |text: &[u8]| PageRef {
        first: Vec::new(),
        digest: Digest::of(text),
        entries: 0,
        frame: frame.clone(),
        inner: 512,
    };
    let tar = Some(Digest::of(b"tar"));
    let summary = Summary { push: None, tree: Digest::of(b"tree"), entries: count, bytes, tar };
    let text = String::from_utf8(fence(&summary, &[page, split(b"a"), split(b"b")])).unwrap();
    let map = FileMap::from_fence(text.as_bytes()).unwrap();
    assert_eq!((map.pages().len(), map.splits().len(), map.stored().len()), (1, 2, 3));
    map.add_page(1, b"a").unwrap();
    assert!(matches!(map.add_page(2, b"a"), Err(Error::Mismatch { .. })));
    assert_eq!(fence(&map.summary, map.stored()), text.as_bytes());
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let refused = [
        [lines[0], lines[2], lines[1], lines[3]].concat(),
        [lines[0], lines[1], lines[3], lines[2]].concat(),
        lines[..2].concat(),
        text.replace("\"tar\":", "\"rat\":"),
        text.replace("\"split\":1", "\"split\":2"),
        text.replace("\"split\":0", "\"split\":0,\"entries\":1"),
    ];
    for text in refused {
        assert!(matches!(FileMap::from_fence(text.as_bytes()), Err(Error::Damaged { .. })), "{text}");
    }
}

#[test]
fn what_stands_in_a_tar_is_told_by_its_split_metadata() {
    use crate::tar::split::{SplitWriter, Stored};
    let frame = FrameAt { pack: Arc::new([9; 32]), offset: 70, length: 200, plain: 4096 };
    let chunk = |text: &[u8], inner| ChunkAt { digest: Digest::of(text), frame: frame.clone(), inner };
    let (one, two) = (chunk(b"0123456789", 512), chunk(b"abcdef", 1536));
    let content =
        Content { digest: Digest::of(b"0123456789abcdef"), chunks: vec![one.clone(), two.clone()], holes: vec![] };
    let mut link = entry("link", Kind::HardLink { first: b"a".to_vec() });
    link.mtime = Time { sec: 0, nsec: 0 };
    let map = map_of(&[directory(""), entry("a", Kind::Regular(content)), link]);
    let stored = |name: &[u8], size, holes| Stored { name: name.to_vec(), size, crc: 7, holes };
    let told = |stored: &Stored| {
        let (mut writer, mut lines) = (SplitWriter::default(), Vec::new());
        writer.raw(&mut lines, b"header");
        writer.flush(&mut lines);
        writer.raw(&mut lines, b" and more");
        writer.content(&mut lines, stored);
        parts(&map, &lines)
    };
    let raw = Part::Raw(b"header and more".to_vec());
    let whole = vec![raw.clone(), Part::Chunk(one.clone(), vec![(0, 10)]), Part::Chunk(two.clone(), vec![(0, 6)])];
    assert_eq!(told(&stored(b"./link", 16, vec![])).unwrap(), whole);
    let some = vec![raw.clone(), Part::Chunk(one.clone(), vec![(2, 4), (5, 8)]), Part::Chunk(two, vec![(5, 6)])];
    assert_eq!(told(&stored(b"a", 6, vec![(0, 2), (4, 1), (8, 7)])).unwrap(), some);
    assert_eq!(told(&stored(b"a", 10, vec![(10, 6)])).unwrap(), [raw.clone(), Part::Chunk(one, vec![(0, 10)])]);
    assert_eq!(told(&stored(b"nowhere", 0, vec![])).unwrap(), [raw]);
    for wrong in [stored(b"a", 15, vec![]), stored(b"nowhere", 1, vec![]), stored(b"../a", 16, vec![])] {
        assert!(matches!(told(&wrong), Err(Error::Damaged { .. })), "{wrong:?}");
    }
}

#[test]
fn a_file_of_more_holes_than_are_read_keeps_the_longest() {
    let count = MOST_HOLES as u64 + 50_000;
    let size = 4 * count;
    let frame = FrameAt { pack: Arc::new([1; 32]), offset: 0, length: 9, plain: 2_000_000 };
    let chunk = ChunkAt { digest: Digest { sha256: [2; 32], size }, frame, inner: 0 };
    // Every ninth is short.
    let holes: Vec<(u64, u64)> = (0..count).map(|n| (4 * n, if n % 9 == 0 { 1 } else { 2 })).collect();
    let long: Vec<(u64, u64)> = holes.iter().copied().filter(|hole| hole.1 == 2).collect();
    assert_eq!(long.len(), MOST_HOLES);
    let content = Content { digest: Digest { sha256: [3; 32], size }, chunks: vec![chunk], holes };
    let entry = entry("a", Kind::Regular(content));
    let parts = sparse(&entry, &entry).unwrap();
    let [Part::Raw(header), Part::Chunk(_, ranges), Part::Raw(_)] = &parts[..] else { panic!("{} parts", parts.len()) };
    let read = crate::tar::Reader::new("it", &header[..]).next_entry().unwrap().unwrap();
    assert_eq!(read.kind, crate::tar::Kind::Regular { size, holes: long });
    let stored: u64 = ranges.iter().map(|(from, to)| u64::from(to - from)).sum();
    assert_eq!(stored, size - 2 * MOST_HOLES as u64);
}
