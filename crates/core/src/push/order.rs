//! The state of a working directory in file-map order.

use std::collections::HashMap;
use std::ops::Range;

use crate::digest::Digest;
use crate::filemap::{Entry, Kind};
use crate::index::State;
use crate::scan;

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

/// The names of one inode: how many there are, and the row of the first.
struct Names {
    count: u32,
    first: u32,
}

struct Row {
    /// Number of the directory that holds it; of the root none.
    directory: u32,
    record: u32,
}

/// The entries of a sealed state: the root, then by (parent, name).
pub struct Order<'a> {
    state: &'a State,
    /// Sorted by path.
    directories: Vec<(Vec<u8>, u32)>,
    rows: Vec<Row>,
    linked: HashMap<Inode<'a>, Names>,
}

const NONE: u32 = u32::MAX;

impl<'a> Order<'a> {
    pub fn of(state: &'a State) -> Order<'a> {
        let is_directory = |&record: &u32| state.kind(record) == scan::Kind::Directory;
        let mut directories: Vec<_> =
            (0..state.len()).filter(is_directory).map(|record| (state.path_of(record), record)).collect();
        directories.sort_unstable();
        let mut rows = Vec::with_capacity(state.len() as usize);
        rows.push(Row { directory: NONE, record: 0 });
        for (number, (_, directory)) in directories.iter().enumerate() {
            rows.extend(state.entries(*directory).map(|record| Row { directory: number as u32, record }));
        }
        let mut linked: HashMap<Inode<'_>, Names> = HashMap::new();
        for (row, at) in rows.iter().enumerate() {
            if let Some(inode) = inode_of(state, at.record) {
                linked.entry(inode).or_insert(Names { count: 0, first: row as u32 }).count += 1;
            }
        }
        Order { state, directories, rows, linked }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn record(&self, row: usize) -> u32 {
        self.rows[row].record
    }

    pub fn path(&self, row: usize) -> Vec<u8> {
        let Row { directory, record } = self.rows[row];
        match self.directories.get(directory as usize) {
            None => Vec::new(),
            Some((parent, _)) if parent.is_empty() => self.state.name(record).to_vec(),
            Some((parent, _)) => [parent, self.state.name(record)].join(&b'/'),
        }
    }

    /// The rows at which these paths stand; `None` for those that are not there.
    pub fn find<'p>(&self, paths: impl Iterator<Item = &'p [u8]>) -> Vec<Option<usize>> {
        let mut at = vec![0u32; self.rows.len()];
        self.rows.iter().enumerate().for_each(|(row, it)| at[it.record as usize] = row as u32);
        paths.map(|path| self.state.find(path).map(|record| at[record as usize] as usize)).collect()
    }

    /// If it is not the first name of its inode, the hard link that an entry is; else how many names there are.
    pub fn link(&self, row: usize) -> Result<u32, Box<Entry>> {
        let names = inode_of(self.state, self.rows[row].record).and_then(|inode| self.linked.get(&inode));
        match names {
            None => Ok(1),
            Some(names) if names.first as usize == row => Ok(names.count),
            Some(names) => Err(Box::new(Entry {
                path: self.path(row),
                kind: Kind::HardLink { first: self.path(names.first as usize) },
                mode: self.state.mode(self.rows[row].record) & 0o7777,
                uid: 0,
                gid: 0,
                mtime: scan::Time::default(),
                links: 1,
                xattrs: Vec::new(),
            })),
        }
    }

    /// A digest of all that these rows become in a file map, places aside; `None` while something of them may change
    /// without telling.
    pub fn sum(&self, rows: Range<usize>) -> Option<[u8; 32]> {
        let state = self.state;
        let mut told = Vec::with_capacity(rows.len() * 192);
        let mut within = NONE;
        for row in rows {
            let Row { directory, record } = self.rows[row];
            // What the record does not say itself is read beside it.
            if (state.has_xattrs(record) || state.is_sparse(record)) && state.is_racy(record) {
                return None;
            }
            if directory != within {
                within = directory;
                tell(&mut told, &self.directories[directory as usize].0);
            }
            told.extend_from_slice(&state.own(record));
            tell(&mut told, state.name(record));
            tell(&mut told, state.target(record));
            match self.link(row) {
                Ok(links) => {
                    told.push(0);
                    told.extend_from_slice(&links.to_le_bytes());
                }
                Err(link) => {
                    let Kind::HardLink { first } = link.kind else { unreachable!("that is what it is") };
                    told.push(1);
                    tell(&mut told, &first);
                }
            }
        }
        Some(Digest::of(&told).sha256)
    }
}

/// Append bytes so that where they end is said, too.
fn tell(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Of what has several names, somewhere.
fn inode_of(state: &State, record: u32) -> Option<Inode<'_>> {
    if !state.has_links(record) {
        return None;
    }
    let scan::Stat { dev, ino, mode, rdev, .. } = state.stat(record);
    Some(Inode { dev, ino, mode, rdev, digest: state.digest(record), target: state.target(record) })
}
