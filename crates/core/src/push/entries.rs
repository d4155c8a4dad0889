//! Records of a working directory as entries of a file map.

use std::io;

use super::known::Known;
use super::read::Outcome;
use super::send::Packer;
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Entry, Kind};
use crate::index::State;
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

    pub fn chunks(&self, digest: &Digest) -> Result<Vec<ChunkAt>> {
        if digest.size == 0 {
            return Ok(Vec::new());
        }
        self.pieces(digest)?.iter().map(|piece| self.chunk(piece)).collect()
    }

    /// The chunks of a blob.
    pub fn pieces(&self, digest: &Digest) -> Result<Vec<Digest>> {
        let here = self.outcome.large.get(&digest.sha256).cloned();
        let alone = || (digest.size < MAX_CHUNK as u64).then(|| vec![*digest]);
        let pieces = here.or_else(|| self.known.pieces(digest)).or_else(alone);
        pieces.ok_or_else(|| Error::Missing { what: format!("the chunks of blob {}", digest.short()) })
    }
}

/// The entry of a record that is the first of `links` names, whose path is this.
pub fn entry_of(
    root: &Root,
    state: &State,
    places: &Places<'_>,
    record: u32,
    path: Vec<u8>,
    links: u32,
) -> Result<Entry> {
    let mut entry = Entry { path, links, ..Entry::of_record(state, record)? };
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
pub fn unless_gone<T: Default>(root: &Root, path: &[u8], read: io::Result<T>) -> Result<T> {
    match read {
        Err(error) if scan::is_gone(&error) => Ok(T::default()),
        read => read.map_err(Error::io("read", root.show(path))),
    }
}
