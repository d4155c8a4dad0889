use super::frame::{self, FrameWriter};
use super::*;
use crate::digest::Digest;
use crate::error::Error;

fn pack_of(blobs: &[&[u8]]) -> Pack {
    let (mut writer, mut pack) = (FrameWriter::new(1), PackWriter::default());
    for blob in blobs {
        if !writer.takes(blob.len()) {
            pack.add(writer.seal());
        }
        writer.add(Digest::of(blob), blob);
    }
    pack.add(writer.seal());
    pack.seal()
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
    let named: Vec<_> = toc.entries.iter().map(|e| (e.digest, e.offset as u32, e.inner)).collect();
    assert_eq!(named, pack.chunks.iter().map(|l| (l.digest, l.offset, l.inner)).collect::<Vec<_>>());
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
