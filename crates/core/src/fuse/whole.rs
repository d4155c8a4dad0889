//! The native tier without anybody: of a tree that is here as a whole, contents are read from the proved files alone.
//!
//! Invariant: what the mount shows was complete and proved before it was made, and is pinned as long as the mount may be there.

use std::path::Path;

use super::native::Layers;
use crate::cache::Cache;
use crate::digest::Digest;
use crate::error::Result;
use crate::filemap::{FileMap, Kind};

/// Mount a tree of which all is in `cache`, proved since the machine was started, and pin it there by the file `pin`. False,
/// and nothing done, if anything is missing.
///
/// # Errors
/// `MountPoint`, `Mount`, `Invalid` as `Layers`, `Io`.
pub fn mount_whole(map: &FileMap, cache: &Cache, place: &Path, pin: &Path) -> Result<bool> {
    for (page, at) in map.pages().iter().enumerate() {
        let here = map.is_loaded(page) || cache.get(&at.digest).is_some_and(|text| map.add_page(page, &text).is_ok());
        if !here {
            return Ok(false);
        }
    }
    let mut contents: Vec<Digest> = Vec::new();
    for page in 0..map.pages().len() {
        let files = map.rows(page).unwrap_or(&[]).iter().filter(|entry| map.shows(&entry.path));
        contents.extend(files.filter_map(|entry| match &entry.kind {
            Kind::Regular(content) => Some(content.digest),
            _ => None,
        }));
    }
    contents.sort_unstable_by_key(|digest| digest.sha256);
    contents.dedup();
    let layers = Layers::alone(place)?;
    let Some(proved) = cache.pin(&contents, pin)? else { return Ok(false) };
    layers.mount(map, &cache.temporary(), &proved).inspect_err(|_| drop(std::fs::remove_file(pin)))?;
    Ok(true)
}
