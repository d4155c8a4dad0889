//! Streams that are cut, flipped and made up: always an error or entries within bounds, never a panic.

use super::*;

/// A stream a case: the hard cases, what only others write, and sparse files in all forms. All but the last without an end.
fn corpus() -> Vec<Vec<u8>> {
    let mut cases: Vec<Vec<u8>> = hard_cases().iter().map(|header| stream(std::slice::from_ref(header))).collect();
    cases.iter_mut().for_each(|case| case.truncate(case.len() - END.len()));
    let mut case = Vec::new();
    let mut next = |case: &mut Vec<u8>| cases.push(std::mem::take(case));
    pax(&mut case, b'g', &[("comment", "global"), ("uid", "7"), ("SCHILY.xattr.user.g", "v")]);
    part(&mut case, b"././@LongLink", b'L', b"a long name\0");
    part(&mut case, b"././@LongLink", b'K', b"a long link\0");
    part(&mut case, b"a", b'0', b"content");
    next(&mut case);
    let text = "user::rwx,user:1:r--,group::r--,mask::r--,other::r--";
    pax(&mut case, b'x', &[("SCHILY.acl.access", text), ("LIBARCHIVE.xattr.user.%66", "YWI"), ("mtime", "-1.5")]);
    part(&mut case, b"b", b'7', b"");
    next(&mut case);
    pax(&mut case, b'x', &[("GNU.sparse.size", "900"), ("GNU.sparse.offset", "1"), ("GNU.sparse.numbytes", "2")]);
    part(&mut case, b"c", b'0', b"12");
    next(&mut case);
    pax(&mut case, b'x', &[("GNU.sparse.size", "900"), ("GNU.sparse.map", "1,2,800,3")]);
    part(&mut case, b"d", b'0', b"12345");
    next(&mut case);
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "900")];
    pax(&mut case, b'x', &[&records[..], &[("GNU.sparse.name", "e")]].concat());
    let mut mapped = b"2\n1\n2\n800\n3\n".to_vec();
    mapped.resize(BLOCK, 0);
    part(&mut case, b"GNUSparseFile.0/e", b'0', &[&mapped[..], b"12345"].concat());
    next(&mut case);
    case.extend_from_slice(&old_sparse());
    next(&mut case);
    part(&mut case, b"dump/", b'D', b"Yfile\0\0");
    case.extend_from_slice(&END);
    next(&mut case);
    cases
}

/// With a map that goes on behind the header.
fn old_sparse() -> Vec<u8> {
    let mut header = block(&Fields { name: b"f", flag: b'S', size: 4, ..Fields::default() });
    header[257..265].copy_from_slice(b"ustar  \0");
    for slot in 0..4 {
        let at = 386 + 24 * slot;
        header[at..at + 24].copy_from_slice(format!("{:011o}\0{:011o}\0", slot * 10, usize::from(slot < 3)).as_bytes());
    }
    header[482] = 1;
    header[483..495].copy_from_slice(b"00000001000\0");
    summed(&mut header);
    let mut out = header.to_vec();
    out.extend_from_slice(b"00000000100\x0000000000001\0");
    out.resize(2 * BLOCK, 0);
    out.extend_from_slice(b"1234");
    out.resize(3 * BLOCK, 0);
    out
}

fn pax(out: &mut Vec<u8>, flag: u8, records: &[(&str, &str)]) {
    let mut text = Vec::new();
    for (key, value) in records {
        super::pax::push_record(&mut text, key.as_bytes(), value.as_bytes());
    }
    part(out, b"x", flag, &text);
}

fn part(out: &mut Vec<u8>, name: &[u8], flag: u8, content: &[u8]) {
    out.extend_from_slice(&block(&Fields { name, flag, size: content.len() as u64, ..Fields::default() }));
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn summed(header: &mut [u8; BLOCK]) {
    let sum = block::sums(header).0;
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Read all there is, but no hole to its end; whatever comes is held to what is promised.
#[track_caller]
fn sound(stream: &[u8]) -> Vec<Header> {
    let (mut headers, mut bytes) = (Vec::new(), 0);
    let mut reader = Reader::keeping_raw("test", stream);
    let mut buffer = [0; 600];
    loop {
        match reader.next_entry() {
            Ok(Some(header)) => {
                assert_eq!(clean(&header.name).as_deref(), Ok(&header.name[..]));
                assert!(header.mtime.nsec < 1_000_000_000 && header.mode <= 0o7777);
                headers.push(header);
            }
            Ok(None) => break,
            Err(Error::Damaged { .. }) => return headers,
            Err(other) => panic!("{other}"),
        }
        bytes += reader.take_raw().len();
        for _ in 0..2 {
            if reader.read(&mut buffer).is_err() {
                return headers;
            }
        }
        if reader.skip_content().is_err() {
            return headers;
        }
        bytes += reader.stored().0 as usize;
    }
    bytes += reader.take_raw().len();
    while let Ok(count @ 1..) = reader.rest(&mut buffer) {
        bytes += count;
    }
    assert_eq!(bytes, stream.len());
    headers
}

#[test]
fn a_stream_that_is_cut_anywhere_gives_what_was_before_the_cut() {
    let whole = corpus().concat();
    super::split::goes_together_again(&whole);
    let headers = sound(&whole);
    assert_eq!(headers.len(), hard_cases().len() + 7);
    let sparse = |header: &&Header| matches!(&header.kind, Kind::Regular { holes, .. } if !holes.is_empty());
    assert_eq!(headers.iter().filter(sparse).count(), 4);
    for case in corpus() {
        let stream = [&case[..], &case].concat();
        let headers = sound(&stream);
        for cut in 0..stream.len() {
            assert!(headers.starts_with(&sound(&stream[..cut])), "{cut}");
        }
    }
}

#[test]
fn no_flipped_byte_makes_a_reader_panic() {
    for case in corpus() {
        for at in 0..case.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = case.clone();
                damaged[at] ^= flip;
                sound(&damaged);
                // Past the checksum.
                let start = at - at % BLOCK;
                summed((&mut damaged[start..start + BLOCK]).try_into().unwrap());
                sound(&damaged);
            }
        }
    }
}

#[test]
fn no_made_up_stream_makes_a_reader_panic() {
    let stream = corpus().concat();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let words: [&[u8]; 12] = [
        b"GNU.sparse.major=1\n",
        b"99999999999",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\0\0\0\x7f\xff\xff\xff",
        b"../",
        b"\0",
        b"16777216",
        b"77777777777",
        b" ",
        b"\n",
        b"=",
        b",",
    ];
    for _ in 0..20_000 {
        let blocks = stream.len() / BLOCK;
        let (from, count) = (draw(blocks), 1 + draw(6));
        let mut made: Vec<u8> = stream[from * BLOCK..(from + count).min(blocks) * BLOCK].to_vec();
        for _ in 0..1 + draw(8) {
            let word = words[draw(words.len())];
            let at = draw(made.len() - word.len());
            made[at..at + word.len()].copy_from_slice(word);
        }
        for header in made.chunks_exact_mut(BLOCK) {
            if draw(4) > 0 {
                summed(header.try_into().unwrap());
            }
        }
        sound(&made);
    }
}

#[test]
fn what_is_announced_and_does_not_come_costs_no_memory() {
    for (flag, size) in [(b'x', MAX_PAX), (b'g', MAX_PAX), (b'L', 1 << 20), (b'V', MAX_HEADERS - 512), (b'0', 1 << 32)]
    {
        let header = block(&Fields { name: b"a", flag, size, ..Fields::default() });
        let refused = entries(&header).unwrap_err();
        assert!(refused.to_string().contains("the stream ends"), "{refused}");
    }
}

#[test]
fn more_headers_than_the_bounds_allow_are_refused() {
    for (flag, size) in [(b'x', MAX_PAX + 1), (b'g', MAX_PAX + 1), (b'L', (1 << 20) + 2), (b'K', (1 << 20) + 2)] {
        let header = block(&Fields { name: b"a", flag, size, ..Fields::default() });
        let refused = entries(&header).unwrap_err();
        assert!(refused.to_string().contains("more bytes than are allowed"), "{refused}");
    }
    let empty = block(&Fields { name: b"a", flag: b'x', ..Fields::default() });
    let refused = entries(&empty.repeat(MAX_HEADERS as usize / BLOCK + 1)).unwrap_err();
    assert!(refused.to_string().contains("more than 64 MiB of headers"), "{refused}");
    let mut globals = Vec::new();
    let mut text = Vec::new();
    super::pax::push_record(&mut text, b"SCHILY.xattr.user.g", &b"v".repeat(MAX_GLOBAL));
    part(&mut globals, b"g", b'g', &text);
    let refused = entries(&globals).unwrap_err();
    assert!(refused.to_string().contains("more than 64 KiB"), "{refused}");
}

#[test]
fn a_reader_that_jumps_over_contents_sees_what_one_sees_that_reads_them() {
    fn seen<R: std::io::Read>(mut reader: Reader<R>) -> (Vec<Header>, Option<String>) {
        let mut headers = Vec::new();
        loop {
            match reader.next_entry() {
                Ok(Some(header)) => headers.push(header),
                Ok(None) => return (headers, None),
                Err(error) => return (headers, Some(error.to_string())),
            }
        }
    }
    let mut large = Vec::new();
    part(&mut large, b"large", b'0', &[7; 20_000]);
    part(&mut large, b"next", b'0', b"next");
    for case in corpus().into_iter().chain([large]) {
        for end in (0..case.len()).step_by(127).chain([case.len()]) {
            let jumping = seen(Reader::jumping("it", std::io::Cursor::new(&case[..end])));
            assert_eq!(jumping, seen(Reader::new("it", &case[..end])), "cut to {end}");
        }
    }
}
