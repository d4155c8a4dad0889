use std::collections::BTreeMap;

use super::*;
use crate::digest::hex;
use crate::job::Job;
use crate::wire::{put_bytes, put_number};

fn told(hash: &str, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, hash.as_bytes());
    out.push(2 << 3);
    put_number(&mut out, size);
    out
}

fn named(data: &[u8]) -> Vec<u8> {
    told(&hex(&Digest::of(data).sha256), data.len() as u64)
}

fn sent(digest: &[u8], data: &[u8], compressor: u8) -> Vec<u8> {
    let mut request = Vec::new();
    put_bytes(&mut request, 1, digest);
    put_bytes(&mut request, 2, data);
    request.extend([3 << 3, compressor]);
    let mut out = Vec::new();
    put_bytes(&mut out, 2, &request);
    out
}

fn here(staged: &Staged) -> Here<'_> {
    Here { staged, held: &[] }
}

#[test]
fn what_is_neither_staged_nor_held_is_answered_as_it_was_asked_in_order() {
    let staged = Staged::default();
    staged.put([(Digest::of(b"here").sha256, Place { file: 1, at: 0, size: 4 })]);
    let mut message = Vec::new();
    put_bytes(&mut message, 1, b"main");
    let (absent, longer, none) = (named(b"absent"), told(&hex(&Digest::of(b"here").sha256), 5), told("none", 1));
    for one in [&named(b"here"), &absent, &named(b""), &longer, &none] {
        put_bytes(&mut message, 2, one);
    }
    message.extend([3 << 3, 1]);
    let finding = Finding::of(&message).expect("a request");
    assert_eq!((finding.instance.as_str(), finding.function), ("main", 1));
    let mut expected = Vec::new();
    for one in [&absent, &longer, &none] {
        put_bytes(&mut expected, 2, one);
    }
    assert_eq!(finding.answer(&message, here(&staged)), expected);
    assert_eq!(finding.bad(&message).map(|bad| bad.hash), Some(&b"none"[..]));
}

#[test]
fn a_piece_is_told_by_where_its_bytes_lie_in_the_message() {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, b"uploads/one/blobs/h/9");
    message.extend([2 << 3, 5, 3 << 3, 1]);
    put_bytes(&mut message, 10, b"the bytes");
    let piece = Piece::of(&message).expect("a request");
    assert_eq!((piece.resource_name.as_str(), piece.offset, piece.is_last), ("uploads/one/blobs/h/9", 5, true));
    assert_eq!(&message[piece.data], b"the bytes");
    let none = Piece::of(b"").expect("a request that says nothing");
    assert_eq!((none.resource_name.as_str(), none.offset, none.is_last, none.data), ("", 0, false, 0..0));
    assert!(Piece::of(&message[..message.len() - 1]).is_none(), "a part of it");
}

#[test]
fn a_batch_is_proved_one_by_one_and_what_is_new_becomes_a_record_once() {
    let staged = Staged::default();
    staged.put([(Digest::of(b"old").sha256, Place { file: 1, at: 0, size: 3 })]);
    let packed = zstd::bulk::compress(b"packed packed packed", 1).expect("compressed");
    let mut message = Vec::new();
    for request in [
        sent(&named(b"new"), b"new", 0),
        sent(&named(b"old"), b"old", 0),
        sent(&named(b"new"), b"new", 0),
        sent(&named(b"packed packed packed"), &packed, 1),
        sent(&named(b"right"), b"wrong", 0),
        sent(&named(b"right"), b"too long", 0),
        sent(&named(b"packed packed"), &packed, 1),
        sent(&named(b"any"), b"any", 3),
        sent(&told("none", 3), b"any", 0),
    ] {
        message.extend(request);
    }
    let mut batch = Batch::of(&message).expect("a request");
    assert_eq!(batch.size(), 3 + 3 + 3 + 20 + 5 + 5 + 13 + 3 + 3);
    let wrong: Vec<_> = batch.prove(&message).into_iter().map(|(row, _, wrong)| (row, wrong)).collect();
    let rows: Vec<_> = wrong.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [4, 5, 6, 7, 8]);
    assert_eq!(wrong[1].1, Wrong::Content("8 bytes came".to_owned()));
    assert_eq!(wrong[3].1, Wrong::Compressor(3));
    assert_eq!(wrong[4].1, Wrong::Digest);
    let (records, places) = batch.records(&message, here(&staged));
    let found: Vec<_> = places.iter().map(|(digest, at)| &records[*at..*at + digest.size as usize]).collect();
    assert_eq!(found, [&b"new"[..], b"packed packed packed"]);
    staged.put_records(7, 100, &places);
    assert_eq!(staged.find(&Digest::of(b"new")), Some(Place { file: 7, at: 100 + places[0].1 as u64, size: 3 }));
    staged.drop_file(7);
    assert!(!staged.has(&Digest::of(b"new")) && staged.has(&Digest::of(b"old")));
    let answer = batch.answer(&message, &BTreeMap::from([(4, b"status".to_vec())]));
    assert_eq!(Fields(&answer).count(), 9);
    assert_eq!(answer.windows(6).filter(|six| six == b"status").count(), 1);
}

#[test]
fn messages_that_are_none_are_none() {
    for message in [&b"\x12\x05\x0a"[..], b"\x12\x02\x0a\x09", b"\xff", b"\x0b"] {
        assert!(Finding::of(message).is_none(), "{message:?}");
        assert!(Batch::of(message).is_none(), "{message:?}");
    }
}

#[test]
fn a_log_is_read_up_to_where_it_is_not_sound_and_laid_out_as_files() {
    let home = tempfile::tempdir().expect("a directory");
    let (path, blobs, results) = (home.path().join("log"), home.path().join("blobs/1"), home.path().join("results/1"));
    let (data, action) = (b"data".to_vec(), Digest::of(b"action").sha256);
    let mut log = Vec::new();
    record(&mut log, BLOB, &Digest::of(&data).sha256, &data);
    record(&mut log, BLOB, &Digest::of(b"").sha256, b"");
    record(&mut log, ACTION, &action, b"result");
    let sound = log.len();
    record(&mut log, BLOB, &Digest::of(b"other").sha256, b"spoilt");
    record(&mut log, BLOB, &Digest::of(b"never").sha256, b"never");
    std::fs::write(&path, &log).expect("written");
    let mut records = Records::open(&path).expect("opened");
    let mut found = Vec::new();
    while let Some(record) = records.following().expect("read") {
        assert_eq!(&log[record.at as usize..][..record.data.len()], record.data);
        found.push((record.kind, record.data.to_vec()));
    }
    assert_eq!(found, [(BLOB, data.clone()), (BLOB, Vec::new()), (ACTION, b"result".to_vec())]);
    let actions = lay_out(&path, &[], &blobs, &results, &Job::default()).expect("laid out");
    assert_eq!(actions, [(action, Digest::of(b"result"))]);
    assert_eq!(std::fs::read(blobs.join(Digest::of(&data).hex())).expect("read"), data);
    assert_eq!(std::fs::read(results.join(hex(&action))).expect("read"), b"result");
    assert_eq!(std::fs::read_dir(&blobs).expect("listed").count(), 1);
    // Each cut ends it before the record that is cut.
    for end in 0..sound {
        std::fs::write(&path, &log[..end]).expect("written");
        let mut records = Records::open(&path).expect("opened");
        let mut last = 0;
        while let Some(record) = records.following().expect("read") {
            last = record.at as usize + record.data.len();
        }
        assert!(last <= end);
    }
}
