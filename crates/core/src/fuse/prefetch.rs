//! The whole tree, queued in the background: first what is of the kinds that are being read.
//! Not here: what a demand makes likely (`ahead`), along a profile (`follow`).

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ahead::is_large;
use super::parked::{Parked, Purpose};
use super::server::Server;
use crate::error::{Error, Result};
use crate::filemap::{Entry, Kind, inode_of};
use crate::scan::suffix_of;
use crate::wanted::Class;

/// Background frames that are queued at a time: enough for neighbours to come together, and few, so that what has become
/// likelier meanwhile comes soon. The rest of the tree is known by the place reached.
const ROOM: usize = 16;
/// ... or, of small ones, such as an archive has for each small file, so many bytes: no fewer than may be in flight.
const ROOM_BYTES: u64 = 1 << 20;
/// Contents wait so long for the first reading, which tells what is read.
const FIRST_READING: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
/// Compressed bytes of pages that are queued at once. The pages of a larger tree wait as long: who looks at one path of it,
/// or reads one file, needs few of them.
const PAGES_AT_ONCE: u64 = 1 << 20;
/// Nobody who only uses a tree reads what is below these: it comes last.
const UNLIKELY: [&[u8]; 2] = [b"test", b"tests"];

impl Server {
    /// Queue as background all pages and then, with `contents`, all blobs, as the queue has room: those of kinds that have
    /// been read first, then the likely ones, then the rest, each in order of the file map.
    /// Returns when everything has been queued that is not here, or the mount has ended. In the native tier what is complete
    /// gets its name before, and what has come meanwhile after it.
    pub fn prefetch(&self, contents: bool) {
        self.prove();
        if self.queue_all(contents) {
            self.prove();
        }
    }

    /// False when the mount has ended.
    fn queue_all(&self, contents: bool) -> bool {
        let pages = self.map.pages().len();
        let absent: Vec<usize> = (0..pages).filter(|&page| !self.load_page(page)).collect();
        let bytes: u64 = absent.iter().map(|&page| u64::from(self.map.pages()[page].frame.length)).sum();
        if bytes > PAGES_AT_ONCE {
            self.wait_a_moment(|| false);
        }
        if !absent.into_iter().all(|page| self.queue_page(page)) {
            return false;
        }
        if !contents {
            return true;
        }
        self.wait_a_moment(|| !self.suffixes_read().is_empty());
        let mut suffixes = Vec::new();
        for page in 0..pages {
            loop {
                let read = self.suffixes_read();
                if read.len() == suffixes.len() {
                    break;
                }
                suffixes = read;
                if !self.queue_suffixes(&suffixes) {
                    return false;
                }
            }
            if !self.queue_rows(page, is_likely) {
                return false;
            }
        }
        (0..pages).all(|page| self.queue_rows(page, |_| true))
    }

    /// Queue the likely files that have one of these suffixes, or as many as there is room for until others are read, too.
    /// False when the mount has ended.
    fn queue_suffixes(&self, suffixes: &[Vec<u8>]) -> bool {
        let chosen = |entry: &Entry| is_likely(entry) && suffixes.iter().any(|read| read == suffix_of(&entry.path));
        for page in 0..self.map.pages().len() {
            if self.suffixes_read().len() > suffixes.len() {
                return true;
            }
            if !self.queue_rows(page, chosen) {
                return false;
            }
        }
        true
    }

    /// False when the mount has ended.
    fn queue_rows(&self, page: usize, chosen: impl Fn(&Entry) -> bool) -> bool {
        let rows = if self.wait_for_page(page) { self.map.rows(page).unwrap_or(&[]) } else { return false };
        let mut chosen = rows.iter().enumerate().filter(|(_, entry)| self.map.shows(&entry.path) && chosen(entry));
        chosen.all(|(row, entry)| self.queue_entry(inode_of(page, row), entry))
    }

    /// `FIRST_READING` at most: until `is_over`, or the mount has ended.
    fn wait_a_moment(&self, is_over: impl Fn() -> bool) {
        let begun = Instant::now();
        let mut parked = self.parked();
        while !parked.closed && begun.elapsed() < FIRST_READING && !is_over() {
            parked = self.page.wait_timeout(parked, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Have all pages, as what somebody waits for.
    ///
    /// # Errors
    /// `NoPage`: one does not come.
    pub(super) fn bring_pages(&self) -> Result<()> {
        let absent: Vec<usize> = (0..self.map.pages().len()).filter(|&page| !self.load_page(page)).collect();
        let mut parked = self.parked();
        for &page in &absent {
            self.queue(&mut parked, &self.map.pages()[page].frame, Purpose::Page(page), Class::Demand);
        }
        drop(parked);
        for page in absent {
            if !self.wait_for_page(page) || !self.map.is_loaded(page) {
                let why = self.stats().last_error.unwrap_or_else(|| "the mount has ended".into());
                return Err(Error::NoPage { page, why });
            }
        }
        Ok(())
    }

    /// In the native tier, give contents that are complete their names among those that are proved.
    fn prove(&self) {
        if self.objects.get().is_none() {
            return;
        }
        let Ok(directory) = self.cache.proved() else { return };
        let mut done = 0;
        for page in 0..self.map.pages().len() {
            for entry in self.map.rows(page).unwrap_or(&[]) {
                let Kind::Regular(content) = &entry.kind else { continue };
                match self.cache.prove(content, &directory) {
                    Ok(complete) => done += u64::from(complete),
                    // It is served by this process, then.
                    Err(error) => return self.note(&error.to_string()),
                }
                if self.wanted.is_closed() {
                    return;
                }
            }
            self.proved.store(done, Relaxed);
        }
    }

    /// False when the mount has ended.
    fn queue_page(&self, page: usize) -> bool {
        if !self.wanted.wait_for_room(ROOM, ROOM_BYTES) {
            return false;
        }
        let mut parked = self.parked();
        if !self.map.is_loaded(page) {
            self.queue(&mut parked, &self.map.pages()[page].frame, Purpose::Page(page), Class::Background);
        }
        true
    }

    /// False when the mount has ended. A page that failed is passed over.
    pub(super) fn wait_for_page(&self, page: usize) -> bool {
        let mut parked: MutexGuard<'_, Parked> = self.parked();
        while !parked.closed && !self.map.is_loaded(page) && parked.expects(&self.map.pages()[page].frame) {
            parked = self.page.wait(parked).unwrap_or_else(PoisonError::into_inner);
        }
        !parked.closed
    }

    fn queue_entry(&self, inode: u64, entry: &Entry) -> bool {
        let Kind::Regular(content) = &entry.kind else { return true };
        for index in self.cache.missing(content) {
            self.stay_behind();
            if !self.wanted.wait_for_room(ROOM, ROOM_BYTES) {
                return false;
            }
            let mut parked = self.parked();
            let frame = &content.chunks[index].frame;
            // It may have come with a neighbour meanwhile.
            if parked.expects(frame) || !self.cache.missing_in(content, index..index + 1).is_empty() {
                self.queue(&mut parked, frame, Purpose::Chunk(inode, index), Class::Background);
            }
        }
        true
    }
}

fn is_likely(entry: &Entry) -> bool {
    let Kind::Regular(content) = &entry.kind else { return false };
    !is_large(content) && !entry.path.split(|&byte| byte == b'/').any(|name| UNLIKELY.contains(&name))
}
