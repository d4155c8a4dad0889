//! The pages of a file map: those that may have changed are made, the others taken as they were.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::entries::{Places, entry_of};
use super::fragment::PackName;
use super::order::Order;
use super::remembered::Remembered;
use super::run::MAP_LEVEL;
use crate::archive::frame::{FrameWriter, LITTLE, THOROUGH};
use crate::archive::{Holds, MAX_PAGE_FRAME};
use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind, MapWriter, PageText};
use crate::index::{State, share};
use crate::job::Job;
use crate::scan::Root;

/// All pages of a state, those that the store lacks packed.
pub struct Pages {
    /// What is not to be believed again has a sum of zeros.
    pub pages: Vec<Remembered>,
    /// None had to be packed.
    pub all_known: bool,
}

impl Pages {
    /// Bytes of all blobs.
    pub fn bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.bytes).sum()
    }

    /// All packs that blobs lie in.
    pub fn packs(&self) -> BTreeSet<PackName> {
        self.pages.iter().flat_map(|page| page.packs.iter().copied()).collect()
    }
}

/// The sum of a page that may change without telling.
pub const UNSURE: [u8; 32] = [0; 32];

/// The pages of a sealed state; `memory` are pages from before, whose chunks lie where the holdings say.
pub fn pages(
    root: &Root,
    state: &State,
    places: &Places<'_>,
    memory: &[Remembered],
    threads: usize,
    job: &Job,
) -> Result<Pages> {
    let order = Order::of(state);
    let mut as_before = same(&order, memory, threads)?;
    let mut making = Making::new(|path| root.show(path), places, order.len() as u64);
    let mut row = 0;
    while row < order.len() {
        if making.writer.is_between_pages()
            && let Some(page) = as_before.remove(&row)
        {
            row += page.entries as usize;
            making.pages.push(page.clone());
            continue;
        }
        if row.is_multiple_of(4096) {
            job.step(0)?;
        }
        let entry = match order.link(row) {
            Err(link) => *link,
            Ok(links) => entry_of(root, state, places, order.record(row), order.path(row), links)?,
        };
        row += 1;
        making.push(&entry, row)?;
    }
    making.end(row)?;
    let Making { mut pages, made, all_known, .. } = making;
    let sums = share(
        threads,
        made.len(),
        || (),
        |(), number| {
            let (_, end) = made[number];
            let begin = end - pages[made[number].0].entries as usize;
            Ok(order.sum(begin..end).unwrap_or(UNSURE))
        },
    )?;
    for ((page, _), sum) in made.into_iter().zip(sums) {
        pages[page].sum = sum;
    }
    Ok(Pages { pages, all_known })
}

/// The pages of the entries of an archive, in order, of which nothing is remembered; `what` names it.
pub fn pages_of(what: &str, entries: &[Entry], places: &Places<'_>, job: &Job) -> Result<Pages> {
    let show = |path: &[u8]| Path::new(what).join(OsStr::from_bytes(path));
    let mut making = Making::new(show, places, entries.len() as u64);
    for (row, entry) in entries.iter().enumerate() {
        if row.is_multiple_of(4096) {
            job.step(0)?;
        }
        making.push(entry, row + 1)?;
    }
    making.end(entries.len())?;
    Ok(Pages { pages: making.pages, all_known: making.all_known })
}

/// Pages of `memory` that would be made again, were they to begin at these rows.
fn same<'m>(order: &Order<'_>, memory: &'m [Remembered], threads: usize) -> Result<HashMap<usize, &'m Remembered>> {
    let rows = order.find(memory.iter().map(|page| page.first.as_slice()));
    let is_same = |number: usize| {
        let page = &memory[number];
        let begin = rows[number]?;
        let end = begin + page.entries as usize;
        // One that was not cut would go on if anything followed.
        let can_end = end < order.len() && !page.is_last || end == order.len();
        (can_end && page.sum != UNSURE && order.sum(begin..end) == Some(page.sum)).then_some((begin, page))
    };
    let found = share(threads, memory.len(), || (), |(), number| Ok(is_same(number)))?;
    Ok(found.into_iter().flatten().collect())
}

struct Making<'a, S> {
    /// A path for messages.
    show: S,
    places: &'a Places<'a>,
    writer: MapWriter,
    thorough: FrameWriter,
    frames: FrameWriter,
    /// Bytes of text.
    packed: u64,
    /// Of the page that is being made.
    packs: BTreeSet<PackName>,
    bytes: u64,
    pages: Vec<Remembered>,
    /// Numbers of the pages that were made, with the row after their last.
    made: Vec<(usize, usize)>,
    all_known: bool,
}

impl<'a, S: Fn(&[u8]) -> PathBuf> Making<'a, S> {
    /// Of a tree of so many entries.
    fn new(show: S, places: &'a Places<'a>, entries: u64) -> Making<'a, S> {
        Making {
            show,
            places,
            writer: MapWriter::new(entries),
            thorough: FrameWriter::new(THOROUGH),
            frames: FrameWriter::new(MAP_LEVEL),
            packed: 0,
            packs: BTreeSet::new(),
            bytes: 0,
            pages: Vec::new(),
            made: Vec::new(),
            all_known: true,
        }
    }

    /// The next entry, which stands before row `end`.
    fn push(&mut self, entry: &Entry, end: usize) -> Result<()> {
        if let Kind::Regular(content) = &entry.kind {
            self.packs.extend(content.chunks.iter().map(|chunk| *chunk.frame.pack));
            self.bytes += content.digest.size;
        }
        self.writer.push(entry).map_or(Ok(()), |page| self.keep(page, end, false))
    }

    fn end(&mut self, end: usize) -> Result<()> {
        let writer = std::mem::replace(&mut self.writer, MapWriter::new(0));
        writer.finish().map_or(Ok(()), |page| self.keep(page, end, true))
    }

    fn keep(&mut self, page: PageText, end: usize, is_last: bool) -> Result<()> {
        let PageText { first, digest, entries, text } = page;
        if text.len() > MAX_PAGE_FRAME - 1024 {
            let what = format!("a file beside {}", crate::error::show(&(self.show)(&first)));
            return Err(Error::Invalid { what, why: "it has more chunks or holes than a file map can say".into() });
        }
        if !self.places.known.has(&digest) && self.places.packer.claim(&digest) {
            self.all_known = false;
            let frames = if self.packed < LITTLE { &mut self.thorough } else { &mut self.frames };
            frames.add(digest, &text);
            self.places.packer.add_held(frames.seal(), Holds::Page)?;
            self.packed += digest.size;
        }
        self.made.push((self.pages.len(), end));
        let packs = std::mem::take(&mut self.packs).into_iter().collect();
        let bytes = std::mem::take(&mut self.bytes);
        self.pages.push(Remembered { first, entries, is_last, sum: UNSURE, digest, bytes, packs });
        Ok(())
    }
}
