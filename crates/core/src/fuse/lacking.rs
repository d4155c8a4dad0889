//! What of the tree is not here yet.
//!
//! Invariant: looked at and not read, so what is damaged counts as here until somebody reads it.

use super::server::Server;
use crate::filemap::Kind;

/// Files of which something is not in the cache, and the bytes of the chunks that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    pub files: u64,
    pub bytes: u64,
}

impl Server {
    /// How much of the tree is not in the cache; `None` while pages of the file map are not, or once the mount has ended.
    /// A content that several files have counts with each.
    pub fn lacking(&self) -> Option<Lacking> {
        let mut lacking = Lacking::default();
        for page in 0..self.map.pages().len() {
            if !self.load_page(page) {
                return None;
            }
            for entry in self.map.rows(page).unwrap_or(&[]) {
                let Kind::Regular(content) = &entry.kind else { continue };
                if !self.map.shows(&entry.path) {
                    continue;
                }
                let missing = self.cache.missing(content);
                lacking.files += u64::from(!missing.is_empty());
                lacking.bytes += missing.iter().map(|&index| content.chunks[index].digest.size).sum::<u64>();
            }
            if self.wanted.is_closed() {
                return None;
            }
        }
        Some(lacking)
    }
}
