//! The tree that the rows of a TOC are.
//!
//! Invariant: what settles here is the tree that `tar::TreeBuilder` makes of the same entries. What takes more to tell (names
//! twice beside hard links, entries below what is no directory, links to nothing) is given back, for it to tell.

use std::collections::HashSet;
use std::sync::Arc;

use super::frames::{Frames, Span};
use super::rows::{Is, Row, Rows};
use crate::digest::Digest;
use crate::directory::Directory;
use crate::filemap::{Entry, Kind, Source, parent_and_name};
use crate::tar::MAX_INVENTED;

/// Of a directory that no entry names.
const INVENTED_MODE: u32 = 0o755;
/// A longer chain of hard links takes more to tell.
const LONGEST_CHAIN: usize = 16;

impl Rows {
    /// The tree of all entries, or what was given, if that takes more.
    pub fn settle(mut self, spans: Vec<Span>, payload: u64) -> Result<Settled, Box<(Rows, Vec<Span>)>> {
        let Some(Plan { mut order, invented, linked }) = self.plan() else { return Err(Box::new((self, spans))) };
        let named = self.rows.len() as u32;
        if !invented.is_empty() {
            for name in &invented {
                if self.push(name, Row::new(Is::Directory, INVENTED_MODE)).is_none() {
                    return Err(Box::new((self, spans)));
                }
            }
            order = self.order();
        }
        let frames = Frames::of(spans, payload);
        let mut at = 0;
        for row in self.rows.iter_mut().filter(|row| row.is == Is::File && row.size > 0) {
            (row.length, row.plain) = frames.reach(&mut at, row.offset);
        }
        frames.place(&mut self.others);
        self.link(&order, &linked);
        let tree = self.hash_directories(&order);
        Ok(Settled { rows: self, order, named, tree, pack: Arc::new([0; 32]) })
    }

    /// Rows in file-map order; of one name the last.
    fn order(&self) -> Order {
        let mut parents: Vec<u32> = Vec::with_capacity(self.rows.len());
        parents.extend((0..self.rows.len() as u32).map(|row| parent_and_name(self.name(row)).0.len() as u32));
        let key = |row: u32| self.name(row).split_at(parents[row as usize] as usize);
        let count = self.rows.len();
        let mut rows: Vec<u32> = Vec::with_capacity(count);
        // Mostly what lies in one directory comes in order, in a few runs: then they are all that is to be sorted.
        let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
        for row in 0..count as u32 {
            match runs.last_mut() {
                Some(run) if key(row - 1).0 == key(row).0 => run.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        runs.sort_by(|a, b| key(a.start).cmp(&key(b.start)));
        rows.extend(runs.into_iter().flatten());
        if !rows.is_sorted_by(|&a, &b| key(a) < key(b)) {
            rows.sort_unstable();
            rows.sort_by(|&a, &b| key(a).cmp(&key(b)));
        }
        // Of equal ones the first is kept: so from behind.
        rows.reverse();
        rows.dedup_by(|next, kept| self.name(*next) == self.name(*kept));
        rows.reverse();
        let is_unique = rows.len() == count;
        Order { rows, parents, is_unique }
    }

    /// What is to be done; `None` when it takes more to tell.
    fn plan(&self) -> Option<Plan> {
        let order = self.order();
        if !order.is_unique && self.links > 0 {
            return None;
        }
        let mut invented: HashSet<&[u8]> = HashSet::new();
        let mut bytes = 0;
        let mut last = None;
        if order.find(self, b"").is_none() {
            invented.insert(b"");
        }
        for &row in &order.rows {
            let mut parent = order.key(self, row).0;
            if last == Some(parent) {
                continue;
            }
            last = Some(parent);
            loop {
                match order.find(self, parent) {
                    Some(row) if self.is_directory(row) => break,
                    Some(_) => return None,
                    None if !invented.insert(parent) => break,
                    None => bytes += parent.len(),
                }
                if bytes > MAX_INVENTED {
                    return None;
                }
                if parent.is_empty() {
                    break;
                }
                parent = parent_and_name(parent).0;
            }
        }
        let mut linked = Vec::new();
        for link in (0..self.rows.len() as u32).filter(|&row| self.links > 0 && self.rows[row as usize].is == Is::Link)
        {
            let mut file = link;
            for _ in 0..LONGEST_CHAIN {
                let row = &self.rows[file as usize];
                if row.is == Is::Link {
                    file = order.find(self, self.target(row))?;
                }
            }
            if self.rows[file as usize].is == Is::Link || self.is_directory(file) {
                return None;
            }
            linked.push((link, file));
        }
        let mut invented: Vec<Vec<u8>> = invented.into_iter().map(<[u8]>::to_vec).collect();
        invented.sort_unstable();
        Some(Plan { order, invented, linked })
    }

    /// Let the first name of each file have what it says, and the others link to it; `linked` are links and their files.
    fn link(&mut self, order: &Order, linked: &[(u32, u32)]) {
        let mut by_file: Vec<(u32, u32)> = linked.iter().map(|&(link, file)| (file, link)).collect();
        by_file.sort_unstable();
        for names in by_file.chunk_by(|a, b| a.0 == b.0) {
            let file = names[0].0;
            let all = || names.iter().map(|name| name.1).chain([file]);
            let Some(first) = all().min_by(|&a, &b| order.key(self, a).cmp(&order.key(self, b))) else { continue };
            let body = Row { links: names.len() as u32 + 1, ..self.rows[file as usize] };
            for name in all() {
                let link = Row { offset: first.into(), ..Row::new(Is::Link, 0) };
                self.rows[name as usize] = Row { mode: body.mode, ..link };
            }
            self.rows[first as usize] = body;
        }
    }

    /// Give each directory its digest, the deepest first: in file-map order what lies in a directory comes behind it.
    fn hash_directories(&mut self, order: &Order) -> Digest {
        let empty = Directory::default().digest();
        for at in 0..self.rows.len() as u32 {
            if self.is_directory(at) {
                (self.rows[at as usize].sha256, self.rows[at as usize].size) = (empty.sha256, empty.size);
            }
        }
        let mut end = order.rows.len();
        while end > 1 {
            let parent = order.key(self, order.rows[end - 1]).0;
            let is_within = |row: u32| order.key(self, row).0 == parent;
            let start = 1 + order.rows[1..end].iter().rposition(|&row| !is_within(row)).map_or(0, |before| before + 1);
            let mut directory = Directory::default();
            for &at in &order.rows[start..end] {
                let row = &self.rows[at as usize];
                let name = order.key(self, at).1;
                let name = name.strip_prefix(b"/").unwrap_or(name);
                let row = if row.is == Is::Link { &self.rows[row.offset as usize] } else { row };
                let digest = Digest { sha256: row.sha256, size: row.size };
                match row.is {
                    Is::Directory => directory.directory(name, digest),
                    Is::File => directory.file(name, digest, row.mode & 0o100 != 0),
                    Is::Symlink => directory.symlink(name, self.target(row)),
                    Is::Link => {}
                    Is::Other => match &self.others[row.offset as usize].kind {
                        Kind::Regular(content) => directory.file(name, content.digest, row.mode & 0o100 != 0),
                        Kind::Symlink { target } => directory.symlink(name, target),
                        Kind::Directory { .. } => directory.directory(name, digest),
                        _ => {}
                    },
                }
            }
            let digest = directory.digest();
            if let Some(at) = order.find(self, parent) {
                (self.rows[at as usize].sha256, self.rows[at as usize].size) = (digest.sha256, digest.size);
            }
            end = start;
        }
        let root = &self.rows[order.rows[0] as usize];
        Digest { sha256: root.sha256, size: root.size }
    }
}

/// How a tree settles.
struct Plan {
    order: Order,
    /// Directories that no entry names, sorted.
    invented: Vec<Vec<u8>>,
    /// Each hard link and the file that it is.
    linked: Vec<(u32, u32)>,
}

/// Numbers of rows, sorted by parent and name.
struct Order {
    rows: Vec<u32>,
    /// Of each row, how long its parent's path is.
    parents: Vec<u32>,
    /// No name stands twice.
    is_unique: bool,
}

impl Order {
    /// Compares as parent and name do: the names below one parent all have its slash before them, or none has.
    fn key<'a>(&self, rows: &'a Rows, row: u32) -> (&'a [u8], &'a [u8]) {
        rows.name(row).split_at(self.parents[row as usize] as usize)
    }

    fn find(&self, rows: &Rows, path: &[u8]) -> Option<u32> {
        let wanted = path.split_at(parent_and_name(path).0.len());
        self.rows.binary_search_by(|&row| self.key(rows, row).cmp(&wanted)).ok().map(|at| self.rows[at])
    }
}

/// A tree that has settled; entries are made of its rows when they are looked at.
pub struct Settled {
    rows: Rows,
    order: Order,
    /// So many rows stood in the TOC; those behind them are directories that it does not name.
    named: u32,
    tree: Digest,
    pack: Arc<[u8; 32]>,
}

impl Settled {
    /// `pack` is the archive.
    pub fn named(self, pack: Arc<[u8; 32]>) -> Settled {
        Settled { pack, order: Order { parents: Vec::new(), ..self.order }, ..self }
    }

    pub fn tree(&self) -> Digest {
        self.tree
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let size = |&row: &u32| {
            let row = &self.rows.rows[row as usize];
            match row.is {
                Is::File => row.size,
                Is::Other => match &self.rows.others[row.offset as usize].kind {
                    Kind::Regular(content) => content.digest.size,
                    _ => 0,
                },
                _ => 0,
            }
        };
        self.order.rows.iter().map(size).sum()
    }
}

impl Source for Settled {
    fn count(&self) -> usize {
        self.order.rows.len()
    }

    fn path(&self, at: usize) -> &[u8] {
        self.rows.name(self.order.rows[at])
    }

    fn entry(&self, at: usize) -> Entry {
        let number = self.order.rows[at];
        let row = &self.rows.rows[number as usize];
        let mut entry = self.rows.body(row, &self.pack);
        entry.path = self.rows.name(number).to_vec();
        if row.is == Is::Link {
            entry.kind = Kind::HardLink { first: self.rows.name(row.offset as u32).to_vec() };
        }
        entry
    }

    fn is_directory(&self, at: usize) -> bool {
        self.rows.is_directory(self.order.rows[at])
    }

    fn is_named(&self, at: usize) -> bool {
        self.order.rows[at] < self.named
    }

    fn link(&self, at: usize) -> Option<&[u8]> {
        let row = &self.rows.rows[self.order.rows[at] as usize];
        (row.is == Is::Link).then(|| self.rows.name(row.offset as u32))
    }
}
