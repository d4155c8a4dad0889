//! Copies in memory: which frames go as they are, and what is refused.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Copied, Copy, Looking};
use crate::archive::frame::{self, FrameWriter};
use crate::archive::{Holds, Pack, PackWriter, deflate, prove};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, MapWriter, PageRef, Summary, fence};
use crate::job::Job;
use crate::push::{FragmentWriter, Known, Sealed};
use crate::scan::Time;

const PUSH: &str = "0123456789abcdef";

fn entry(path: &str, kind: Kind) -> Entry {
    let mtime = Time { sec: 0, nsec: 0 };
    Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime, links: 1, xattrs: Vec::new() }
}

/// A store of one tree: its map, and the frames of its contents and its page.
struct Origin {
    map: Arc<FileMap>,
    contents: Vec<(FrameAt, Vec<u8>)>,
    page: Vec<u8>,
}

/// Stored bytes, plain length, and (content, place).
type Made<'a> = (Vec<u8>, u32, Vec<(&'a [u8], u32)>);

/// Of files whose contents lie in these frames.
fn origin(frames: &[Made<'_>]) -> Origin {
    let pack = Arc::new([9; 32]);
    let mut writer = MapWriter::new(10);
    let root = Kind::Directory { digest: Some(Digest::of(b"")) };
    assert!(writer.push(&entry("", root)).is_none());
    let (mut contents, mut count) = (Vec::new(), 0u32);
    for (offset, (stored, plain, chunks)) in (0..).zip(frames) {
        let frame = FrameAt { pack: pack.clone(), offset, length: stored.len() as u32, plain: *plain };
        contents.push((frame.clone(), stored.clone()));
        for (bytes, inner) in chunks {
            let digest = Digest::of(bytes);
            let chunk = ChunkAt { digest, frame: frame.clone(), inner: *inner };
            let kind = Kind::Regular(Content { digest, chunks: vec![chunk], holes: Vec::new() });
            assert!(writer.push(&entry(&format!("file-{count:03}"), kind)).is_none());
            count += 1;
        }
    }
    let text = writer.finish().unwrap();
    let mut pages = FrameWriter::new(1);
    pages.add(text.digest, &text.text);
    let made = pages.seal();
    let frame = FrameAt { pack, offset: 1 << 20, length: made.bytes.len() as u32, plain: made.plain };
    let page = PageRef { first: Vec::new(), digest: text.digest, entries: text.entries, frame, inner: 512 };
    let summary = Summary { push: None, tree: Digest::of(b""), entries: text.entries.into(), bytes: 0, tar: None };
    let map = Arc::new(FileMap::from_fence(&fence(&summary, &[page])).unwrap());
    Origin { map, contents, page: made.bytes }
}

/// A frame as we make it.
fn ours<'a>(chunks: &[&'a [u8]]) -> Made<'a> {
    let mut writer = FrameWriter::for_chunks();
    chunks.iter().for_each(|chunk| writer.add(Digest::of(chunk), chunk));
    let made = writer.seal();
    let places = chunks.iter().zip(&made.chunks).map(|(chunk, (_, inner))| (*chunk, *inner)).collect();
    (made.bytes, made.plain, places)
}

/// Known chunks.
fn known(chunks: &[&[u8]]) -> Known {
    let (mut frames, mut pack) = (FrameWriter::for_chunks(), PackWriter::default());
    chunks.iter().for_each(|chunk| frames.add(Digest::of(chunk), chunk));
    if !chunks.is_empty() {
        pack.add(frames.seal(), Holds::Content);
    }
    let Pack { name, chunks, .. } = pack.seal(PUSH);
    let mut fragment = FragmentWriter::default();
    fragment.chunks(&name, chunks);
    Known::new(None, vec![fragment.finish()], None).unwrap()
}

fn begin(origin: &Origin, known: Known) -> Copy {
    let looking = Looking::new(origin.map.clone());
    looking.look(0, &origin.page).unwrap();
    looking.begin(PUSH, known, &[], &HashSet::new(), Arc::default())
}

fn deliver_all(copy: &Copy, origin: &Origin) -> Result<()> {
    for at in copy.take(u64::MAX) {
        let (_, stored) = origin.contents.iter().find(|(frame, _)| *frame == at).unwrap();
        assert!(copy.deliver(&at, stored)?.is_empty());
    }
    Ok(())
}

fn finish(copy: &Copy, origin: &Origin) -> (Copied, Vec<Sealed>) {
    let mut packs = copy.settle().unwrap();
    packs.extend(copy.place(0, &origin.page).unwrap());
    let mut copied = copy.finish(b"{\"format\":1}", None).unwrap();
    packs.append(&mut copied.packs);
    for pack in &packs {
        let proved = prove(&pack.name, &pack.bytes, &[], &Job::default()).unwrap();
        assert_eq!(proved.faults, Vec::<String>::new());
    }
    (copied, packs)
}

fn has_frame(packs: &[Sealed], stored: &[u8]) -> bool {
    packs.iter().any(|pack| pack.bytes.windows(stored.len()).any(|window| window == stored))
}

#[test]
fn a_frame_goes_as_it_is_when_all_of_it_is_missing_and_chunk_by_chunk_otherwise() {
    let (whole, part) = (ours(&[b"one", b"two", b"three"]), ours(&[b"four", b"five", b"six"]));
    let origin = origin(&[whole.clone(), part.clone(), ours(&[b"all of it"])]);
    let copy = begin(&origin, known(&[b"five", b"all of it"]));
    assert_eq!(copy.bytes_left(), (whole.0.len() + part.0.len()) as u64);
    deliver_all(&copy, &origin).unwrap();
    let (copied, packs) = finish(&copy, &origin);
    assert!(has_frame(&packs, &whole.0) && !has_frame(&packs, &part.0));
    assert_eq!((copied.sent.chunks, copied.sent.chunk_bytes), (5, 3 + 3 + 5 + 4 + 3));
    assert_eq!(copied.reused.len(), 1);
    let map = copied.map.unwrap();
    let named: HashSet<_> = packs.iter().map(|pack| pack.name).chain(copied.reused).collect();
    assert_eq!(named, map.packs.into_iter().collect());
}

#[test]
fn a_frame_that_holds_what_is_not_ours_is_made_anew() {
    let made = ours(&[b"one", b"two"]);
    let plain = frame::open(&made.0, made.1).unwrap();
    let spelt_otherwise = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut plain = plain.clone();
        change(&mut plain);
        (deflate(&plain, 1), plain.len() as u32, made.2.clone())
    };
    let skippable = [&made.0[..], &[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]].concat();
    let strange = [
        spelt_otherwise(&|plain| plain[0] ^= 1),
        spelt_otherwise(&|plain| plain[600] = 7),
        spelt_otherwise(&|plain| plain.extend(b"no tar")),
        (skippable, made.1, made.2.clone()),
    ];
    for frame in strange {
        let origin = origin(std::slice::from_ref(&frame));
        let copy = begin(&origin, known(&[]));
        deliver_all(&copy, &origin).unwrap();
        let (copied, packs) = finish(&copy, &origin);
        assert!(!has_frame(&packs, &frame.0));
        assert_eq!(copied.sent.chunks, 2);
    }
}

#[test]
fn a_damaged_frame_is_refused_and_may_be_delivered_again() {
    let made = ours(&[b"one", b"two"]);
    let origin = origin(std::slice::from_ref(&made));
    let copy = begin(&origin, known(&[]));
    let at = copy.take(1).pop().unwrap();
    let other = ours(&[b"One", b"two"]);
    assert!(matches!(copy.deliver(&at, &other.0), Err(Error::Mismatch { .. })));
    assert!(matches!(copy.deliver(&at, &made.0[1..]), Err(Error::Damaged { .. })));
    assert!(copy.deliver(&at, &made.0).unwrap().is_empty());
    assert!(matches!(copy.deliver(&at, &made.0), Err(Error::Missing { .. })));
    assert_eq!(finish(&copy, &origin).0.sent.chunks, 2);
}

#[test]
fn nothing_is_named_that_was_not_delivered() {
    let origin = origin(&[ours(&[b"one", b"two"])]);
    let copy = begin(&origin, known(&[]));
    copy.take(1);
    copy.settle().unwrap();
    assert!(matches!(copy.place(0, &origin.page), Err(Error::Missing { .. })));
    assert!(matches!(copy.finish(b"{}", None), Err(Error::Missing { .. })));
    let other = begin(&origin, known(&[b"one", b"two"]));
    assert!(matches!(other.finish(b"{}", None), Err(Error::Missing { .. })));
}

#[test]
fn what_the_snapshot_before_says_already_is_not_said_again() {
    let origin = origin(&[ours(&[b"one", b"two"])]);
    let copy = begin(&origin, known(&[]));
    deliver_all(&copy, &origin).unwrap();
    let (first, _) = finish(&copy, &origin);
    let again = || {
        let known = Known::new(Some(first.holdings.clone()), Vec::new(), None).unwrap();
        begin(&origin, known)
    };
    let content = first.map.as_ref().unwrap().content.sha256;
    for (before, unchanged) in [(Some(content), true), (None, false), (Some([0; 32]), false)] {
        let copy = again();
        assert!(copy.take(u64::MAX).is_empty());
        assert!(copy.settle().unwrap().is_empty() && copy.place(0, &origin.page).unwrap().is_empty());
        let copied = copy.finish(b"{}", before).unwrap();
        assert_eq!((copied.map.is_none(), copied.packs.is_empty()), (unchanged, unchanged));
        assert_eq!(copied.holdings, first.holdings);
    }
}

#[test]
fn what_is_to_be_packed_anew_is_packed_though_it_is_known_in_the_order_of_delivery() {
    let origin = origin(&[ours(&[b"one", b"two", b"three"]), ours(&[b"four", b"five"])]);
    let looking = Looking::new(origin.map.clone());
    looking.look(0, &origin.page).unwrap();
    let anew = [b"two".as_slice(), b"five"].map(|chunk| Digest::of(chunk).sha256).into();
    let all: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];
    let copy = looking.begin(PUSH, known(&all), &[], &anew, Arc::default());
    let taken = copy.take(u64::MAX);
    for at in taken.iter().rev() {
        let (_, stored) = origin.contents.iter().find(|(frame, _)| frame == at).unwrap();
        assert!(copy.deliver(at, stored).unwrap().is_empty());
    }
    let (copied, packs) = finish(&copy, &origin);
    assert_eq!((copied.sent.chunks, copied.sent.chunk_bytes), (2, 7));
    let made = ours(&[b"five", b"two"]);
    assert!(has_frame(&packs, &made.0), "both in one frame, as they were delivered");
    assert_eq!(copied.map.unwrap().packs.len(), 3, "the old pack, that of contents, and that of page and outline");
}
