//! One push, from the walk to the fence index.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Sender;

use super::entries::{Places, entries};
use super::fragment::{FragmentWriter, PackName};
use super::known::Known;
use super::read::{read, work};
use super::send::{Packer, Sealed, Sent};
use crate::archive::frame::FrameWriter;
use crate::archive::{MAX_PAGE_FRAME, deflate};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, MapWriter, PageRef, PageText, fence};
use crate::index::{Options, Scope, State, Summary};
use crate::job::Job;
use crate::scan::Root;

/// zstd level of pages and fence indexes, which are read often and written once.
const MAP_LEVEL: i32 = 3;

/// What to push, and what is known of the store.
pub struct Request<'a> {
    pub root: &'a Path,
    /// Where the index of the directory is kept, if anywhere.
    pub index: Option<&'a Path>,
    /// All fragments: those of the store and those still pending.
    pub known: &'a Known,
    /// Fragments of packs that were sent by a run that did not finish.
    pub pending: Vec<super::Fragment>,
    pub options: &'a Options,
}

/// What remains to be written when all packs of the run have been stored.
pub struct Pushed {
    pub tree: Digest,
    pub summary: Summary,
    pub sent: Sent,
    /// Skipped, in walk order.
    pub unreadable: Vec<PathBuf>,
    /// Text of the fence index: its digest, and its bytes as stored.
    pub map: Digest,
    pub map_bytes: Vec<u8>,
    pub entries: u64,
    pub bytes: u64,
    /// Of all packs that tree and pages lie in, sorted.
    pub packs: Vec<PackName>,
    /// Names what the store has now and did not before; `None` when nothing was added.
    pub fragment: Option<Vec<u8>>,
}

/// Push `request.root`, giving each pack to `out` as it is sealed. Blocks while `out` is full.
///
/// # Errors
/// `Unreadable` (all such paths) unless they are skipped, `Unstable`, `Io`, `Stopped` (also when `out` is closed).
pub fn push(request: Request<'_>, out: &Sender<Sealed>, job: &Job) -> Result<Pushed> {
    let Request { root: path, index, known, pending, options } = request;
    let (threads, skip_unreadable) = (options.threads, options.skip_unreadable);
    let root = Root::open(path)?;
    let before = index.map(|path| State::read(path, threads, job)).transpose()?.flatten();
    let (mut state, mut unreadable) = State::look(&root, before, Scope::All, options, None, job)?;
    if !unreadable.is_empty() && !skip_unreadable {
        return Err(Error::Unreadable { paths: unreadable });
    }
    let packer = Packer::new(out, job);
    let work = work(&state, known);
    job.files_total.store(work.len() as u64, Relaxed);
    job.bytes_total.store(work.iter().map(|&record| state.stat(record).size).sum(), Relaxed);
    let outcome = read(&root, &state, &work, known, &packer, threads, job)?;
    if !outcome.unreadable.is_empty() && !skip_unreadable {
        return Err(Error::Unreadable { paths: outcome.unreadable.into_iter().map(|(_, path)| path).collect() });
    }
    for (record, digest, stat) in &outcome.read {
        state.set_digest(*record, *digest, stat);
    }
    for (record, path) in &outcome.unreadable {
        state.remove(*record);
        unreadable.push(path.clone());
    }
    outcome.gone.iter().for_each(|&record| state.remove(record));
    packer.flush()?;
    let tree = state.seal().ok_or_else(|| Error::Missing { what: "the digest of the root".to_owned() })?;
    let map = map(&root, &state, &Places { known, packer: &packer, outcome: &outcome }, tree, job)?;
    if let Some(index) = index {
        state.write(index)?;
    }
    let mut fragment = FragmentWriter::default();
    packer.describe(&mut fragment);
    pending.iter().for_each(|pending| fragment.fragment(pending));
    let mut summary = state.summary();
    (summary.files_hashed, summary.bytes_hashed) = (outcome.read.len() as u64, outcome.bytes);
    for (sha256, pieces) in outcome.large {
        let size = pieces.iter().map(|piece| piece.size).sum();
        let blob = Digest { sha256, size };
        if known.blob(&blob).is_none() {
            fragment.blob(blob, pieces);
        }
    }
    let fragment = (!fragment.is_empty()).then(|| fragment.finish());
    let Map { text, packs, entries, bytes } = map;
    let (map, map_bytes) = (Digest::of(&text), deflate(&text, MAP_LEVEL));
    let packs = packs.into_iter().collect();
    let sent = packer.sent();
    Ok(Pushed { tree, summary, sent, unreadable, map, map_bytes, entries, bytes, packs, fragment })
}

struct Map {
    text: Vec<u8>,
    packs: BTreeSet<PackName>,
    entries: u64,
    bytes: u64,
}

/// Write the file map of the sealed state; pages that the store lacks go into packs of their own.
fn map(root: &Root, state: &State, places: &Places<'_>, tree: Digest, job: &Job) -> Result<Map> {
    let mut writer = MapWriter::default();
    let mut pages: Vec<PageText> = Vec::new();
    let mut packs = BTreeSet::new();
    let mut frames = FrameWriter::new(MAP_LEVEL);
    let mut keep = |mut page: PageText| -> Result<()> {
        if page.text.len() > MAX_PAGE_FRAME - 1024 {
            let what = format!("a file beside {}", crate::error::show(&root.show(&page.first)));
            return Err(Error::Invalid { what, why: "it has more chunks or holes than a file map can say".into() });
        }
        if places.known.chunk(&page.digest).is_none() && places.packer.claim(&page.digest) {
            frames.add(page.digest, &page.text);
            places.packer.add(frames.seal())?;
        }
        page.text = Vec::new();
        pages.push(page);
        Ok(())
    };
    entries(root, state, places, job, |entry| {
        if let crate::filemap::Kind::Regular(content) = &entry.kind {
            packs.extend(content.chunks.iter().map(|chunk| *chunk.frame.pack));
        }
        writer.push(entry).map_or(Ok(()), &mut keep)
    })?;
    let (last, entries, bytes) = writer.finish();
    last.map_or(Ok(()), &mut keep)?;
    places.packer.flush()?;
    let mut refs = Vec::with_capacity(pages.len());
    for page in pages {
        let ChunkAt { frame, inner, .. } = places.chunk(&page.digest)?;
        packs.insert(*frame.pack);
        refs.push(PageRef { first: page.first, digest: page.digest, entries: page.entries, frame, inner });
    }
    Ok(Map { text: fence(tree, entries, bytes, &refs), packs, entries, bytes })
}
