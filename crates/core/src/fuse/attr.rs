//! Entries as the kernel's attributes, entries and directory lines.

use super::wire::Reply;
use crate::filemap::{Entry, Kind};

/// Bytes of `struct fuse_attr`, `fuse_entry_out` and the head of `fuse_dirent`.
pub const ATTR: usize = 88;
pub const ENTRY: usize = 40 + ATTR;
const DIRENT: usize = 24;

/// What is under a mount never changes: seconds for which the kernel may believe what it was told.
const FOREVER: u64 = u32::MAX as u64;

/// `struct fuse_entry_out`; `None` says that there is no such name, for ever.
pub fn push_entry(reply: &mut Reply, found: Option<(u64, &Entry)>) {
    reply.u64(found.map_or(0, |(inode, _)| inode));
    reply.u64(0); // generation: an inode number never names another file
    reply.u64(FOREVER);
    reply.u64(FOREVER);
    reply.u64(0);
    match found {
        Some((inode, entry)) => push_attr(reply, inode, entry),
        None => reply.zeros(ATTR),
    }
}

/// The inode in an answer that `push_entry` wrote; 0 of an absent name.
pub fn inode_told(reply: &Reply) -> u64 {
    reply.bytes().first_chunk().map_or(0, |inode| u64::from_ne_bytes(*inode))
}

/// `struct fuse_attr_out`
pub fn push_attr_out(reply: &mut Reply, inode: u64, entry: &Entry) {
    reply.u64(FOREVER);
    reply.u64(0);
    push_attr(reply, inode, entry);
}

/// Whether a directory line with a name of this length has room.
pub fn line_fits(reply: &Reply, plus: bool, name: usize) -> bool {
    reply.room() >= (if plus { ENTRY } else { 0 }) + (DIRENT + name).next_multiple_of(8)
}

/// A directory's line; with `plus`, what LOOKUP would say before it. Nothing said is no harm: the kernel will ask.
pub fn push_line(
    reply: &mut Reply,
    plus: Option<Option<(u64, &Entry)>>,
    inode: u64,
    next: u64,
    mode: u32,
    name: &[u8],
) {
    if let Some(found) = plus {
        push_entry(reply, found);
    }
    reply.u64(inode);
    reply.u64(next);
    reply.u32(name.len() as u32);
    reply.u32(mode >> 12);
    reply.push(name);
    reply.zeros(name.len().next_multiple_of(8) - name.len());
}

/// Type and permissions.
pub fn mode_of(entry: &Entry) -> u32 {
    let kind = match entry.kind {
        Kind::Directory { .. } => libc::S_IFDIR,
        Kind::Regular(_) => libc::S_IFREG,
        // Only its first name tells; a directory line then says "unknown".
        Kind::HardLink { .. } => 0,
        Kind::Symlink { .. } => libc::S_IFLNK,
        Kind::CharDevice { .. } => libc::S_IFCHR,
        Kind::BlockDevice { .. } => libc::S_IFBLK,
        Kind::Fifo => libc::S_IFIFO,
    };
    kind | entry.mode
}

fn push_attr(reply: &mut Reply, inode: u64, entry: &Entry) {
    let size = entry.size();
    let (major, minor) = match entry.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    let time = entry.mtime;
    reply.u64(inode);
    reply.u64(size);
    reply.u64(stored(entry).div_ceil(512));
    for _ in 0..3 {
        reply.u64(time.sec as u64);
    }
    for _ in 0..3 {
        reply.u32(time.nsec);
    }
    reply.u32(mode_of(entry));
    // Of a directory 1, which tells `find` and the like that links do not count its subdirectories: nobody counted them.
    reply.u32(entry.links);
    reply.u32(entry.uid);
    reply.u32(entry.gid);
    reply.u32((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12));
    reply.u32(4096);
    reply.u32(0);
}

/// Bytes that are not holes.
fn stored(entry: &Entry) -> u64 {
    match &entry.kind {
        Kind::Regular(content) => {
            let holes: u64 = content.holes.iter().map(|&(_, length)| length).sum();
            content.digest.size.saturating_sub(holes)
        }
        Kind::Symlink { .. } => 0,
        _ => entry.size(),
    }
}
