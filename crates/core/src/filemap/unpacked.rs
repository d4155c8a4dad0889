//! What remains of a tar as the entries of a file map.
//!
//! Invariant: what `tar::TreeBuilder` let pass is a tree that any reader of file maps may believe: each name once, below
//! directories, each hard link to the first name of its file, each directory with its digest. Not here: where contents lie.

use std::collections::HashMap;

use super::entry::{Content, Entry, Kind, parent_and_name};
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::Result;
use crate::job::Job;
use crate::scan::Time;
use crate::tar;

/// Of a directory that no entry names.
pub const INVENTED_MODE: u32 = 0o755;

/// An entry without name that is what its header says; `content` is that of a file, `what` names the archive.
///
/// # Errors
/// As `tar::Header::owner`.
pub fn described(what: &str, header: &tar::Header, content: Content) -> Result<Entry> {
    let kind = match &header.kind {
        tar::Kind::Directory => Kind::Directory { digest: None },
        tar::Kind::Regular { .. } => Kind::Regular(content),
        tar::Kind::Symlink { target } => Kind::Symlink { target: target.clone() },
        &tar::Kind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
        &tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        tar::Kind::Fifo => Kind::Fifo,
        // What it says is said by the file that it is, if that is there.
        tar::Kind::HardLink { first } => Kind::HardLink { first: first.clone() },
    };
    let (uid, gid) = header.owner(what)?;
    let (mode, mtime, xattrs) = (header.mode & 0o7777, header.mtime, header.xattrs.clone());
    Ok(Entry { path: Vec::new(), kind, mode, uid, gid, mtime, links: 1, xattrs })
}

/// All entries in file-map order, and the tree's digest; `bodies` are what each entry of the stream says besides its name.
///
/// # Errors
/// `Stopped`.
pub fn unpacked(tree: tar::Tree, bodies: Vec<Entry>, job: &Job) -> Result<(Vec<Entry>, Digest)> {
    let mut entries = placed(tree, bodies);
    sort(&mut entries);
    job.step(0)?;
    let digest = hash_directories(&mut entries);
    Ok((entries, digest))
}

/// What remains, in no order.
fn placed(tree: tar::Tree, mut bodies: Vec<Entry>) -> Vec<Entry> {
    let count = tree.entries.len();
    let key = |at: u32| parent_and_name(&tree.entries[at as usize].name);
    // Of each file the name that comes first in the map, and how many it has.
    let mut best: Vec<u32> = (0..count as u32).collect();
    let mut links = vec![1u32; count];
    for (at, placed) in tree.entries.iter().enumerate() {
        let Some(first) = placed.first else { continue };
        links[first as usize] += 1;
        if key(at as u32) < key(best[first as usize]) {
            best[first as usize] = at as u32;
        }
    }
    let names: HashMap<u32, Vec<u8>> = (0..count)
        .filter(|&first| links[first] > 1)
        .map(|first| (first as u32, tree.entries[best[first] as usize].name.clone()))
        .collect();
    let mut out = Vec::with_capacity(count + tree.invented.len() + 1);
    let mut has_root = false;
    for (at, placed) in tree.entries.into_iter().enumerate() {
        let body = &mut bodies[placed.entry as usize];
        let first = placed.first.unwrap_or(at as u32);
        has_root |= placed.name.is_empty();
        match names.get(&first).filter(|name| **name != placed.name) {
            Some(name) => out.push(bare(placed.name, Kind::HardLink { first: name.clone() }, body.mode)),
            None => {
                let left = bare(Vec::new(), Kind::Fifo, body.mode);
                let body = std::mem::replace(body, left);
                out.push(Entry { path: placed.name, links: links[first as usize], ..body });
            }
        }
    }
    let root = if has_root { None } else { Some(Vec::new()) };
    for name in tree.invented.into_iter().filter(|name| !name.is_empty()).chain(root) {
        out.push(bare(name, Kind::Directory { digest: None }, INVENTED_MODE));
    }
    out
}

/// In file-map order: numbers are sorted, for entries are large, and mostly there is little to do.
pub(super) fn sort(entries: &mut [Entry]) {
    let parents: Vec<u32> = entries.iter().map(|entry| parent_and_name(&entry.path).0.len() as u32).collect();
    let key = |at: u32| entries[at as usize].path.split_at(parents[at as usize] as usize);
    let mut order: Vec<u32> = (0..entries.len() as u32).collect();
    order.sort_by(|&a, &b| key(a).cmp(&key(b)));
    let mut place = vec![0; order.len()];
    for (to, &from) in (0u32..).zip(&order) {
        place[from as usize] = to;
    }
    for at in 0..place.len() {
        while place[at] as usize != at {
            let to = place[at] as usize;
            entries.swap(at, to);
            place.swap(at, to);
        }
    }
}

/// An entry that says nothing but what it is and may.
pub fn bare(path: Vec<u8>, kind: Kind, mode: u32) -> Entry {
    Entry { path, kind, mode, uid: 0, gid: 0, mtime: Time { sec: 0, nsec: 0 }, links: 1, xattrs: Vec::new() }
}

/// Give each directory its digest, the deepest first: in file-map order what lies in a directory comes behind it.
pub fn hash_directories(entries: &mut [Entry]) -> Digest {
    let mut digests: Vec<Option<Digest>> = vec![None; entries.len()];
    let find =
        |path: &[u8]| entries.binary_search_by(|entry| parent_and_name(&entry.path).cmp(&parent_and_name(path))).ok();
    let empty = Directory::default().digest();
    let mut end = entries.len();
    while end > 1 {
        let parent = parent_and_name(&entries[end - 1].path).0;
        let is_within = |entry: &Entry| parent_and_name(&entry.path).0 == parent;
        let start = 1 + entries[1..end].iter().rposition(|entry| !is_within(entry)).map_or(0, |before| before + 1);
        let mut directory = Directory::default();
        for at in start..end {
            let entry = &entries[at];
            let named = match &entry.kind {
                Kind::HardLink { first } => find(first).map(|first| &entries[first].kind),
                kind => Some(kind),
            };
            match named {
                Some(Kind::Directory { .. }) => directory.directory(entry.name(), digests[at].unwrap_or(empty)),
                Some(Kind::Regular(content)) => {
                    directory.file(entry.name(), content.digest, entry.mode & 0o100 != 0);
                }
                Some(Kind::Symlink { target }) => directory.symlink(entry.name(), target),
                _ => {}
            }
        }
        let digest = directory.digest();
        if let Some(at) = find(parent) {
            digests[at] = Some(digest);
        }
        end = start;
    }
    for (entry, digest) in entries.iter_mut().zip(&digests) {
        if let Kind::Directory { digest: known } = &mut entry.kind {
            *known = Some(digest.unwrap_or(empty));
        }
    }
    digests.first().copied().flatten().unwrap_or(empty)
}
