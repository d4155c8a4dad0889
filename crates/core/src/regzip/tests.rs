use std::io::{Cursor, Write};

use super::{apart, together};
use crate::error::Error;
use crate::job::Job;

fn text(length: usize) -> Vec<u8> {
    let mut state = 7u32;
    let mut out = Vec::new();
    while out.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(["of the wood ", "a leaf ", "living ", "roots and "][state as usize >> 30].as_bytes());
        out.extend_from_slice(&state.to_le_bytes()[2..3 + (state >> 20) as usize % 2]);
    }
    out
}

fn zlib(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new().filename("a name").write(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn libdeflate(plain: &[u8], level: i32) -> Vec<u8> {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
    let mut out = vec![0; compressor.gzip_compress_bound(plain.len())];
    let length = compressor.gzip_compress(plain, &mut out).unwrap();
    out.truncate(length);
    out
}

fn taken(stream: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut plain, mut corrections) = (Vec::new(), Vec::new());
    apart("it", stream, &mut plain, &mut corrections, &Job::default()).unwrap().then_some((plain, corrections))
}

fn made(plain: &[u8], corrections: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    together("it", Cursor::new(plain), Cursor::new(corrections), &mut out, &Job::default()).map(|()| out)
}

#[test]
fn streams_of_known_writers_come_back_with_small_corrections() {
    let plain = text(1_500_000);
    let streams = [1, 4, 6, 9]
        .map(|level| zlib(&plain, level))
        .into_iter()
        .chain([1, 5, 6, 9].map(|level| libdeflate(&plain, level)));
    for (number, stream) in streams.enumerate() {
        let (found, corrections) = taken(&stream).unwrap();
        assert!(found == plain, "{number}");
        assert!(made(&plain, &corrections).unwrap() == stream, "{number}");
        assert!(corrections.len() * 2 < stream.len(), "{number}: {} of {}", corrections.len(), stream.len());
    }
}

#[test]
fn members_one_behind_the_other_come_back() {
    let plains: Vec<Vec<u8>> = [0, 1, 70_000, 5, 300_000].map(text).into();
    let stream: Vec<u8> = plains.iter().flat_map(|plain| libdeflate(plain, 5)).collect();
    let (plain, corrections) = taken(&stream).unwrap();
    assert!(plain == plains.concat());
    assert!(made(&plain, &corrections).unwrap() == stream);
}

#[test]
fn streams_that_begin_otherwise_than_they_go_on_come_back() {
    let noise = |length: usize| -> Vec<u8> {
        let mut state = 1u64;
        let next = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 56) as u8
        };
        (0..length).map(|_| next(&mut state)).collect()
    };
    for plain in [
        noise(300_000),
        [text(10_000), noise(300_000)].concat(),
        [noise(300_000), b"wood ".repeat(20_000)].concat(),
        [noise(300_000), text(100_000), noise(1000)].concat(),
    ] {
        for stream in [zlib(&plain, 6), libdeflate(&plain, 5)] {
            let (found, corrections) = taken(&stream).unwrap();
            assert!(found == plain);
            assert!(made(&plain, &corrections).unwrap() == stream);
        }
    }
}

#[test]
fn what_is_no_whole_gzip_stream_is_not_taken_apart() {
    let stream = zlib(&text(100_000), 6);
    for broken in [&stream[..5], &stream[..stream.len() / 2], &stream[..stream.len() - 1]] {
        assert!(taken(broken).is_none());
    }
    assert!(taken(&[&stream[..], b"and more"].concat()).is_none());
    assert!(taken(b"no gzip").is_none());
}

#[test]
fn corrections_that_were_changed_are_an_error_or_other_bytes_and_never_a_panic() {
    let plain = text(200_000);
    let stream = zlib(&plain, 6);
    let (_, corrections) = taken(&stream).unwrap();
    for at in (0..corrections.len()).step_by(corrections.len() / 40) {
        let mut other = corrections.clone();
        other[at] ^= 0x41;
        // Whoever asked proves what it is.
        let _ = made(&plain, &other);
    }
    assert!(matches!(made(&plain, &corrections[..corrections.len() / 2]), Err(Error::Damaged { .. })));
    assert!(matches!(made(&plain[1..], &corrections), Err(Error::Damaged { .. })));
    assert!(matches!(made(&[&plain[..], b"x"].concat(), &corrections), Err(Error::Damaged { .. })));
    let newer = [b"SAPWRGZ\x02", &corrections[8..]].concat();
    assert!(matches!(made(&plain, &newer), Err(Error::NewerFormat { .. })));
}
