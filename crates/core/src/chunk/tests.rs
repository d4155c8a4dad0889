use super::*;
use crate::digest::Digest;

/// Bytes that any language can make again: SHA-256 of a counter, as eight little-endian bytes.
fn generated(length: usize) -> Vec<u8> {
    (0u64..).flat_map(|counter| Digest::of(&counter.to_le_bytes()).sha256).take(length).collect()
}

fn bounds(blob: &[u8], piece: usize) -> Vec<usize> {
    let (mut cutter, mut out) = (Cutter::default(), Vec::new());
    let mut note = |chunk: &[u8]| {
        out.push(chunk.len());
        Ok(())
    };
    for bytes in blob.chunks(piece) {
        cutter.piece(bytes, &mut note).unwrap();
    }
    cutter.finish(note).unwrap();
    out
}

#[test]
fn cut_points_are_the_golden_ones_however_the_bytes_arrive() {
    let golden = include_str!("../../../../tests/golden/bounds.tsv");
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let mut numbers = line.split('\t').map(|n| n.parse::<usize>().unwrap());
        let blob = generated(numbers.next().unwrap());
        let expected: Vec<usize> = numbers.collect();
        for piece in [blob.len(), 1 << 20, 65_537, 4096] {
            assert_eq!(bounds(&blob, piece), expected, "blob of {} in pieces of {piece}", blob.len());
        }
    }
}

#[test]
fn chunks_add_up_and_keep_their_bounds() {
    let blob = generated(9 << 20);
    let sizes = bounds(&blob, 1 << 20);
    assert_eq!(sizes.iter().sum::<usize>(), blob.len());
    assert!(sizes.iter().all(|&size| size <= MAX_CHUNK));
    assert!(sizes[..sizes.len() - 1].iter().all(|&size| size >= MIN_CHUNK));
}

#[test]
fn a_change_in_the_middle_moves_few_cut_points() {
    let mut blob = generated(9 << 20);
    let digests = |blob: &[u8]| {
        let (mut start, mut out) = (0, std::collections::HashSet::new());
        for size in bounds(blob, 1 << 20) {
            out.insert(Digest::of(&blob[start..start + size]));
            start += size;
        }
        out
    };
    let before = digests(&blob);
    blob.splice(4 << 20..4 << 20, *b"inserted");
    assert!(digests(&blob).difference(&before).count() <= 3);
}
