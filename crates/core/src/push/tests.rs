use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::*;
use crate::archive::{Holds, Lying, Toc, TocEntry, frame};
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index::Options;
use crate::job::Job;

fn lying(text: &[u8], offset: u32) -> Lying {
    Lying { digest: Digest::of(text), offset, length: 100, plain: 2048, inner: 512 }
}

/// Two packs, three chunks, one large blob of two of them.
fn fragment() -> Vec<u8> {
    let mut writer = FragmentWriter::default();
    writer.chunks(&[7; 32], [lying(b"one", 0), lying(b"two", 100)]);
    writer.chunks(&[9; 32], [lying(b"three", 0)]);
    writer.blob(Digest { sha256: [5; 32], size: 6 }, vec![Digest::of(b"one"), Digest::of(b"two")]);
    writer.finish()
}

type Rows = (Vec<(PackName, Lying)>, Vec<(Digest, Vec<Digest>)>);

fn rows(fragment: &Fragment) -> Rows {
    let row = |row| {
        let (pack, lying) = fragment.chunk(row);
        (*fragment.pack(pack), lying)
    };
    ((0..fragment.len()).map(row).collect(), fragment.blobs().collect())
}

/// Bytes that do not compress and differ with `seed`.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// A pack as it was stored; its memory has been given back.
struct Stored {
    name: PackName,
    bytes: Vec<u8>,
    fragment: Vec<u8>,
}

fn store(sealed: Sealed) -> Stored {
    Stored { name: sealed.name, bytes: sealed.bytes.to_vec(), fragment: sealed.fragment }
}

/// Push `root` with what is known of the store, and keep the packs.
fn run(root: &Path, fragments: &[Vec<u8>]) -> Result<(Pushed, Vec<Stored>)> {
    let known = Known::new(None, fragments.to_vec(), None)?;
    push_with(root, &known, None)
}

const PUSH: &str = "0123456789abcdef";

fn request(known: &Known, content: Option<[u8; 32]>) -> Request<'_> {
    Request { push: PUSH, level: None, known, pending: Vec::new(), memory: b"", content, words: b"{\"format\":1}" }
}

fn looked(root: &Path) -> Looked {
    look(root, None, &Options::new(3), &Job::default()).unwrap()
}

/// Push `root` with what is known and the content of the snapshot before.
fn push_with(root: &Path, known: &Known, content: Option<[u8; 32]>) -> Result<(Pushed, Vec<Stored>)> {
    let looked = looked(root);
    let (sender, receiver) = bounded(1);
    let job = Job::default();
    std::thread::scope(|scope| {
        let taker = scope.spawn(move || receiver.iter().map(store).collect::<Vec<_>>());
        let pushed = looked.push(request(known, content), &sender, &job);
        drop(sender);
        let packs = taker.join().unwrap();
        Ok((pushed?, packs))
    })
}

/// Each chunk of the packs with the frame it lies in, proved; panics when one was sent twice.
fn sent(packs: &[Stored]) -> HashMap<Digest, (PackName, u64)> {
    let mut out = HashMap::new();
    for pack in packs {
        assert_eq!(Digest::of(&pack.bytes).sha256, pack.name);
        let fragment = Fragment::parse(pack.fragment.clone()).unwrap();
        for row in 0..fragment.len() {
            let (number, lying) = fragment.chunk(row);
            assert_eq!(fragment.pack(number), &pack.name);
            let start = lying.offset as usize;
            let plain = frame::open(&pack.bytes[start..start + lying.length as usize], lying.plain).unwrap();
            frame::chunk(&plain, lying.inner, &lying.digest).unwrap();
            assert_eq!(out.insert(lying.digest, (pack.name, lying.offset.into())), None, "sent twice");
        }
        let referred = |entry: &TocEntry| entry.holds != Holds::Outline;
        let toc = Toc::of(&pack.bytes).unwrap();
        assert_eq!(toc.push.as_deref(), Some(PUSH));
        assert_eq!(toc.entries.into_iter().filter(referred).count(), fragment.len());
    }
    out
}

#[test]
fn a_fragment_gives_back_what_was_written() {
    let fragment = Fragment::parse(fragment()).unwrap();
    let (chunks, blobs) = rows(&fragment);
    let mut expected = vec![([7; 32], lying(b"one", 0)), ([7; 32], lying(b"two", 100)), ([9; 32], lying(b"three", 0))];
    expected.sort_by_key(|(_, lying)| lying.digest.sha256);
    assert_eq!(chunks, expected);
    let pieces = vec![Digest::of(b"one"), Digest::of(b"two")];
    assert_eq!(blobs, [(Digest { sha256: [5; 32], size: 6 }, pieces.clone())]);
    assert_eq!(fragment.blob(&Digest { sha256: [5; 32], size: 6 }), Some(pieces));
    assert_eq!(fragment.blob(&Digest { sha256: [4; 32], size: 6 }), None);
    let mut again = FragmentWriter::default();
    again.fragment(&fragment);
    again.fragment(&fragment);
    assert_eq!(again.finish(), self::fragment());
}

#[test]
fn a_flipped_byte_of_a_fragment_is_an_error_or_changes_what_it_spells_and_nothing_else() {
    let whole = fragment();
    let (chunks, blobs) = rows(&Fragment::parse(whole.clone()).unwrap());
    for at in 0..whole.len() {
        for bit in [1, 0x10, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= bit;
            match Fragment::parse(damaged.clone()) {
                Err(Error::Damaged { .. } | Error::NewerFormat { .. }) => {}
                Err(other) => panic!("byte {at}: {other}"),
                Ok(fragment) => {
                    let (now, blobs_now) = rows(&fragment);
                    assert_eq!((now.len(), blobs_now.len()), (chunks.len(), blobs.len()), "byte {at}");
                    let others = now.iter().zip(&chunks).filter(|(a, b)| a != b).count();
                    // A pack's name is spelt once for its two chunks.
                    let changed = others + blobs_now.iter().zip(&blobs).filter(|(a, b)| a != b).count();
                    assert!((1..=2).contains(&changed), "byte {at}: {changed} rows");
                    let known = Known::new(None, vec![damaged], None).unwrap();
                    chunks.iter().for_each(|(_, lying)| drop(known.chunk(&lying.digest)));
                    blobs.iter().for_each(|(digest, _)| drop(known.pieces(digest)));
                }
            }
        }
    }
}

#[test]
fn a_fragment_that_is_cut_short_or_goes_on_is_refused() {
    let whole = fragment();
    for length in 0..whole.len() {
        assert!(matches!(Fragment::parse(whole[..length].to_vec()), Err(Error::Damaged { .. })), "{length}");
    }
    assert!(matches!(Fragment::parse([&whole[..], b"\0"].concat()), Err(Error::Damaged { .. })));
    let of_format = |version| [&whole[..8], &[version], &whole[9..]].concat();
    assert!(matches!(Fragment::parse(of_format(0)), Err(Error::Damaged { .. })));
    assert!(matches!(Fragment::parse(of_format(2)), Err(Error::NewerFormat { version: 2, .. })));
    assert!(matches!(Fragment::parse(b"SAPWFRG\n\x02\0\0\0".to_vec()), Err(Error::NewerFormat { version: 2, .. })));
}

#[test]
fn of_several_places_the_one_in_the_pack_of_the_lowest_name_is_taken_whatever_the_order() {
    let in_pack = |name: u8| {
        let mut writer = FragmentWriter::default();
        writer.chunks(&[name; 32], [lying(b"one", u32::from(name))]);
        writer.finish()
    };
    for order in [[3, 1, 2], [1, 2, 3], [2, 3, 1]] {
        let known = Known::new(None, order.map(in_pack).to_vec(), None).unwrap();
        assert_eq!(known.chunk(&Digest::of(b"one")).unwrap().frame.pack, Arc::new([1; 32]));
    }
    assert_eq!(Known::new(None, vec![in_pack(1)], None).unwrap().chunk(&Digest::of(b"two")), None);
}

#[test]
fn a_large_blob_is_known_only_with_all_its_chunks() {
    let blob = Digest { sha256: [5; 32], size: 6 };
    assert!(Known::new(None, vec![fragment()], None).unwrap().pieces(&blob).is_some());
    let mut writer = FragmentWriter::default();
    writer.chunks(&[7; 32], [lying(b"one", 0)]);
    writer.blob(blob, vec![Digest::of(b"one"), Digest::of(b"two")]);
    assert!(Known::new(None, vec![writer.finish()], None).unwrap().pieces(&blob).is_none());
}

#[test]
fn equal_contents_are_sent_once_and_what_the_store_has_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let big = noise(5 * MAX_CHUNK, 1);
    for folder in ["a", "b", "c"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
        std::fs::write(root.path().join(folder).join("small"), b"the same").unwrap();
        std::fs::write(root.path().join(folder).join("big"), &big).unwrap();
        std::fs::write(root.path().join(folder).join("own"), folder).unwrap();
        std::fs::write(root.path().join(folder).join("empty"), b"").unwrap();
    }
    let (first, packs) = run(root.path(), &[]).unwrap();
    let chunks = sent(&packs);
    let pieces = Fragment::parse(first.fragment.clone().unwrap()).unwrap().blob(&Digest::of(&big)).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.size).sum::<u64>(), big.len() as u64);
    // Of the contents: pieces, "the same", "a", "b", "c"; and pages; the outline is none.
    let entries = packs.iter().flat_map(|pack| Toc::of(&pack.bytes).unwrap().entries);
    let pages = entries.filter(|entry| entry.holds == Holds::Page).count();
    assert_eq!(chunks.len(), pieces.len() + 4 + pages);
    assert_eq!(first.sent.chunks, chunks.len() as u64);
    let map = first.map.unwrap();
    assert_eq!(map.packs.iter().copied().collect::<HashSet<_>>(), packs.iter().map(|pack| pack.name).collect());

    let known = Known::new(None, vec![first.fragment.unwrap()], None).unwrap();
    let (second, packs) = push_with(root.path(), &known, Some(map.content.sha256)).unwrap();
    assert!(packs.is_empty() && second.fragment.is_none() && second.map.is_none());
    // With another content before, all that is sent is the outline of the new snapshot.
    let (third, packs) = push_with(root.path(), &known, Some([0; 32])).unwrap();
    assert_eq!((packs.len(), third.sent.chunks, third.map.unwrap().content), (1, 0, map.content));
}

#[test]
fn a_piece_of_a_large_blob_has_a_frame_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let mut large = HashSet::new();
    for number in 0..3 {
        let big = noise(MAX_CHUNK + 100_000 * number, number as u64 + 10);
        std::fs::write(root.path().join(format!("big-{number}")), &big).unwrap();
        large.insert(Digest::of(&big));
    }
    for number in 0..400 {
        std::fs::write(root.path().join(format!("small-{number}")), noise(1000, number + 100)).unwrap();
    }
    let (pushed, packs) = run(root.path(), &[]).unwrap();
    let chunks = sent(&packs);
    let fragment = Fragment::parse(pushed.fragment.unwrap()).unwrap();
    let pieces: HashSet<Digest> = large.iter().flat_map(|blob| fragment.blob(blob).unwrap()).collect();
    let mut in_frame: HashMap<_, u32> = HashMap::new();
    chunks.values().for_each(|place| *in_frame.entry(place).or_default() += 1);
    assert!(pieces.len() > 3);
    assert!(pieces.iter().all(|piece| in_frame[&chunks[piece]] == 1));
    assert!(in_frame.values().any(|&count| count > 100), "small blobs share frames");
}

#[test]
fn a_stop_ends_a_push_at_once_though_nobody_takes_its_packs() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), b"content").unwrap();
    let known = Known::new(None, Vec::new(), None).unwrap();
    let (sender, receiver) = bounded(1);
    let job = Job::default();
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| looked(root.path()).push(request(&known, None), &sender, &job));
        // The pack of contents is in the channel: that of the page cannot leave.
        while receiver.is_empty() {
            std::thread::yield_now();
        }
        let stopped = Instant::now();
        job.stop();
        assert!(matches!(pushing.join().unwrap(), Err(Error::Stopped)));
        assert!(stopped.elapsed() < Duration::from_secs(1));
    });
    assert_eq!(job.files_done.load(Relaxed), 1);
}

#[test]
fn a_push_whose_packs_nobody_will_ever_take_ends() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), b"content").unwrap();
    let known = Known::new(None, Vec::new(), None).unwrap();
    let (sender, receiver) = bounded(1);
    drop(receiver);
    let pushed = looked(root.path()).push(request(&known, None), &sender, &Job::default());
    assert!(matches!(pushed, Err(Error::Stopped)));
}

#[test]
fn holdings_are_what_the_tree_and_its_pages_use_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let big = noise(3 * MAX_CHUNK, 7);
    std::fs::write(root.path().join("big"), &big).unwrap();
    std::fs::write(root.path().join("goes"), b"away").unwrap();
    std::fs::write(root.path().join("stays"), b"here").unwrap();
    let (first, packs) = run(root.path(), &[]).unwrap();
    let held = Fragment::parse(first.holdings.clone().unwrap()).unwrap();
    assert_eq!(held.len(), sent(&packs).len());

    let known = Known::new(first.holdings.clone(), Vec::new(), None).unwrap();
    let (same, packs) = push_with(root.path(), &known, None).unwrap();
    assert_eq!((same.holdings, same.reused.len(), packs.len()), (None, 0, 1));

    std::fs::remove_file(root.path().join("goes")).unwrap();
    std::fs::write(root.path().join("comes"), b"new").unwrap();
    let (second, packs) = push_with(root.path(), &known, None).unwrap();
    let now = Fragment::parse(second.holdings.unwrap()).unwrap();
    let has = |text: &[u8]| (0..now.len()).any(|row| now.chunk(row).1.digest == Digest::of(text));
    assert!(has(b"new") && has(b"here") && !has(b"away"));
    assert_eq!(now.blob(&Digest::of(&big)), held.blob(&Digest::of(&big)));
    // One file and the page went, one file and a page came.
    assert_eq!((now.len(), sent(&packs).len()), (held.len(), 2));
}

#[test]
fn what_the_holdings_say_goes_before_all_else_and_other_packs_only_where_they_are_usable() {
    let in_pack = |name: u8| {
        let mut writer = FragmentWriter::default();
        writer.chunks(&[name; 32], [lying(b"one", u32::from(name))]);
        writer.finish()
    };
    let pack = |known: &Known| known.chunk(&Digest::of(b"one")).map(|chunk| *chunk.frame.pack);
    let fragments = || vec![in_pack(1), in_pack(2)];
    let known = |holdings, there: &[u8], sound: &[u8]| {
        let names = |list: &[u8]| list.iter().map(|&name| [name; 32]).collect();
        let usable = Usable { there: names(there), sound: names(sound) };
        Known::new(holdings, fragments(), Some(&usable)).unwrap()
    };
    assert_eq!(pack(&Known::new(Some(in_pack(3)), fragments(), None).unwrap()), Some([3; 32]));
    assert_eq!(pack(&known(Some(in_pack(3)), &[1, 2, 3], &[1, 2])), Some([3; 32]));
    assert_eq!(pack(&known(Some(in_pack(3)), &[1, 2], &[1, 2])), Some([1; 32]));
    assert_eq!(pack(&known(None, &[1, 2], &[2])), Some([2; 32]));
    assert_eq!(pack(&known(None, &[1, 2], &[])), None);
}

#[test]
fn two_runs_never_write_a_pack_or_a_map_of_one_name() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), b"content").unwrap();
    let known = Known::new(None, Vec::new(), None).unwrap();
    let pushed = |push: &str| {
        let (sender, receiver) = bounded(8);
        let request = Request { push, ..request(&known, None) };
        let pushed = looked(root.path()).push(request, &sender, &Job::default()).unwrap();
        drop(sender);
        (receiver.iter().map(|pack| pack.name).collect::<HashSet<_>>(), pushed.map.unwrap())
    };
    let (one, other) = (pushed("0123456789abcdef"), pushed("0123456789abcdee"));
    assert!(one.0.is_disjoint(&other.0));
    assert_ne!(one.1.digest, other.1.digest);
}

/// A step of a random sequence that a seed gives.
fn step(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

/// Change something in the tree at `root`, of files that are named by numbers.
fn edit_somewhere(root: &Path, seed: &mut u64) {
    let folder = root.join(format!("folder-{}", step(seed, 6)));
    let folder = if step(seed, 2) == 0 { folder } else { folder.join("below") };
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("a-file-with-a-name-{}", step(seed, 80)));
    let other = folder.join(format!("another-{}", step(seed, 20)));
    match step(seed, 8) {
        0 => drop(std::fs::remove_file(&path)),
        1 => drop(std::fs::rename(&path, &other)),
        2 => drop(std::fs::hard_link(&path, &other)),
        3 => drop(std::os::unix::fs::symlink("somewhere", &other)),
        4 if path.exists() => {
            let mode = 0o600 + step(seed, 0o100) as u32;
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        5 => {
            let file = std::fs::File::create(&path).unwrap();
            // All files together are little: how well they are compressed does not depend on how many are read again.
            file.set_len(1 << 13).unwrap();
        }
        6 => drop(std::fs::remove_dir_all(folder.join("below"))),
        _ => std::fs::write(&path, noise(10 + step(seed, 3000), *seed)).unwrap(),
    }
}

#[test]
fn what_is_remembered_of_pages_changes_no_byte_of_the_file_map() {
    for seed in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let (root, index) = (folder.path().join("tree"), folder.path().join("index"));
        let mut seed = seed * 1000 + 7;
        (0..600).for_each(|_| edit_somewhere(&root, &mut seed));
        let (mut holdings, mut memory) = (None, Vec::new());
        let mut taken = 0;
        for edits in [0, 1, 0, 1, 3, 30, 1] {
            (0..edits).for_each(|_| edit_somewhere(&root, &mut seed));
            let known = Known::new(holdings.clone(), Vec::new(), None).unwrap();
            let pushed = |memory: &[u8]| {
                // One thread, so that both pack new content alike.
                let looked = look(&root, Some(&index), &Options::new(1), &Job::default()).unwrap();
                let (sender, receiver) = bounded(64);
                let pushed =
                    looked.push(Request { memory, ..request(&known, None) }, &sender, &Job::default()).unwrap();
                drop(sender);
                // The outline is in a pack of its own whenever no page is new.
                (receiver.iter().map(|pack| pack.name).collect::<Vec<_>>(), pushed)
            };
            let (with, without) = (pushed(&memory), pushed(b""));
            assert_eq!(with.1.map.as_ref().unwrap().digest, without.1.map.as_ref().unwrap().digest);
            assert_eq!(with.1.map.unwrap().packs, without.1.map.unwrap().packs);
            assert_eq!(with.0, without.0);
            assert_eq!(with.1.holdings, without.1.holdings);
            if let Some(said) = &with.1.memory {
                let cut = crate::filemap::cut_of(with.1.entries);
                let old = remembered::decode(&memory, cut);
                let new = remembered::decode(said, cut);
                taken += new.iter().filter(|page| old.contains(page)).count();
            }
            holdings = without.1.holdings.or(holdings);
            memory = with.1.memory.unwrap_or(memory);
        }
        assert!(taken > 0, "seed {seed}: nothing was taken from memory");
    }
}

#[test]
fn a_damaged_memory_is_none() {
    let page = remembered::Remembered {
        first: b"a/\xff".to_vec(),
        entries: 3,
        is_last: true,
        sum: [1; 32],
        digest: Digest::of(b"page"),
        bytes: 7,
        packs: vec![[3; 32], [2; 32]],
    };
    let good = remembered::encode(8, std::slice::from_ref(&page));
    assert_eq!(remembered::decode(&good, 8), [page]);
    assert!(remembered::decode(&good, 16).is_empty());
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        assert!(remembered::decode(&damaged, 8).is_empty(), "byte {at}");
        assert!(remembered::decode(&good[..at], 8).is_empty(), "cut at {at}");
    }
}

#[test]
fn a_blob_is_told_to_be_laid_out_by_where_it_was_cut_and_no_edited_file_is_read_twice_for_it() {
    let digests = |sizes: &[u64]| sizes.iter().map(|&size| Digest { size, ..Digest::of(b"") }).collect::<Vec<_>>();
    const BLOCK: u64 = 64 << 10;
    assert!(known::is_laid_out(&digests(&[3 * BLOCK, 500_001])));
    assert!(known::is_laid_out(&digests(&[500_001, 9 * BLOCK - 500_001, 7])));
    // As content cuts it: of zeros at the longest chunks, and at the end wherever that is.
    assert!(!known::is_laid_out(&digests(&[2 << 20, 2 << 20, BLOCK])));
    assert!(!known::is_laid_out(&digests(&[412_345, 698_111, BLOCK])));
    assert!(!known::is_laid_out(&digests(&[BLOCK])));
}
