//! What is seen of the layers of an image, in file-map order; entries are made of the layers' when they are looked at.
//!
//! Invariant: of the names of one file that are seen, the first has its content, and the others are hard links to that.

use std::collections::HashMap;
use std::sync::Arc;

use super::links::{File, Links};
use super::source::find;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::Result;
use crate::filemap::{Entry, Kind, Source, parent_and_name};
use crate::job::Job;

const NO_DIRECTORY: u16 = u16::MAX;

/// An entry of a layer that is seen.
#[derive(Clone, Copy)]
pub struct Seen {
    pub at: u32,
    pub layer: u16,
    floor: u16,
}

impl Seen {
    /// A directory, in which is seen what the layers from `floor` on have.
    pub fn directory(layer: usize, at: usize, floor: usize) -> Seen {
        Seen { floor: floor as u16, ..Seen::other(layer, at) }
    }

    pub fn other(layer: usize, at: usize) -> Seen {
        Seen { at: at as u32, layer: layer as u16, floor: NO_DIRECTORY }
    }

    pub fn floor(self) -> Option<usize> {
        (self.floor != NO_DIRECTORY).then_some(self.floor.into())
    }
}

/// What a name is of a file that has several.
enum Name {
    /// The first that is seen, of so many; what it says is said by another entry, perhaps of a lower layer.
    First {
        body: File,
        links: u32,
    },
    Other {
        first: u32,
    },
}

pub struct Merged {
    layers: Vec<Arc<dyn Source>>,
    seen: Vec<Seen>,
    names: HashMap<u32, Name>,
    /// Of directories, in order.
    digests: Vec<(u32, Digest)>,
    pub tree: Digest,
    /// Of all files.
    pub bytes: u64,
}

impl Merged {
    pub fn new(layers: Vec<Arc<dyn Source>>, seen: Vec<Seen>, job: &Job) -> Result<Merged> {
        let tree = Digest { sha256: [0; 32], size: 0 };
        let mut out = Merged { layers, seen, names: HashMap::new(), digests: Vec::new(), tree, bytes: 0 };
        out.names = out.names(job)?;
        out.hash(job)?;
        Ok(out)
    }

    fn layer(&self, seen: Seen) -> &dyn Source {
        &*self.layers[usize::from(seen.layer)]
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        find(self, path)
    }

    /// The names of files that are seen by more than one, or by another than the first that they had.
    fn names(&self, job: &Job) -> Result<HashMap<u32, Name>> {
        let mut files: HashMap<File, Vec<u32>> = HashMap::new();
        let mut links = Links::new(&self.layers);
        for (at, &seen) in self.seen.iter().enumerate() {
            if let Some(file) = links.file(seen.layer.into(), seen.at as usize)? {
                job.step(0)?;
                files.entry(file).or_default().push(at as u32);
            }
        }
        let mut names = HashMap::new();
        for (body, mut all) in files {
            let path = self.layers[usize::from(body.0)].path(body.1 as usize);
            let own = self.find(path).filter(|&at| (self.seen[at].layer, self.seen[at].at) == body);
            all.extend(own.map(|at| at as u32));
            all.sort_unstable();
            for &other in &all[1..] {
                names.insert(other, Name::Other { first: all[0] });
            }
            names.insert(all[0], Name::First { body, links: all.len() as u32 });
        }
        Ok(names)
    }

    /// Give each directory its digest, the deepest first.
    fn hash(&mut self, job: &Job) -> Result<()> {
        let (mut digests, mut bytes): (HashMap<u32, Digest>, u64) = Default::default();
        let mut end = self.seen.len();
        while end > 1 {
            job.step(0)?;
            let parent = parent_and_name(self.path(end - 1)).0;
            let mut start = end - 1;
            while start > 1 && parent_and_name(self.path(start - 1)).0 == parent {
                start -= 1;
            }
            let entries: Vec<Entry> = (start..end).map(|at| self.with_content(at)).collect();
            let mut directory = Directory::default();
            for (at, entry) in (start..end).zip(&entries) {
                let name = parent_and_name(self.path(at)).1;
                match &entry.kind {
                    Kind::Directory { .. } => {
                        let empty = || Directory::default().digest();
                        directory.directory(name, *digests.entry(at as u32).or_insert_with(empty));
                    }
                    Kind::Regular(content) => {
                        if !matches!(self.names.get(&(at as u32)), Some(Name::Other { .. })) {
                            bytes = bytes.saturating_add(content.digest.size);
                        }
                        directory.file(name, content.digest, entry.mode & 0o100 != 0);
                    }
                    Kind::Symlink { target } => directory.symlink(name, target),
                    _ => {}
                }
            }
            let digest = directory.digest();
            if let Some(at) = self.find(parent) {
                digests.insert(at as u32, digest);
            }
            end = start;
        }
        self.bytes = bytes;
        self.tree = *digests.entry(0).or_insert_with(|| Directory::default().digest());
        self.digests = digests.into_iter().collect();
        self.digests.sort_unstable_by_key(|(at, _)| *at);
        Ok(())
    }

    /// What its layer says of an entry, of a hard link what is said of its file.
    fn with_content(&self, at: usize) -> Entry {
        let seen = self.seen[at];
        let (layer, at) = match self.names.get(&(at as u32)) {
            Some(Name::First { body, .. }) => *body,
            Some(Name::Other { first }) => match self.names.get(first) {
                Some(Name::First { body, .. }) => *body,
                _ => (seen.layer, seen.at),
            },
            None => (seen.layer, seen.at),
        };
        self.layers[usize::from(layer)].entry(at as usize)
    }
}

impl Source for Merged {
    fn count(&self) -> usize {
        self.seen.len()
    }

    fn path(&self, at: usize) -> &[u8] {
        let seen = self.seen[at];
        self.layer(seen).path(seen.at as usize)
    }

    fn entry(&self, at: usize) -> Entry {
        let mut entry = self.with_content(at);
        entry.path = self.path(at).to_vec();
        match self.names.get(&(at as u32)) {
            Some(&Name::First { links, .. }) => entry.links = links,
            Some(&Name::Other { first }) => {
                let kind = Kind::HardLink { first: self.path(first as usize).to_vec() };
                entry = crate::filemap::bare(entry.path, kind, entry.mode);
            }
            None => entry.links = 1,
        }
        if let Kind::Directory { digest } = &mut entry.kind {
            let known = self.digests.binary_search_by_key(&(at as u32), |(at, _)| *at);
            *digest = known.ok().map(|at| self.digests[at].1);
        }
        entry
    }

    fn is_directory(&self, at: usize) -> bool {
        self.seen[at].floor().is_some()
    }

    fn is_named(&self, at: usize) -> bool {
        self.layer(self.seen[at]).is_named(self.seen[at].at as usize)
    }

    fn link(&self, at: usize) -> Option<&[u8]> {
        match self.names.get(&(at as u32)) {
            Some(&Name::Other { first }) => Some(self.path(first as usize)),
            _ => None,
        }
    }
}
