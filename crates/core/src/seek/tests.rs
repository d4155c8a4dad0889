use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::tempdir;

use super::*;
use crate::archive::frame::Form;
use crate::convert::Out;
use crate::error::Error;
use crate::filemap::{FileMap, Kind};
use crate::job::Job;
use crate::tar::{BLOCK, END, Fields, block};

/// Bytes of which something remains when they are compressed, the same for a seed.
fn text(size: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"etaoin shrdlu\n.,"[(seed >> 33) as usize % 16]
    };
    (0..size).map(|_| next()).collect()
}

fn a_tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        let size = content.len() as u64;
        let name = name.as_bytes();
        out.extend_from_slice(&block(&Fields { name, mode: 0o644, size, flag: b'0', ..Fields::default() }));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(&END);
    out
}

fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn index_of(archive: &[u8]) -> crate::error::Result<Vec<u8>> {
    let place = tempdir().unwrap();
    let (archive_at, index_at) = (place.path().join("a"), place.path().join("i"));
    std::fs::write(&archive_at, archive).unwrap();
    let mut out = Out::new(File::create(&index_at).unwrap(), PathBuf::from("i"))?;
    let input = File::open(&archive_at).unwrap();
    build("a", &input, &Ends::of("a", &input)?, &mut out, place.path(), false, &Job::default())?;
    Ok(std::fs::read(&index_at).unwrap())
}

fn open(index: &[u8]) -> crate::error::Result<(SeekIndex, FileMap)> {
    let found = Found::read(&index[index.len().saturating_sub(100)..], index.len() as u64)?;
    let text = found.text.start as usize..found.text.end as usize;
    SeekIndex::open(&found, &index[text], false, &Job::default())
}

/// Each chunk of each file, read as readers do; how many plain bytes that takes at most for one of them.
fn read_all(archive: &[u8], index: &[u8], files: &[(&str, Vec<u8>)]) -> u32 {
    let (seek, map) = open(index).unwrap();
    let mut most = 0;
    for (name, content) in files {
        let inode = map.find(name.as_bytes()).unwrap().unwrap();
        let entry = map.entry(inode).unwrap().unwrap();
        let Kind::Regular(of) = &entry.kind else { panic!("{name} is a file") };
        let mut got = Vec::new();
        for chunk in &of.chunks {
            let (mut led, rest) = seek.lead(chunk.frame.offset).unwrap();
            led.extend_from_slice(&index[rest.start as usize..rest.end as usize]);
            let begin = chunk.frame.offset as usize;
            led.extend_from_slice(&archive[begin..begin + chunk.frame.length as usize]);
            let plain = Form::Led.open(&led, chunk.frame.plain).unwrap();
            most = most.max(chunk.frame.plain);
            got.extend_from_slice(crate::archive::frame::chunk(&plain, chunk.inner, &chunk.digest).unwrap());
            // No byte more than the frame was said to have, and none less, makes a difference to what comes out.
            let cut = Form::Led.open(&led[..led.len() / 2], chunk.frame.plain);
            assert!(cut.is_err() || chunk.frame.length == 0);
        }
        assert!(got == *content, "{name} is as it was");
    }
    most
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![("a", text(700_000, 1)), ("b", text(3_000_000, 2)), ("c", vec![0; 900_000]), ("d", text(2_500_000, 3))]
}

#[test]
fn a_gzip_stream_is_entered_at_any_bit() {
    let files = files();
    let plain = a_tar(&files);
    for level in [0, 1, 6, 9] {
        let archive = gzip(&plain, level);
        let index = index_of(&archive).unwrap();
        let most = read_all(&archive, &index, &files);
        // The quickest level writes one block, however much comes.
        assert!(u64::from(most) <= 2 * SPACING, "{most} plain bytes in a frame of level {level}");
        let (seek, _) = open(&index).unwrap();
        assert!(seek.is_of(archive.len() as u64, &archive[..ENDS as usize], &archive));
        assert!(!seek.is_of(archive.len() as u64, &archive[1..], &archive));
    }
}

#[test]
fn a_long_block_is_entered_at_its_codes() {
    // Matches as long as they get, of which a block has many thousands, with something else now and then.
    for (period, seed) in [(1, 1), (300, 2), (5_000, 3), (32_768, 4)] {
        let mut repeated: Vec<u8> = text(period, seed).into_iter().cycle().take(5_000_000).collect();
        for at in (0..repeated.len()).step_by(97_001) {
            repeated[at] = b'#';
        }
        let files = [("a", repeated), ("b", text(100_000, seed)), ("c", text(3_000_000, seed))];
        for level in [1, 6] {
            let archive = gzip(&a_tar(&files), level);
            let index = index_of(&archive).unwrap();
            let most = read_all(&archive, &index, &files);
            assert!(u64::from(most) <= 2 * SPACING, "{most} plain bytes in a frame of level {level}, {period}");
        }
    }
}

#[test]
fn members_and_frames_are_entered_where_they_begin_and_read_across() {
    let files = files();
    let plain = a_tar(&files);
    for size in [70_000, 1_500_000] {
        let members: Vec<u8> = plain.chunks(size).flat_map(|part| gzip(part, 1)).collect();
        read_all(&members, &index_of(&members).unwrap(), &files);
        let frames: Vec<u8> = plain.chunks(size).flat_map(|part| zstd::bulk::compress(part, 1).unwrap()).collect();
        read_all(&frames, &index_of(&frames).unwrap(), &files);
    }
    read_all(&plain, &index_of(&plain).unwrap(), &files);
}

#[test]
fn streams_that_end_where_blocks_do_are_read_to_their_ends() {
    for size in [512 << 10, 1 << 20, 2 << 20] {
        let files = [("a", text(size - 3 * BLOCK, 1))];
        let plain = a_tar(&files);
        assert_eq!(plain.len(), size);
        for archive in [plain.clone(), gzip(&plain, 1), zstd::bulk::compress(&plain, 1).unwrap()] {
            read_all(&archive, &index_of(&archive).unwrap(), &files);
        }
    }
}

#[test]
fn a_stream_without_a_place_to_enter_is_refused() {
    let plain = a_tar(&[("a", vec![7; 70 << 20])]);
    let archive = zstd::bulk::compress(&plain, 1).unwrap();
    assert!(matches!(index_of(&archive), Err(Error::NoCheckpoint { .. })));
}

/// An index whose text says what it likes.
fn forged(text: &str) -> Vec<u8> {
    forged_behind(0, text)
}

/// The same, with room for windows before it.
fn forged_behind(windows: usize, text: &str) -> Vec<u8> {
    let stored = zstd::bulk::compress(text.as_bytes(), 1).unwrap();
    let length = stored.len() as u64;
    let mut out = [vec![0; windows], stored].concat();
    let digest = Digest::of(text.as_bytes());
    out.extend_from_slice(&SKIPPABLE);
    out.extend_from_slice(&(FOOTER as u32 - 8).to_le_bytes());
    for number in [windows as u64, length, digest.size] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&digest.sha256);
    out.extend_from_slice(&1u64.to_le_bytes());
    out.extend_from_slice(MAGIC);
    out
}

#[test]
fn an_index_that_lies_is_refused() {
    let archive = gzip(&a_tar(&files()), 6);
    let index = index_of(&archive).unwrap();
    let found = Found::read(&index[index.len() - FOOTER..], index.len() as u64).unwrap();
    let text = zstd::stream::decode_all(&index[found.text.start as usize..found.text.end as usize]).unwrap();
    let text = String::from_utf8(text).unwrap();
    // Windows lie before the text, so a forged one may not have any.
    assert!(open(&forged(&text)).is_err());
    let windowless = index_of(&a_tar(&files())).unwrap();
    let found = Found::read(&windowless[windowless.len() - FOOTER..], windowless.len() as u64).unwrap();
    let text = zstd::stream::decode_all(&windowless[found.text.start as usize..found.text.end as usize]).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(open(&forged(&text)).is_ok());
    let (first, rest) = text.split_once('\n').unwrap();
    let lies = [
        String::new(),
        "\n".into(),
        text[..text.len() - 1].into(),
        text.replace("\"format\":1,\"stream\"", "\"format\":3,\"stream\""),
        text.replace("\"stream\":\"tar\"", "\"stream\":\"lzma\""),
        text.replace("\"stream\":\"tar\"", "\"stream\":\"gzip\""),
        text.replace("\"checkpoints\":0", "\"checkpoints\":18446744073709551615"),
        text.replace("\"size\":", "\"size\":1"),
        text.replace("\"entries\":5", "\"entries\":18446744073709551615"),
        text.replace("sha256:", "sha512:"),
        text.replacen("\"tree\":\"sha256:", "\"tree\":\"sha256:0", 1),
        text.replace("{\"page\":", "{\"page\":9999999999999"),
        text.replace("{\"page\":", "{\"page\":0"),
        text.replace("\"frames\":[[0,512,", "\"frames\":[[0,18446744073709551615,"),
        text.replace("\"frames\":[[0,512,700000,700000]", "\"frames\":[[0,512,700000,4294967295]"),
        text.replace("\"name\":\"a\"", "\"name\":\"../a\""),
        format!("{first}\n{rest}{rest}"),
        format!("{first}\n{}", "9".repeat(5000)),
    ];
    for (number, lie) in lies.iter().enumerate() {
        assert!(*lie != text, "lie {number} is one");
        assert!(open(&forged(lie)).is_err(), "lie {number} is refused");
    }
    for end in 0..windowless.len() {
        assert!(open(&windowless[..end]).is_err());
    }
}

/// The text of an index of a tar, with these lines as its only checkpoints.
fn text_with(checkpoints: &[&str]) -> String {
    let whole = index_of(&a_tar(&files())).unwrap();
    let found = Found::read(&whole[whole.len() - FOOTER..], whole.len() as u64).unwrap();
    let text = zstd::stream::decode_all(&whole[found.text.start as usize..found.text.end as usize]).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let first = first.replace("\"checkpoints\":0", &format!("\"checkpoints\":{}", checkpoints.len()));
    [&[first.as_str()], checkpoints, &[rest]].concat().join("\n")
}

#[test]
fn an_index_asks_for_no_frame_or_window_longer_than_any_is() {
    let windows = 200_000;
    assert!(open(&forged_behind(windows, &text_with(&["[0,0,0,0,60000]"]))).is_ok());
    assert!(open(&forged_behind(windows, &text_with(&["[0,0,0,0,70000]"]))).is_err());
    let text = text_with(&[]);
    let large = text.replacen("\"stream\":\"tar\",\"size\":", "\"stream\":\"tar\",\"size\":9", 1);
    assert!(large != text && open(&forged(&large)).is_ok());
    let long = large.replace("[0,512,700000,700000]", &format!("[0,512,{},700000]", LONGEST_FRAME + 1));
    assert!(long != large && open(&forged(&long)).is_err());
}

#[test]
fn an_index_of_few_bytes_takes_no_more_memory_than_a_toc_of_as_many() {
    let text = text_with(&[]);
    let (first, _) = text.split_once('\n').unwrap();
    let lines = 1_700_000;
    let bomb = format!("{first}\n{{\"page\":{lines}}}\n{}", "\n".repeat(lines));
    let refused = open(&forged(&bomb)).err().unwrap().to_string();
    assert!(refused.contains("more memory"), "{refused}");
}
