//! Copies in memory: which frames go as they are, and what is refused.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Copied, Copy, Layout, Looking, Wanted};
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
    looking.begin(PUSH, known, &[], Layout::default(), Arc::default())
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

/// A copy of a store onto itself that lays out anew, and what came of it: frames are delivered from the last to the first.
fn laid_out(origin: &Origin, all: &[&[u8]], anew: Layout) -> (Copied, Vec<Sealed>) {
    let looking = Looking::new(origin.map.clone());
    looking.look(0, &origin.page).unwrap();
    let copy = looking.begin(PUSH, known(all), &[], anew, Arc::default());
    for at in copy.take(u64::MAX).iter().rev() {
        let (_, stored) = origin.contents.iter().find(|(frame, _)| frame == at).unwrap();
        assert!(copy.deliver(at, stored).unwrap().is_empty());
    }
    finish(&copy, origin)
}

fn wanted(chunk: &[u8], ranges: &[(u32, u32)]) -> Wanted {
    Wanted { sha256: Digest::of(chunk).sha256, ranges: ranges.to_vec() }
}

fn well_compressed(chunks: &[&[u8]]) -> Vec<u8> {
    let mut writer = FrameWriter::for_layout();
    chunks.iter().for_each(|chunk| writer.add(Digest::of(chunk), chunk));
    writer.seal().bytes
}

#[test]
fn what_is_laid_out_again_lies_together_in_the_order_asked_for_whatever_came_first() {
    let origin = origin(&[ours(&[b"one", b"two", b"three"]), ours(&[b"four", b"five"])]);
    let all: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];
    let anew = Layout::new(vec![wanted(b"one", &[(0, 3)]), wanted(b"five", &[(0, 4)]), wanted(b"two", &[(0, 3)])]);
    let (copied, packs) = laid_out(&origin, &all, anew.unwrap());
    assert_eq!((copied.sent.chunks, copied.sent.chunk_bytes), (3, 10));
    assert!(has_frame(&packs, &well_compressed(&[b"one", b"five", b"two"])));
    assert_eq!(copied.map.unwrap().packs.len(), 3, "the old pack, that of contents, and that of page and outline");
}

#[test]
fn a_chunk_is_cut_where_what_is_wanted_of_it_begins_and_ends_and_is_known_by_its_pieces() {
    let large = noise(1 << 20);
    let origin = origin(&[ours(&[b"one", &large])]);
    let (first, second) = ((100, 200_000), (400_000, 400_001));
    let anew = Layout::new(vec![wanted(&large, &[first, second]), wanted(b"one", &[(0, 3)])]).unwrap();
    let (copied, packs) = laid_out(&origin, &[b"one", &large], anew);
    let piece = |(from, to): (u32, u32)| &large[from as usize..to as usize];
    assert!(has_frame(&packs, &well_compressed(&[piece(first), piece(second), b"one"])), "nothing lies between");
    assert!(packs.iter().all(|pack| !has_frame(std::slice::from_ref(pack), &large)), "the rest is in pieces, too");
    let known = Known::new(Some(copied.holdings.clone()), Vec::new(), None).unwrap();
    let pieces = known.pieces(&Digest::of(&large)).unwrap();
    let mut at = 0;
    for digest in &pieces {
        let end = at + digest.size as usize;
        assert_eq!(Digest::of(&large[at..end]), *digest);
        at = end;
    }
    assert_eq!((at, known.has(&Digest::of(&large))), (large.len(), false));
    assert_eq!(known.pieces(&Digest::of(b"one")), Some(vec![Digest::of(b"one")]));
    assert!(pieces.iter().all(|piece| piece.size <= 256 << 10), "who wants some of the rest need not bring all of it");
    let again = begin(&origin, known);
    assert_eq!(again.bytes_left(), origin.contents[0].1.len() as u64, "a copy does not know that they are the same");
}

#[test]
fn what_cannot_be_laid_out_is_refused() {
    for ranges in [&[][..], &[(1, 1)], &[(2, 1)], &[(0, 2), (1, 3)], &[(2, 3), (0, 1)]] {
        assert!(matches!(Layout::new(vec![wanted(b"one", ranges)]), Err(Error::Invalid { .. })), "{ranges:?}");
    }
    let twice = vec![wanted(b"one", &[(0, 1)]), wanted(b"one", &[(2, 3)])];
    assert!(matches!(Layout::new(twice), Err(Error::Invalid { .. })));
    let behind = Layout::new(vec![wanted(b"one", &[(1, 2), (2, u32::MAX)])]).unwrap();
    let places: Vec<_> = behind.pieces(&Digest::of(b"one")).iter().map(|piece| (piece.from, piece.to)).collect();
    assert_eq!(places, [(0, 1), (1, 2), (2, 3)], "what lies behind the end is not there");
}

#[test]
fn what_waits_for_its_turn_is_bounded() {
    let layout = Layout::new(vec![wanted(b"first", &[(0, 5)]), wanted(b"others", &[(0, 6)])]).unwrap();
    let mut frames = 0;
    for turn in 1..100u32 {
        let bytes = [vec![0; 1 << 20], turn.to_le_bytes().to_vec()].concat();
        frames += layout.add(vec![(turn, Digest::of(&bytes), bytes)]).len();
        assert_eq!(frames == 0, turn < 64, "the first of all has not come, and nobody waits for it for ever");
    }
    frames += layout.add(vec![(0, Digest::of(b"first"), b"first".to_vec())]).len();
    assert_eq!(frames + layout.finish().len(), 100, "it came late, and goes last");
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64 / 32).flat_map(|number| Digest::of(&number.to_le_bytes()).sha256).collect()
}
