use super::write::{corpus, options, written};
use super::*;
use crate::archive::frame::Form;
use crate::tar;

const PAYLOAD: u64 = 1 << 20;

fn files(text: &str) -> Result<Vec<File>> {
    Files::new(Entries::new(format!("{{\"entries\":[{text}]}}").as_bytes()), PAYLOAD).collect()
}

#[test]
fn what_was_written_is_found_and_proved_chunk_by_chunk() {
    let entries = corpus();
    let variants = [
        options(Compression::GZIP),
        options(Compression::ZSTD),
        Options { min_chunk_size: 100_000, ..options(Compression::GZIP) },
        Options { chunk_size: Some(100_000), ..options(Compression::ZSTD) },
    ];
    for options in variants {
        let (bytes, written) = written(&options, &entries);
        let footer = Footer::read(&bytes, written.size).unwrap().unwrap();
        let files = Files::new(open(&bytes).unwrap().0.into_iter().map(Ok), footer.payload);
        let files: Vec<File> = files.collect::<Result<_>>().unwrap();
        assert_eq!(files.len(), entries.len());
        for (file, (header, content)) in files.iter().zip(&entries) {
            assert_eq!(&file.header, header);
            let proved = matches!(header.kind, tar::Kind::Regular { .. });
            assert_eq!(file.sha256, proved.then(|| Digest::of(content).sha256));
            let mut read = Vec::new();
            for chunk in &file.chunks {
                let frame = &bytes[chunk.offset.unwrap() as usize..footer.payload as usize];
                let plain = Form::Archive.open(frame, (chunk.inner + chunk.size) as u32).unwrap();
                let plain = &plain[chunk.inner as usize..];
                assert_eq!(chunk.sha256, Some(Digest::of(plain).sha256));
                read.extend_from_slice(plain);
            }
            assert!(read == *content);
        }
    }
}

#[test]
fn chunks_may_have_any_order_and_sizes_that_follow() {
    let text = r#"{"name":"a","type":"reg","size":10,"offset":1,"chunkSize":4},
        {"type":"chunk","chunkOffset":8,"offset":30},{"type":"chunk","chunkOffset":4,"chunkSize":4,"offset":20,"innerOffset":3},
        {"name":"b","type":"reg","size":7,"chunkSize":7,"chunkType":"zeros"},{"name":"c","type":"reg","offset":9},
        {"name":"d","type":"dir"},{"type":"chunk","chunkOffset":4},
        {"name":"e","type":"reg","size":7,"offset":8,"chunkType":"zeros"}"#;
    let read = files(text).unwrap();
    let told: Vec<Vec<_>> =
        read.iter().map(|file| file.chunks.iter().map(|c| (c.size, c.offset, c.inner)).collect()).collect();
    assert_eq!(told[0], [(4, Some(1), 0), (4, Some(20), 3), (2, Some(30), 0)]);
    assert_eq!(told[1..], [vec![(7, None, 0)], vec![], vec![], vec![(7, Some(8), 0)]]);
    assert_eq!(read[2].sha256, Some(Digest::of(b"").sha256));
}

#[test]
fn a_toc_that_lies_is_refused_by_the_name_of_the_file() {
    for (text, said) in [
        (
            r#"{"name":"a","type":"reg","size":2305843009213693952,"chunkSize":1,"offset":1}"#,
            "a: its chunks leave something out",
        ),
        (r#"{"name":"a","type":"reg","size":1099511627776,"offset":1}"#, "a: a chunk needs more than 64 MiB"),
        (r#"{"name":"a","type":"reg","size":9,"offset":1048576}"#, "a: a chunk lies outside of the archive"),
        (
            r#"{"name":"a","type":"reg","size":9,"offset":1,"innerOffset":9223372036854775807,"chunkSize":9223372036854775807}"#,
            "ends behind",
        ),
        (
            r#"{"name":"a","type":"reg","size":9,"offset":1,"chunkSize":5},{"type":"chunk","chunkOffset":4,"offset":2}"#,
            "overlap",
        ),
        (
            r#"{"name":"a","type":"reg","size":9,"offset":1,"chunkSize":5},{"type":"chunk","chunkOffset":6,"offset":2}"#,
            "leave something out",
        ),
        (
            r#"{"name":"a","type":"reg","size":9,"offset":1,"chunkSize":9},{"type":"chunk","chunkOffset":9,"offset":2}"#,
            "begins behind",
        ),
        (
            r#"{"name":"a","type":"reg","size":9,"offset":1,"chunkSize":9},{"type":"chunk","chunkOffset":0,"offset":2}"#,
            "overlap",
        ),
        (r#"{"type":"chunk","chunkOffset":0,"offset":2}"#, "before any file"),
        (r#"{"name":"a","type":"reg","size":9,"offset":1,"holes":[[0,5],[4,1]]}"#, "a: its holes overlap"),
        (r#"{"name":"a","type":"reg","size":9,"offset":1,"holes":[[8,2]]}"#, "a: a hole behind its end"),
    ] {
        let error = files(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let many = files(r#"{"name":"a","type":"fifo"},null,{"name":"b","type":"fifo"}"#);
    assert!(many.is_err());
}
