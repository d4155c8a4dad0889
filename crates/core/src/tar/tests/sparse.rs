//! Sparse files, as GNU tar itself writes them in its four forms, and maps that lie.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;

/// Where the file of the tests has data: more runs than a header and one more block have slots.
fn runs() -> Vec<u64> {
    (0..40).map(|at| at * (1 << 20) + (at & 1) * 65_536).collect()
}

/// What GNU tar writes of a sparse file with those runs, of 41 MiB, and what stands in it.
fn by_gnu_tar(form: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let place = tempfile::tempdir().unwrap();
    let file = File::create(place.path().join("sparse")).unwrap();
    for at in runs() {
        file.write_all_at(format!("data at {at}").as_bytes(), at).unwrap();
    }
    file.set_len(41 << 20).unwrap();
    std::fs::write(place.path().join("after"), "plain").unwrap();
    let out = Command::new("tar")
        .args(form)
        .args(["-S", "-c", "-f", "-", "sparse", "after"])
        .current_dir(&place)
        .output()
        .unwrap();
    assert!(out.status.success());
    (out.stdout, std::fs::read(place.path().join("sparse")).unwrap())
}

#[test]
fn gnu_tars_sparse_files_are_read_in_all_four_forms() {
    let forms: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    let mut seen = Vec::new();
    for form in forms {
        let (stream, content) = by_gnu_tar(form);
        assert!(stream.len() < 1 << 20);
        let read = entries(&stream).unwrap();
        assert!(read[0].1 == content, "{form:?}");
        assert_eq!((&read[1].0.name[..], &read[1].1[..]), (&b"after"[..], &b"plain"[..]));
        let Kind::Regular { size, holes } = &read[0].0.kind else { panic!("{form:?}") };
        assert_eq!((&read[0].0.name[..], *size), (&b"sparse"[..], 41 << 20));
        assert!(holes.len() >= 40);
        assert!(
            holes
                .iter()
                .all(|&(at, length)| content[at as usize..(at + length) as usize].iter().all(|&byte| byte == 0))
        );
        seen.push(holes.clone());
        super::split::goes_together_again(&stream);
    }
    assert!(seen.iter().all(|holes| *holes == seen[0]));
}

/// A file in format 0.1 with a map.
fn mapped(size: &str, map: &str, stored: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in [("GNU.sparse.size", size), ("GNU.sparse.map", map), ("GNU.sparse.name", "dir/true name")] {
        pax::push_record(&mut text, key.as_bytes(), value.as_bytes());
    }
    let head = block(&Fields { name: b"x", size: text.len() as u64, flag: b'x', ..Fields::default() });
    let body = block(&Fields { name: b"GNUSparseFile.1/name", size: stored as u64, flag: b'0', ..Fields::default() });
    let mut out = head.to_vec();
    out.extend_from_slice(&text);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out.extend_from_slice(&body);
    out.extend_from_slice(&b"d".repeat(stored));
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

#[test]
fn a_hole_of_exabytes_costs_nothing() {
    let stream = mapped("9223372036854775807", "5,3,9223372036854775800,2", 5);
    let mut reader = Reader::new("test", &stream[..]);
    let header = reader.next_entry().unwrap().unwrap();
    let Kind::Regular { size, holes } = header.kind else { panic!() };
    assert_eq!((&header.name[..], size), (&b"dir/true name"[..], i64::MAX as u64));
    assert_eq!(holes, [(0, 5), (8, 9_223_372_036_854_775_792), (9_223_372_036_854_775_802, 5)]);
    let mut buffer = [1; 16];
    let mut read = Vec::new();
    for _ in 0..3 {
        let count = reader.read(&mut buffer).unwrap();
        read.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(read, b"\0\0\0\0\0ddd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert!(reader.next_entry().unwrap().is_none());
}

#[test]
fn maps_that_lie_are_refused() {
    for (size, map, stored) in [
        ("10", "0,5,4,1", 6),
        ("10", "5,1,0,1", 2),
        ("10", "0,11", 11),
        ("10", "0,5", 4),
        ("10", "0,5", 6),
        ("10", "0", 0),
        ("10", "0,", 0),
        ("10", "-1,1", 1),
        ("10", "9223372036854775807,9223372036854775807", 0),
        ("", "0,5", 5),
    ] {
        let refused = entries(&mapped(size, map, stored)).unwrap_err();
        assert!(matches!(refused, Error::Damaged { .. }), "{map}");
    }
    let many = "0,0,".repeat(MAX_RUNS + 1);
    let refused = entries(&mapped("10", many.trim_end_matches(','), 0)).unwrap_err();
    assert!(refused.to_string().contains("1,000,000 holes"), "{refused}");
}
