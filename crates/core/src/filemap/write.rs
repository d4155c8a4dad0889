//! Entries into pages, pages into a fence index.
//!
//! Invariant: the same entries give the same pages, and a change moves only the lines between two cuts, because a page's
//! end depends on its own text and the path of its last entry alone.

use std::sync::Arc;

use super::encode::{self, Line, push_number};
use super::entry::{Entry, parent_and_name};
use super::frames::{FrameTable, Row};
use super::map::{PageRef, Summary};
use crate::digest::{Digest, hex};

const MAX_PAGE: usize = 512 * 1024;
/// A page that has this many bytes for each entry of its cut may be closed.
const LONG: usize = 128;

/// Of a tree of so many entries, one entry in this many closes a page that is long enough. An edit writes the pages on its
/// way to the root and a line for every page: this keeps both small, and a step lies between sizes of one to four.
pub fn cut_of(entries: u64) -> u32 {
    let at_most = (entries / 4).isqrt().clamp(8, 1024);
    1 << at_most.ilog2()
}

/// A finished page, ready to be stored.
pub struct PageText {
    pub first: Vec<u8>,
    pub digest: Digest,
    pub entries: u32,
    pub text: Vec<u8>,
}

/// Takes entries in order, gives pages as they fill.
pub struct MapWriter {
    cut: u32,
    first: Vec<u8>,
    last: Option<Vec<u8>>,
    rows: Vec<u8>,
    count: u32,
    frames: FrameTable,
}

impl MapWriter {
    /// For a tree of `entries` entries.
    pub fn new(entries: u64) -> MapWriter {
        let (first, rows) = (Vec::new(), Vec::new());
        MapWriter { cut: cut_of(entries), first, last: None, rows, count: 0, frames: FrameTable::default() }
    }

    /// Whether the next entry begins a page.
    pub fn is_between_pages(&self) -> bool {
        self.count == 0
    }

    /// Add the next entry. Entries come strictly sorted by (parent, name), the root first.
    pub fn push(&mut self, entry: &Entry) -> Option<PageText> {
        self.add(entry);
        let full = self.rows.len() >= MAX_PAGE;
        let cut = self.rows.len() >= LONG * self.cut as usize && crc32fast::hash(&entry.path).is_multiple_of(self.cut);
        (full || cut).then(|| self.close())
    }

    fn add(&mut self, entry: &Entry) {
        debug_assert!(self.last.as_deref().is_none_or(|last| parent_and_name(last) < parent_and_name(&entry.path)));
        if self.count == 0 {
            self.first = entry.path.clone();
        }
        let MapWriter { rows, frames, .. } = self;
        encode::entry(rows, entry, |chunk| frames.number(&chunk.frame));
        self.count += 1;
        self.last = Some(entry.path.clone());
    }

    /// The last page, if any entries are left.
    pub fn finish(mut self) -> Option<PageText> {
        (self.count > 0).then(|| self.close())
    }

    fn close(&mut self) -> PageText {
        let frames = std::mem::take(&mut self.frames);
        let mut text =
            Vec::with_capacity(self.rows.len() + 80 * frames.pack_order.len() + 32 * frames.frame_order.len() + 64);
        let mut line = Line::begin(&mut text);
        line.number("format", 1);
        push_packs(line.key("packs"), &frames.pack_order);
        let out = line.key("frames");
        out.push(b'[');
        for (i, frame) in frames.frame_order.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            push_frame(out, *frame);
        }
        out.push(b']');
        line.end();
        text.append(&mut self.rows);
        let entries = std::mem::take(&mut self.count);
        PageText { first: std::mem::take(&mut self.first), digest: Digest::of(&text), entries, text }
    }
}

/// The page of just these entries, however long it is; `None` of none.
pub fn page_of(entries: &[Entry]) -> Option<PageText> {
    let mut writer = MapWriter::new(0);
    for entry in entries {
        writer.add(entry);
    }
    writer.finish()
}

/// The text of a fence index over pages that have been stored: each with its frame and place in it. Those of split metadata,
/// which have no entries, come last.
pub fn fence(summary: &Summary, pages: &[PageRef]) -> Vec<u8> {
    let Summary { push, tree, entries, bytes, tar } = summary;
    debug_assert_eq!(tar.is_some(), pages.last().is_some_and(|page| page.entries == 0));
    let mut table = FrameTable::default();
    for page in pages {
        table.number(&page.frame);
    }
    let mut text = Vec::with_capacity(512 + 256 * pages.len());
    let mut line = Line::begin(&mut text);
    line.number("format", 1);
    if let Some(push) = push {
        line.bytes("push", push.as_bytes());
    }
    line.digest("tree", tree);
    line.number("treeSize", tree.size);
    line.number("entries", *entries);
    line.number("bytes", *bytes);
    push_packs(line.key("packs"), &table.pack_order);
    if let Some(tar) = tar {
        line.digest("tar", tar);
        line.number("tarSize", tar.size);
    }
    line.end();
    let mut splits = 0;
    for page in pages {
        let frame = table.row(&page.frame);
        let mut line = Line::begin(&mut text);
        if page.entries == 0 {
            line.number("split", splits);
            splits += 1;
        } else {
            line.bytes("first", if page.first.is_empty() { b"." } else { &page.first });
        }
        line.digest("digest", &page.digest);
        line.number("size", page.digest.size);
        if page.entries > 0 {
            line.number("entries", u64::from(page.entries));
        }
        push_frame(line.key("frame"), frame);
        line.number("innerOffset", u64::from(page.inner));
        line.end();
    }
    text
}

/// What two fence indexes of one content in one place have in common: the digest of all but the first line.
pub fn content_of(fence: &[u8]) -> Digest {
    let lines = fence.iter().position(|&byte| byte == b'\n').map_or(fence.len(), |end| end + 1);
    Digest::of(&fence[lines..])
}

fn push_packs(out: &mut Vec<u8>, packs: &[Arc<[u8; 32]>]) {
    out.push(b'[');
    for (i, pack) in packs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(hex(&pack[..]).as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

fn push_frame(out: &mut Vec<u8>, (pack, offset, length, plain): Row) {
    for (lead, value) in [(b'[', pack.into()), (b',', offset), (b',', length.into()), (b',', plain.into())] {
        out.push(lead);
        push_number(out, value);
    }
    out.push(b']');
}
