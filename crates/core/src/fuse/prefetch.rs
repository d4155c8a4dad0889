//! What is queued before anybody asks: the next frames after a demand, and the whole tree in the background.
//! Not here: along a profile (`follow`).

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, PoisonError};

use super::answer::{self, Need};
use super::parked::{Parked, Purpose};
use super::server::Server;
use crate::error::{Error, Result};
use crate::filemap::{Content, Entry, FrameAt, Kind, inode_of, place_of};
use crate::wanted::Class;

/// Compressed bytes queued after a demand.
const AHEAD: u64 = 1 << 20;
/// Chunks of one file looked at for them: what is the same many times lies in one frame and costs the link nothing.
const AHEAD_CHUNKS: usize = 16;
/// Entries looked at for them.
const AHEAD_ROWS: usize = 256;
/// Compressed bytes of pages queued after one that is demanded: many of a small tree, where they are small, and none or one
/// of a large tree, where a path leads through pages that lie far from each other.
const AHEAD_OF_PAGES: u64 = 64 << 10;
/// Background frames that are queued at a time; the rest of the tree is known by the place reached.
const ROOM: usize = 256;

impl Server {
    /// Queue as background all pages and then, with `contents`, all blobs in order of the file map, as the queue has room.
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
        for page in 0..pages {
            if !self.load_page(page) && !self.queue_page(page) {
                return false;
            }
        }
        for page in (0..pages).take_while(|_| contents) {
            if !self.wait_for_page(page) {
                return false;
            }
            let rows = self.map.rows(page).unwrap_or(&[]);
            for (row, entry) in rows.iter().enumerate() {
                if !self.queue_entry(inode_of(page, row), entry) {
                    return false;
                }
            }
        }
        true
    }

    /// Have all pages, as what somebody waits for.
    ///
    /// # Errors
    /// `Missing`: one does not come.
    pub(super) fn bring_pages(&self) -> Result<()> {
        let absent: Vec<usize> = (0..self.map.pages().len()).filter(|&page| !self.load_page(page)).collect();
        let mut parked = self.parked();
        for &page in &absent {
            self.queue(&mut parked, &self.map.pages()[page].frame, Purpose::Page(page), Class::Demand);
        }
        drop(parked);
        for page in absent {
            if !self.wait_for_page(page) || !self.map.is_loaded(page) {
                let why = self.stats().last_error.map_or_else(String::new, |why| format!(": {why}"));
                return Err(Error::Missing { what: format!("page {page} of the file map{why}") });
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
        if !self.wanted.wait_for_room(ROOM) {
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
            if !self.wanted.wait_for_room(ROOM) {
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

    /// Queue what is likely to be asked for next.
    pub(super) fn read_ahead(&self, parked: &mut Parked, need: &Need) {
        match need {
            Need::Page(page) => {
                let mut left = AHEAD_OF_PAGES;
                for (next, page) in self.map.pages().iter().enumerate().skip(page + 1) {
                    let Some(rest) = left.checked_sub(page.frame.length.into()) else { break };
                    left = rest;
                    if !self.map.is_loaded(next) {
                        self.queue(parked, &page.frame, Purpose::Page(next), Class::Readahead);
                    }
                }
            }
            // A profile that is still under way knows better what comes next.
            Need::Chunks(..) if self.wanted.has_queued(Class::Profile) => {}
            Need::Chunks(inode, indexes) => {
                if let (Some(&last), Ok((_, content))) = (indexes.last(), answer::content(&self.map, *inode)) {
                    self.read_ahead_of(parked, *inode, content, last);
                }
            }
        }
    }

    /// The chunks after `last`, then the files after this one, as long as they lie in the same pack.
    fn read_ahead_of(&self, parked: &mut Parked, inode: u64, content: &Content, last: usize) {
        let Some(pack) = content.chunks.get(last).map(|chunk| chunk.frame.pack.clone()) else { return };
        let mut left = AHEAD;
        let mut queue = |inode: u64, content: &Content, from: usize| {
            if content.chunks.get(from).is_none_or(|chunk| chunk.frame.pack != pack) {
                return true;
            }
            for index in self.cache.missing_in(content, from..from + AHEAD_CHUNKS) {
                let frame = &content.chunks[index].frame;
                if frame.pack != pack || u64::from(frame.length) > left {
                    return false;
                }
                if self.queue(parked, frame, Purpose::Chunk(inode, index), Class::Readahead) {
                    left -= u64::from(frame.length);
                }
            }
            true
        };
        if !queue(inode, content, last + 1) {
            return;
        }
        let Some((page, row)) = place_of(inode) else { return };
        let rows = self.map.rows(page).unwrap_or(&[]);
        for (row, entry) in rows.iter().enumerate().skip(row + 1).take(AHEAD_ROWS) {
            if let Kind::Regular(content) = &entry.kind
                && !queue(inode_of(page, row), content, 0)
            {
                return;
            }
        }
    }

    pub(super) fn queue(&self, parked: &mut Parked, frame: &FrameAt, purpose: Purpose, class: Class) -> bool {
        parked.intend(frame, purpose);
        self.wanted.want(frame, class)
    }
}
