use super::write::{corpus, file, noise, options, other, stream};
use super::*;
use crate::job::Job;
use crate::tar;

fn converted(options: &Options, input: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut sink = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    convert("in.tar", || Ok(input), options, &Job::default(), &mut sink)?;
    Ok(out)
}

fn ended(mut stream: Vec<u8>) -> Vec<u8> {
    stream.extend(tar::END);
    stream
}

/// The tar stream of an archive, without its TOC.
fn inside(archive: &[u8]) -> Vec<u8> {
    let toc = Footer::read(archive, archive.len() as u64).unwrap().unwrap().payload;
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(&archive[..toc as usize]).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn a_stream_that_is_in_form_passes_unchanged_however_it_is_compressed() {
    let entries = corpus();
    let input = ended(stream(&entries));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    gz.write_all(&input).unwrap();
    let once = converted(&options(Compression::GZIP), &input).unwrap();
    assert!(inside(&once) == stream(&entries));
    let packed = [gz.finish().unwrap(), zstd::bulk::compress(&input, 1).unwrap()];
    // An archive is a tar stream with a TOC, which is left out.
    for input in packed.iter().chain([&once, &converted(&options(Compression::ZSTD), &input).unwrap()]) {
        assert!(converted(&options(Compression::GZIP), input).unwrap() == once);
    }
}

#[test]
fn of_a_name_the_last_remains_and_links_point_at_files() {
    let link = |name: &[u8], first: &[u8]| other(name, tar::Kind::HardLink { first: first.to_vec() });
    let entries = vec![
        file(b"a", b"first"),
        file(b"b", b"kept"),
        link(b"forward", b"z"),
        link(b"c", b"b"),
        link(b"chain", b"c"),
        file(b"a", b"second"),
        file(b"z", b"last"),
    ];
    let archive = converted(&options(Compression::GZIP), &ended(stream(&entries))).unwrap();
    let (read, _) = open(&archive).unwrap();
    let told: Vec<_> = read.iter().map(|e| (&e.name[..], e.kind, &e.link[..], e.size)).collect();
    let expected: [(&[u8], Kind, &[u8], u64); 6] = [
        (b"b", Kind::Regular, b"", 4),
        (b"c", Kind::HardLink, b"b", 0),
        (b"chain", Kind::HardLink, b"b", 0),
        (b"a", Kind::Regular, b"", 6),
        (b"z", Kind::Regular, b"", 4),
        (b"forward", Kind::HardLink, b"z", 0),
    ];
    assert_eq!(told, expected);
    assert!(read.iter().all(|entry| entry.mode == 0o644 && entry.mtime == Some(Time { sec: NOON, nsec: 1 })));
}

#[test]
fn what_is_no_tar_is_refused_with_a_reason() {
    let options = options(Compression::GZIP);
    let whole = ended(stream(&vec![file(b"a", &noise(100_000)), other(b"d", tar::Kind::Directory)]));
    for (input, said) in [
        (&whole[..50_000], "in.tar"),
        (&b"BZh91AY&SY"[..], "it is compressed by bzip2; decompress it first"),
        (b"\xfd7zXZ\0\0\x04", "it is compressed by xz"),
        (&[7; 2000], "checksum"),
        (b"\x1f\x8bnothing", "in.tar"),
    ] {
        let error = converted(&options, input).unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains('\n'), "{error}");
    }
    assert_eq!(open(&converted(&options, b"").unwrap()).unwrap().0, []);
}

#[test]
fn a_conversion_can_be_stopped_and_heeds_a_stream_that_changes() {
    let (one, two) = (vec![file(b"a", b"1"), file(b"b", b"2")], vec![file(b"a", b"1")]);
    let streams = [ended(stream(&one)), ended(stream(&two))];
    let mut opened = 0;
    let mut next = || {
        opened += 1;
        Ok(&streams[opened - 1][..])
    };
    let options = options(Compression::GZIP);
    let error = convert("in.tar", &mut next, &options, &Job::default(), &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "in.tar is damaged: it was another when it was read again");
    let job = Job::default();
    job.stop();
    let stopped = convert("in.tar", || Ok(&streams[0][..]), &options, &job, &mut |_| Ok(()));
    assert!(matches!(stopped, Err(Error::Stopped)));
}
