//! A file map in memory: the fence index, and the pages that have been brought so far.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::blobs::Grown;
use super::decode::{self, Fence};
use super::entry::{Entry, FrameAt, Kind, parent_and_name};
use crate::archive::frame::Form;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// What a look-up gives, or the page to bring first.
pub type Found<T> = std::result::Result<T, Missing>;

/// (page, row)
pub type Place = (usize, usize);

/// Where a page lies and which entries it begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Path of its first entry.
    pub first: Vec<u8>,
    pub digest: Digest,
    /// None of a page of split metadata.
    pub entries: u32,
    pub frame: FrameAt,
    pub inner: u32,
}

/// What the fence index says of the whole tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The run that wrote it; unknown of maps from before there was one.
    pub push: Option<String>,
    pub tree: Digest,
    pub entries: u64,
    /// Of all blobs.
    pub bytes: u64,
    /// Of the stream that the tree's tar had, where there is split metadata of it.
    pub tar: Option<Digest>,
}

/// The page that is needed first; bring it with `add_page` and ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub usize);

pub(super) const ROW_BITS: u32 = 20;
/// Entries of a page of a map that is in memory from the start.
const ROWS: usize = 8192;
/// In the root of the tree of an image that a store holds: what it takes to give the image back (docs/oci.md).
const BESIDE_IMAGE: &[u8] = b".wh..wh.image";

/// The inode of the entry at (page, row); the root is 1.
pub fn inode_of(page: usize, row: usize) -> u64 {
    1 + ((page as u64) << ROW_BITS | row as u64)
}

/// The place of an inode, if it can be one.
pub fn place_of(inode: u64) -> Option<Place> {
    let place = inode.checked_sub(1)?;
    Some(((place >> ROW_BITS) as usize, (place & ((1 << ROW_BITS) - 1)) as usize))
}

/// Entries that are made when they are looked at, in order.
pub trait Source: Send + Sync {
    fn count(&self) -> usize;
    fn path(&self, at: usize) -> &[u8];
    fn entry(&self, at: usize) -> Entry;
    fn is_directory(&self, at: usize) -> bool;
    /// Whether it stood in the archive: of a directory that something lies in only that may tell.
    fn is_named(&self, at: usize) -> bool;
    /// The path of the first name, of a hard link.
    fn link(&self, at: usize) -> Option<&[u8]>;
}

/// Cheap to share: pages are set once and never change.
pub struct FileMap {
    pub summary: Summary,
    /// How the frames of contents lie.
    pub form: Form,
    /// Those of entries, then those of split metadata.
    pages: Vec<PageRef>,
    /// Of the pages of entries.
    loaded: Vec<OnceLock<Arc<[Entry]>>>,
    /// Where pages are made that are not loaded.
    source: Option<Arc<dyn Source>>,
    /// Instead of all these, where pages are known one after the other.
    pub(super) grown: Option<Grown>,
}

impl FileMap {
    /// From the text of a fence index, whose digest the caller has checked.
    ///
    /// # Errors
    /// `Damaged` when it does not parse or contradicts itself, `NewerFormat`.
    pub fn from_fence(text: &[u8]) -> Result<FileMap> {
        let Fence { summary, pages } = decode::fence(text)?;
        let loaded = pages.iter().filter(|page| page.entries > 0).map(|_| OnceLock::new()).collect();
        Ok(FileMap { summary, form: Form::Pack, pages, loaded, source: None, grown: None })
    }

    /// Of an archive: `entries` are all, in order; all pages are there.
    pub fn of_archive(summary: Summary, mut entries: Vec<Entry>, pack: &Arc<[u8; 32]>) -> FileMap {
        let (mut pages, mut loaded) = (Vec::new(), Vec::new());
        // From the end, and what was taken is given back: there is never a second copy of all.
        while let Some(last) = entries.len().checked_sub(1) {
            let rows: Arc<[Entry]> = entries.split_off(last / ROWS * ROWS).into();
            entries.shrink_to_fit();
            let first = rows[0].path.clone();
            // Never fetched.
            let frame = FrameAt { pack: pack.clone(), offset: 0, length: 0, plain: 0 };
            let digest = Digest { sha256: **pack, size: 0 };
            pages.push(PageRef { first, digest, entries: rows.len() as u32, frame, inner: 0 });
            loaded.push(OnceLock::from(rows));
        }
        pages.reverse();
        loaded.reverse();
        FileMap { summary, form: Form::Archive, pages, loaded, source: None, grown: None }
    }

    /// Of an archive: all entries are there, and each page is made when it is looked at.
    pub fn of_source(summary: Summary, source: Arc<dyn Source>, pack: &Arc<[u8; 32]>) -> FileMap {
        let page = |start: usize| PageRef {
            first: source.path(start).to_vec(),
            digest: Digest { sha256: **pack, size: 0 },
            entries: (source.count() - start).min(ROWS) as u32,
            // Never fetched.
            frame: FrameAt { pack: pack.clone(), offset: 0, length: 0, plain: 0 },
            inner: 0,
        };
        let pages: Vec<PageRef> = (0..source.count()).step_by(ROWS).map(page).collect();
        let loaded = pages.iter().map(|_| OnceLock::new()).collect();
        FileMap { summary, form: Form::Archive, pages, loaded, source: Some(source), grown: None }
    }

    /// The same map without the pages that were brought, or made by a source; those of a map that had all from the start stay.
    pub fn emptied(&self) -> FileMap {
        let FileMap { summary, form, pages, loaded, source, .. } = self;
        let stays = *form == Form::Archive && source.is_none();
        let loaded = loaded.iter().map(|slot| if stays { slot.clone() } else { OnceLock::new() }).collect();
        let grown = self.grown.as_ref().map(Grown::emptied);
        FileMap { summary: summary.clone(), form: *form, pages: pages.clone(), loaded, source: source.clone(), grown }
    }

    /// Where its entries are made, if they are.
    pub fn source(&self) -> Option<&Arc<dyn Source>> {
        self.source.as_ref()
    }

    /// How many pages of entries are known by now.
    pub fn page_count(&self) -> usize {
        self.grown.as_ref().map_or(self.loaded.len(), Grown::count)
    }

    /// A page of entries.
    pub fn page(&self, page: usize) -> Option<&PageRef> {
        match &self.grown {
            Some(grown) => grown.page(page),
            None => self.pages().get(page),
        }
    }

    /// The pages of entries; none of a map that grows.
    pub fn pages(&self) -> &[PageRef] {
        &self.pages[..self.loaded.len()]
    }

    /// The pages of split metadata; none where there is none.
    pub fn splits(&self) -> &[PageRef] {
        &self.pages[self.loaded.len()..]
    }

    /// All that is stored as pages: those of entries, then, numbered on, those of split metadata.
    pub fn stored(&self) -> &[PageRef] {
        &self.pages
    }

    pub fn is_loaded(&self, page: usize) -> bool {
        if let Some(grown) = &self.grown {
            return grown.is_loaded(page);
        }
        self.loaded.get(page).is_some_and(|slot| self.source.is_some() || slot.get().is_some())
    }

    /// Bring the text of a page. A second time is no error and changes nothing.
    ///
    /// # Errors
    /// As `read_page`.
    pub fn add_page(&self, page: usize, text: &[u8]) -> Result<()> {
        if let Some(grown) = &self.grown {
            return grown.add(page, text);
        }
        let entries = self.read_page(page, text)?;
        if let Some(slot) = self.loaded.get(page) {
            let _ = slot.set(entries.into());
        }
        Ok(())
    }

    /// The entries of a page, from its text, without keeping them. One of split metadata is proved and has none.
    ///
    /// # Errors
    /// `Mismatch` when the text is not the page's, `Damaged` when it does not parse or breaks a rule, `NewerFormat`.
    pub fn read_page(&self, page: usize, text: &[u8]) -> Result<Vec<Entry>> {
        let at = self.pages.get(page).ok_or_else(|| Error::damaged("file map", format!("it has no page {page}")))?;
        let got = Digest::of(text);
        if got != at.digest {
            return Err(Error::Mismatch { what: format!("page {page} of the file map"), expected: at.digest, got });
        }
        if at.entries == 0 {
            return Ok(Vec::new());
        }
        let next = self.pages().get(page + 1).map(|next| next.first.as_slice());
        decode::page(text, page, at, next, self.form)
    }

    /// The entries of a page, in order.
    pub fn rows(&self, page: usize) -> Found<&[Entry]> {
        if let Some(grown) = &self.grown {
            return grown.rows(page);
        }
        let slot = self.loaded.get(page).ok_or(Missing(page))?;
        match &self.source {
            Some(source) => Ok(slot.get_or_init(|| {
                let start = page * ROWS;
                (start..start + self.pages[page].entries as usize).map(|at| source.entry(at)).collect()
            })),
            None => slot.get().map(|rows| &rows[..]).ok_or(Missing(page)),
        }
    }

    /// The entry at an inode; `None` when there is no such inode.
    pub fn entry(&self, inode: u64) -> Found<Option<&Entry>> {
        match place_of(inode) {
            Some((page, row)) if page < self.page_count() => Ok(self.rows(page)?.get(row)),
            _ => Ok(None),
        }
    }

    /// The inode of the entry at a path, not following symlinks; `None` when there is none.
    pub fn find(&self, path: &[u8]) -> Found<Option<u64>> {
        if let Some(grown) = &self.grown {
            return grown.find(path);
        }
        let wanted = parent_and_name(path);
        let Some(page) = self.page_of(wanted) else { return Ok(None) };
        let rows = self.rows(page)?;
        Ok(rows.binary_search_by(|row| parent_and_name(&row.path).cmp(&wanted)).ok().map(|row| inode_of(page, row)))
    }

    /// Whether a mount shows an entry: not what lies beside an image. A tree of the REAPI is shown as it is.
    pub fn shows(&self, path: &[u8]) -> bool {
        let below = path.strip_prefix(BESIDE_IMAGE).filter(|_| self.grown.is_none());
        below.is_none_or(|rest| !rest.is_empty() && rest[0] != b'/')
    }

    /// The entry of a hard link's first name, of anything else itself. `None`: a hard link to nothing.
    pub fn resolve(&self, inode: u64) -> Found<Option<(u64, &Entry)>> {
        let Some(entry) = self.entry(inode)? else { return Ok(None) };
        let Kind::HardLink { first } = &entry.kind else { return Ok(Some((inode, entry))) };
        let Some(target) = self.find(first)? else { return Ok(None) };
        match self.entry(target)? {
            Some(entry) if matches!(entry.kind, Kind::HardLink { .. } | Kind::Directory { .. }) => Ok(None),
            Some(entry) => Ok(Some((target, entry))),
            None => Ok(None),
        }
    }

    /// The place of the first entry of the directory at `path`, if it has any; go on with `child`.
    pub fn first_child(&self, path: &[u8]) -> Found<Place> {
        if let Some(grown) = &self.grown {
            return grown.first(grown.page_of(path)?.unwrap_or(0));
        }
        let Some(page) = self.page_of((path, b"\0")) else { return Ok((0, 1)) };
        let rows = self.rows(page)?;
        let row = rows.partition_point(|row| parent_and_name(&row.path) < (path, b"\0".as_slice()));
        Ok((page, row))
    }

    /// The entry of the directory at `path` that stands at a place or, past a page's end, at the beginning of the next page;
    /// `None` when the directory has no more. No page is needed beyond those that hold its entries.
    pub fn child(&self, path: &[u8], (page, row): Place) -> Found<Option<(Place, &Entry)>> {
        if self.grown.is_some() {
            return Ok(self.rows(page)?.get(row).map(|entry| ((page, row), entry)));
        }
        let Some(at) = self.pages().get(page) else { return Ok(None) };
        let (page, row) = if row < at.entries as usize { (page, row) } else { (page + 1, 0) };
        match self.pages().get(page) {
            Some(at) if row > 0 || parent_and_name(&at.first).0 == path => {}
            _ => return Ok(None),
        }
        let entry = self.rows(page)?.get(row);
        let of_directory = |entry: &&Entry| !entry.path.is_empty() && parent_and_name(&entry.path).0 == path;
        Ok(entry.filter(of_directory).map(|entry| ((page, row), entry)))
    }

    /// The entries of the directory at `path`, in order of their names.
    pub fn children(&self, path: &[u8]) -> Found<Vec<(u64, &Entry)>> {
        let mut out = Vec::new();
        let mut place = self.first_child(path)?;
        while let Some(((page, row), entry)) = self.child(path, place)? {
            out.push((inode_of(page, row), entry));
            place = (page, row + 1);
        }
        Ok(out)
    }

    /// The entries of the directory at `path` that a page holds, in order of their names.
    pub fn children_in(&self, path: &[u8], page: usize) -> Found<&[Entry]> {
        let rows = self.rows(page)?;
        let start = rows.partition_point(|row| parent_and_name(&row.path) < (path, b"\0".as_slice()));
        let count = rows[start..].partition_point(|row| parent_and_name(&row.path).0 == path);
        Ok(&rows[start..start + count])
    }

    /// Pages that may hold entries of the directory at `path`.
    pub fn pages_of(&self, path: &[u8]) -> Range<usize> {
        if let Some(grown) = &self.grown {
            return match grown.page_of(path) {
                Ok(Some(page)) | Err(Missing(page)) => page..page + 1,
                Ok(None) => 0..0,
            };
        }
        let start = self.page_of((path, b"\0")).unwrap_or(0);
        let end = self.pages().partition_point(|page| parent_and_name(&page.first).0 <= path);
        start..end.max(start + 1).min(self.pages().len())
    }

    /// The last page whose first key is not above `wanted`.
    fn page_of(&self, wanted: (&[u8], &[u8])) -> Option<usize> {
        self.pages().partition_point(|page| parent_and_name(&page.first) <= wanted).checked_sub(1)
    }
}
