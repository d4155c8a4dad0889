//! Marks that follow redirects, and packs whose frames are moved.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Marks, Moved, Mover, prove};
use crate::archive::frame::{self, FrameWriter};
use crate::archive::{Holds, Pack, PackWriter, Redirect, Toc};
use crate::digest::Digest;
use crate::error::Error;
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, MapWriter, PageRef, Summary, fence};
use crate::push::{Fragment, PackName};
use crate::scan::Time;

/// Old packs and their redirects as stored.
type Redirects = Vec<(PackName, Vec<u8>)>;

const PUSH: &str = "0123456789abcdef";

fn content(number: u32) -> Vec<u8> {
    (0..3000 + number).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(number) >> 13) as u8).collect()
}

/// A pack of so many frames of one chunk each, and an outline of run `PUSH`.
fn pack(chunks: u32) -> Pack {
    let (mut pack, mut frames) = (PackWriter::default(), FrameWriter::new(1));
    for number in 0..chunks {
        frames.add(Digest::of(&content(number)), &content(number));
        pack.add(frames.seal(), Holds::Content);
    }
    let outline = format!("{{\"format\":1,\"push\":\"{PUSH}\"}}\n");
    frames.add(Digest::of(outline.as_bytes()), outline.as_bytes());
    pack.add(frames.seal(), Holds::Outline);
    // With the outline, which nobody refers to by its place.
    let sealed = pack.seal(PUSH);
    Pack { chunks: Toc::of(&sealed.bytes).unwrap().entries.iter().map(|entry| entry.lying).collect(), ..sealed }
}

fn frames_of(pack: &Pack, wanted: &[usize]) -> Vec<(u32, u32)> {
    wanted.iter().map(|&at| (pack.chunks[at].offset, pack.chunks[at].length)).collect()
}

fn bytes_of<'a>(pack: &'a Pack, frames: &[(u32, u32)]) -> Vec<&'a [u8]> {
    frames.iter().map(|&(offset, length)| &pack.bytes[offset as usize..][..length as usize]).collect()
}

/// An entry whose chunks are these of a pack.
fn entry(pack: &Pack, wanted: &[usize]) -> Entry {
    let name = Arc::new(pack.name);
    let chunk = |&at: &usize| {
        let lying = pack.chunks[at];
        let frame =
            FrameAt { pack: name.clone(), offset: lying.offset.into(), length: lying.length, plain: lying.plain };
        ChunkAt { digest: lying.digest, frame, inner: lying.inner }
    };
    let digest = Digest { sha256: [7; 32], size: wanted.iter().map(|&at| pack.chunks[at].digest.size).sum() };
    let content = Content { digest, chunks: wanted.iter().map(chunk).collect(), holes: Vec::new() };
    Entry {
        path: b"a".to_vec(),
        kind: Kind::Regular(content),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { sec: 0, nsec: 0 },
        links: 1,
        xattrs: Vec::new(),
    }
}

fn moved(pack: &Pack, wanted: &[usize]) -> (Moved, Redirects) {
    let mut mover = Mover::new("f".repeat(16));
    let frames = frames_of(pack, wanted);
    let toc = Toc::of(&pack.bytes).unwrap();
    assert!(mover.add(&pack.name, &toc, &frames, &bytes_of(pack, &frames)).unwrap().is_empty());
    let last = mover.finish().unwrap();
    let redirects = mover.stored(last.number);
    (last, redirects)
}

#[test]
fn frames_are_moved_as_they_are_and_the_new_pack_says_what_it_holds() {
    let old = pack(9);
    let (new, redirects) = moved(&old, &[1, 4, 9]);
    assert_eq!(Digest::of(&new.bytes).sha256, new.name);
    let toc = Toc::of(&new.bytes).unwrap();
    assert_eq!(toc.push.as_deref(), Some("ffffffffffffffff"));
    let held: Vec<_> = toc.entries.iter().map(|entry| (entry.lying.digest, entry.holds)).collect();
    let was = |at: usize| old.chunks[at].digest;
    assert_eq!(held, [(was(1), Holds::Content), (was(4), Holds::Content), (was(9), Holds::Outline)]);
    let [(name, stored)] = &redirects[..] else { panic!("one pack was moved") };
    let redirect = Redirect::decode(stored).unwrap();
    assert_eq!((name, redirect.of, &redirect.packs[..]), (&old.name, old.name, &[new.name][..]));
    for at in [1, 4, 9] {
        let lying = old.chunks[at];
        let (to, offset, length) = redirect.find(lying.offset, lying.length).unwrap();
        assert_eq!(to, new.name);
        let plain = frame::open(&new.bytes[offset as usize..][..length as usize], lying.plain).unwrap();
        frame::chunk(&plain, lying.inner, &lying.digest).unwrap();
    }
    assert_eq!(redirect.find(old.chunks[2].offset, old.chunks[2].length), None);
}

#[test]
fn a_frame_that_the_old_pack_does_not_name_moves_nothing() {
    let old = pack(3);
    let mut mover = Mover::new(PUSH.into());
    let toc = Toc::of(&old.bytes).unwrap();
    for frames in [[(1, 5)], [(old.chunks[1].offset, old.chunks[1].length - 1)]] {
        let stored = bytes_of(&old, &frames);
        assert!(mover.add(&old.name, &toc, &frames, &stored).is_err());
    }
    assert!(mover.finish().is_none());
}

#[test]
fn a_redirect_waits_until_every_pack_that_it_names_is_stored() {
    // Two packs are filled by frames of one, of a size that nearly fills one.
    let (mut writer, mut frames) = (PackWriter::default(), FrameWriter::new(1));
    let noise = |seed: u64| {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..2_000_000).map(next).collect::<Vec<u8>>()
    };
    for number in 0..10 {
        frames.add(Digest::of(&noise(number)), &noise(number));
        writer.add(frames.seal(), Holds::Content);
    }
    let old = writer.seal(PUSH);
    let wanted = frames_of(&old, &(0..10).collect::<Vec<_>>());
    let mut mover = Mover::new(PUSH.into());
    let toc = Toc::of(&old.bytes).unwrap();
    let full = mover.add(&old.name, &toc, &wanted, &bytes_of(&old, &wanted)).unwrap();
    let last = mover.finish().unwrap();
    assert_eq!(full.len(), 1);
    assert!(mover.stored(last.number).is_empty());
    let [(_, stored)] = &mover.stored(full[0].number)[..] else { panic!("one pack was moved") };
    let redirect = Redirect::decode(stored).unwrap();
    assert_eq!(redirect.packs, [full[0].name, last.name]);
    assert_eq!(redirect.rows.len(), 10);
}

#[test]
fn what_is_marked_follows_redirects_one_after_the_other_as_far_as_they_know() {
    let old = pack(6);
    let mut marks = Marks::default();
    marks.page(&[entry(&old, &[0, 2, 3, 3, 5])]);
    let lengths: u64 = [0, 2, 3, 5].iter().map(|&at: &usize| u64::from(old.chunks[at].length)).sum();
    assert_eq!(marks.packs(), [(old.name, lengths)]);
    assert_eq!(marks.frames(&old.name), frames_of(&old, &[0, 2, 3, 5]));

    let (new, redirects) = moved(&old, &[0, 2, 5]);
    let newest = Pack { name: new.name, bytes: new.bytes, chunks: Vec::new() };
    let toc = Toc::of(&newest.bytes).unwrap();
    let newest = Pack { chunks: toc.entries.iter().map(|entry| entry.lying).collect(), ..newest };
    let (last, more) = moved(&newest, &[1]);
    let decoded = redirects.iter().chain(&more).map(|(name, stored)| (*name, Redirect::decode(stored).unwrap()));
    marks.follow(&decoded.collect::<HashMap<_, _>>()).unwrap();
    let mut packs: Vec<_> = marks.packs().into_iter().map(|(pack, _)| pack).collect();
    let mut expected = vec![old.name, newest.name, last.name];
    packs.sort_unstable();
    expected.sort_unstable();
    assert_eq!(packs, expected);
    assert_eq!(marks.frames(&old.name), frames_of(&old, &[3]));
    assert_eq!(marks.frames(&newest.name), frames_of(&newest, &[0, 2]));
    let mut through = marks.moved();
    through.sort_unstable();
    let mut expected = vec![old.name, newest.name];
    expected.sort_unstable();
    assert_eq!(through, expected);
}

#[test]
fn frames_are_proved_by_every_chunk_in_them() {
    let old = pack(3);
    let (toc, frames) = (Toc::of(&old.bytes).unwrap(), frames_of(&old, &[0, 2]));
    let stored = bytes_of(&old, &frames);
    prove(&toc, &frames, &stored).unwrap();
    // Another frame of this length, and one that ends early.
    let swapped = [stored[1], stored[0]];
    prove(&toc, &frames, &swapped).unwrap_err();
    prove(&toc, &frames, &[stored[0], &stored[1][1..]]).unwrap_err();
    let lying = old.chunks[2];
    let mut refused = 0;
    for at in 0..stored[1].len() {
        let mut spoilt = stored[1].to_vec();
        spoilt[at] ^= 1;
        match prove(&toc, &frames, &[stored[0], &spoilt]) {
            Err(Error::Damaged { .. } | Error::Mismatch { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
            // Something else of the tar's header, such as its mode.
            Ok(()) => assert_eq!(&frame::open(&spoilt, lying.plain).unwrap()[512..][..3002], content(2)),
        }
    }
    assert!(refused > stored[1].len() * 9 / 10);
}

#[test]
fn hops_are_counted_from_where_maps_say_that_something_lies() {
    let packs: Vec<PackName> = (1..6).map(|number| [number; 32]).collect();
    let to = |of: usize, to: usize| {
        (packs[of], Redirect { of: packs[of], packs: vec![packs[to]], rows: vec![(0, 100, 0, 0, 100)] })
    };
    let old = pack(1);
    let mut marks = Marks::default();
    let mut first = entry(&old, &[0]);
    let Kind::Regular(content) = &mut first.kind else { unreachable!() };
    content.chunks[0].frame = FrameAt { pack: Arc::new(packs[0]), offset: 0, length: 100, plain: 4096 };
    marks.page(&[first]);
    marks.follow(&HashMap::from([to(0, 1), to(1, 2), to(3, 4)])).unwrap();
    assert_eq!(packs.iter().map(|pack| marks.hops(pack)).collect::<Vec<_>>(), [0, 0, 2, 0, 0]);
    marks.follow(&HashMap::from([to(2, 3)])).unwrap();
    assert_eq!(packs.iter().map(|pack| marks.hops(pack)).collect::<Vec<_>>(), [0, 0, 2, 3, 0]);
}

#[test]
fn redirects_that_go_in_circles_or_are_of_another_pack_are_damage() {
    let old = pack(1);
    let mut marks = Marks::default();
    marks.page(&[entry(&old, &[0])]);
    let lying = old.chunks[0];
    let rows = vec![(lying.offset, lying.length, 0, lying.offset, lying.length)];
    let to = |of, pack| (of, Redirect { of, packs: vec![pack], rows: rows.clone() });
    let circle = HashMap::from([to(old.name, [1; 32]), to([1; 32], old.name)]);
    assert!(marks.follow(&circle).unwrap_err().to_string().contains("circles"));
    let swapped = HashMap::from([(old.name, to([1; 32], [2; 32]).1)]);
    assert!(marks.follow(&swapped).unwrap_err().to_string().contains("that of pack 0101"));
}

#[test]
fn fragments_name_everything_marked_in_the_order_of_packs_and_do_not_depend_on_who_came_first() {
    let packs = [pack(40), pack(41)];
    let entries = [entry(&packs[0], &(0..40).collect::<Vec<_>>()), entry(&packs[1], &(0..41).collect::<Vec<_>>())];
    let names = [packs[0].name, packs[1].name];
    let fragments = |marked: &[usize], limit| {
        let mut marks = Marks::default();
        marked.iter().for_each(|&number| marks.page(&entries[number..=number]));
        marks.fragments(&names, limit)
    };
    let parsed = |stored: &[u8]| Fragment::parse(stored.to_vec()).unwrap();
    let one = parsed(&fragments(&[0, 1], 1 << 20)[0]);
    assert_eq!((one.len(), one.blob_count()), (41, 1));
    assert_eq!((0..41).filter(|&row| *one.pack(one.pack_number(row)) == names[0]).count(), 40);
    let parts = fragments(&[0, 1], 1000);
    assert!(parts.len() > 4);
    assert_eq!(parts.iter().map(|part| parsed(part).len()).sum::<usize>(), 81);
    // What is added at the end leaves the first as they are.
    assert_eq!(fragments(&[0], 1000)[..1], parts[..1]);
    assert_eq!(fragments(&[], 1000), Vec::<Vec<u8>>::new());
}

#[test]
fn an_outline_is_alive_with_the_map_of_its_run() {
    let old = pack(2);
    let toc = Toc::of(&old.bytes).unwrap();
    let outline = &toc.entries[2];
    let stored = bytes_of(&old, &frames_of(&old, &[2]))[0];
    let mut marks = Marks::default();
    assert!(!marks.outline(&old.name, outline, stored).unwrap());
    let mut writer = MapWriter::new(1);
    writer.push(&Entry {
        path: Vec::new(),
        kind: Kind::Directory { digest: Some(Digest::of(b"")) },
        ..entry(&old, &[0])
    });
    let page = writer.finish().unwrap();
    let frame = FrameAt { pack: Arc::new(old.name), offset: 0, length: 9, plain: 1 << 20 };
    let page = PageRef { first: page.first, digest: page.digest, entries: page.entries, frame, inner: 512 };
    let summary = Summary { push: Some(PUSH.into()), tree: Digest::of(b""), entries: 1, bytes: 0, tar: None };
    let map = FileMap::from_fence(&fence(&summary, &[page])).unwrap();
    assert_eq!(marks.map(&map), [0]);
    assert_eq!(marks.map(&map), [0; 0]);
    assert!(marks.outline(&old.name, outline, stored).unwrap());
    assert!(marks.frames(&old.name).contains(&(outline.lying.offset, outline.lying.length)));
    assert!(marks.outline(&old.name, outline, &stored[1..]).is_err());
}
