use std::collections::HashSet;

use super::*;
use crate::archive::frame::{self, FrameWriter};
use crate::archive::{Holds, PackWriter, Redirect, Toc, prove};
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::Error;
use crate::job::Job;
use crate::push::Fragment;

/// A pack of one frame with these chunks.
fn pack_of(chunks: &[&[u8]]) -> crate::archive::Pack {
    let (mut frames, mut pack) = (FrameWriter::new(1), PackWriter::default());
    chunks.iter().for_each(|chunk| frames.add(Digest::of(chunk), chunk));
    pack.add(frames.seal(), Holds::Content);
    pack.seal("0123456789abcdef")
}

#[test]
fn what_many_packs_hold_is_told_in_fragments_of_about_a_mebibyte() {
    let chunks: Vec<[u8; 4]> = (0..25_000u32).map(u32::to_le_bytes).collect();
    let mut recovery = Recovery::default();
    let mut told = 0;
    for part in chunks.chunks(5_000) {
        let pack = pack_of(&part.iter().map(|chunk| &chunk[..]).collect::<Vec<_>>());
        let toc = Toc::of(&pack.bytes).unwrap();
        told += toc.entries.len();
        recovery.pack(&pack.name, &toc);
    }
    let made = recovery.fragments();
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|fragment| fragment.len() <= (1 << 20) + 100));
    let rows: usize = made.into_iter().map(|fragment| Fragment::parse(fragment).unwrap().len()).sum();
    assert_eq!(rows, told);
    assert_eq!(recovery.fragments(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_frame_made_again_has_each_chunk_at_its_old_place_and_zeros_where_one_is_lost() {
    let pack = pack_of(&[b"one", b"two", &[7; 600], b"four"]);
    let bytes = [&b"one"[..], b"two", &[7; 600], b"four"];
    for lost in 0..4 {
        let have: Vec<_> = (0..4)
            .filter(|&number| number != lost)
            .map(|number| (pack.chunks[number].inner, pack.chunks[number].digest, bytes[number].to_vec()))
            .collect();
        let mut again = Rebuild::new("0123456789abcdef", [7; 32]);
        let first = pack.chunks[0];
        again.make(first.offset, first.length, first.plain, &have, Holds::Content).unwrap();
        let made = again.finish(None);
        let proved = prove(&made.pack.name, &made.pack.bytes, &[], &Job::default()).unwrap();
        assert_eq!(proved.faults, Vec::<String>::new());
        let (to, offset, length) = made.redirect.find(first.offset, first.length).unwrap();
        assert_eq!(to, made.pack.name);
        let plain = frame::open(&made.pack.bytes[offset as usize..(offset + length) as usize], first.plain).unwrap();
        for (inner, digest, bytes) in &have {
            assert_eq!(frame::chunk(&plain, *inner, digest).unwrap(), bytes);
        }
    }
}

#[test]
fn a_frame_is_not_made_of_other_bytes_or_at_places_that_cannot_be() {
    let digest = Digest::of(b"one");
    let make = |plain, inner, bytes: &[u8]| {
        Rebuild::new("0123456789abcdef", [7; 32]).make(0, 9, plain, &[(inner, digest, bytes.to_vec())], Holds::Content)
    };
    assert!(make(1024, 512, b"one").is_ok());
    assert!(matches!(make(1024, 512, b"two"), Err(Error::Mismatch { .. })));
    for (plain, inner) in [(1024, 0), (1024, 513), (512, 512), (1025, 512), (1024, 1024)] {
        assert!(matches!(make(plain, inner, b"one"), Err(Error::Damaged { .. })), "{plain} {inner}");
    }
}

#[test]
fn lost_chunks_are_found_in_files_whole_or_cut_and_proved_when_read() {
    let folder = tempfile::tempdir().unwrap();
    let small = b"a small file";
    let mut large = vec![0u8; MAX_CHUNK + 100_000];
    large.iter_mut().enumerate().for_each(|(at, byte)| *byte = ((at * at) >> 7) as u8);
    std::fs::create_dir(folder.path().join("below")).unwrap();
    std::fs::write(folder.path().join("below/small"), small).unwrap();
    std::fs::write(folder.path().join("large"), &large).unwrap();
    let mut wanted: HashSet<Digest> = [Digest::of(small), Digest::of(b"nowhere")].into();
    let mut cut = crate::chunk::Cutter::default();
    let mut keep = |chunk: &[u8]| {
        wanted.insert(Digest::of(chunk));
        Ok(())
    };
    cut.piece(&large, &mut keep).unwrap();
    cut.finish(&mut keep).unwrap();
    let found = search(folder.path(), &wanted, &[], &Job::default()).unwrap();
    assert_eq!(found.len(), wanted.len() - 1);
    for (digest, spot) in &found {
        assert_eq!(Digest::of(&read_spot(spot, digest).unwrap()), *digest);
    }
    std::fs::write(folder.path().join("below/small"), b"another file").unwrap();
    let small = Digest::of(small);
    assert!(matches!(read_spot(&found[&small], &small), Err(Error::Mismatch { .. })));
}

#[test]
fn a_pack_made_again_says_what_it_holds() {
    let pack = pack_of(&[b"one", b"two"]);
    let mut again = Rebuild::new("00000000000000ff", [7; 32]);
    let first = pack.chunks[0];
    let stored = &pack.bytes[..first.length as usize];
    let chunks = pack.chunks.iter().map(|lying| (lying.digest, lying.inner)).collect();
    again.copy(first.offset, stored, first.plain, chunks, Holds::Page);
    let made = again.finish(None);
    let toc = Toc::of(&made.pack.bytes).unwrap();
    assert_eq!(toc.push.as_deref(), Some("00000000000000ff"));
    assert!(toc.entries.iter().all(|entry| entry.holds == Holds::Page));
    assert_eq!(toc.entries.iter().map(|entry| entry.lying).collect::<Vec<_>>(), pack.chunks);
}

#[test]
fn a_frame_whose_tar_headers_are_damaged_is_made_again_of_its_chunks() {
    let pack = pack_of(&[b"one", b"two"]);
    let first = pack.chunks[0];
    let stored = &pack.bytes[..first.length as usize];
    let whole = frame::open(stored, first.plain).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    let damaged = zstd::bulk::compress(&damaged, 1).unwrap();
    let mut again = Rebuild::new("00000000000000ff", [7; 32]);
    let chunks = pack.chunks.iter().map(|lying| (lying.digest, lying.inner)).collect();
    again.copy(first.offset, &damaged, first.plain, chunks, Holds::Content);
    let made = again.finish(None);
    let (_, at, length) = made.redirect.find(first.offset, damaged.len() as u32).unwrap();
    let frame = &made.pack.bytes[at as usize..(at + length) as usize];
    assert_eq!(frame::open(frame, first.plain).unwrap(), whole);
}

#[test]
fn what_was_moved_before_stays_where_it_is() {
    let pack = pack_of(&[b"one"]);
    let first = pack.chunks[0];
    let mut again = Rebuild::new("00000000000000ff", [7; 32]);
    let chunks = pack.chunks.iter().map(|lying| (lying.digest, lying.inner)).collect();
    again.copy(7, &pack.bytes[..first.length as usize], first.plain, chunks, Holds::Content);
    let before =
        Redirect { of: [7; 32], packs: vec![[5; 32]], rows: vec![(0, 7, 0, 10, 20), (7, first.length, 0, 30, 40)] };
    let made = again.finish(Some(before));
    assert_eq!(made.redirect.find(0, 7), Some(([5; 32], 10, 20)));
    assert_eq!(made.redirect.find(7, first.length), Some((made.pack.name, 0, first.length)));
}
