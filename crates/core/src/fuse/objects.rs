//! The contents of a tree by their digests, `<2 hex>/<hex>`: what the native tier has below its metadata.
//!
//! Invariant: a file here has the inode of an entry with that content, so reading, readahead and prefetching are those of
//! the tree. Directories have inodes of their own, and no lines: only overlayfs looks here, and it knows its names.

use super::answer::No;
use super::attr;
use super::wire::{Reply, Request, op};
use crate::digest::{Digest, hex, parse_hex};
use crate::error::{Error, Result};
use crate::filemap::{Entry, FileMap, Kind, inode_of};
use crate::scan::Time;

/// Inodes of the directories of contents whose digests begin with the byte below these.
const DIRECTORIES: u64 = 1 << 62;
const ROOT: u64 = 1;

/// Where each content is in the tree.
pub struct Objects {
    /// First bytes of digests, and the inodes of entries that have such contents; sorted.
    by_digest: Vec<(u64, u64)>,
}

impl Objects {
    /// # Errors
    /// `Missing` while pages of the map are.
    pub fn of(map: &FileMap) -> Result<Objects> {
        let mut by_digest = Vec::new();
        for page in 0..map.pages().len() {
            let rows = map.rows(page).map_err(|_| Error::Missing { what: format!("page {page} of the file map") })?;
            for (row, entry) in rows.iter().enumerate() {
                if let Kind::Regular(content) = &entry.kind {
                    by_digest.push((beginning(&content.digest.sha256), inode_of(page, row)));
                }
            }
        }
        by_digest.sort_unstable();
        Ok(Objects { by_digest })
    }

    /// The answer to what concerns names and directories; `None` to what a tree answers as well.
    pub fn answer(&self, map: &FileMap, request: &Request, reply: &mut Reply) -> Option<std::result::Result<(), No>> {
        let is_directory = request.node == ROOT || request.node >= DIRECTORIES;
        match request.opcode {
            op::LOOKUP => {
                reply.begin(4096);
                let name = request.fields().name().unwrap_or_default();
                let found = if is_directory { self.look_up(map, request.node, name) } else { None };
                match found {
                    Some(Found::Directory(inode)) => attr::push_entry(reply, Some((inode, &directory()))),
                    Some(Found::File(inode, entry)) => attr::push_entry(reply, Some((inode, entry))),
                    None => attr::push_entry(reply, None),
                }
                Some(Ok(()))
            }
            op::GETATTR if is_directory => {
                reply.begin(4096);
                attr::push_attr_out(reply, request.node, &directory());
                Some(Ok(()))
            }
            op::READDIR | op::READDIRPLUS => {
                reply.begin(0);
                Some(Ok(()))
            }
            op::GETXATTR | op::LISTXATTR => Some(Err(No::Errno(libc::ENOSYS))),
            _ => None,
        }
    }

    fn look_up<'a>(&self, map: &'a FileMap, parent: u64, name: &[u8]) -> Option<Found<'a>> {
        let name = str::from_utf8(name).ok()?;
        if parent == ROOT {
            let byte = u8::from_str_radix(name, 16).ok().filter(|&byte| hex(&[byte]) == name)?;
            return Some(Found::Directory(DIRECTORIES + u64::from(byte)));
        }
        let sha256 = parse_hex(name).filter(|sha256| DIRECTORIES + u64::from(sha256[0]) == parent)?;
        let key = beginning(&sha256);
        let from = self.by_digest.partition_point(|&(first, _)| first < key);
        let same = self.by_digest[from..].iter().take_while(|&&(first, _)| first == key);
        same.filter_map(|&(_, inode)| Some((inode, map.entry(inode).ok()??)))
            .find(|(_, entry)| matches!(&entry.kind, Kind::Regular(content) if content.digest.sha256 == sha256))
            .map(|(inode, entry)| Found::File(inode, entry))
    }
}

enum Found<'a> {
    Directory(u64),
    File(u64, &'a Entry),
}

fn beginning(sha256: &[u8; 32]) -> u64 {
    u64::from_be_bytes(*sha256.first_chunk().expect("32 bytes begin with 8"))
}

fn directory() -> Entry {
    let digest = Some(Digest::of(b""));
    Entry {
        path: Vec::new(),
        kind: Kind::Directory { digest },
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time { sec: 0, nsec: 0 },
        links: 1,
        xattrs: Vec::new(),
    }
}
