//! A push of a mounted tree: the file map that the mount shows, and the upper layer of one that takes changes, made one tree.
//!
//! Invariant: it is what a push of the mount's directory gives that reads everything. What was changed is found in the upper layer
//! and read through the mount, for only that tells what an entry of the upper layer means by the time it is read. All of the mount
//! is looked at where it must be: rule files say what is left out, the store lacks contents that were not changed, the upper layer
//! was changed since it was looked at, or the tree has what the kernel takes for its own notes.
//! How the kernel writes changes down: docs/writable.md, "What a push looks at".

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::archive::counted;
use super::base::{absent, below, is_a_note, lower_of};
use super::entries::{Places, entry_of, unless_gone};
use super::holdings::{Held, holdings};
use super::known::Known;
use super::pages::pages_of;
use super::read::{Outcome, read};
use super::run::{Looked, Pushed, Request, added, look, map};
use super::send::{Packer, Sealed};
use super::split::Splits;
use crate::error::{Error, Result, show};
use crate::filemap::{self, Content, Entry, FileMap, Kind, bare, hash_directories, parent_and_name};
use crate::index::{self, Options, Scope, State};
use crate::job::Job;
use crate::scan::{self, Root};
use crate::select::RULES;

/// A mount to be pushed.
pub struct Mounted {
    /// All layers.
    root: Root,
    options: Options,
    base: Arc<FileMap>,
    upper: Option<Upper>,
    /// In file-map order.
    rows: Vec<Row>,
}

/// What was changed.
struct Upper {
    path: PathBuf,
    root: Root,
    state: State,
}

/// An entry of the tree as it is now.
struct Row {
    path: Vec<u8>,
    from: From,
}

#[derive(Clone, Copy)]
enum From {
    /// An inode of the map.
    Base(u64),
    /// A record of the upper layer.
    Upper(u32),
    /// A record of the upper layer, with the content of a file of the map.
    Both(u32, u64),
}

/// What all names of a file have in common.
#[derive(PartialEq, Eq, Hash)]
enum Inode {
    Base(u64),
    Upper(u64, u64),
}

impl Mounted {
    /// Look at a mount, at `place`, of `base`, all of whose pages have been brought, with its `upper` layer if it takes changes;
    /// `None` where all of the mount is to be looked at.
    ///
    /// # Errors
    /// `Io`, `Missing`, `Stopped`.
    pub fn look(
        place: &Path,
        base: Arc<FileMap>,
        upper: Option<&Path>,
        options: &Options,
        job: &Job,
    ) -> Result<Option<Mounted>> {
        if options.fingerprint() != [0; 16] {
            return Ok(None);
        }
        let upper = match upper.map(|path| Upper::look(path, options, job)) {
            None => None,
            Some(Ok(Some(upper))) => Some(upper),
            Some(Err(Error::Stopped)) => return Err(Error::Stopped),
            // What cannot be looked at there can be in the mount, or has its name there.
            Some(_) => return Ok(None),
        };
        Mounted::compose(place, base, upper, options, job)
    }

    /// The same with an upper layer that was looked at.
    fn compose(
        place: &Path,
        base: Arc<FileMap>,
        upper: Option<Upper>,
        options: &Options,
        job: &Job,
    ) -> Result<Option<Mounted>> {
        let composed = Composing { base: &base, upper: upper.as_ref(), rows: Vec::new() }.all(job)?;
        let (root, options) = (Root::open(place)?, options.clone());
        Ok(composed.map(|rows| Mounted { root, options, base, upper, rows }))
    }

    /// Bytes of the files of which `known` does not explain some chunk, or which were changed.
    ///
    /// # Errors
    /// None, for nothing is read.
    pub fn lacking(&self, known: &Known) -> Result<u64> {
        let size = |row: &Row| match (row.from, &self.upper) {
            (From::Upper(record), Some(upper)) if upper.state.kind(record) == scan::Kind::File => {
                upper.state.stat(record).size
            }
            (from, _) => {
                self.content(from).map_or(0, |content| content.digest.size * u64::from(!is_known(known, content)))
            }
        };
        Ok(self.rows.iter().map(size).sum())
    }

    /// Push it, giving each pack to `out` as it is sealed. Blocks while `out` is full.
    ///
    /// # Errors
    /// As `Looked::push`.
    pub fn push(mut self, request: Request<'_>, out: &Sender<Sealed>, job: &Job) -> Result<Pushed> {
        let known = request.known;
        if self.rows.iter().filter_map(|row| self.content(row.from)).any(|content| !is_known(known, content)) {
            return self.walked(job)?.push(request, out, job);
        }
        let Request { push, level, pending, content, words, .. } = request;
        let packer = Packer::new(push, level, out, job);
        let outcome = self.read(known, &packer, job)?;
        packer.flush()?;
        let places = Places { known, packer: &packer, outcome: &outcome };
        let mut entries = self.entries(&places, job)?;
        let tree = hash_directories(&mut entries);
        let pages = pages_of(&show(self.root.path()), &entries, &places, job)?;
        let (entries_now, bytes) = (entries.len() as u64, pages.bytes());
        let summary = filemap::Summary { push: Some(push.to_owned()), tree, entries: entries_now, bytes, tar: None };
        let (map, refs) = map(&pages, &Splits::default(), &places, &summary, content, words)?;
        let blobs = entries.iter().filter_map(|entry| match &entry.kind {
            Kind::Regular(content) => Some(content.digest),
            _ => None,
        });
        let Held { holdings, reused } = holdings(blobs, &places, &refs, &[])?;
        let counts = index::Summary {
            files_hashed: outcome.read.len() as u64,
            bytes_hashed: outcome.bytes,
            ..counted(&entries)
        };
        let (sent, fragment) = (packer.sent(), added(&packer, known, &pending, outcome.large));
        Ok(Pushed {
            tree,
            summary: counts,
            sent,
            unreadable: Vec::new(),
            entries: entries_now,
            bytes,
            map,
            fragment,
            holdings,
            reused,
            memory: None,
        })
    }

    /// The same by a walk through the mount, which can read what the store lacks.
    fn walked(&self, job: &Job) -> Result<Looked> {
        let mut looked = look(self.root.path(), None, &self.options, job)?;
        looked.trust(&self.base, self.upper.as_ref().map(|upper| upper.path.as_path()), job)?;
        Ok(looked)
    }

    /// The content that is the map's.
    fn content(&self, from: From) -> Option<&Content> {
        let (From::Base(inode) | From::Both(_, inode)) = from else { return None };
        match self.base.resolve(inode) {
            Ok(Some((_, Entry { kind: Kind::Regular(content), .. }))) => Some(content),
            _ => None,
        }
    }

    /// Read the files that were changed, and give all files of the upper layer their digests. What went away is left out.
    fn read(&mut self, known: &Known, packer: &Packer<'_>, job: &Job) -> Result<Outcome> {
        let kept = |row: &Row| match row.from {
            From::Both(record, _) => Some((record, self.content(row.from)?.digest)),
            _ => None,
        };
        let kept: Vec<_> = self.rows.iter().filter_map(kept).collect();
        let Some(Upper { state, .. }) = &mut self.upper else { return Ok(Outcome::default()) };
        let changed = |row: &Row| match row.from {
            From::Upper(record) => Some(record).filter(|&record| state.kind(record) == scan::Kind::File),
            _ => None,
        };
        let mut work: Vec<u32> = self.rows.iter().filter_map(changed).collect();
        work.sort_unstable();
        let outcome = read(&self.root, state, &work, known, packer, self.options.threads, job)?;
        if !outcome.unreadable.is_empty() {
            return Err(Error::Unreadable { paths: outcome.unreadable.into_iter().map(|(_, path)| path).collect() });
        }
        for (record, digest, stat) in &outcome.read {
            state.set_digest(*record, *digest, stat);
        }
        kept.into_iter().for_each(|(record, digest)| state.set_known(record, digest));
        let gone: HashSet<u32> = outcome.gone.iter().copied().collect();
        self.rows.retain(|row| !matches!(row.from, From::Upper(record) if gone.contains(&record)));
        Ok(outcome)
    }

    /// All entries, in order; digests of directories are still those of the map.
    fn entries(&self, places: &Places<'_>, job: &Job) -> Result<Vec<Entry>> {
        let mut names: HashMap<Inode, (u32, usize)> = HashMap::new();
        for (number, row) in self.rows.iter().enumerate() {
            if let Some(inode) = self.inode_of(row.from)? {
                names.entry(inode).or_insert((0, number)).0 += 1;
            }
        }
        let mut entries = Vec::with_capacity(self.rows.len());
        for (number, row) in self.rows.iter().enumerate() {
            if number.is_multiple_of(4096) {
                job.step(0)?;
            }
            let (links, first) = match self.inode_of(row.from)? {
                Some(inode) => names[&inode],
                None => (1, number),
            };
            let entry = self.entry(row, links, places)?;
            entries.push(if first == number {
                entry
            } else {
                bare(entry.path, Kind::HardLink { first: self.rows[first].path.clone() }, entry.mode)
            });
        }
        Ok(entries)
    }

    /// Of what may have several names, somewhere.
    fn inode_of(&self, from: From) -> Result<Option<Inode>> {
        match (from, &self.upper) {
            (From::Base(inode), _) => {
                let found = self.base.resolve(inode).map_err(absent)?;
                Ok(found.filter(|(_, entry)| entry.links > 1).map(|(inode, _)| Inode::Base(inode)))
            }
            (From::Upper(record) | From::Both(record, _), Some(Upper { state, .. })) if state.has_links(record) => {
                let stat = state.stat(record);
                Ok(Some(Inode::Upper(stat.dev, stat.ino)))
            }
            _ => Ok(None),
        }
    }

    /// The entry of a row, as if it were the first of so many names.
    fn entry(&self, row: &Row, links: u32, places: &Places<'_>) -> Result<Entry> {
        let path = row.path.clone();
        let (From::Upper(record) | From::Both(record, _), Some(Upper { state, .. })) = (row.from, &self.upper) else {
            let From::Base(inode) = row.from else { return Err(Error::Missing { what: "the upper layer".into() }) };
            let (_, entry) = self.base.resolve(inode).map_err(absent)?.ok_or_else(|| unnamed(&path))?;
            let mut entry = Entry { path, links, ..entry.clone() };
            if let Kind::Regular(content) = &mut entry.kind {
                content.chunks = places.chunks(&content.digest)?;
            }
            return Ok(entry);
        };
        let Some(Content { digest, holes, .. }) = self.content(row.from) else {
            return entry_of(&self.root, state, places, record, path, links);
        };
        let content = Content { digest: *digest, chunks: places.chunks(digest)?, holes: holes.clone() };
        let xattrs = unless_gone(&self.root, &path, self.root.xattrs(&path))?;
        Ok(Entry { path, kind: Kind::Regular(content), links, xattrs, ..Entry::of_record(state, record)? })
    }
}

fn unnamed(path: &[u8]) -> Error {
    Error::damaged("file map", format!("a hard link to nothing at {}", show(Path::new(OsStr::from_bytes(path)))))
}

fn is_known(known: &Known, content: &Content) -> bool {
    content.digest.size == 0 || known.pieces(&content.digest).is_some()
}

impl Upper {
    /// `None` when something of it may not be read.
    fn look(path: &Path, options: &Options, job: &Job) -> Result<Option<Upper>> {
        let root = Root::open(path)?;
        let (state, unreadable) = State::look(&root, None, Scope::All, options, None, job)?;
        Ok(unreadable.is_empty().then(|| Upper { path: path.to_owned(), root, state }))
    }

    /// Whether a directory is still the one that was looked at.
    fn is_same(&self, path: &[u8], record: u32) -> Result<bool> {
        match self.root.stat(path) {
            Ok(stat) => Ok((stat.dev, stat.ino) == (self.state.stat(record).dev, self.state.stat(record).ino)),
            Err(error) if scan::is_gone(&error) => Ok(false),
            Err(error) => Err(Error::io("read", self.root.show(path))(error)),
        }
    }

    /// Whether there is anything at a path.
    fn has(&self, path: &[u8]) -> Result<bool> {
        match self.root.stat(path) {
            Ok(_) => Ok(true),
            Err(error) if scan::is_gone(&error) => Ok(false),
            Err(error) => Err(Error::io("read", self.root.show(path))(error)),
        }
    }
}

/// Both layers, put together.
struct Composing<'a> {
    base: &'a FileMap,
    upper: Option<&'a Upper>,
    rows: Vec<Row>,
}

/// A directory of the tree as it is now: its record, if the upper layer has it, and where it is in the map, if it is there.
struct Folder {
    path: Vec<u8>,
    record: Option<u32>,
    lower: Option<Vec<u8>>,
}

impl Composing<'_> {
    /// All rows; `None` when all of the mount is to be looked at.
    fn all(mut self, job: &Job) -> Result<Option<Vec<Row>>> {
        let top = self.base.entry(filemap::inode_of(0, 0)).map_err(absent)?;
        if top.is_none_or(is_a_note) {
            return Ok(None);
        }
        let record = self.upper.map(|_| 0);
        self.rows.push(Row { path: Vec::new(), from: record.map_or(From::Base(filemap::inode_of(0, 0)), From::Upper) });
        let mut left = vec![Folder { path: Vec::new(), record, lower: Some(Vec::new()) }];
        while let Some(folder) = left.pop() {
            job.step(0)?;
            if !(self.unchanged(&folder, &mut left)? && self.changed(&folder, &mut left)?) {
                return Ok(None);
            }
        }
        self.rows.sort_by(|a, b| parent_and_name(&a.path).cmp(&parent_and_name(&b.path)));
        Ok(Some(self.rows))
    }

    /// What of a directory is the map's; false when all of the mount is to be looked at.
    fn unchanged(&mut self, folder: &Folder, left: &mut Vec<Folder>) -> Result<bool> {
        let Some(lower) = &folder.lower else { return Ok(true) };
        let above = self.upper.zip(folder.record);
        let named: HashSet<&[u8]> = above
            .map(|(upper, record)| upper.state.entries(record).map(|entry| upper.state.name(entry)).collect())
            .unwrap_or_default();
        for (inode, entry) in self.base.children(lower).map_err(absent)? {
            let path = below(&folder.path, entry.name());
            if named.contains(entry.name()) || !self.base.shows(&entry.path) {
                continue;
            }
            // What the look did not find came after it; or it is what no tree has, as a socket.
            let is_new = above.map_or(Ok(false), |(upper, _)| upper.has(&path))?;
            if is_new || entry.name() == RULES || is_a_note(entry) {
                return Ok(false);
            }
            if entry.is_directory() {
                left.push(Folder { path: path.clone(), record: None, lower: Some(entry.path.clone()) });
            }
            self.rows.push(Row { path, from: From::Base(inode) });
        }
        // Nor was its directory moved meanwhile, with all that would have been found there.
        above.map_or(Ok(true), |(upper, record)| upper.is_same(&folder.path, record))
    }

    /// What of a directory is the upper layer's; false when all of the mount is to be looked at.
    fn changed(&mut self, folder: &Folder, left: &mut Vec<Folder>) -> Result<bool> {
        let Some((upper, record)) = self.upper.zip(folder.record) else { return Ok(true) };
        let Upper { root, state, .. } = upper;
        if upper.has(&below(&folder.path, RULES))? {
            return Ok(false);
        }
        for record in state.entries(record) {
            let (kind, name) = (state.kind(record), state.name(record));
            // A removal.
            if kind == scan::Kind::CharDevice && state.stat(record).rdev == 0 {
                continue;
            }
            let path = below(&folder.path, name);
            // A directory may have been made anew since, to lie over nothing.
            let attributes = if kind == scan::Kind::Directory || state.has_xattrs(record) {
                match root.xattrs(&path) {
                    Err(error) if scan::is_gone(&error) => return Ok(false),
                    attributes => attributes.map_err(Error::io("read", root.show(&path)))?,
                }
            } else {
                Vec::new()
            };
            let lower = lower_of(kind, name, folder.lower.as_deref(), &attributes);
            let mut from = From::Upper(record);
            match (kind, lower) {
                (scan::Kind::Directory, lower) => {
                    left.push(Folder { path: path.clone(), record: Some(record), lower });
                }
                (scan::Kind::File, Some(lower)) => {
                    let found = self.base.find(&lower).map_err(absent)?;
                    let found = found.map(|inode| self.base.resolve(inode)).transpose().map_err(absent)?.flatten();
                    match found {
                        Some((inode, Entry { kind: Kind::Regular(content), .. }))
                            if content.digest.size == state.stat(record).size =>
                        {
                            from = From::Both(record, inode);
                        }
                        _ => return Ok(false),
                    }
                }
                _ => {}
            }
            self.rows.push(Row { path, from });
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
