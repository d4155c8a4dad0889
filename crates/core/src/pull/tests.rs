use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::archive::frame::FrameWriter;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, MapWriter, PageRef, Summary, fence};
use crate::job::Job;
use crate::scan::Time;

fn entry(path: &str, kind: Kind) -> Entry {
    let mtime = Time { sec: 1_709_208_000, nsec: 1 };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Entry { path: path.into(), kind, mode: 0o700, uid, gid, mtime, links: 1, xattrs: Vec::new() }
}

fn directory(path: &str) -> Entry {
    entry(path, Kind::Directory { digest: Some(Digest::of(path.as_bytes())) })
}

fn symlink(path: &str, target: &str) -> Entry {
    entry(path, Kind::Symlink { target: target.into() })
}

fn hard_link(path: &str, first: &str) -> Entry {
    entry(path, Kind::HardLink { first: first.into() })
}

/// A file of one chunk in a frame of its own, numbered `frame`; with the frame's bytes.
fn file(path: &str, content: &[u8], frame: u32) -> (Entry, FrameAt, Vec<u8>) {
    let digest = Digest::of(content);
    let mut writer = FrameWriter::new(1);
    writer.add(digest, content);
    let sealed = writer.seal();
    let length = sealed.bytes.len() as u32;
    let at = FrameAt { pack: Arc::new([9; 32]), offset: u64::from(frame) << 22, length, plain: sealed.plain };
    let chunks = vec![ChunkAt { digest, frame: at.clone(), inner: sealed.chunks[0].1 }];
    (entry(path, Kind::Regular(Content { digest, chunks, holes: Vec::new() })), at, sealed.bytes)
}

/// A map of `entries`, in order, with its pages brought.
fn map_of(entries: &[Entry]) -> FileMap {
    let (mut writer, mut pages) = (MapWriter::new(0), Vec::new());
    pages.extend(entries.iter().filter_map(|entry| writer.push(entry)));
    let bytes = entries.iter().filter(|entry| !entry.is_directory()).map(Entry::size).sum();
    pages.extend(writer.finish());
    let refs: Vec<PageRef> = (0u32..)
        .zip(&pages)
        .map(|(number, page)| PageRef {
            first: page.first.clone(),
            digest: page.digest,
            entries: page.entries,
            frame: FrameAt { pack: Arc::new([8; 32]), offset: number.into(), length: 10, plain: 1 << 20 },
            inner: 512,
        })
        .collect();
    let map = FileMap::from_fence(&fence(
        &Summary { push: None, tree: Digest::of(b"tree"), entries: entries.len() as u64, bytes, tar: None },
        &refs,
    ))
    .unwrap();
    for (number, page) in pages.iter().enumerate() {
        map.add_page(number, &page.text).unwrap();
    }
    map
}

fn begin(entries: &[Entry], into: &Path) -> Result<Pull> {
    Pull::begin(&map_of(entries), into, &Job::default())
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

#[test]
fn a_map_that_leads_outside_or_contradicts_itself_is_refused_before_anything_is_made() {
    let content = || file("l/x", b"evil", 0).0;
    let hostile = [
        ("below a symlink", vec![directory(""), symlink("l", "/tmp"), content()]),
        ("below a file", vec![directory(""), file("l", b"a", 1).0, content()]),
        ("below nothing", vec![directory(""), content()]),
        ("a directory below a symlink", vec![directory(""), symlink("l", ".."), directory("l/d")]),
        ("a hard link to nothing", vec![directory(""), hard_link("h", "none")]),
        ("a hard link to a directory", vec![directory(""), directory("d"), hard_link("h", "d")]),
        ("a hard link to a hard link", vec![directory(""), hard_link("h", "i"), hard_link("i", "h")]),
        ("a hard link below a symlink", vec![directory(""), symlink("l", "/tmp"), hard_link("l/h", "l")]),
        ("a hard link through a symlink", vec![directory(""), hard_link("h", "l/x"), symlink("l", "/etc")]),
    ];
    for (what, entries) in hostile {
        let into = tempfile::tempdir().unwrap();
        match begin(&entries, into.path()) {
            Err(Error::Damaged { what: object, .. }) => assert_eq!(object, "file map"),
            Err(other) => panic!("{what}: {other}"),
            Ok(_) => panic!("{what}: taken"),
        }
        assert!(is_empty(into.path()), "{what}");
    }
}

#[test]
fn a_page_of_a_map_that_was_not_brought_is_asked_for() {
    let brought = map_of(&[directory("")]);
    let map =
        FileMap::from_fence(&fence(&Summary { entries: 1, bytes: 0, ..brought.summary.clone() }, brought.pages()))
            .unwrap();
    let into = tempfile::tempdir().unwrap();
    assert!(matches!(Pull::begin(&map, into.path(), &Job::default()), Err(Error::Missing { .. })));
}

#[test]
fn nothing_is_written_of_a_frame_before_its_chunk_is_proved_and_damage_names_the_file() {
    let (good, at, bytes) = file("a", b"some text, some text", 0);
    for flip in 0..bytes.len() {
        let into = tempfile::tempdir().unwrap();
        let pull = begin(&[directory(""), good.clone()], into.path()).unwrap();
        let mut damaged = bytes.clone();
        damaged[flip] ^= 0x40;
        match pull.deliver(&at, &damaged, &Job::default()) {
            Ok(()) => assert_eq!(std::fs::read(into.path().join("a")).unwrap(), b"some text, some text"),
            Err(error @ (Error::Damaged { .. } | Error::Mismatch { .. })) => {
                assert!(error.to_string().contains(" of a "), "{error}");
                assert!(is_empty(into.path()));
                assert!(matches!(pull.finish(&Job::default()), Err(Error::Missing { .. })));
                pull.deliver(&at, &bytes, &Job::default()).unwrap();
                assert_eq!(pull.finish(&Job::default()).unwrap().bytes, 20);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_frame_that_nobody_asked_for_is_refused() {
    let into = tempfile::tempdir().unwrap();
    let (_, at, bytes) = file("a", b"text", 0);
    let pull = begin(&[directory("")], into.path()).unwrap();
    assert!(matches!(pull.deliver(&at, &bytes, &Job::default()), Err(Error::Missing { .. })));
}

#[test]
fn each_frame_is_taken_once_and_fills_every_file_that_needs_it() {
    let into = tempfile::tempdir().unwrap();
    let (a, at, bytes) = file("a", b"the same", 0);
    let (b, _, _) = file("b", b"the same", 0);
    let (c, other, more) = file("c", b"another", 1);
    let pull = begin(&[directory(""), a, b, c, hard_link("d", "c")], into.path()).unwrap();
    assert_eq!(pull.take(1), std::slice::from_ref(&at));
    assert_eq!(pull.take(9), std::slice::from_ref(&other));
    assert!(pull.take(9).is_empty());
    pull.deliver(&other, &more, &Job::default()).unwrap();
    pull.deliver(&at, &bytes, &Job::default()).unwrap();
    let pulled = pull.finish(&Job::default()).unwrap();
    assert_eq!((pulled.files, pulled.bytes, pulled.notes), (3, 23, Vec::new()));
    let read = |name| std::fs::read(into.path().join(name)).unwrap();
    assert_eq!([read("a"), read("b"), read("c"), read("d")], [&b"the same"[..], b"the same", b"another", b"another"]);
    let (c, d) = (into.path().join("c").metadata().unwrap(), into.path().join("d").metadata().unwrap());
    assert_eq!((c.ino(), c.nlink(), c.mtime_nsec()), (d.ino(), 2, 1));
}

#[test]
fn a_hole_is_kept_and_one_that_holds_bytes_is_no_hole() {
    const MIB: usize = 1 << 20;
    let mut content = vec![0; MIB];
    content[600_000] = 1;
    let (mut sparse, at, bytes) = file("sparse", &content, 0);
    let Kind::Regular(told) = &mut sparse.kind else { unreachable!() };
    told.holes = vec![(0, 500_000), (550_000, 100_000), (700_000, MIB as u64 - 700_000)];
    let into = tempfile::tempdir().unwrap();
    let pull = begin(&[directory(""), sparse], into.path()).unwrap();
    pull.deliver(&at, &bytes, &Job::default()).unwrap();
    pull.finish(&Job::default()).unwrap();
    let path = into.path().join("sparse");
    assert!(std::fs::read(&path).unwrap() == content);
    let blocks = path.metadata().unwrap().blocks() * 512;
    assert!((150_000..400_000).contains(&blocks), "{blocks}");
}

#[test]
fn a_stop_ends_a_pull() {
    let into = tempfile::tempdir().unwrap();
    let (a, at, bytes) = file("a", b"text", 0);
    let stopped = Job::default();
    stopped.stop();
    let map = map_of(&[directory(""), a]);
    assert!(matches!(Pull::begin(&map, into.path(), &stopped), Err(Error::Stopped)));
    assert!(is_empty(into.path()));
    let pull = Pull::begin(&map, into.path(), &Job::default()).unwrap();
    pull.deliver(&at, &bytes, &Job::default()).unwrap();
    assert!(matches!(pull.finish(&stopped), Err(Error::Stopped)));
}

/// A file system that takes names for one shows a file that was found by one of them by the other, too. So does a second name
/// that a file gets after the look.
#[test]
fn a_tree_of_two_names_that_the_file_system_takes_for_one_is_refused_by_both() {
    let update = |entries: &[Entry], folds: bool| {
        let (into, records) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(into.path().join("readme"), b"here").unwrap();
        let options = crate::index::Options::new(1);
        let records = Records { index: records.path().join("index"), options };
        let present = Present::look(into.path(), records, &Job::default()).unwrap();
        if folds {
            std::fs::hard_link(into.path().join("readme"), into.path().join("README")).unwrap();
        }
        let updated = Pull::update(&map_of(entries), present, false, 0, &Job::default());
        assert_eq!(std::fs::read(into.path().join("readme")).unwrap(), b"here");
        updated.map(|_| ()).map_err(|error| error.to_string().replace(&format!("{}/", into.path().display()), ""))
    };
    let of = |names: &[&str]| -> Vec<Entry> {
        let entries = names.iter().map(|name| if name.is_empty() { directory("") } else { symlink(name, "x") });
        entries.collect()
    };
    let said = |first: &str, second: &str| {
        Err(format!("{first}: its file system takes it and {second} for one: rename one of them, or pull elsewhere"))
    };
    assert_eq!(update(&of(&["", "Readme"]), true), said("Readme", "readme"));
    assert_eq!(update(&of(&["", "Other", "other"]), true), said("Other", "other"));
    assert_eq!(update(&of(&["", "other"]), true), Ok(()));
    assert_eq!(update(&of(&["", "Other", "Readme", "other"]), false), Ok(()));
}
