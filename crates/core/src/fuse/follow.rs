//! Prefetching along a profile: what was read when somebody recorded it is wanted before anybody asks, in that order.
//!
//! Invariant: a profile is a hint. What it names and the tree has not is passed over, and nothing waits for it but itself.

use std::collections::HashMap;

use super::answer;
use super::bounds::Bounds;
use super::parked::Purpose;
use super::server::Server;
use crate::filemap::{Content, Missing};
use crate::wanted::Class;

impl Server {
    /// Queue the chunks that hold these (path, from, to), offsets in the file, in order, after the pages that tell where they
    /// lie. Returns when all is queued, or the mount has ended.
    pub fn follow(&self, parts: &[(Vec<u8>, u64, u64)]) {
        let _under_way = (!parts.is_empty()).then(|| self.followed.begin());
        for files in parts.chunk_by(|a, b| a.0 == b.0) {
            if let Err(Missing(page)) = self.map.find(&files[0].0) {
                self.queue_profiled_page(page);
            }
        }
        // Files that are read in turns come again and again.
        let mut bounds = HashMap::new();
        for file in parts.chunk_by(|a, b| a.0 == b.0) {
            let found = loop {
                match self.find_file(&file[0].0) {
                    Ok(found) => break found,
                    Err(Missing(page)) => {
                        self.queue_profiled_page(page);
                        if !self.wait_for_page(page) {
                            return;
                        }
                        if !self.map.is_loaded(page) {
                            break None;
                        }
                    }
                }
            };
            if let Some((inode, content)) = found {
                let bounds = bounds.entry(inode).or_insert_with(|| Bounds::of(content));
                self.queue_parts(inode, content, bounds, file);
            }
        }
    }

    fn queue_profiled_page(&self, page: usize) {
        if !self.load_page(page) {
            let mut parked = self.parked();
            if !self.map.is_loaded(page) {
                self.queue(&mut parked, &self.map.pages()[page].frame, Purpose::Page(page), Class::Profile);
            }
        }
    }

    /// The regular file at a path; none if there is no such, or the page that is missing.
    fn find_file(&self, path: &[u8]) -> Result<Option<(u64, &Content)>, Missing> {
        let Some(inode) = self.map.find(path)? else { return Ok(None) };
        match answer::content(&self.map, inode) {
            Ok(found) => Ok(Some(found)),
            Err(answer::No::Need(answer::Need::Page(page))) => Err(Missing(page)),
            Err(_) => Ok(None),
        }
    }

    fn queue_parts(&self, inode: u64, content: &Content, bounds: &Bounds, parts: &[(Vec<u8>, u64, u64)]) {
        for &(_, from, to) in parts {
            // Without the lock, which demand needs: what comes with a neighbour meanwhile is brought once more, seldom.
            for index in self.cache.missing_in(content, bounds.under(from, to)) {
                self.queue(
                    &mut self.parked(),
                    &content.chunks[index].frame,
                    Purpose::Chunk(inode, index),
                    Class::Profile,
                );
            }
        }
    }
}
