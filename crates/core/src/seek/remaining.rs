//! The entries that remain of a stream, in file-map order, and the tree that they are.
//!
//! Invariant: they are those that `filemap::unpacked` gives; what one says besides its name is read when it is asked for, so that
//! memory is that of names, and of the message of one directory.

use super::bodies::{Bodies, Is};
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::Result;
use crate::filemap::{Entry, INVENTED_MODE, Kind, bare, parent_and_name};
use crate::job::Job;
use crate::tar::{Placed, Tree};

/// The body of a directory that no entry names.
const NONE: u32 = u32::MAX;

pub struct Remaining {
    placed: Vec<Placed>,
    /// Of each, how long its parent's path is.
    parents: Vec<u32>,
    /// Their numbers in file-map order.
    order: Vec<u32>,
    /// Of each file with its content: the name that comes first in the map, and how many it has.
    named: Vec<u32>,
    links: Vec<u32>,
    /// Those that are directories, and their digests.
    directories: Vec<u32>,
    digests: Vec<Digest>,
    bodies: Bodies,
}

impl Remaining {
    pub fn new(tree: Tree, bodies: Bodies) -> Remaining {
        let mut placed = tree.entries;
        let has_root = placed.iter().any(|placed| placed.name.is_empty());
        let root = if has_root { None } else { Some(Vec::new()) };
        let missing: Vec<_> = tree.invented.into_iter().filter(|name| !name.is_empty()).chain(root).collect();
        placed.reserve_exact(missing.len());
        placed.extend(missing.into_iter().map(|name| Placed { name, entry: NONE, first: None, is_own: true }));
        let all = 0..placed.len() as u32;
        let length = |placed: &Placed| parent_and_name(&placed.name).0.len() as u32;
        let parents: Vec<u32> = placed.iter().map(length).collect();
        let key = |at: u32| placed[at as usize].name.split_at(parents[at as usize] as usize);
        let (mut named, mut links): (Vec<u32>, _) = (all.clone().collect(), vec![1; placed.len()]);
        for (at, first) in all.clone().filter_map(|at| Some((at, placed[at as usize].first? as usize))) {
            links[first] += 1;
            if key(at) < key(named[first]) {
                named[first] = at;
            }
        }
        let mut order: Vec<u32> = all.clone().collect();
        order.sort_by(|&a, &b| key(a).cmp(&key(b)));
        let is_directory = |&at: &u32| match placed[at as usize].entry {
            NONE => true,
            body => bodies.is(body) == Is::Directory,
        };
        let directories: Vec<u32> = all.filter(is_directory).collect();
        let digests = vec![Directory::default().digest(); directories.len()];
        Remaining { placed, parents, order, named, links, directories, digests, bodies }
    }

    pub fn count(&self) -> usize {
        self.order.len()
    }

    fn key(&self, number: u32) -> (&[u8], &[u8]) {
        self.placed[number as usize].name.split_at(self.parents[number as usize] as usize)
    }

    /// Where among the digests that of a directory is.
    fn directory(&self, number: u32) -> Option<usize> {
        self.directories.binary_search(&number).ok()
    }

    /// Give each directory its digest, the deepest first: the tree's, and the bytes of all files.
    ///
    /// # Errors
    /// `Io`, `Stopped`.
    pub fn hash(&mut self, job: &Job) -> Result<(Digest, u64)> {
        let (mut end, mut total) = (self.order.len(), 0);
        while end > 1 {
            job.step(0)?;
            let parent = self.key(self.order[end - 1]).0;
            let is_within = |&number: &u32| self.key(number).0 == parent;
            let start = 1 + self.order[1..end].iter().rposition(|number| !is_within(number)).map_or(0, |at| at + 1);
            let (digest, bytes) = self.message(start, end)?;
            total += bytes;
            let parent = self.key(self.order[start]).0;
            let wanted = parent.split_at(parent_and_name(parent).0.len());
            if let Ok(at) = self.order.binary_search_by(|&number| self.key(number).cmp(&wanted))
                && let Some(at) = self.directory(self.order[at])
            {
                self.digests[at] = digest;
            }
            end = start;
        }
        let root = self.directory(self.order[0]).expect("a tar whose root is no directory was refused");
        Ok((self.digests[root], total))
    }

    /// The digest of the directory that has the entries from `start` to `end`, and the bytes of its files.
    fn message(&mut self, start: usize, end: usize) -> Result<(Digest, u64)> {
        let mut targets = Vec::new();
        for &number in &self.order[start..end] {
            let body = self.placed[number as usize].entry;
            if body != NONE
                && self.bodies.is(body) == Is::Symlink
                && let Kind::Symlink { target } = self.bodies.read(body)?.kind
            {
                targets.push(target);
            }
        }
        let mut targets = targets.iter();
        let mut total = 0;
        let mut directory = Directory::default();
        let Remaining { placed, order, named, directories, digests, bodies, .. } = self;
        for &number in &order[start..end] {
            let Placed { name, entry, first, .. } = &placed[number as usize];
            let name = parent_and_name(name).1;
            if let Ok(at) = directories.binary_search(&number) {
                directory.directory(name, digests[at]);
            } else if bodies.is(*entry) == Is::Symlink {
                directory.symlink(name, targets.next().expect("each has a target"));
            } else {
                let body = bodies.read(*entry)?;
                if let Kind::Regular(content) = &body.kind {
                    directory.file(name, content.digest, body.mode & 0o100 != 0);
                    let is_first = named[first.unwrap_or(number) as usize] == number;
                    total += if is_first { content.digest.size } else { 0 };
                }
            }
        }
        Ok((directory.digest(), total))
    }

    /// The entry at a place in file-map order.
    ///
    /// # Errors
    /// `Io`.
    pub fn entry(&mut self, at: usize) -> Result<Entry> {
        let number = self.order[at];
        let digest = self.directory(number).map(|at| self.digests[at]);
        let Placed { name, entry, first, .. } = &self.placed[number as usize];
        if *entry == NONE {
            return Ok(invented(name, digest));
        }
        let first = first.unwrap_or(number) as usize;
        let body = self.bodies.read(*entry)?;
        let named = self.named[first];
        if named != number {
            let first = self.placed[named as usize].name.clone();
            return Ok(bare(name.clone(), Kind::HardLink { first }, body.mode));
        }
        let kind = if digest.is_some() { Kind::Directory { digest } } else { body.kind };
        Ok(Entry { path: name.clone(), kind, links: self.links[first], ..body })
    }
}

fn invented(name: &[u8], digest: Option<Digest>) -> Entry {
    bare(name.to_vec(), Kind::Directory { digest }, INVENTED_MODE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::filemap::{ChunkAt, Content, FrameAt, described, unpacked};
    use crate::scan::Time;
    use crate::tar::{Header, Kind as TarKind, TreeBuilder};

    fn header(name: &str, kind: TarKind) -> Header {
        let (name, mtime) = (name.as_bytes().to_vec(), Time { sec: -5, nsec: 7 });
        let xattrs = vec![(b"user.a".to_vec(), b"".to_vec()), (b"user.b".to_vec(), vec![0; 300])];
        Header { name, kind, mode: 0o755, uid: 3, gid: 4, mtime, xattrs }
    }

    fn file(name: &str, size: u64) -> Header {
        header(name, TarKind::Regular { size, holes: vec![(0, 1), (2, 3)] })
    }

    fn link(name: &str, first: &str) -> Header {
        header(name, TarKind::HardLink { first: first.as_bytes().to_vec() })
    }

    #[test]
    fn what_remains_is_what_unpacking_leaves_also_through_a_temporary_file() {
        let mut headers = vec![
            file("z/a", 1),
            link("first", "z/a"),
            link("later", "z/m"),
            file("z/m", 2),
            file("twice", 3),
            file("twice", 4),
            header("d", TarKind::Directory),
            header("d/empty", TarKind::Directory),
            header("d/l", TarKind::Symlink { target: b"../z".to_vec() }),
            header("d/k", TarKind::Symlink { target: b"..".to_vec() }),
            header("c", TarKind::CharDevice { major: 1, minor: 300 }),
            header("b", TarKind::BlockDevice { major: 7, minor: 0 }),
            header("p", TarKind::Fifo),
            file("no/one/says/so", 5),
        ];
        // 20 MB, in no order.
        headers.extend((0..30_000).map(|n| file(&format!("many/{}/{n}", n % 7), n)));
        let place = tempfile::tempdir().unwrap();
        let pack = Arc::new([1; 32]);
        let mut bodies = Bodies::new(place.path(), pack.clone());
        let mut all = Vec::new();
        let (mut builder, mut again) = (TreeBuilder::new("a"), TreeBuilder::new("a"));
        for (n, header) in (0..).zip(&headers) {
            let digest = Digest {
                sha256: [n as u8; 32],
                size: if let TarKind::Regular { size, .. } = header.kind { size } else { 0 },
            };
            let frame = FrameAt { pack: pack.clone(), offset: n, length: 0, plain: digest.size as u32 };
            let chunks = vec![ChunkAt { digest, frame, inner: 0 }; 2];
            let body = described("a", header, Content { digest, chunks, holes: vec![(n, 1), (n + 2, 3)] }).unwrap();
            bodies.push(&body).unwrap();
            all.push(body);
            builder.push(header).unwrap();
            again.push(header).unwrap();
        }
        let (expected, tree) = unpacked(again.finish().unwrap(), all, &Job::default()).unwrap();
        let mut remaining = Remaining::new(builder.finish().unwrap(), bodies);
        let total = expected.iter().map(|entry| if let Kind::Regular(_) = entry.kind { entry.size() } else { 0 }).sum();
        assert_eq!(remaining.hash(&Job::default()).unwrap(), (tree, total));
        assert_eq!(remaining.count(), expected.len());
        for (at, entry) in expected.iter().enumerate() {
            assert_eq!(remaining.entry(at).unwrap(), *entry);
        }
    }

    #[test]
    fn bodies_that_no_temporary_file_takes_are_an_error() {
        let mut bodies = Bodies::new("/does/not/exist".as_ref(), Arc::new([0; 32]));
        let content = Content { digest: Digest::of(b""), chunks: Vec::new(), holes: Vec::new() };
        let body = described("a", &file("a", 0), content).unwrap();
        assert!((0..100_000).any(|_| bodies.push(&body).is_err()));
    }
}
