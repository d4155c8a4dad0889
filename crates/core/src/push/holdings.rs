//! Holdings: every chunk, page and large blob that a snapshot uses, with its place, as an index fragment.
//!
//! Invariant: nothing is in them that the snapshot does not use, for only that stays alive with it (docs/store.md).

use std::collections::BTreeSet;

use super::entries::Places;
use super::fragment::{FragmentWriter, PackName};
use super::read::NONE;
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::Result;
use crate::filemap::{ChunkAt, FileMap, Found, Kind, PageRef};
use crate::index::State;
use crate::scan;

fn put_page(out: &mut FragmentWriter, page: &PageRef) {
    out.chunk(&ChunkAt { digest: page.digest, frame: page.frame.clone(), inner: page.inner });
}

/// What a push holds at its end.
#[derive(Default)]
pub struct Held {
    /// `None` when it is what the push began with.
    pub holdings: Option<Vec<u8>>,
    /// Packs of which it re-uses something that it did not hold when it began.
    pub reused: BTreeSet<PackName>,
}

/// The blobs of a sealed state that `looked_up`, rows of the holdings before as `Work` has them, does not explain.
pub fn blobs_of<'a>(state: &'a State, looked_up: &'a [u32]) -> impl Iterator<Item = Digest> + 'a {
    let is_done = |record: u32| looked_up.get(record as usize).is_some_and(|&row| row != NONE);
    let is_file = |record: u32| state.kind(record) == scan::Kind::File;
    (0..state.len())
        .filter(move |&record| !is_done(record) && is_file(record))
        .filter_map(|record| state.digest(record))
}

/// The holdings of a tree of these blobs and pages, and of what `looked_up` names of the holdings before.
pub fn holdings(
    blobs: impl Iterator<Item = Digest>,
    places: &Places<'_>,
    pages: &[PageRef],
    looked_up: &[u32],
) -> Result<Held> {
    let (all, known) = (blobs, places.known);
    let mut writer = FragmentWriter::default();
    let before = known.holdings();
    let mut rows = vec![false; before.map_or(0, |before| before.len())];
    let mut blobs = vec![false; before.map_or(0, |before| before.blob_count())];
    let mut reused = BTreeSet::new();
    looked_up.iter().filter(|&&row| row != NONE).for_each(|&row| rows[row as usize] = true);
    let mut use_chunk = |digest: &Digest, writer: &mut FragmentWriter| -> Result<()> {
        match known.held_row(digest) {
            Some(row) => rows[row] = true,
            None => {
                let chunk = places.chunk(digest)?;
                if known.has(digest) {
                    reused.insert(*chunk.frame.pack);
                }
                writer.chunk(&chunk);
            }
        }
        Ok(())
    };
    for digest in all.filter(|digest| digest.size > 0) {
        let pieces = places.pieces(&digest)?;
        pieces.iter().try_for_each(|piece| use_chunk(piece, &mut writer))?;
        if digest.size < MAX_CHUNK as u64 && pieces.len() == 1 {
            continue;
        }
        // It may be cut otherwise now, by a push of a tar.
        match before
            .and_then(|before| before.blob_row(&digest).filter(|_| before.blob(&digest).as_ref() == Some(&pieces)))
        {
            Some(row) => blobs[row] = true,
            None => writer.blob(digest, pieces),
        }
    }
    for page in pages {
        match known.held_row(&page.digest) {
            Some(row) => rows[row] = true,
            None => {
                if known.has(&page.digest) {
                    reused.insert(*page.frame.pack);
                }
                put_page(&mut writer, page);
            }
        }
    }
    if let Some(before) = before {
        if writer.is_empty() && rows.iter().chain(&blobs).all(|&used| used) {
            return Ok(Held { holdings: None, reused });
        }
        writer.part(before, |row| rows[row], |row| blobs[row]);
    }
    Ok(Held { holdings: Some(writer.finish()), reused })
}

/// The holdings of a file map all of whose pages have been brought.
///
/// # Errors
/// The page to bring first.
pub fn holdings_of(map: &FileMap) -> Found<Vec<u8>> {
    let mut writer = FragmentWriter::default();
    for page in map.stored() {
        put_page(&mut writer, page);
    }
    for number in 0..map.pages().len() {
        for entry in map.rows(number)? {
            let Kind::Regular(content) = &entry.kind else { continue };
            content.chunks.iter().for_each(|chunk| writer.chunk(chunk));
            if content.is_listed() {
                writer.blob(content.digest, content.chunks.iter().map(|chunk| chunk.digest).collect());
            }
        }
    }
    Ok(writer.finish())
}
