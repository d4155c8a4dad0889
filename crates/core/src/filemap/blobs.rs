//! A file map that grows out of REAPI `Directory` messages: each is a page, and each blob a pack of its own, as it is, named by
//! its digest.
//!
//! Invariant: a page is there only after its message was proved by the digest that names it, and every name in it is one name,
//! and there once; numbers of pages, and so inodes, stay what they are; memory is bounded, however often a tree holds itself.
//! Not here: where messages and blobs come from. Source: build.bazel.remote.execution.v2, message Directory.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::entry::{ChunkAt, Content, Entry, FrameAt, Kind};
use super::map::{FileMap, Found, Missing, PageRef, Place, ROW_BITS, Summary, inode_of};
use crate::archive::frame::Form;
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};
use crate::scan::Time;
use crate::wire::{Fields, Value};

/// 1980-01-01, as all that is built: the first that zip knows.
const TIME: Time = Time { sec: 315_532_800, nsec: 0 };
const MOST_ENTRIES: usize = 4 << 20;
/// Of all paths together.
const MOST_BYTES: usize = 512 << 20;
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;
/// Pages are kept in blocks, which stay where they are.
const BLOCK: usize = 1024;

impl FileMap {
    /// The tree whose root has a digest; its pages are the messages of its directories, `add_page` brings them, and what they
    /// name are further pages. All belongs to `owner`, a user and a group.
    pub fn of_directory(root: Digest, owner: (u32, u32)) -> FileMap {
        let summary = Summary { push: None, tree: root, entries: 0, bytes: 0, tar: None };
        let mut map = FileMap::of_archive(summary, Vec::new(), &Arc::new(root.sha256));
        map.form = Form::Blob;
        map.grown = Some(Grown::new(root, owner));
        map
    }
}

/// The pages of such a map. The first one begins with the root itself.
pub struct Grown {
    owner: (u32, u32),
    blocks: Vec<OnceLock<Box<[OnceLock<Page>]>>>,
    count: AtomicUsize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

struct Page {
    at: PageRef,
    rows: OnceLock<Rows>,
}

struct Rows {
    entries: Box<[Entry]>,
    /// The rows of directories, and their pages.
    below: Box<[(u32, u32)]>,
}

impl Grown {
    fn new(root: Digest, owner: (u32, u32)) -> Grown {
        let blocks = (0..MOST_ENTRIES.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        let grown = Grown {
            owner,
            blocks,
            count: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        };
        grown.begin(Vec::new(), root);
        grown
    }

    /// The same, of which nothing was brought.
    pub fn emptied(&self) -> Grown {
        let root = self.at(0).expect("there is always the root").at.digest;
        Grown::new(root, self.owner)
    }

    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    pub fn page(&self, number: usize) -> Option<&PageRef> {
        self.at(number).map(|page| &page.at)
    }

    pub fn is_loaded(&self, number: usize) -> bool {
        self.at(number).is_some_and(|page| page.rows.get().is_some())
    }

    pub fn rows(&self, number: usize) -> Found<&[Entry]> {
        self.rows_of(number).map(|rows| &rows.entries[..])
    }

    /// Where the entry of a path stands; `None` when there is none.
    pub fn find(&self, path: &[u8]) -> Found<Option<u64>> {
        if path.is_empty() {
            return Ok(Some(inode_of(0, 0)));
        }
        let (parent, name) = super::parent_and_name(path);
        let Some(page) = self.page_of(parent)? else { return Ok(None) };
        Ok(self.row_of(page, name)?.map(|row| inode_of(page, row)))
    }

    /// The page of what is in a directory; `None` when that is none.
    pub fn page_of(&self, directory: &[u8]) -> Found<Option<usize>> {
        let mut page = 0;
        for name in directory.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let Some(row) = self.row_of(page, name)? else { return Ok(None) };
            let below = &self.rows_of(page)?.below;
            let Ok(at) = below.binary_search_by_key(&(row as u32), |&(row, _)| row) else { return Ok(None) };
            page = below[at].1 as usize;
        }
        Ok(Some(page))
    }

    /// The first entry of what a page has in its directory.
    pub fn first(&self, page: usize) -> Found<Place> {
        self.rows(page)?;
        Ok((page, usize::from(page == 0)))
    }

    /// Bring a page, or see that it is right, if it is there.
    ///
    /// # Errors
    /// `Mismatch` when the message is not the page's, `Damaged` when no tree can have it, or the tree is too large.
    pub fn add(&self, number: usize, message: &[u8]) -> Result<()> {
        let page = self.at(number).ok_or_else(|| wrong("it has no such directory"))?;
        let got = Digest::of(message);
        if got != page.at.digest {
            return Err(Error::Mismatch { what: "directory".into(), expected: page.at.digest, got });
        }
        if page.rows.get().is_some() {
            return Ok(());
        }
        let mut entries = unfold(&page.at.first, message, self.owner)?;
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        if entries.windows(2).any(|two| two[0].path == two[1].path) {
            return Err(wrong("a directory has a name twice"));
        }
        if number == 0 {
            entries.insert(0, entry(Vec::new(), Kind::Directory { digest: Some(page.at.digest) }, 0o755, self.owner));
        }
        let paths = entries.iter().map(|entry| entry.path.len()).sum();
        let count = self.entries.fetch_add(entries.len(), Relaxed) + entries.len();
        let bytes = self.bytes.fetch_add(paths, Relaxed) + paths;
        if entries.len() >= 1 << ROW_BITS || count > MOST_ENTRIES || bytes > MOST_BYTES {
            return Err(wrong("it has more entries than are mounted"));
        }
        page.rows.get_or_init(|| {
            let directories = entries.iter().enumerate().filter(|(row, _)| number > 0 || *row > 0);
            let below = directories.filter_map(|(row, entry)| match &entry.kind {
                Kind::Directory { digest: Some(digest) } => Some((row as u32, self.begin(entry.path.clone(), *digest))),
                _ => None,
            });
            let below = below.collect();
            Rows { entries: entries.into(), below }
        });
        Ok(())
    }

    /// Have a page that is yet to come; its number. There are never more than entries.
    fn begin(&self, path: Vec<u8>, digest: Digest) -> u32 {
        let number = self.count.fetch_add(1, Relaxed);
        let at = PageRef { first: path, digest, entries: 0, frame: frame_of(&digest), inner: 0 };
        let block = self.blocks[number / BLOCK].get_or_init(|| (0..BLOCK).map(|_| OnceLock::new()).collect());
        let _ = block[number % BLOCK].set(Page { at, rows: OnceLock::new() });
        number as u32
    }

    fn at(&self, number: usize) -> Option<&Page> {
        self.blocks.get(number / BLOCK)?.get()?[number % BLOCK].get()
    }

    fn rows_of(&self, number: usize) -> Found<&Rows> {
        self.at(number).and_then(|page| page.rows.get()).ok_or(Missing(number))
    }

    fn row_of(&self, page: usize, name: &[u8]) -> Found<Option<usize>> {
        let rows = self.rows(page)?;
        let skipped = usize::from(page == 0);
        let found = rows[skipped..].binary_search_by(|entry| entry.name().cmp(name));
        Ok(found.ok().map(|row| row + skipped))
    }
}

fn known<T>(field: Option<T>) -> Result<T> {
    field.ok_or_else(|| wrong("a message of it is none"))
}

fn wrong(found: &str) -> Error {
    Error::damaged("input tree", found)
}

fn entry(path: Vec<u8>, kind: Kind, mode: u32, (uid, gid): (u32, u32)) -> Entry {
    Entry { path, kind, mode, uid, gid, mtime: TIME, links: 1, xattrs: Vec::new() }
}

/// What a directory has.
fn unfold(directory: &[u8], message: &[u8], owner: (u32, u32)) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for field in Fields(message) {
        let (number, Value::Bytes(node)) = known(field)? else { continue };
        if !(1..=3).contains(&number) {
            continue;
        }
        let node = Node::of(node)?;
        let path = if directory.is_empty() { node.name.to_vec() } else { [directory, b"/", node.name].concat() };
        if path.len() > LONGEST_PATH {
            return Err(wrong("a path is longer than the system takes"));
        }
        let (kind, mode) = match number {
            1 => (Kind::Regular(content(node.digest()?)), if node.executable { 0o755 } else { 0o644 }),
            2 => (Kind::Directory { digest: Some(node.digest()?) }, 0o755),
            _ => {
                let target = node.target;
                if target.is_empty() || target.len() > LONGEST_PATH || target.contains(&0) {
                    return Err(wrong("the target of a symlink is none"));
                }
                (Kind::Symlink { target: target.to_vec() }, 0o777)
            }
        };
        entries.push(entry(path, kind, mode, owner));
    }
    Ok(entries)
}

/// What brings a blob: its pack is the blob, and its place in it is the blob's size, which its length may not hold.
pub fn frame_of(digest: &Digest) -> FrameAt {
    let length = u32::try_from(digest.size).unwrap_or(u32::MAX);
    FrameAt { pack: Arc::new(digest.sha256), offset: digest.size, length, plain: length }
}

/// A blob that is fetched, and proved, as one.
fn content(digest: Digest) -> Content {
    let chunks =
        if digest.size == 0 { Vec::new() } else { vec![ChunkAt { digest, frame: frame_of(&digest), inner: 0 }] };
    Content { digest, chunks, holes: Vec::new() }
}

/// A FileNode, DirectoryNode or SymlinkNode, whose fields have numbers in common.
#[derive(Default)]
struct Node<'a> {
    name: &'a [u8],
    /// Field 2: a digest, or the target of a symlink.
    target: &'a [u8],
    executable: bool,
}

impl<'a> Node<'a> {
    fn of(message: &'a [u8]) -> Result<Node<'a>> {
        let mut node = Node::default();
        for field in Fields(message) {
            match known(field)? {
                (1, Value::Bytes(name)) => node.name = name,
                (2, Value::Bytes(target)) => node.target = target,
                (4, Value::Number(flag)) => node.executable = flag != 0,
                _ => {}
            }
        }
        let name = node.name;
        let is_one = !(name.is_empty() || name == b"." || name == b".." || name.len() > LONGEST_NAME);
        if !is_one || name.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(wrong("a name in it is none"));
        }
        Ok(node)
    }

    fn digest(&self) -> Result<Digest> {
        let (mut hash, mut size) = (&b""[..], 0);
        for field in Fields(self.target) {
            match known(field)? {
                (1, Value::Bytes(text)) => hash = text,
                (2, Value::Number(number)) => size = number,
                _ => {}
            }
        }
        let sha256 = std::str::from_utf8(hash).ok().and_then(parse_hex);
        let is_size = i64::try_from(size).is_ok();
        sha256.filter(|_| is_size).map(|sha256| Digest { sha256, size }).ok_or_else(|| wrong("a digest in it is none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    const OWNER: (u32, u32) = (3, 4);

    fn damaged(message: &[u8]) -> String {
        let map = FileMap::of_directory(Digest::of(message), OWNER);
        map.add_page(0, message).expect_err("no tree").to_string()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let mut message = Directory::default();
        message.file(name, Digest::of(b"x"), false);
        message.encode()
    }

    fn listed(map: &FileMap, path: &[u8]) -> Vec<Vec<u8>> {
        map.children(path).expect("there").into_iter().map(|(_, entry)| entry.path.clone()).collect()
    }

    #[test]
    fn a_tree_grows_out_of_its_messages_with_each_blob_a_pack_of_its_own() {
        let (script, text) = (Digest::of(b"#!"), Digest::of(b"text"));
        let mut below = Directory::default();
        below.file(b"run", script, true);
        below.symlink(b"link", b"../text");
        let below = below.encode();
        let mut root = Directory::default();
        root.directory(b"a", Digest::of(&below));
        root.directory(b"b", Digest::of(&below));
        root.file(b"text", text, false);
        root.file(b"empty", Digest::of(b""), false);
        let root = root.encode();
        let map = FileMap::of_directory(Digest::of(&root), OWNER);
        assert_eq!((map.page_count(), map.entry(1)), (1, Err(Missing(0))));
        assert!(map.add_page(0, &below).is_err());
        map.add_page(0, &root).expect("the root");
        assert!(map.entry(1).expect("there").is_some_and(Entry::is_directory));
        assert_eq!(listed(&map, b""), [b"a".to_vec(), b"b".to_vec(), b"empty".to_vec(), b"text".to_vec()]);
        assert_eq!((map.page_count(), map.find(b"b/run")), (3, Err(Missing(2))));
        assert_eq!((map.find(b"text/x"), map.find(b"c/x"), map.find(b"c")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(map.children(b"a"), Err(Missing(1)));
        let page = map.page(2).expect("it is known");
        assert_eq!((page.digest, *page.frame.pack), (Digest::of(&below), Digest::of(&below).sha256));
        map.add_page(2, &below).expect("a directory");
        map.add_page(2, &below).expect("again");
        assert_eq!(listed(&map, b"b"), [b"b/link".to_vec(), b"b/run".to_vec()]);
        assert_eq!(map.page_count(), 3);
        let run = map.entry(map.find(b"b/run").expect("there").expect("a file")).expect("there").expect("a file");
        assert_eq!((run.mode, run.uid, run.gid), (0o755, 3, 4));
        let Kind::Regular(content) = &run.kind else { panic!("{run:?}") };
        let [ChunkAt { digest, frame, inner: 0 }] = &content.chunks[..] else { panic!("{content:?}") };
        assert_eq!((*digest, *frame.pack, frame.offset, frame.length, frame.plain), (script, script.sha256, 2, 2, 2));
        assert_eq!(map.form.open(b"#!", frame.plain).expect("as it is"), b"#!");
        assert!(map.form.open(b"#", frame.plain).is_err());
    }

    #[test]
    fn what_no_tree_can_have_is_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'n'; 256]] {
            assert!(damaged(&named(name)).contains("a name in it is none"));
        }
        assert!(damaged(&[named(b"x"), named(b"x")].concat()).contains("a name twice"));
        assert!(damaged(&named(b"x")[..20]).contains("a message of it is none"));
        let mut link = Directory::default();
        link.symlink(b"link", b"");
        assert!(damaged(&link.encode()).contains("symlink"));
    }

    #[test]
    fn a_tree_that_holds_itself_again_and_again_exhausts_nothing() {
        let mut messages = vec![Vec::new()];
        for _ in 0..40 {
            let digest = Digest::of(&messages[0]);
            let mut twice = Directory::default();
            twice.directory(b"a", digest);
            twice.directory(b"b", digest);
            messages.insert(0, twice.encode());
        }
        let by_digest: std::collections::HashMap<Digest, &Vec<u8>> =
            messages.iter().map(|message| (Digest::of(message), message)).collect();
        let map = FileMap::of_directory(Digest::of(&messages[0]), OWNER);
        let refused = (0..).find_map(|page| map.add_page(page, by_digest[&map.page(page)?.digest]).err());
        assert!(refused.expect("it ends").to_string().contains("more entries than are mounted"));
        assert!(map.page_count() <= MOST_ENTRIES);
    }
}
