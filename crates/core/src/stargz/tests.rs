use std::io::{Cursor, Read, Write};

use super::*;
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::Time;

mod files;
mod map;
mod quick;
mod write;

const SHA: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";
const NOON: i64 = 1_709_208_000;

fn entry(name: &str, kind: Kind) -> TocEntry {
    TocEntry { mtime: Some(Time { sec: NOON, nsec: 0 }), ..TocEntry::new(name.as_bytes().to_vec(), kind) }
}

/// What tests/golden/toc.json holds.
fn golden() -> Vec<TocEntry> {
    let sha = parse_hex(SHA);
    let strange = "a<b>&\u{2028}\u{2029}\"\\\u{1}\u{8}\u{c}\n\r\t\u{7f}é😀";
    vec![
        TocEntry { mode: 0o755, ..entry("", Kind::Directory) },
        TocEntry {
            size: 3,
            mtime: Some(Time { sec: NOON, nsec: 1 }),
            mode: 0o644,
            uid: 1000,
            gid: 100,
            offset: 121,
            inner: 512,
            xattrs: vec![
                (b"user.a".to_vec(), b"".to_vec()),
                (b"user.b".to_vec(), b"v".to_vec()),
                ("user.é".as_bytes().to_vec(), vec![0, 255, 254]),
            ],
            digest: sha,
            chunk_digest: sha,
            ..entry(strange, Kind::Regular)
        },
        TocEntry {
            size: 5_000_000,
            mtime: Some(Time { sec: -1, nsec: 0 }),
            offset: 300,
            digest: sha,
            chunk_size: 4_000_000,
            chunk_digest: sha,
            ..entry("big", Kind::Regular)
        },
        TocEntry {
            mtime: None,
            offset: 9_007_199_254_740_993,
            chunk_offset: 4_000_000,
            chunk_digest: sha,
            ..entry("big", Kind::Chunk)
        },
        TocEntry { dev_major: 1, dev_minor: 3, ..entry("c", Kind::CharDevice) },
        TocEntry { link: b"../<x>".to_vec(), mode: 0o777, ..entry("l", Kind::Symlink) },
        TocEntry { link: b"big".to_vec(), mode: 0o644, ..entry("h", Kind::HardLink) },
        TocEntry { mode: 0o644, digest: Some(Digest::of(b"").sha256), ..entry("empty", Kind::Regular) },
    ]
}

fn spell(spelling: Spelling, entries: &[TocEntry], split: Option<&[u8; 32]>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = TocWriter::begin(spelling, &mut out);
    entries.iter().for_each(|entry| writer.entry(&mut out, entry));
    writer.end(&mut out, split);
    out
}

fn read(text: &[u8]) -> Result<Vec<TocEntry>> {
    Entries::new(text).collect()
}

fn one(text: &str) -> Result<TocEntry> {
    read(format!("{{\"version\":1,\"entries\":[{text}]}}").as_bytes()).map(|mut all| all.remove(0))
}

fn golden_text() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/toc.json")).unwrap()
}

#[test]
fn a_toc_is_spelled_as_go_spells_it() {
    let text = String::from_utf8(spell(Spelling::Lines, &golden(), None)).unwrap();
    assert_eq!(text, String::from_utf8(golden_text()).unwrap());
    assert_eq!(spell(Spelling::Lines, &[], None), b"{\n\t\"version\": 1,\n\t\"entries\": []\n}");
    let small = [TocEntry { end_offset: 7, ..TocEntry::new(b"a".to_vec(), Kind::Fifo) }];
    let line = format!(
        "{{\"version\":1,\"entries\":[{{\"name\":\"a\",\"type\":\"fifo\",\"endOffset\":7}}],\"tarSplitDigest\":\"sha256:{SHA}\"}}"
    );
    assert_eq!(spell(Spelling::OneLine, &small, parse_hex(SHA).as_ref()), line.as_bytes());
}

#[test]
fn what_was_spelled_is_read_back() {
    let mut entries = golden();
    entries.push(TocEntry { zeros: true, chunk_size: 9, ..TocEntry::new(Vec::new(), Kind::Chunk) });
    entries.push(TocEntry { holes: vec![(0, 4096), (8192, 1)], size: 9000, ..entry("s", Kind::Regular) });
    entries.push(TocEntry::new(b"not \xff utf-8 \xed\xb3\xbf".to_vec(), Kind::Fifo));
    entries[8].name = b".".to_vec();
    for spelling in [Spelling::Lines, Spelling::OneLine] {
        let text = spell(spelling, &entries, parse_hex(SHA).as_ref());
        assert_eq!(read(&text).unwrap(), entries);
        let mut reader = Entries::new(&text[..]);
        assert_eq!(reader.by_ref().count(), entries.len());
        assert_eq!(reader.tar_split(), parse_hex(SHA));
    }
}

#[test]
fn a_text_that_comes_in_small_pieces_reads_the_same() {
    struct Drops<'a>(&'a [u8], usize);
    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let most = self.1.min(out.len());
            self.0.read(&mut out[..most])
        }
    }
    let text = golden_text();
    for step in 1..20 {
        assert_eq!(Entries::new(Drops(&text, step)).collect::<Result<Vec<_>>>().unwrap(), golden());
    }
}

#[test]
fn keys_and_values_count_as_they_do_for_go() {
    let read = one(
        r#"{"NAME":"x","name":"./a//b/.","Type":"reg","\u017fize":7,"chun\u212aSize":3,"other":[{"}":"]"}],"mode":33188,"uid":null}"#,
    );
    let read = read.unwrap();
    assert_eq!((&read.name[..], read.size, read.chunk_size, read.mode), (&b"a/b"[..], 7, 3, 0o644));
    let read = one(
        r#"{"name":"/","type":"dir","modtime":"yesterday","xattrs":{"b":"dg==","a":null,"b":"d\nw=="},"digest":"md5:0"}"#,
    );
    let read = read.unwrap();
    assert_eq!((read.name, read.mtime, read.digest), (vec![], None, None));
    assert_eq!(read.xattrs, [(b"a".to_vec(), vec![]), (b"b".to_vec(), b"w".to_vec())]);
    for (text, sec, nsec) in [
        ("2024-02-29T13:30:00.25+01:30", NOON, 250_000_000),
        ("2024-02-29T04:00:00-08:00", NOON, 0),
        ("1969-12-31T23:59:59Z", -1, 0),
    ] {
        let read = one(&format!(r#"{{"name":"a","type":"fifo","modtime":"{text}"}}"#)).unwrap();
        assert_eq!(read.mtime, Some(Time { sec, nsec }), "{text}");
    }
}

#[test]
fn what_go_crashes_on_is_refused_by_name() {
    for (entry, said) in [
        ("null", "entry 0: there is none"),
        ("7", "entry 0: invalid type"),
        ("{}", "one without name is of no type"),
        (r#"{"name":"a","type":"sock"}"#, "a is of no type"),
        (r#"{"name":"a","type":"reg","size":-1}"#, "size -1 cannot be"),
        (r#"{"name":"a","type":"reg","size":9223372036854775808}"#, "invalid value"),
        (r#"{"name":"a","type":"reg","size":1.5}"#, "invalid type"),
        (r#"{"name":"a/../b","type":"reg"}"#, "a/../b: its name has a .."),
        (r#"{"name":"a\u0000","type":"reg"}"#, "a NUL"),
        (r#"{"name":"","type":"reg"}"#, "no path"),
        (r#"{"name":"h","type":"hardlink","linkName":"../x"}"#, "has a .."),
        (r#"{"name":"h","type":"hardlink"}"#, "no path"),
        (r#"{"name":"l","type":"symlink"}"#, "l links to no path"),
        (r#"{"name":"a","type":"reg","digest":"sha256:12"}"#, "a digest cut"),
        (r#"{"name":"a","type":"reg","xattrs":{"a":"!"}}"#, "no base64"),
        (r#"{"name":"\ud800","type":"reg"}"#, "neither text nor bytes"),
        (r#"{"name":"a","type":"chunk","chunkType":"ones"}"#, "type that is not known"),
        (r#"{"name":"a","type":"reg"}{"#, "something between"),
    ] {
        let error = one(entry).unwrap_err().to_string();
        assert!(error.contains(said), "{entry}: {error}");
        assert!(!error.contains('\n'));
    }
    let long = "x".repeat(256);
    assert!(one(&format!(r#"{{"name":"{long}","type":"fifo"}}"#)).unwrap_err().to_string().contains("255 bytes"));
    let deep = "a/".repeat(600_000);
    assert!(one(&format!(r#"{{"name":"{deep}","type":"dir"}}"#)).unwrap_err().to_string().contains("1 MiB"));
}

#[test]
fn the_whole_is_checked_too() {
    for (text, said) in [
        ("", "cut"),
        ("[]", "no object"),
        ("null", "no object"),
        (r#"{"entries":7}"#, "no list"),
        (r#"{"entries":[],"entries":[]}"#, "twice"),
        (r#"{"entries":[]"#, "cut"),
        (r#"{"entries":[],}"#, "EOF"),
        (r#"{"entries" []}"#, "without value"),
        (r#"{"version":{}}"#, "invalid type"),
    ] {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert!(matches!(read(br#"{"version":2}"#), Err(Error::NewerFormat { version: 2, .. })));
    assert_eq!(read(br#"{}"#).unwrap(), []);
    assert_eq!(read(br#" {"entries":null, "x":{"y":[1,2,{}]}} and more"#).unwrap(), []);
}

#[test]
fn no_cut_or_damaged_text_is_more_than_an_error() {
    let text = golden_text();
    for at in 0..text.len() - 1 {
        assert!(read(&text[..at]).is_err(), "cut at {at}");
    }
    let mut damaged = text.clone();
    for at in 0..text.len() {
        for bit in [1u8, 2, 4, 0x20, 0x80] {
            damaged[at] ^= bit;
            let _ = read(&damaged);
            damaged[at] = text[at];
        }
    }
}

fn header(size: u64) -> [u8; 512] {
    let mut header = [0u8; 512];
    header[..TOC_NAME.len()].copy_from_slice(TOC_NAME);
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = b'0';
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A TOC's member as gzip archives have it.
fn member(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gz.write_all(&header(text.len() as u64)).unwrap();
    gz.write_all(text).unwrap();
    gz.write_all(&[0; 1024]).unwrap();
    gz.finish().unwrap()
}

fn archive(toc: &[u8]) -> Vec<u8> {
    let mut out = vec![7; 100];
    out.extend(toc);
    out.extend(footer::gzip(100));
    out
}

fn open(archive: &[u8]) -> Result<(Vec<TocEntry>, Digest)> {
    let size = archive.len() as u64;
    let footer = Footer::read(&archive[archive.len().saturating_sub(footer::LONGEST)..], size)?;
    let footer = footer.ok_or_else(|| Error::damaged("archive", "it has no footer"))?;
    let at = footer.toc.clone().unwrap().at;
    let toc = &archive[at.start as usize..at.end as usize];
    let mut all = Vec::new();
    let said = read_toc(&footer, toc, toc.len() as u64, &Job::default(), |entry| {
        all.push(entry);
        Ok(())
    })?;
    Ok((all, said.digest))
}

#[test]
fn who_reads_a_toc_may_stop_at_any_entry() {
    let whole = archive(&member(&golden_text()));
    let footer = Footer::read(&whole, whole.len() as u64).unwrap().unwrap();
    let read = |job: &Job, each: &mut dyn FnMut(TocEntry) -> Result<()>| {
        read_toc(&footer, &whole[100..], whole.len() as u64 - 151, job, each)
    };
    let stopped = Job::default();
    stopped.stop();
    assert!(matches!(read(&stopped, &mut |_| Ok(())), Err(Error::Stopped)));
    let refuse = &mut |_: TocEntry| Err(Error::Missing { what: "room".into() });
    assert!(matches!(read(&Job::default(), refuse), Err(Error::Missing { .. })));
    assert_eq!(read(&Job::default(), &mut |_| Ok(())).unwrap().tar_split, None);
}

#[test]
fn who_reads_a_toc_may_stop_where_no_entry_is() {
    let blanks = " ".repeat(1 << 20);
    for text in [format!("{blanks}{{\"entries\":[]}}"), format!("{{\"entries\":[]}}{blanks}")] {
        let whole = archive(&member(&text.into_bytes()));
        let footer = Footer::read(&whole[whole.len() - 51..], whole.len() as u64).unwrap().unwrap();
        let stopped = Job::default();
        stopped.stop();
        let toc = &whole[100..];
        let read = read_toc(&footer, toc, toc.len() as u64 - 51, &stopped, |_| Ok(()));
        assert!(matches!(read, Err(Error::Stopped)));
    }
}

#[test]
fn a_toc_is_found_and_known_by_its_digest() {
    let text = golden_text();
    let whole = archive(&member(&text));
    assert_eq!(open(&whole).unwrap(), (golden(), Digest::of(&text)));
    let footer = Footer::read(&whole, whole.len() as u64).unwrap().unwrap();
    assert_eq!((footer.dialect, footer.payload), (Dialect::Estargz, 100));
    for at in 100..whole.len() {
        for bit in [1u8, 0x10] {
            let mut damaged = whole.clone();
            damaged[at] ^= bit;
            if let Ok(read) = open(&damaged) {
                assert_eq!(read, (golden(), Digest::of(&text)), "at {at}");
            }
        }
        assert!(open(&whole[..at]).is_err());
    }
}

#[test]
fn a_toc_that_lies_about_its_size_is_refused_unread() {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    writer.write_all(&header(8 << 30 >> 1)).unwrap();
    let liar = writer.finish().unwrap();
    assert!(open(&archive(&liar)).unwrap_err().to_string().contains("its TOC is too large"));
    // Ten million entries, and a kilobyte that says it holds them.
    let bomb = zstd::bulk::compress(&b"{},".repeat(10_000_000), 3).unwrap();
    let at = 8..8 + bomb.len() as u64;
    let part = Part { at: at.clone(), plain: Some(30_000_000) };
    let footer = Footer { dialect: Dialect::ZstdChunked, payload: 0, toc: Some(part), split: None };
    let length = bomb.len() as u64;
    assert!(TocText::open(&footer, &bomb[..], length).is_err_and(|e| e.to_string().contains("its TOC is too large")));
}

#[test]
fn every_kind_of_footer_is_told_apart() {
    let read = |tail: &[u8], size| Footer::read(tail, size).unwrap().unwrap();
    let dual = footer::gzip(0x1234);
    let hex = dual.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let expected =
        "1f8b08041f8b080400ff1a005347160030303030303030303030303031323334535441 52475a010000ffff0000000000000000";
    assert_eq!(hex, expected.replace(' ', ""));
    let footer = read(&dual, 0x2000);
    assert_eq!((footer.dialect, footer.toc.unwrap().at), (Dialect::Estargz, 0x1234..0x2000 - 51));
    let footer = read(&dual[4..], 0x2000);
    assert_eq!((footer.dialect, footer.toc.unwrap().at), (Dialect::Crfs, 0x1234..0x2000 - 47));

    let mut external = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 21, 0, b'S', b'G', 17, 0];
    external.extend(b"STARGZEXTERNALTOC");
    external.extend([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let footer = read(&external, 1000);
    assert_eq!((footer.dialect, footer.toc, footer.payload), (Dialect::External, None, 954));

    let long = footer::zstd_chunked(&(1000..1100), 5000, &(1108..1150), 300);
    let footer = read(&long, 2000);
    assert_eq!((footer.dialect, footer.payload), (Dialect::ZstdChunked, 992));
    assert_eq!(footer.toc, Some(Part { at: 1000..1100, plain: Some(5000) }));
    assert_eq!(footer.split, Some(Part { at: 1108..1150, plain: Some(300) }));

    let mut short = vec![0x50, 0x2a, 0x4d, 0x18, 40, 0, 0, 0];
    for number in [1000u64, 100, 5000, 1] {
        short.extend(number.to_le_bytes());
    }
    short.extend(b"GnUlInUx");
    let footer = read(&short, 2000);
    assert_eq!(
        (footer.dialect, footer.toc),
        (Dialect::ZstdChunkedShort, Some(Part { at: 1000..1100, plain: Some(5000) }))
    );

    assert_eq!(Footer::read(b"PK\x05\x06", 4).unwrap(), None);
    assert_eq!(Footer::read(&[0; 72], 72).unwrap(), None);
    assert_eq!(Footer::read(&[], 0).unwrap(), None);
}

#[test]
fn a_footer_that_places_something_outside_is_refused() {
    for (footer, size) in [(footer::gzip(949), 1000), (footer::gzip(u64::MAX), u64::MAX), (footer::gzip(0), 51)] {
        assert!(Footer::read(&footer, size).is_err());
    }
    let mut signed = footer::gzip(1);
    signed[16] = b'+';
    assert!(Footer::read(&signed, 1000).is_err());
    for (toc, split) in
        [(0..100, 208..300), (u64::MAX - 10..u64::MAX, 208..300), (8..2000, 208..300), (8..100, 200..9000)]
    {
        let footer = footer::zstd_chunked(&toc, 5000, &split, 300);
        assert!(Footer::read(&footer, 1000).is_err(), "{toc:?} {split:?}");
    }
    let mut unknown = footer::zstd_chunked(&(8..100), 5000, &(108..200), 300);
    unknown[32] = 2;
    assert!(Footer::read(&unknown, 1000).is_err());
}

#[test]
fn a_million_entries_come_one_by_one() {
    let text = b"{\"entries\":[{\"name\":\"a\",\"type\":\"fifo\"}";
    let mut many = text.to_vec();
    many.extend(b",\n{\"name\":\"b\",\"type\":\"fifo\"}".repeat(1_000_000));
    many.extend(b"]}");
    let mut reader = Entries::new(Cursor::new(many));
    assert_eq!(reader.by_ref().filter(|entry| entry.is_ok()).count(), 1_000_001);
    assert!(reader.finish().is_ok());
}
