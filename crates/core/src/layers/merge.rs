//! From layers, the lowest first, to what is seen of them: directory by directory, for the entries of one stand together.

use std::sync::Arc;

use super::merged::{Merged, Seen};
use super::source::of_map;
use crate::archive::frame::Form;
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::filemap::{FileMap, Kind, Source, Summary, bare, hash_directories, parent_and_name};
use crate::job::Job;

/// What takes the name behind it away from the layers below.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// What a builder keeps for itself, but for what hides all that lower layers have in its directory.
const RESERVED: &[u8] = b".wh..wh.";
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What archives keep for their readers in the root.
const OF_ARCHIVES: [&[u8]; 3] = [b".prefetch.landmark", b".no.prefetch.landmark", b"stargz.index.json"];
/// No image has more, and a layer is numbered by 16 bits.
const MOST_LAYERS: usize = 4096;

/// One file map of all layers, the lowest first. The frames of contents keep the packs that they lie in; all are led
/// (`archive::lead`) if those of any layer are.
///
/// # Errors
/// `Damaged` when there are more than 4,096 layers or 2^32 entries, or a hard link that is seen is to no file; `Missing` when a page of a layer is not there; `Stopped`.
pub fn merge(layers: &[Arc<FileMap>], job: &Job) -> Result<FileMap> {
    let pack = {
        let mut hasher = Hasher::default();
        layers.iter().for_each(|map| hasher.update(&*map.pages()[0].frame.pack));
        Arc::new(hasher.finish().sha256)
    };
    if layers.is_empty() {
        let mut root = vec![bare(Vec::new(), Kind::Directory { digest: None }, crate::filemap::INVENTED_MODE)];
        let tree = hash_directories(&mut root);
        return Ok(FileMap::of_archive(Summary { push: None, tree, entries: 1, bytes: 0, tar: None }, root, &pack));
    }
    if layers.len() > MOST_LAYERS {
        return Err(Error::damaged("image", format!("it has {} layers", layers.len())));
    }
    let sources = layers.iter().map(of_map).collect::<Result<Vec<_>>>()?;
    let count: usize = sources.iter().map(|source| source.count()).sum();
    if u32::try_from(count).is_err() {
        return Err(Error::damaged("image", "it has 2^32 entries or more"));
    }
    let mut merging = Merging { sources: &sources, cursors: vec![1; sources.len()], seen: Vec::with_capacity(count) };
    merging.root();
    while merging.directory() {
        job.step(0)?;
    }
    let seen = merging.seen;
    let merged = Merged::new(sources, seen, job)?;
    let summary =
        Summary { push: None, tree: merged.tree, entries: merged.count() as u64, bytes: merged.bytes, tar: None };
    let mut map = FileMap::of_source(summary, Arc::new(merged), &pack);
    if layers.iter().any(|map| map.form != Form::Archive) {
        map.form = Form::Led;
    }
    Ok(map)
}

/// Whether a name in a directory is one that builders, or archives, keep for themselves.
pub(super) fn is_kept_back(parent: &[u8], name: &[u8]) -> bool {
    name.starts_with(RESERVED) || (parent.is_empty() && OF_ARCHIVES.contains(&name))
}

struct Merging<'a> {
    sources: &'a [Arc<dyn Source>],
    /// Of each layer the number of its next entry.
    cursors: Vec<usize>,
    seen: Vec<Seen>,
}

/// What the layers have below one name of a directory.
struct Candidate<'a> {
    name: &'a [u8],
    layer: usize,
    at: usize,
}

impl<'a> Merging<'a> {
    fn root(&mut self) {
        let named = (0..self.sources.len()).rev().find(|&layer| self.sources[layer].is_named(0));
        self.seen.push(Seen::directory(named.unwrap_or(0), 0, 0));
    }

    fn parent(&self, layer: usize) -> Option<&'a [u8]> {
        let (source, at) = (&self.sources[layer], self.cursors[layer]);
        (at < source.count()).then(|| parent_and_name(source.path(at)).0)
    }

    /// Take what all layers have in the next directory; false when there is none.
    fn directory(&mut self) -> bool {
        let parents: Vec<_> = (0..self.sources.len()).map(|layer| self.parent(layer)).collect();
        let Some(path) = parents.iter().flatten().min().copied() else { return false };
        let mut groups = Vec::new();
        for (layer, _) in parents.iter().enumerate().filter(|(_, parent)| **parent == Some(path)) {
            let begin = self.cursors[layer];
            while self.parent(layer) == Some(path) {
                self.cursors[layer] += 1;
            }
            groups.push((layer, begin..self.cursors[layer]));
        }
        // Lower layers may have it where nothing of it is seen.
        let Some(mut floor) = self.floor(path) else { return true };
        groups.retain(|(layer, _)| *layer >= floor);
        let name = |layer: usize, at: usize| parent_and_name(self.sources[layer].path(at)).1;
        for (layer, range) in &groups {
            if range.clone().any(|at| name(*layer, at) == OPAQUE) {
                floor = *layer;
            }
        }
        groups.retain(|(layer, _)| *layer >= floor);
        let (mut candidates, mut whiteouts) = (Vec::new(), Vec::new());
        for (layer, range) in groups {
            for at in range {
                let name = name(layer, at);
                match name.strip_prefix(WHITEOUT) {
                    _ if is_kept_back(path, name) => {}
                    Some(hidden) => whiteouts.push((hidden, layer)),
                    None => candidates.push(Candidate { name, layer, at }),
                }
            }
        }
        // Of one layer they are sorted; of one name the topmost comes first.
        candidates.sort_by(|a, b| a.name.cmp(b.name).then(b.layer.cmp(&a.layer)));
        whiteouts.sort_unstable();
        for all in candidates.chunk_by(|a, b| a.name == b.name) {
            self.name(all, floor, &whiteouts);
        }
        true
    }

    /// The lowest layer of which something is seen in the directory at a path; none where no directory is seen.
    fn floor(&self, path: &[u8]) -> Option<usize> {
        let key = |seen: &Seen| parent_and_name(self.sources[usize::from(seen.layer)].path(seen.at as usize));
        let found = self.seen.binary_search_by(|seen| key(seen).cmp(&parent_and_name(path))).ok()?;
        self.seen[found].floor()
    }

    fn name(&mut self, all: &[Candidate<'a>], floor: usize, whiteouts: &[(&[u8], usize)]) {
        let hidden = whiteouts.partition_point(|(name, _)| *name <= all[0].name);
        let whiteout = hidden.checked_sub(1).map(|last| whiteouts[last]).filter(|(name, _)| *name == all[0].name);
        // A whiteout takes away from the layers below its own.
        let floor = floor.max(whiteout.map_or(0, |(_, layer)| layer));
        let Some(top) = all.first().filter(|top| top.layer >= floor) else { return };
        let is_directory = |one: &Candidate<'_>| self.sources[one.layer].is_directory(one.at);
        if !is_directory(top) {
            return self.seen.push(Seen::other(top.layer, top.at));
        }
        let dirs = all.iter().take_while(|one| one.layer >= floor && is_directory(one)).count();
        // What is no directory hides what is below it, too.
        let floor = all.get(dirs).map_or(floor, |below| floor.max(below.layer + 1));
        let told = all[..dirs].iter().find(|one| self.sources[one.layer].is_named(one.at)).unwrap_or(top);
        self.seen.push(Seen::directory(told.layer, told.at, floor));
    }
}
