//! Streams of others, made by hand, and what is read of them.

use std::io::Read;

use super::*;

/// A header as others write them: every field as it is given, the checksum right.
struct Hand {
    block: [u8; BLOCK],
}

impl Hand {
    fn new(name: &[u8], flag: u8, magic: &[u8; 8]) -> Hand {
        let mut block = block(&Fields { name, mode: 0o644, flag, mtime: 7, ..Fields::default() });
        block[257..265].copy_from_slice(magic);
        Hand { block }
    }

    fn ustar(name: &[u8], flag: u8) -> Hand {
        Hand::new(name, flag, b"ustar\x0000")
    }

    fn gnu(name: &[u8], flag: u8) -> Hand {
        Hand::new(name, flag, b"ustar  \0")
    }

    fn v7(name: &[u8], flag: u8) -> Hand {
        Hand::new(name, flag, b"\0\0\0\0\0\0\0\0")
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Hand {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn size(self, size: usize) -> Hand {
        self.with(124, format!("{size:011o}\0").as_bytes())
    }

    /// The header with its sum, and a content padded.
    fn holding(mut self, content: &[u8]) -> Vec<u8> {
        if self.block[124..135] == *b"00000000000" {
            self = self.size(content.len());
        }
        let sum = block::sums(&self.block).0;
        self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut out = self.block.to_vec();
        out.extend_from_slice(content);
        out.resize(out.len() + padding(content.len() as u64), 0);
        out
    }

    fn alone(self) -> Vec<u8> {
        self.holding(b"")
    }
}

fn records(flag: u8, records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        pax::push_record(&mut text, key, value);
    }
    Hand::ustar(b"PaxHeaders/x", flag).holding(&text)
}

fn pax(of: &[(&[u8], &[u8])]) -> Vec<u8> {
    records(b'x', of)
}

#[track_caller]
fn only(parts: &[Vec<u8>]) -> (Header, Vec<u8>) {
    let mut entries = entries(&parts.concat()).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

#[track_caller]
fn refused(parts: &[Vec<u8>], why: &str) {
    match entries(&parts.concat()).unwrap_err() {
        Error::Damaged { found, .. } => assert!(found.contains(why), "{found}"),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_written_is_read_back() {
    let headers = hard_cases();
    let read = entries(&stream(&headers)).unwrap();
    assert_eq!(read.iter().map(|(header, _)| header.clone()).collect::<Vec<_>>(), headers);
    assert!(read.iter().all(|(header, content)| content.len() as u64 == header.size()));
}

#[test]
fn names_are_cleaned_and_those_that_lead_outside_refused() {
    for (name, clean) in
        [("./a", "a"), ("/a/b", "a/b"), ("a//b/./c", "a/b/c"), (".", ""), ("./", ""), ("..a/b..", "..a/b..")]
    {
        let flag = if clean.is_empty() { b'5' } else { b'0' };
        assert_eq!(only(&[Hand::ustar(name.as_bytes(), flag).alone()]).0.name, clean.as_bytes());
    }
    refused(&[Hand::ustar(b"a/../../b", b'0').alone()], "a/../../b at byte 0 of the tar: its name has a ..");
    refused(&[pax(&[(b"path", b"a\0b")]), Hand::ustar(b"a", b'0').alone()], "has a NUL");
    refused(&[pax(&[(b"path", &b"x".repeat(256))]), Hand::ustar(b"a", b'0').alone()], "longer than 255 bytes");
    refused(&[pax(&[(b"path", &b"x/".repeat(600_000))]), Hand::ustar(b"a", b'0').alone()], "longer than 1 MiB");
    refused(&[Hand::ustar(b"", b'0').alone()], "it has no name");
    refused(&[Hand::ustar(b"./", b'6').alone()], "it has no name");
    refused(&[Hand::ustar(b"a", b'1').with(157, b"../b").alone()], "it is a link to ../b");
}

#[test]
fn a_prefix_counts_in_ustar_only() {
    let with = |hand: Hand| only(&[hand.with(345, b"some/where").alone()]).0.name;
    assert_eq!(with(Hand::ustar(b"name", b'0')), b"some/where/name");
    // Go's writer before 1.8 took GNU's form for one with a prefix.
    assert_eq!(with(Hand::gnu(b"name", b'0')), b"some/where/name");
    let times = Hand::gnu(b"name", b'0').with(345, b"00000000007\x0000000000007\0");
    assert_eq!(only(&[times.alone()]).0.name, b"name");
    assert_eq!(with(Hand::v7(b"name", b'0')), b"name");
    // Star has times of access and change where the prefix would go on.
    let star = Hand::ustar(b"name", b'0').with(345, &b"p".repeat(130)).with(476, b"00000000007 ").with(508, b"tar\0");
    assert_eq!(only(&[star.alone()]).0.name, [&b"p".repeat(130)[..], b"/name"].concat());
}

#[test]
fn a_slash_behind_the_name_of_an_old_file_makes_a_directory() {
    for hand in [Hand::v7(b"d/", 0), Hand::v7(b"d/", b'0'), Hand::ustar(b"d/", b'7')] {
        assert_eq!(only(&[hand.alone()]).0.kind, Kind::Directory);
    }
    assert_eq!(only(&[Hand::ustar(b"d", b'7').holding(b"contiguous")]).1, b"contiguous");
    assert_eq!(only(&[Hand::ustar(b"d", b'~').holding(b"unknown")]).1, b"unknown");
}

#[test]
fn sizes_of_what_has_no_content_are_not_believed() {
    for flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let odd = Hand::ustar(b"a", flag).with(157, b"b").size(100_000).alone();
        assert_eq!(entries(&[odd, Hand::ustar(b"z", b'0').alone()].concat()).unwrap().len(), 2);
    }
}

#[test]
fn numbers_are_read_in_every_spelling() {
    let header = |hand: Hand| only(&[hand.alone()]).0;
    assert_eq!(header(Hand::ustar(b"a", b'0').with(108, b"   144 \0")).uid, 0o144);
    assert_eq!(header(Hand::ustar(b"a", b'0').with(108, b"\0\0\0\0\0\0\0\0")).uid, 0);
    assert_eq!(header(Hand::ustar(b"a", b'0').with(108, b"77777777")).uid, 0o7777_7777);
    assert_eq!(header(Hand::gnu(b"a", b'0').with(108, b"\x80\0\0\x01\0\0\0\0")).uid, 1 << 32);
    assert_eq!(header(Hand::gnu(b"a", b'0').with(136, &[0xff; 12])).mtime, Time { sec: -1, nsec: 0 });
    assert_eq!(header(Hand::ustar(b"a", b'0').with(100, b"0100644 ")).mode, 0o644);
    for (at, field, why) in [
        (108, &b"9      \0"[..], "its owner is no number"),
        (108, b"12x45670", "its owner is no number"),
        (116, &[0xff; 8], "its group is no number"),
        (124, &[0xff; 12], "its size is no number"),
        (124, b"\x80\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff", "its size is no number"),
        (136, b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "its time is no number"),
        (100, b"rw-r--r-", "its mode is no number"),
    ] {
        refused(&[Hand::gnu(b"a", b'0').with(at, field).alone()], why);
    }
}

#[test]
fn checksums_of_signed_bytes_are_right_too() {
    let mut header = Hand::ustar(b"caf\xe9\xff", b'0').alone();
    let sum = block::sums(header[..BLOCK].try_into().unwrap()).1;
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(only(&[header.clone()]).0.name, b"caf\xe9\xff");
    header[0] ^= 1;
    refused(&[header], "at byte 0 of the tar: there is no header");
}

#[test]
fn records_say_more_than_headers() {
    let (header, content) = only(&[
        pax(&[
            (b"path", b"./long \xff name"),
            (b"size", b"3"),
            (b"uid", b"18446744073709551615"),
            (b"gid", b"4294967296"),
            (b"mtime", b"-1.25"),
            (b"comment", b"a\nb"),
            (b"SCHILY.fflags", b"nodump"),
            (b"hdrcharset", b"BINARY"),
            (b"SCHILY.xattr.user.a%3Db%25%41", b"\0\n="),
            (b"SCHILY.xattr.user.empty", b""),
            (b"LIBARCHIVE.xattr.user.%66oo", b"YmFy"),
            (b"LIBARCHIVE.xattr.user.pad", b"YQ"),
            (b"RHT.security.selinux", b"u:r:t:s0"),
        ]),
        Hand::ustar(b"short", b'0').size(1).with(136, b"77777777777\0").with(148, b" ").alone(),
        Vec::from(*b"abc"),
        vec![0; 509],
    ]);
    assert_eq!((&header.name[..], header.uid, header.gid), (&b"long \xff name"[..], u64::MAX, 1 << 32));
    assert_eq!(header.mtime, Time { sec: -2, nsec: 750_000_000 });
    assert_eq!(content, b"abc");
    let xattrs: Vec<(&[u8], &[u8])> = header.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let expected: [(&[u8], &[u8]); 5] = [
        (b"security.selinux", b"u:r:t:s0\0"),
        (b"user.a=b%%41", b"\0\n="),
        (b"user.empty", b""),
        (b"user.foo", b"bar"),
        (b"user.pad", b"a"),
    ];
    assert_eq!(xattrs, expected);
}

#[test]
fn times_are_read_to_the_nanosecond_and_cut_towards_the_past() {
    let time = |text: &[u8]| only(&[pax(&[(b"mtime", text)]), Hand::ustar(b"a", b'0').alone()]).0.mtime;
    for (text, sec, nsec) in [
        ("0", 0, 0),
        ("1.5", 1, 500_000_000),
        ("1.", 1, 0),
        ("1.0000000019", 1, 1),
        ("-0", 0, 0),
        ("-1", -1, 0),
        ("-0.5", -1, 500_000_000),
        ("-0.0000000001", -1, 999_999_999),
        ("-1.9999999999", -2, 0),
        ("9223372036854775807.9", i64::MAX, 900_000_000),
        ("1e-09", 0, 1),
        ("-1.5e-09", -1, 999_999_998),
        ("1.25E+1", 12, 500_000_000),
        ("", 7, 0),
    ] {
        assert_eq!(time(text.as_bytes()), Time { sec, nsec }, "{text}");
    }
    for text in ["+1", "e3", "1e", "1e999", "1e+1.5", "nan", ".5", "1,5", "9223372036854775808", "--1", "1.5.", "-"] {
        refused(
            &[pax(&[(b"mtime", text.as_bytes())]), Hand::ustar(b"a", b'0').alone()],
            "pax record mtime: it is no time",
        );
    }
}

#[test]
fn global_records_hold_until_others_are_said() {
    let file = |name: &[u8]| Hand::ustar(name, b'0').alone();
    let all = [
        records(b'g', &[(b"uid", b"5"), (b"mtime", b"1.5"), (b"comment", b"from git")]),
        file(b"a"),
        pax(&[(b"uid", b"6"), (b"mtime", b"")]),
        file(b"b"),
        file(b"c"),
        records(b'g', &[(b"uid", b"")]),
        file(b"d"),
    ];
    let read = entries(&all.concat()).unwrap();
    let said: Vec<_> = read.iter().map(|(header, _)| (header.uid, header.mtime.sec, header.mtime.nsec)).collect();
    assert_eq!(said, [(5, 1, 500_000_000), (6, 7, 0), (5, 1, 500_000_000), (0, 1, 500_000_000)]);
}

#[test]
fn long_names_of_gnu_are_read_and_records_count_before_them() {
    let long = [&b"n".repeat(250)[..], b"/", &b"m".repeat(200)].concat();
    let ended = [&long[..], b"\0"].concat();
    let (header, _) = only(&[
        Hand::gnu(b"././@LongLink", b'K').holding(&ended),
        Hand::gnu(b"././@LongLink", b'L').holding(&ended),
        Hand::gnu(&long[..100], b'2').with(157, &long[..100]).alone(),
    ]);
    assert_eq!((header.name, header.kind), (long.clone(), Kind::Symlink { target: long }));
    let both =
        [Hand::gnu(b"l", b'L').holding(b"from gnu"), pax(&[(b"path", b"from pax")]), Hand::gnu(b"a", b'0').alone()];
    assert_eq!(only(&both).0.name, b"from pax");
    // Of two of a kind the second alone counts.
    let twice = [
        Hand::gnu(b"l", b'L').holding(b"1"),
        Hand::gnu(b"l", b'L').holding(b"2"),
        pax(&[(b"uid", b"1"), (b"gid", b"1")]),
        pax(&[(b"gid", b"2")]),
        Hand::gnu(b"a", b'0').alone(),
    ];
    let header = only(&twice).0;
    assert_eq!((&header.name[..], header.uid, header.gid), (&b"2"[..], 0, 2));
}

#[test]
fn what_gnu_tar_skips_is_skipped_and_what_it_refuses_refused() {
    let file = Hand::gnu(b"a", b'0').alone();
    assert_eq!(only(&[Hand::gnu(b"label", b'V').alone(), file.clone()]).0.name, b"a");
    let dump = Hand::gnu(b"dir/", b'D').holding(b"Ya\0Nb\0\0");
    assert_eq!(only(&[dump]).0.kind, Kind::Directory);
    refused(&[Hand::gnu(b"a", b'M').alone(), file.clone()], "another volume");
    refused(&[Hand::gnu(b"a", b'N').alone(), file], "given up");
}

#[test]
fn devices_are_read_with_their_numbers() {
    let device = Hand::ustar(b"d", b'4').with(329, b"0000403\0").with(337, b"0200000\0");
    assert_eq!(only(&[device.alone()]).0.kind, Kind::BlockDevice { major: 259, minor: 65_536 });
    let star = [pax(&[(b"SCHILY.devmajor", b"1"), (b"SCHILY.devminor", b"1048575")]), Hand::ustar(b"d", b'3').alone()];
    assert_eq!(only(&star).0.kind, Kind::CharDevice { major: 1, minor: 1_048_575 });
    refused(&[Hand::gnu(b"d", b'3').with(329, b"\x80\0\0\x01\0\0\0\0").alone()], "its device is too large");
}

#[test]
fn lists_of_access_are_made_into_those_of_the_kernel() {
    let said =
        |key: &[u8], text: &str| only(&[pax(&[(key, text.as_bytes())]), Hand::ustar(b"a", b'0').alone()]).0.xattrs;
    let expected = [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 8, 0, 6,
        0, 100, 0, 0, 0, 16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];
    for text in [
        "user::rwx,user:joe:r-x:1000,group::r--,group:100:rw-,mask::r-x,other::---",
        "user::rwx\nuser:1000:r-x\ngroup::r--\ngroup:100:rw-\t#effective:r--\nmask:r-x\nother:---\n",
    ] {
        assert_eq!(said(b"SCHILY.acl.access", text), [(b"system.posix_acl_access".to_vec(), expected.to_vec())]);
        assert_eq!(said(b"SCHILY.acl.default", text), [(b"system.posix_acl_default".to_vec(), expected.to_vec())]);
    }
    // Names that no number goes with, what only says the mode, and what is no list.
    for text in
        ["user::rwx,user:joe:r-x,group::r--,mask::r-x,other::---", "user::rwx,group::r--,other::---", "user::rwx", "?"]
    {
        assert_eq!(said(b"SCHILY.acl.access", text), []);
    }
    let list = [2u8, 0, 0, 0];
    let both = [
        pax(&[
            (b"SCHILY.xattr.system.posix_acl_access", &list),
            (b"SCHILY.acl.access", b"user::r,user:1:r,group::r,mask::r,other::r"),
        ]),
        Hand::ustar(b"a", b'0').alone(),
    ];
    assert_eq!(only(&both).0.xattrs, [(b"system.posix_acl_access".to_vec(), list.to_vec())]);
}

#[test]
fn records_that_are_none_are_refused() {
    for text in [
        &b"5 a=b\n"[..],
        b"7 a=b\n",
        b"6 a=b\r",
        b"6 =ab\n",
        b"6 abc\n",
        b"x a=b\n",
        b"6  a=\n\0\0",
        b"99999999999 a=b\n",
        b"0 \n",
    ] {
        refused(&[Hand::ustar(b"x", b'x').holding(text), Hand::ustar(b"a", b'0').alone()], "no list of records");
    }
    for (key, value) in [
        ("size", "-1"),
        ("uid", "+1"),
        ("gid", "1.0"),
        ("SCHILY.devminor", "4294967296"),
        ("LIBARCHIVE.xattr.a", "?"),
        ("SCHILY.xattr.", ""),
    ] {
        refused(&[pax(&[(key.as_bytes(), value.as_bytes())]), Hand::ustar(b"a", b'0').alone()], key);
    }
}

#[test]
fn the_stream_ends_at_zeros_or_where_it_ends() {
    let (a, b) = (Hand::ustar(b"a", b'0').holding(b"1"), Hand::ustar(b"b", b'0').alone());
    let names = |parts: &[&[u8]]| entries(&parts.concat()).unwrap().len();
    assert_eq!(names(&[]), 0);
    assert_eq!(names(&[&END]), 0);
    assert_eq!(names(&[&a, &b]), 2);
    assert_eq!(names(&[&a, &END, &b, &END]), 1);
    assert_eq!(names(&[&a, &END[..BLOCK], &b]), 1);
    assert_eq!(names(&[&a, &END[..BLOCK], b"short"]), 1);
    assert_eq!(names(&[&a, &END, b"garbage"]), 1);
    refused(&[a[..BLOCK + 1].to_vec()], "a at byte 0 of the tar: the stream ends");
    refused(&[a[..BLOCK].to_vec()], "the stream ends within its content");
    refused(&[a[..100].to_vec()], "the stream ends within a header");
    refused(&[pax(&[(b"uid", b"1")]), END.to_vec()], "it ends after a header that announced an entry");
}

#[test]
fn a_content_that_is_cut_blames_the_archive() {
    let stream = Hand::ustar(b"a", b'0').holding(b"content");
    let mut reader = Reader::new("test", &stream[..BLOCK + 3]);
    reader.next_entry().unwrap();
    let (mut content, mut read) = (reader.content(), Vec::new());
    let told = content.read_to_end(&mut read).unwrap_err();
    assert_eq!(read, b"con");
    let blamed = content.blame(Error::Io { doing: "read", path: "a".into(), source: told });
    assert_eq!(blamed.to_string(), "test is damaged: a at byte 0 of the tar: the stream ends within its content");
    assert!(matches!(reader.content().blame(Error::Stopped), Error::Stopped));
}
