//! Split metadata: lines and contents give the stream again.

use std::collections::HashMap;

use super::super::split::{Line, Pouring, SplitWriter, Stored, parse};
use super::*;

/// The lines of a stream, and its contents by their names.
fn apart(stream: &[u8]) -> (Vec<u8>, HashMap<Vec<u8>, Vec<u8>>) {
    let (mut lines, mut contents, mut writer) = (Vec::new(), HashMap::new(), SplitWriter::default());
    let mut reader = Reader::keeping_raw("test", stream);
    while let Some(header) = reader.next_entry().unwrap() {
        writer.raw(&mut lines, &reader.take_raw());
        if let Kind::Regular { holes, .. } = header.kind {
            let content = content(&mut reader).unwrap();
            let (size, crc) = reader.stored();
            writer.content(&mut lines, &Stored { name: reader.raw_name().to_vec(), size, crc, holes });
            contents.insert(reader.raw_name().to_vec(), content);
        }
    }
    writer.raw(&mut lines, &reader.take_raw());
    let mut buffer = [0; 1000];
    loop {
        match reader.rest(&mut buffer).unwrap() {
            0 => break,
            count => writer.raw(&mut lines, &buffer[..count]),
        }
    }
    writer.finish(&mut lines);
    (lines, contents)
}

fn together(lines: &[u8], contents: &HashMap<Vec<u8>, Vec<u8>>) -> crate::error::Result<Vec<u8>> {
    let mut out = Vec::new();
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        match parse(line)? {
            Line::Raw(bytes) => out.extend_from_slice(&bytes),
            Line::Content(stored) => {
                let mut pouring = Pouring::new(&stored);
                for piece in contents[&stored.name].chunks(777) {
                    pouring.pour(piece, &mut out)?;
                }
                pouring.finish()?;
            }
        }
    }
    Ok(out)
}

#[track_caller]
pub fn goes_together_again(stream: &[u8]) {
    let (lines, contents) = apart(stream);
    assert!(together(&lines, &contents).unwrap() == stream);
}

#[test]
fn the_stream_of_the_hard_cases_goes_together_again() {
    let mut stream = stream(&hard_cases());
    goes_together_again(&stream);
    stream.extend_from_slice(&b"garbage after the end".repeat(30_000));
    goes_together_again(&stream);
}

#[test]
fn lines_are_those_of_tar_split() {
    let mut stream = written(&file(b"caf\xe9", 9));
    stream.extend_from_slice(b"123456789");
    stream.resize(1024, 0);
    push_header(&mut stream, &file(b"<empty>", 0)).unwrap();
    let (lines, _) = apart(&stream);
    let lines: Vec<&str> = std::str::from_utf8(&lines).unwrap().lines().collect();
    // The sum is the check value of CRC-64/GO-ISO, b90956c775a41001.
    assert_eq!(lines[1], r#"{"type":1,"name_raw":"Y2Fm6Q==","size":9,"payload":"uQlWx3WkEAE=","position":1}"#);
    assert_eq!(lines[3], r#"{"type":1,"name":"<empty>","payload":null,"position":3}"#);
    assert!(
        lines[2].starts_with(r#"{"type":2,"payload":"AAAA"#) && lines[2].ends_with(r#"AA==","position":2}"#),
        "{}",
        lines[2]
    );
}

#[test]
fn another_content_is_never_taken_for_the_one_that_was_there() {
    let (lines, contents) = apart(&stream(&[file(b"a", 600)]));
    for other in [vec![0; 599], vec![0; 601], vec![1; 600]] {
        let refused = together(&lines, &HashMap::from([(b"a".to_vec(), other)])).unwrap_err();
        assert_eq!(refused.to_string(), "split metadata is damaged: the content of a is not the one that its tar had");
    }
    assert_eq!(contents[&b"a"[..]].len(), 600);
}

#[test]
fn lines_that_are_none_are_refused() {
    for line in [
        "",
        "{}",
        "null",
        r#"{"type":3,"payload":null,"position":0}"#,
        r#"{"type":2,"payload":"?","position":0}"#,
        r#"{"type":1,"payload":null,"position":0}"#,
        r#"{"type":1,"name":"a","size":1,"payload":null,"position":0}"#,
        r#"{"type":1,"name":"a","name_raw":"YQ==","payload":null,"position":0}"#,
        r#"{"type":1,"name":"a","payload":null,"position":0,"holes":[[5,1],[0,1]]}"#,
        r#"{"type":1,"name":"a","payload":null,"position":0,"holes":[[5,18446744073709551615]]}"#,
    ] {
        assert!(matches!(parse(line.as_bytes()), Err(Error::Damaged { .. })), "{line}");
    }
}

#[test]
fn no_line_of_raw_bytes_is_longer_than_a_page() {
    let (mut lines, mut writer) = (Vec::new(), SplitWriter::default());
    writer.raw(&mut lines, &vec![b'x'; 3 << 20]);
    writer.finish(&mut lines);
    assert!(lines.split(|&byte| byte == b'\n').all(|line| line.len() < 512 << 10));
    assert_eq!(together(&lines, &HashMap::new()).unwrap(), vec![b'x'; 3 << 20]);
}
