//! What packs say of themselves, turned into index fragments and fence indexes again.
//!
//! Invariant: a fence index is made only of pages that were read and proved, so what is made is the one that was lost, or has
//! another digest.

use std::collections::{BTreeSet, HashMap};

use crate::archive::{Toc, frame};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{FileMap, FrameAt, Kind, PageRef, Summary, content_of, fence, page_alone};
use crate::push::{FragmentWriter, PackName};

/// Bytes of an index fragment, about: a push that knows nothing takes some MB of them.
const FRAGMENT: usize = 1 << 20;

/// Grows by packs and pages; each is given once.
#[derive(Default)]
pub struct Recovery {
    fragment: FragmentWriter,
    /// Those that are full.
    fragments: Vec<Vec<u8>>,
    pages: HashMap<[u8; 32], Facts>,
}

/// What a fence index, and a snapshot, say of a page or because of it.
struct Facts {
    digest: Digest,
    first: Vec<u8>,
    entries: u32,
    packs: Vec<PackName>,
}

/// Where a fence index says that a page lies.
pub struct PageAt {
    pub sha256: [u8; 32],
    pub frame: FrameAt,
    pub inner: u32,
}

/// A fence index that was made again.
pub struct Recovered {
    pub map: Digest,
    pub text: Vec<u8>,
    pub content: Digest,
    /// Of its pages and of all that they name, sorted.
    pub packs: Vec<PackName>,
}

impl Recovery {
    /// Take what a pack says it holds.
    pub fn pack(&mut self, name: &PackName, toc: &Toc) {
        for entry in &toc.entries {
            self.fragment.chunks(name, [entry.lying]);
            self.finish_if(FRAGMENT);
        }
    }

    /// Take a page: the stored bytes of its frame.
    ///
    /// # Errors
    /// `Damaged`, `Mismatch`, `NewerFormat`.
    pub fn page(&mut self, stored: &[u8], plain: u32, inner: u32, digest: Digest) -> Result<()> {
        let frame = frame::open(stored, plain)?;
        let (entries, packs) = page_alone(frame::chunk(&frame, inner, &digest)?, digest)?;
        for entry in &entries {
            if let Kind::Regular(content) = &entry.kind
                && content.is_listed()
            {
                self.fragment.blob(content.digest, content.chunks.iter().map(|chunk| chunk.digest).collect());
                self.finish_if(FRAGMENT);
            }
        }
        let first = entries.first().map(|entry| entry.path.clone()).unwrap_or_default();
        self.pages.insert(digest.sha256, Facts { digest, first, entries: entries.len() as u32, packs });
        Ok(())
    }

    /// Take a page of split metadata: the stored bytes of its frame.
    ///
    /// # Errors
    /// As `page`.
    pub fn split(&mut self, stored: &[u8], plain: u32, inner: u32, digest: Digest) -> Result<()> {
        frame::chunk(&frame::open(stored, plain)?, inner, &digest)?;
        self.pages.insert(digest.sha256, Facts { digest, first: Vec::new(), entries: 0, packs: Vec::new() });
        Ok(())
    }

    pub fn has_page(&self, sha256: &[u8; 32]) -> bool {
        self.pages.contains_key(sha256)
    }

    /// The fence index over pages that have been given, those of split metadata last.
    ///
    /// # Errors
    /// `Missing` a page; `Damaged` when the pages are not those of one tree.
    pub fn map(&self, summary: &Summary, pages: &[PageAt]) -> Result<Recovered> {
        let mut packs = BTreeSet::new();
        let mut refs = Vec::with_capacity(pages.len());
        for page in pages {
            let missing = || Error::Missing { what: "a page of a file map".to_owned() };
            let facts = self.pages.get(&page.sha256).ok_or_else(missing)?;
            packs.extend(facts.packs.iter().copied());
            packs.insert(*page.frame.pack);
            refs.push(PageRef {
                first: facts.first.clone(),
                digest: facts.digest,
                entries: facts.entries,
                frame: page.frame.clone(),
                inner: page.inner,
            });
        }
        let text = fence(summary, &refs);
        FileMap::from_fence(&text)?;
        let (map, content) = (Digest::of(&text), content_of(&text));
        Ok(Recovered { map, text, content, packs: packs.into_iter().collect() })
    }

    /// Index fragments of all that was given since this was asked last.
    pub fn fragments(&mut self) -> Vec<Vec<u8>> {
        self.finish_if(0);
        std::mem::take(&mut self.fragments)
    }

    fn finish_if(&mut self, bytes: usize) {
        if !self.fragment.is_empty() && self.fragment.bytes() >= bytes {
            self.fragments.push(std::mem::take(&mut self.fragment).finish());
        }
    }
}
