use std::sync::Arc;

use super::write::{corpus, options, written};
use super::*;
use crate::archive::frame;
use crate::filemap::{self, FileMap};
use crate::job::Job;
use crate::tar;

/// The map of an archive of a megabyte with a TOC of these entries.
fn map_of(text: &str) -> Result<FileMap> {
    map_in(1 << 20, text, false)
}

/// The same, of one whose data has so many bytes.
fn map_in(payload: u64, text: &str, is_layer: bool) -> Result<FileMap> {
    let toc = format!("{{\"version\":1,\"entries\":[{text}]}}");
    let stored = zstd::bulk::compress(toc.as_bytes(), 1).unwrap();
    let at = payload + 8..payload + 8 + stored.len() as u64;
    let part = Part { at, plain: Some(toc.len() as u64) };
    let footer = Footer { dialect: Dialect::ZstdChunked, payload, toc: Some(part), split: None };
    Ok(file_map(&footer, &stored[..], stored.len() as u64, is_layer, &Job::default())?.0)
}

fn refused(text: &str) -> String {
    map_of(text).err().unwrap().to_string()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", Digest::of(content).hex())
}

fn file(name: &str) -> String {
    format!(r#"{{"name":"{name}","type":"reg","size":3,"offset":100,"digest":"{}"}}"#, digest(b"abc"))
}

#[test]
fn a_layer_keeps_links_to_what_is_not_in_it() {
    let link = |name: &str, to: &str| format!(r#"{{"name":"{name}","type":"hardlink","linkName":"{to}"}}"#);
    let text = [link("b", "a"), file("c"), link("d", "c")].join(",");
    assert!(map_of(&text).is_err());
    let map = map_in(1 << 20, &text, true).unwrap();
    let kinds: Vec<_> = map.rows(0).unwrap().iter().skip(1).map(|entry| (entry.kind.clone(), entry.links)).collect();
    assert_eq!(kinds[0], (filemap::Kind::HardLink { first: b"a".to_vec() }, 1));
    assert_eq!((kinds[1].1, &kinds[2].0), (2, &filemap::Kind::HardLink { first: b"c".to_vec() }));
}

#[test]
fn every_file_of_an_archive_is_found_and_proved_through_its_map() {
    let entries = corpus();
    for options in [
        options(Compression::GZIP),
        options(Compression::ZSTD),
        Options { min_chunk_size: 100_000, ..options(Compression::GZIP) },
        Options { chunk_size: Some(100_000), ..options(Compression::ZSTD) },
    ] {
        let (bytes, written) = written(&options, &entries);
        let footer = Footer::read(&bytes, written.size).unwrap().unwrap();
        let at = footer.toc.clone().unwrap().at;
        let stored = &bytes[at.start as usize..at.end as usize];
        let (map, toc) = file_map(&footer, stored, stored.len() as u64, false, &Job::default()).unwrap();
        assert_eq!(toc, written.toc_digest);
        let mut found = 0;
        for (header, content) in &entries {
            let inode = map.find(&header.name).unwrap().unwrap();
            let (_, entry) = map.resolve(inode).unwrap().unwrap();
            let tar::Kind::Regular { .. } = header.kind else { continue };
            found += 1;
            let filemap::Kind::Regular(about) = &entry.kind else { panic!("{entry:?} is no file") };
            assert_eq!(about.digest, Digest::of(content));
            let mut read = Vec::new();
            for chunk in &about.chunks {
                let start = chunk.frame.offset as usize;
                let stored = &bytes[start..start + chunk.frame.length as usize];
                let plain = map.form.open(stored, chunk.frame.plain).unwrap();
                read.extend_from_slice(frame::chunk(&plain, chunk.inner, &chunk.digest).unwrap());
            }
            assert!(read == *content);
        }
        assert!(found > 4);
    }
}

#[test]
fn missing_directories_are_invented_the_last_of_a_name_wins_and_links_are_followed_both_ways() {
    let link = |name: &str, to: &str| format!(r#"{{"name":"{name}","type":"hardlink","linkName":"{to}"}}"#);
    let old = r#"{"name":"x/f","type":"fifo"}"#.to_owned();
    let text = [link("a", "m/last"), link("m/last", "x/f"), old, file("x/f")].join(",");
    let map = map_of(&text).unwrap();
    let paths: Vec<&[u8]> = map.rows(0).unwrap().iter().map(|entry| &entry.path[..]).collect();
    assert_eq!(paths, [&b""[..], b"a", b"m", b"x", b"m/last", b"x/f"]);
    // The first in order has the content, whatever the archive said.
    let (_, first) = map.resolve(map.find(b"x/f").unwrap().unwrap()).unwrap().unwrap();
    assert_eq!((&first.path[..], first.links, first.size()), (&b"a"[..], 3, 3));
    let invented = map.entry(map.find(b"m").unwrap().unwrap()).unwrap().unwrap();
    assert_eq!((invented.mode, invented.uid, invented.mtime.sec), (0o755, 0, 0));
    // The same tree as one that says it plainly.
    let root = r#"{"name":"./","type":"dir"},{"name":"x","type":"dir"},{"name":"m/","type":"dir"}"#.to_owned();
    let plain = [root, file("x/f"), file("m/last"), file("a")].join(",");
    assert_eq!(map.summary.tree, map_of(&plain).unwrap().summary.tree);
}

#[test]
fn a_file_without_digests_of_chunks_is_proved_whole_and_one_without_any_is_refused() {
    let chunks = |digest: &str| {
        format!(
            r#"{{"name":"f","type":"reg","size":10,"offset":100,"chunkSize":4{digest}}},
               {{"name":"f","type":"chunk","offset":300,"chunkOffset":4,"chunkSize":6}},{}"#,
            file("g").replace("100", "500")
        )
    };
    let whole = map_of(&chunks(&format!(r#","digest":"{}""#, digest(b"0123456789")))).unwrap();
    let filemap::Kind::Regular(content) = &whole.rows(0).unwrap()[1].kind else { panic!() };
    let [only] = &content.chunks[..] else { panic!("{content:?}") };
    assert_eq!((only.frame.offset, only.frame.length, only.frame.plain), (100, 400, 10));
    assert!(refused(&chunks("")).contains("f: its TOC has no digest of it"));
}

#[test]
fn a_toc_that_lies_is_refused_by_name() {
    for (text, found) in [
        (file("a/../../etc"), "a/../../etc"),
        (file("f").replace("100", "9999999"), "lies outside"),
        (file("f").replace(":3", ":2305843009213693952").replace("100", "100,\"chunkSize\":1"), "f: "),
        (file("f").replace("100", "100,\"innerOffset\":67108864"), "64 MiB"),
        (file("f").replace("100", "100,\"uid\":9999999999"), "more than Linux can hold"),
        (format!("{},{}", file("d"), file("d/f")), "d/f lies below d"),
        (
            r#"{"name":"a","type":"hardlink","linkName":"b"},{"name":"b","type":"hardlink","linkName":"a"}"#.into(),
            "circle",
        ),
        (r#"{"name":"a","type":"hardlink","linkName":"/etc/passwd"}"#.into(), "etc/passwd"),
        ("null".into(), "entry 0"),
    ] {
        let said = refused(&text);
        assert!(said.contains(found), "{said}");
    }
}

#[test]
fn what_follows_a_chunk_in_its_frame_is_never_decompressed() {
    let bomb = vec![0; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bomb).unwrap();
    for stored in [zstd::bulk::compress(&bomb, 1).unwrap(), gzip.finish().unwrap()] {
        let plain = frame::Form::Archive.open(&stored, 1000).unwrap();
        assert_eq!((plain.len(), plain.capacity()), (1000, 1000));
        assert!(frame::Form::Archive.open(&stored, (64 << 20) + 1).is_err());
        assert!(frame::Form::Archive.open(&stored[..stored.len() / 2], 64 << 20).is_err());
    }
}

#[test]
fn a_file_behind_the_first_4_gib_is_found_and_its_frame_ends_before_the_next() {
    let late = file("late").replace("100", "5368709120");
    let map = map_in(5 << 30 | 77, &[late, file("b").replace("100", "50"), file("a")].join(","), false).unwrap();
    let frames: Vec<(u64, u32, u32)> = (map.rows(0).unwrap().iter())
        .filter_map(|entry| if let filemap::Kind::Regular(content) = &entry.kind { Some(content) } else { None })
        .map(|content| &content.chunks[0].frame)
        .map(|frame| (frame.offset, frame.length, frame.plain))
        .collect();
    assert_eq!(frames, [(100, 65_539, 3), (50, 50, 3), (5 << 30, 77, 3)]);
}

/// What is said of everything but what is called `z…`; `None` when it is refused.
fn all_but_z(text: &str) -> Option<(Digest, u64, Vec<filemap::Entry>)> {
    let map = map_of(text).ok()?;
    let is_other = |entry: &&filemap::Entry| !entry.path.starts_with(b"z");
    let mut entries: Vec<filemap::Entry> = map.rows(0).unwrap().iter().filter(is_other).cloned().collect();
    for entry in &mut entries {
        if let filemap::Kind::Regular(content) = &mut entry.kind {
            // Two TOCs are two packs.
            content.chunks.iter_mut().for_each(|chunk| chunk.frame.pack = Arc::new([0; 32]));
        }
    }
    Some((map.summary.tree, map.summary.bytes, entries))
}

#[test]
fn trees_settle_as_rows_as_they_do_entry_by_entry() {
    let mut state = 1u64;
    let mut draw = |count: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % count
    };
    let (mut trees, mut with_links) = (0, 0);
    for _ in 0..3000 {
        let entries = 2 + draw(7);
        let mut texts = Vec::new();
        for _ in 0..entries {
            let mut name = || ["a", "b", "a/c", "a/c/d", "b/e", "f", "g/h/i", "j"][draw(8) as usize];
            let (name, other) = (name(), name());
            let attributes = if draw(4) == 0 { r#","xattrs":{"user.x":"eA=="}"# } else { "" };
            texts.push(match draw(6) {
                0 | 1 => format!(r#"{{"name":"{name}/","type":"dir","mode":{}{attributes}}}"#, draw(512)),
                2 => format!(r#"{{"name":"{name}","type":"symlink","linkName":"../x"{attributes}}}"#),
                3 => format!(r#"{{"name":"{name}","type":"hardlink","linkName":"{other}"{attributes}}}"#),
                4 => format!(r#"{{"name":"{name}","type":"reg"{attributes}}}"#),
                _ => {
                    let sized = format!("\"size\":3,\"mode\":{}{attributes}", draw(512));
                    file(name).replace("\"size\":3", &sized).replace("100", &(100 + draw(3)).to_string())
                }
            });
        }
        let text = texts.join(",");
        // A name that comes twice, beside a hard link, takes the other way.
        let z = r#"{"name":"z","type":"fifo"}"#;
        let link = r#"{"name":"z-link","type":"hardlink","linkName":"z"}"#;
        let found = all_but_z(&format!("{text},{z}"));
        assert_eq!(found, all_but_z(&format!("{text},{z},{z},{link}")), "{text}");
        trees += usize::from(found.is_some());
        with_links += usize::from(found.is_some_and(|found| found.2.iter().any(|entry| entry.links > 1)));
    }
    assert!(trees > 500 && with_links > 50, "{trees} {with_links}");
}
