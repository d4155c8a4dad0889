//! What one header says, with what the headers before it announced.
//!
//! Invariant: what a pax record says counts before a long name of GNU's, and that before the header itself.

use super::block::{BLOCK, FLAG, GID, LINK, MAGIC, MAJOR, MINOR, MODE, MTIME, NAME, SIZE, SUM, UID, sums};
use super::name::clean;
use super::number::field;
use super::records::Records;
use super::sparse::Runs;
use super::{Header, Kind};
use crate::scan::Time;

/// What was announced of the entry that comes.
#[derive(Default)]
pub(super) struct Said {
    pub records: Option<Records>,
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    /// Of the map that stands before the content in format 1.0.
    pub map_bytes: u64,
}

/// Runs, size of the file, and whether more follows.
type Sparse = Option<(Runs, u64, bool)>;

#[derive(PartialEq)]
enum Form {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Form {
    fn of(block: &[u8; BLOCK]) -> Form {
        match &block[MAGIC] {
            b"ustar  \0" => Form::Gnu,
            magic if magic[..6] == *b"ustar\0" && block[508..] == *b"tar\0" => Form::Star,
            magic if magic[..6] == *b"ustar\0" => Form::Ustar,
            _ => Form::V7,
        }
    }
}

/// Whether a block's checksum is that of a header.
pub(super) fn is_right(block: &[u8; BLOCK]) -> bool {
    let (unsigned, signed) = sums(block);
    // An empty field is 0, which as a sum of signed bytes could be right.
    field(&block[SUM]).is_some_and(|sum| sum != 0 && (sum == i64::from(unsigned) || sum == i64::from(signed)))
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

fn is_regular(flag: u8) -> bool {
    // As POSIX says: what nobody knows is a file.
    !matches!(flag, b'1'..=b'6' | b'D')
}

impl Said {
    pub fn is_anything(&self) -> bool {
        self.records.is_some() || self.name.is_some() || self.link.is_some()
    }

    /// The name as it stands.
    pub fn raw_name(&mut self, block: &[u8; BLOCK]) -> Vec<u8> {
        if let Some(records) = &mut self.records {
            let sparse = records.sparse.name.take().filter(|_| is_regular(block[FLAG]));
            if let Some(name) = sparse.or(records.path.take()) {
                return name;
            }
        }
        if let Some(name) = self.name.take() {
            return name;
        }
        let name = text(&block[NAME]);
        let prefix = match Form::of(block) {
            Form::Ustar => text(&block[345..500]),
            // The last byte before the times of access and change is a NUL, and a sparse file has its map there.
            Form::Star if block[FLAG] != b'S' => text(&block[345..475]),
            // Go's writer before 1.8 put a prefix where GNU has the times of access and change.
            Form::Gnu if [345..357, 357..369].iter().any(|range| field(&block[range.clone()]).is_none()) => {
                Some(text(&block[345..500])).filter(|prefix| prefix.is_ascii()).unwrap_or(b"")
            }
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The map of an old sparse file (`S`), as far as its header has it.
    pub fn old_sparse(&self, block: &[u8; BLOCK]) -> Result<Sparse, &'static str> {
        if block[FLAG] != b'S' {
            return Ok(None);
        }
        let star = Form::of(block) == Form::Star;
        let (slots, more, size) = if star {
            (&block[356..452], block[355], &block[452..464])
        } else {
            (&block[386..482], block[482], &block[483..495])
        };
        let mut runs = Runs::default();
        for slot in slots.chunks_exact(24) {
            if !runs.slot(slot)? {
                break;
            }
        }
        let size = field(size).and_then(|size| u64::try_from(size).ok()).ok_or("its size is no number that can be")?;
        Ok(Some((runs, size, more != 0)))
    }

    /// The map of a sparse file as pax records tell it; in format 1.0 it is in the content.
    pub fn sparse(&mut self) -> Result<Sparse, &'static str> {
        let Some(records) = &mut self.records else { return Ok(None) };
        let sparse = std::mem::take(&mut records.sparse);
        let in_content = match sparse.version {
            (None, None) if sparse.size.is_none() && sparse.runs.is_empty() => return Ok(None),
            (None, None) | (Some(0), Some(0 | 1)) => false,
            (Some(1), Some(0)) => true,
            _ => return Err("it is sparse in a form that nobody knows"),
        };
        let size = sparse.size.ok_or("it is sparse and does not say its size")?;
        Ok(Some((if in_content { Runs::default() } else { sparse.runs }, size, in_content)))
    }
}

/// The entry of a header; a regular file's size is that of its content in the stream.
///
/// # Errors
/// Says what is wrong.
pub(super) fn header_of(block: &[u8; BLOCK], said: &mut Said, raw_name: &[u8]) -> Result<Header, String> {
    let flag = block[FLAG];
    let mut records = said.records.take().unwrap_or_default();
    let xattrs = records.take_xattrs();
    let link = records.link.take().or(said.link.take()).unwrap_or_else(|| text(&block[LINK]).to_vec());
    let number = |range, what: &str| {
        let number = field(&block[range]).and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| format!("its {what} is no number that can be"))
    };
    let device = || -> Result<(u32, u32), String> {
        let part = |said: Option<u32>, range| match said {
            Some(said) => Ok(said),
            None if Form::of(block) == Form::V7 => Ok(0),
            None => u32::try_from(number(range, "device")?).map_err(|_| "its device is too large a number".to_string()),
        };
        Ok((part(records.major, MAJOR)?, part(records.minor, MINOR)?))
    };
    let kind = match flag {
        b'1' => Kind::HardLink {
            first: clean(&link).map_err(|e| format!("{e}: it is a link to {}", super::name::shown(&link)))?,
        },
        b'2' if link.is_empty() => return Err("it is a symbolic link to nothing".into()),
        b'2' => Kind::Symlink { target: link },
        b'3' => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
        b'4' => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Fifo,
        // Before there was a type for directories, a name told them.
        0 | b'0' | b'7' if raw_name.ends_with(b"/") => Kind::Directory,
        _ => Kind::Regular { size: records.size.map_or_else(|| number(SIZE, "size"), Ok)?, holes: Vec::new() },
    };
    let name = clean(raw_name)?;
    if name.is_empty() && (kind != Kind::Directory || raw_name.is_empty()) {
        return Err("it has no name".into());
    }
    let mtime = match records.mtime {
        Some(mtime) => mtime,
        None => Time { sec: field(&block[MTIME]).ok_or("its time is no number that can be")?, nsec: 0 },
    };
    let header = Header {
        name,
        kind,
        mode: (field(&block[MODE]).ok_or("its mode is no number that can be")? & 0o7777) as u32,
        uid: records.uid.map_or_else(|| number(UID, "owner"), Ok)?,
        gid: records.gid.map_or_else(|| number(GID, "group"), Ok)?,
        mtime,
        xattrs,
    };
    // What is left to say: the map of a sparse file.
    said.records = Some(records);
    Ok(header)
}
