//! One inode: its fields, and the extended attributes behind them.

use super::layout::{BLOCK, INODE, Place};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind};

/// `trusted.`, as every attribute of overlayfs begins.
const TRUSTED: u8 = 4;
/// Those that a name can begin with, the longest first, and their numbers.
const SPACES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_default", 3),
    (b"system.posix_acl_access", 2),
    (b"security.", 6),
    (b"trusted.", TRUSTED),
    (b"user.", 1),
];
/// Before the attributes of an inode.
const HEAD: usize = 12;
/// As many bytes as `i_xattr_icount` can tell.
const LONGEST: usize = HEAD + 4 * (u16::MAX as usize - 1);

/// How the data of an inode lies, in `i_format`.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;
const CHUNKS: u16 = 4;
/// The largest chunk there is: blocks times 2^31.
const CHUNK_BITS: u32 = 31;
const CHUNK: u64 = (BLOCK as u64) << CHUNK_BITS;
const NOWHERE: u32 = u32::MAX;

/// Types in a directory's lines.
pub const DIRECTORY: u8 = 2;

pub fn type_of(entry: &Entry) -> u8 {
    match entry.kind {
        Kind::Regular(_) | Kind::HardLink { .. } => 1,
        Kind::Directory { .. } => DIRECTORY,
        Kind::CharDevice { .. } => 3,
        Kind::BlockDevice { .. } => 4,
        Kind::Fifo => 5,
        Kind::Symlink { .. } => 7,
    }
}

/// Where a content is found in the layers that hold contents.
pub fn object_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{hex}", &hex[..2])
}

/// Bytes of the places of a file's chunks, of which none is anywhere.
pub fn chunks_of(entry: &Entry) -> usize {
    match &entry.kind {
        Kind::Regular(content) => content.digest.size.div_ceil(CHUNK) as usize * 4,
        _ => 0,
    }
}

fn unfit(entry: &Entry, why: &str) -> Error {
    use std::os::unix::ffi::OsStrExt;
    let name = crate::error::show(std::path::Path::new(std::ffi::OsStr::from_bytes(&entry.path)));
    Error::Invalid { what: name, why: format!("{why}; mount it with --tier fuse") }
}

fn push_attribute(out: &mut Vec<u8>, space: u8, name: &[u8], value: &[u8]) {
    out.extend([name.len() as u8, space]);
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(name);
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The extended attributes of an entry, and where its content is found, as they stand behind the inode.
///
/// # Errors
/// `Invalid`: the entry has what the image or overlayfs cannot hold.
pub fn attributes(entry: &Entry) -> Result<Vec<u8>> {
    if matches!(entry.kind, Kind::CharDevice { major: 0, minor: 0 }) {
        return Err(unfit(entry, "the native tier takes a character device 0/0 for a removal"));
    }
    let mut out = vec![0; HEAD];
    for (name, value) in &entry.xattrs {
        let space = SPACES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix) && (prefix.ends_with(b".") == (name.len() > prefix.len())));
        let Some(&(prefix, space)) = space else {
            return Err(unfit(entry, "the native tier cannot hold one of its extended attributes"));
        };
        let rest = &name[prefix.len()..];
        let escape: &[u8] = if space == TRUSTED && rest.starts_with(b"overlay.") { b"overlay." } else { b"" };
        if escape.len() + rest.len() > u8::MAX as usize || value.len() > u16::MAX as usize {
            return Err(unfit(entry, "one of its extended attributes is too long for the native tier"));
        }
        push_attribute(&mut out, space, &[escape, rest].concat(), value);
    }
    if let Kind::Regular(content) = &entry.kind
        && content.digest.size > 0
    {
        push_attribute(&mut out, TRUSTED, b"overlay.metacopy", b"");
        push_attribute(&mut out, TRUSTED, b"overlay.redirect", format!("/{}", object_path(&content.digest)).as_bytes());
    }
    match out.len() {
        HEAD => Ok(Vec::new()),
        length if length > LONGEST => Err(unfit(entry, "its extended attributes are too many for the native tier")),
        _ => Ok(out),
    }
}

/// What an inode says beside its entry.
pub struct Facts {
    pub place: Place,
    /// The first block of data of the image.
    pub data: u32,
    pub size: u64,
    pub links: u32,
    /// Bytes of attributes.
    pub attributes: usize,
}

/// The 64 bytes of an inode.
pub fn inode(entry: &Entry, facts: &Facts) -> [u8; INODE] {
    let (kind, mut layout, mut union) = match &entry.kind {
        Kind::Directory { .. } => (libc::S_IFDIR, PLAIN, facts.data + facts.place.block),
        Kind::Symlink { .. } => (libc::S_IFLNK, PLAIN, facts.data + facts.place.block),
        Kind::Regular(content) if content.digest.size > 0 => (libc::S_IFREG, CHUNKS, CHUNK_BITS),
        Kind::Regular(_) | Kind::HardLink { .. } => (libc::S_IFREG, PLAIN, NOWHERE),
        Kind::CharDevice { major, minor } => (libc::S_IFCHR, PLAIN, device(*major, *minor)),
        Kind::BlockDevice { major, minor } => (libc::S_IFBLK, PLAIN, device(*major, *minor)),
        Kind::Fifo => (libc::S_IFIFO, PLAIN, 0),
    };
    if facts.place.inline {
        layout = INLINE;
        // Only a directory has blocks before its tail.
        union = if facts.size > BLOCK as u64 { union } else { NOWHERE };
    }
    let count = if facts.attributes == 0 { 0 } else { (facts.attributes - HEAD) / 4 + 1 };
    let mut out = [0; INODE];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(1 | layout << 1).to_le_bytes());
    put(2, &(count as u16).to_le_bytes());
    put(4, &((kind | entry.mode) as u16).to_le_bytes());
    put(8, &facts.size.to_le_bytes());
    put(16, &union.to_le_bytes());
    put(20, &(facts.place.node() as u32).to_le_bytes());
    put(24, &entry.uid.to_le_bytes());
    put(28, &entry.gid.to_le_bytes());
    put(32, &entry.mtime.sec.to_le_bytes());
    put(40, &entry.mtime.nsec.to_le_bytes());
    put(44, &facts.links.to_le_bytes());
    out
}

/// As Linux packs a device's numbers into 32 bits.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
