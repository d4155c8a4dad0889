//! A merged map in pages, as stores have them, so that who opens it again reads what is looked at, and nothing of the layers.
//!
//! Not here: where it is kept, and of which layers it is. Bytes: docs/format.md, "Cache".

use std::io::Write;
use std::path::Path;

use crate::archive::frame::{Form, FrameWriter, inflate};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{FileMap, FrameAt, MapWriter, PageRef, PageText, fence, page_of_form};
use crate::job::Job;

/// Quick: it is written beside other work.
const LEVEL: i32 = 1;

/// Where the fence index lies behind the pages, and what it is, decompressed.
pub struct Kept {
    pub at: u64,
    pub length: u64,
    pub digest: Digest,
}

/// Write the pages of a map whose entries are made when they are looked at to the file called `name`, and its fence index
/// behind them.
///
/// # Errors
/// `Io`, `Stopped`; `Missing` of a map of another kind; `Damaged` when there is an entry that no page can say.
pub fn keep(map: &FileMap, out: &mut impl Write, name: &Path, job: &Job) -> Result<Kept> {
    let source = map.source().ok_or_else(|| Error::Missing { what: "entries to be kept".into() })?;
    let mut writer = MapWriter::new(map.summary.entries);
    let mut pages = Pages { map, frames: FrameWriter::new(LEVEL), out, name, at: 0, refs: Vec::new() };
    for at in 0..source.count() {
        if let Some(page) = writer.push(&source.entry(at)) {
            job.step(0)?;
            pages.add(page)?;
        }
    }
    if let Some(page) = writer.finish() {
        pages.add(page)?;
    }
    let text = fence(&map.summary, &pages.refs);
    let stored = zstd::bulk::compress(&text, LEVEL).expect("zstd has memory for a context");
    pages.out.write_all(&stored).map_err(Error::io("write", name))?;
    Ok(Kept { at: pages.at, length: stored.len() as u64, digest: Digest::of(&text) })
}

/// The map of a fence index as it was kept; pages are yet to be brought.
///
/// # Errors
/// `Damaged`, `Mismatch` when it is another than that; `NewerFormat`.
pub fn open(stored: &[u8], digest: Digest, is_led: bool) -> Result<FileMap> {
    let text = inflate("file map", stored, digest.size)?;
    let got = Digest::of(&text);
    if got != digest {
        return Err(Error::Mismatch { what: "file map".into(), expected: digest, got });
    }
    let mut map = FileMap::from_fence(&text)?;
    map.form = if is_led { Form::Led } else { Form::Archive };
    Ok(map)
}

struct Pages<'a, W> {
    map: &'a FileMap,
    frames: FrameWriter,
    out: &'a mut W,
    name: &'a Path,
    at: u64,
    refs: Vec<PageRef>,
}

impl<W: Write> Pages<'_, W> {
    fn add(&mut self, page: PageText) -> Result<()> {
        // Layers say what stores never do: what could not be read again is not kept.
        page_of_form(&page.text, page.digest, self.map.form)?;
        self.frames.add(page.digest, &page.text);
        let frame = self.frames.seal();
        self.out.write_all(&frame.bytes).map_err(Error::io("write", self.name))?;
        let pack = self.map.pages()[0].frame.pack.clone();
        let place = FrameAt { pack, offset: self.at, length: frame.bytes.len() as u32, plain: frame.plain };
        self.at += frame.bytes.len() as u64;
        let inner = frame.chunks[0].1;
        self.refs.push(PageRef { first: page.first, digest: page.digest, entries: page.entries, frame: place, inner });
        Ok(())
    }
}
