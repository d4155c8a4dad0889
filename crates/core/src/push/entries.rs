//! The state of a working directory as entries of a file map.

use std::collections::HashMap;
use std::io;

use super::known::Known;
use super::read::Outcome;
use super::send::Packer;
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Entry, Kind};
use crate::index::State;
use crate::job::Job;
use crate::scan::{self, Root};

/// Where chunks lie: in the store already, or in the packs of this run.
pub struct Places<'a> {
    pub known: &'a Known,
    pub packer: &'a Packer<'a>,
    pub outcome: &'a Outcome,
}

impl Places<'_> {
    pub fn chunk(&self, digest: &Digest) -> Result<ChunkAt> {
        let place = self.known.chunk(digest).or_else(|| self.packer.place(digest));
        place.ok_or_else(|| Error::Missing { what: format!("chunk {}", digest.short()) })
    }

    fn chunks(&self, digest: &Digest) -> Result<Vec<ChunkAt>> {
        if digest.size == 0 {
            return Ok(Vec::new());
        }
        if digest.size < MAX_CHUNK as u64 {
            return Ok(vec![self.chunk(digest)?]);
        }
        self.pieces(digest)?.iter().map(|piece| self.chunk(piece)).collect()
    }

    /// The chunks of a large blob.
    pub fn pieces(&self, digest: &Digest) -> Result<Vec<Digest>> {
        let here = self.outcome.large.get(&digest.sha256).cloned();
        let pieces = here.or_else(|| self.known.blob(digest));
        pieces.ok_or_else(|| Error::Missing { what: format!("the chunks of blob {}", digest.short()) })
    }
}

/// What the names of one inode have in common. Its content too: a file that was written between the readings of two of
/// its names is two files in this tree, as its digest says.
#[derive(PartialEq, Eq, Hash)]
struct Inode<'a> {
    dev: u64,
    ino: u64,
    mode: u32,
    rdev: u64,
    digest: Option<Digest>,
    target: &'a [u8],
}

impl Inode<'_> {
    /// Of what has several names, somewhere.
    fn of(state: &State, record: u32) -> Option<Inode<'_>> {
        let scan::Stat { dev, ino, mode, rdev, .. } = state.stat(record);
        let (digest, target) = (state.digest(record), state.target(record));
        state.has_links(record).then_some(Inode { dev, ino, mode, rdev, digest, target })
    }
}

/// The names of one inode: how many there are, and the first in file-map order once it has been met.
#[derive(Default)]
struct Names {
    count: u32,
    first: Option<Vec<u8>>,
}

/// Give each entry of the sealed `state`, in file-map order, to `entry`.
pub fn entries(
    root: &Root,
    state: &State,
    places: &Places<'_>,
    job: &Job,
    mut entry: impl FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    let mut linked: HashMap<Inode<'_>, Names> = HashMap::new();
    let mut directories: Vec<(Vec<u8>, u32)> = Vec::new();
    for record in 0..state.len() {
        if state.kind(record) == scan::Kind::Directory {
            directories.push((state.path_of(record), record));
        } else if let Some(inode) = Inode::of(state, record) {
            linked.entry(inode).or_default().count += 1;
        }
    }
    directories.sort_unstable();
    entry(&entry_of(root, state, places, 0)?)?;
    for (parent, directory) in directories {
        job.step(0)?;
        for record in state.entries(directory) {
            let path = join(&parent, state.name(record));
            let names = Inode::of(state, record).and_then(|inode| linked.get_mut(&inode));
            let mut made = match names.as_ref().and_then(|names| names.first.clone()) {
                Some(first) => hard_link(path, first, state.mode(record)),
                None => entry_of(root, state, places, record)?,
            };
            if let Some(names) = names.filter(|names| names.first.is_none()) {
                made.links = names.count;
                names.first = Some(made.path.clone());
            }
            entry(&made)?;
        }
    }
    Ok(())
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

fn hard_link(path: Vec<u8>, first: Vec<u8>, mode: u32) -> Entry {
    Entry {
        path,
        kind: Kind::HardLink { first },
        mode: mode & 0o7777,
        uid: 0,
        gid: 0,
        mtime: scan::Time::default(),
        links: 1,
        xattrs: Vec::new(),
    }
}

fn entry_of(root: &Root, state: &State, places: &Places<'_>, record: u32) -> Result<Entry> {
    let mut entry = Entry::of_record(state, record)?;
    if let Kind::Regular(content) = &mut entry.kind {
        content.chunks = places.chunks(&content.digest)?;
        if state.is_sparse(record) {
            content.holes = holes_of(root, &entry.path, &state.stat(record))?;
        }
    }
    if state.has_xattrs(record) {
        entry.xattrs = unless_gone(root, &entry.path, root.xattrs(&entry.path))?;
    }
    Ok(entry)
}

fn holes_of(root: &Root, path: &[u8], stat: &scan::Stat) -> Result<Vec<(u64, u64)>> {
    let holes = || -> io::Result<Vec<(u64, u64)>> {
        let file = root.open_file(path)?;
        let now = || Ok::<_, io::Error>(scan::Stat::from(rustix::fs::fstat(&file)?));
        // Of a file that is no longer what was read nothing is known: a hole that is none would hide bytes.
        let before = now()?;
        let holes = if before.agrees(stat) { scan::holes(&file, &before) } else { Ok(Vec::new()) };
        if now()?.agrees(stat) { holes } else { Ok(Vec::new()) }
    };
    unless_gone(root, path, holes())
}

/// What went away since it was read, or made room for something else, has nothing more to tell; its content is kept.
fn unless_gone<T: Default>(root: &Root, path: &[u8], read: io::Result<T>) -> Result<T> {
    match read {
        Err(error) if scan::is_gone(&error) => Ok(T::default()),
        read => read.map_err(Error::io("read", root.show(path))),
    }
}
