//! Headers of others that need not be written anew.
//!
//! Invariant: what is passed is read alike by every reader there is: ustar or GNU, with records that all of them know.

use super::block::{BLOCK, FLAG, MAGIC, SIZE, SUM, sums};
use super::number::field;
use super::pax::XATTR;
use super::records::split;
use super::{Header, Kind, padding};

const KEYS: [&[u8]; 9] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime", b"hdrcharset"];

/// Whether the headers of an entry, as they stand in a stream without global ones, say what `header` does to everybody;
/// `name` is the name that they give.
pub fn is_read_alike(mut headers: &[u8], header: &Header, name: &[u8]) -> bool {
    let spelled = match header.kind {
        Kind::Directory if header.name.is_empty() => name == b"./",
        Kind::Directory => name.strip_suffix(b"/") == Some(&header.name),
        _ => name == header.name,
    };
    let plain = !matches!(&header.kind, Kind::HardLink { .. })
        && !matches!(&header.kind, Kind::Regular { holes, .. } if !holes.is_empty());
    let mut extended = false;
    while let Some((block, rest)) = headers.split_first_chunk::<BLOCK>() {
        let is_ours = block[MAGIC] == *b"ustar\x0000" && block[500..].iter().all(|&byte| byte == 0);
        let is_gnu = block[MAGIC] == *b"ustar  \0" && block[345..].iter().all(|&byte| byte == 0);
        let sum = field(&block[SUM]) == Some(i64::from(sums(block).0));
        let Some(size) = field(&block[SIZE]).and_then(|size| u64::try_from(size).ok()) else { return false };
        if !(is_ours || is_gnu) || !sum {
            return false;
        }
        match block[FLAG] {
            b'x' if !extended => {
                let text = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size));
                let Some((_, behind)) = text.filter(|(text, _)| are_known(text)) else { return false };
                let Some(behind) = behind.get(padding(size)..) else { return false };
                extended = true;
                headers = behind;
            }
            b'0' | b'2'..=b'6' => return spelled && plain && rest.is_empty(),
            _ => return false,
        }
    }
    false
}

fn are_known(mut records: &[u8]) -> bool {
    while !records.is_empty() {
        let Some((key, value, rest)) = split(records) else { return false };
        if !(key.starts_with(XATTR) || KEYS.contains(&key) && !value.is_empty()) {
            return false;
        }
        records = rest;
    }
    true
}
