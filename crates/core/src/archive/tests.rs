use super::frame::{self, FrameWriter};
use super::*;
use crate::digest::Digest;
use crate::error::Error;
use crate::job::Job;

fn pack_of(blobs: &[&[u8]]) -> Pack {
    let (mut writer, mut pack) = (FrameWriter::new(1), PackWriter::default());
    for blob in blobs {
        if !writer.takes(blob.len()) {
            pack.add(writer.seal(), Holds::Content);
        }
        writer.add(Digest::of(blob), blob);
    }
    pack.add(writer.seal(), Holds::Content);
    pack.seal("0123456789abcdef")
}

fn bytes_of(pack: &Pack, lying: &Lying) -> crate::error::Result<Vec<u8>> {
    let start = lying.offset as usize;
    let plain = frame::open(&pack.bytes[start..start + lying.length as usize], lying.plain)?;
    frame::chunk(&plain, lying.inner, &lying.digest).map(<[u8]>::to_vec)
}

#[test]
fn each_chunk_is_found_where_the_pack_says_it_lies() {
    let big = vec![7u8; crate::chunk::MAX_CHUNK];
    let blobs: [&[u8]; 4] = [b"one", b"two", &big, b"three"];
    let pack = pack_of(&blobs);
    for (lying, blob) in pack.chunks.iter().zip(blobs) {
        assert_eq!(bytes_of(&pack, lying).unwrap(), blob);
    }
    assert_eq!(pack.name, Digest::of(&pack.bytes).sha256);
    let toc = Toc::of(&pack.bytes).unwrap();
    let named: Vec<Lying> = toc.entries.iter().map(|entry| entry.lying).collect();
    assert_eq!(named, pack.chunks);
}

#[test]
fn small_chunks_share_a_frame_and_a_frame_lists_them() {
    let pack = pack_of(&[b"one", b"two", b"three"]);
    assert!(pack.chunks.iter().all(|lying| lying.offset == 0));
    let plain = frame::open(&pack.bytes[..pack.chunks[0].length as usize], pack.chunks[0].plain).unwrap();
    let listed: Vec<_> = frame::chunks(&plain).map(|(name, range)| (name, plain[range].to_vec())).collect();
    let expected: Vec<_> =
        [&b"one"[..], b"two", b"three"].iter().map(|blob| (Digest::of(blob).sha256, blob.to_vec())).collect();
    assert_eq!(listed, expected);
}

#[test]
fn no_flipped_byte_of_a_frame_gives_wrong_bytes() {
    let pack = pack_of(&[b"some text that repeats, some text that repeats", b"two"]);
    for at in 0..pack.chunks[0].length as usize {
        for bit in [1, 0x80] {
            let mut damaged = Pack { name: pack.name, bytes: pack.bytes.clone(), chunks: pack.chunks.clone() };
            damaged.bytes[at] ^= bit;
            for lying in &pack.chunks {
                match bytes_of(&damaged, lying) {
                    Ok(bytes) => assert_eq!(Digest::of(&bytes), lying.digest),
                    Err(Error::Damaged { .. } | Error::Mismatch { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn no_flipped_or_missing_byte_of_footer_and_toc_is_taken_silently() {
    let pack = pack_of(&[b"one", b"two"]);
    let whole = Toc::of(&pack.bytes).unwrap().entries;
    for at in pack.chunks[0].length as usize..pack.bytes.len() {
        let mut damaged = pack.bytes.clone();
        damaged[at] ^= 1;
        if let Ok(toc) = Toc::of(&damaged) {
            assert_eq!(toc.entries.len(), whole.len());
        }
        assert!(Toc::of(&pack.bytes[..at]).is_err());
    }
}

#[test]
fn a_frame_that_lies_about_its_size_costs_no_memory() {
    let bomb = deflate(&vec![0u8; 64 << 20], 3);
    assert!(matches!(frame::open(&bomb, 1024), Err(Error::Damaged { .. })));
    assert!(matches!(frame::open(&bomb, u32::MAX), Err(Error::Damaged { .. })));
    assert!(matches!(frame::inflate("x", &bomb, 1024), Err(Error::Damaged { .. })));
    assert!(matches!(frame::inflate("x", &bomb, u64::MAX), Err(Error::Damaged { .. })));
}

#[test]
fn a_toc_is_read_from_the_end_of_a_pack_alone() {
    let pack = pack_of(&[b"one", b"two", &vec![7u8; crate::chunk::MAX_CHUNK], b"three"]);
    let size = pack.bytes.len() as u64;
    let Tail::Short(needed) = Toc::of_tail(&pack.bytes[pack.bytes.len() - 48..], size).unwrap() else {
        panic!("48 bytes are the footer alone")
    };
    assert!(needed < size);
    let Tail::Toc(toc) = Toc::of_tail(&pack.bytes[(size - needed) as usize..], size).unwrap() else {
        panic!("it asked for no more")
    };
    assert_eq!(toc.entries.iter().map(|entry| entry.lying).collect::<Vec<_>>(), pack.chunks);
}

#[test]
fn every_flipped_byte_of_a_pack_is_found_and_costs_only_its_own_frame() {
    let big = vec![7u8; 300_000];
    let pack = pack_of(&[b"one", b"two", &big, b"three"]);
    let whole = prove(&pack.name, &pack.bytes, &[], &Job::default()).unwrap();
    assert_eq!((whole.faults.len(), &whole.sound), (0, &pack.chunks));
    for at in 0..pack.bytes.len() {
        let mut bytes = pack.bytes.clone();
        bytes[at] ^= 4;
        let proved = prove(&pack.name, &bytes, &[], &Job::default()).unwrap();
        assert!(!proved.faults.is_empty(), "at {at}");
        let hit = |lying: &&Lying| (lying.offset..lying.offset + lying.length).contains(&(at as u32));
        for lying in pack.chunks.iter().filter(|lying| !hit(lying)) {
            assert!(proved.sound.contains(lying), "at {at}");
        }
    }
}

#[test]
fn without_its_end_a_pack_is_read_frame_by_frame() {
    let pack = pack_of(&[b"one", b"two", &vec![7u8; 300_000], b"three"]);
    let end = Toc::of(&pack.bytes).unwrap().end as usize;
    let proved = prove(&pack.name, &pack.bytes[..end], &[], &Job::default()).unwrap();
    assert_eq!(proved.sound, pack.chunks);
    // The first frame is lost; where the second begins, a file map says.
    let mut bytes = pack.bytes[..end].to_vec();
    bytes[..4].fill(0);
    let last = pack.chunks.last().unwrap();
    let proved = prove(&pack.name, &bytes, &[(last.offset, last.length, last.plain)], &Job::default()).unwrap();
    assert_eq!(proved.sound, pack.chunks.iter().filter(|l| l.offset == last.offset).copied().collect::<Vec<_>>());
}

#[test]
fn a_redirect_reads_back_and_no_damaged_one_does() {
    let rows = vec![(0, 10, 1, 5, 10), (10, 7, 0, 0, 9)];
    let redirect = Redirect { of: [9; 32], packs: vec![[1; 32], [2; 32]], rows };
    let bytes = redirect.encode();
    assert_eq!(Redirect::decode(&bytes).unwrap(), redirect);
    assert_eq!(redirect.find(10, 7), Some(([1; 32], 0, 9)));
    assert_eq!((redirect.find(10, 8), redirect.find(9, 7)), (None, None));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match Redirect::decode(&damaged) {
            Ok(read) => assert_eq!(read, redirect, "some bits of a zstd frame mean nothing"),
            Err(error) => assert!(matches!(error, Error::Damaged { .. })),
        }
        assert!(Redirect::decode(&bytes[..at]).is_err());
    }
    let newer = deflate(b"{\"format\":2}\n", 3);
    assert!(matches!(Redirect::decode(&newer), Err(Error::NewerFormat { version: 2, .. })));
}

#[test]
fn of_a_gzip_member_what_is_wanted_comes_whatever_is_behind_it() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let member = |plain: &[u8]| {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut out = vec![0; compressor.gzip_compress_bound(plain.len())];
        let length = compressor.gzip_compress(plain, &mut out).unwrap();
        out.truncate(length);
        out
    };
    let whole = member(&text);
    let two = [member(&text[..300_000]), member(&text[300_000..])].concat();
    for (stored, plain) in
        [(&whole, text.len()), (&whole, text.len() - 1000), (&whole, 100_000), (&two, 250_000), (&two, 400_000)]
    {
        assert_eq!(frame::Form::Archive.open(stored, plain as u32).unwrap(), text[..plain], "{plain}");
    }
    let longer = frame::Form::Archive.open(&whole, text.len() as u32 + 1);
    assert!(matches!(longer, Err(Error::Damaged { .. })));
    for at in (0..whole.len() - 8).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        match frame::Form::Archive.open(&damaged, text.len() as u32) {
            Ok(got) => assert!(got == text || at < 10 || Digest::of(&got) != Digest::of(&text), "at {at}"),
            Err(error) => assert!(matches!(error, Error::Damaged { .. }), "at {at}"),
        }
    }
}
