//! A layer to be merged: its entries by number, in file-map order, made when they are looked at or there already.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filemap::{Entry, FileMap, INVENTED_MODE, Kind, Source, parent_and_name};

/// The entries of a file map, all of whose pages are there.
pub fn of_map(map: &Arc<FileMap>) -> Result<Arc<dyn Source>> {
    if let Some(source) = map.source() {
        return Ok(source.clone());
    }
    let (mut starts, mut count) = (Vec::with_capacity(map.pages().len()), 0);
    for page in 0..map.pages().len() {
        starts.push(count);
        let missing = |_| Error::Missing { what: format!("page {page} of the file map") };
        count += map.rows(page).map_err(missing)?.len();
    }
    Ok(Arc::new(Loaded { map: map.clone(), starts, count }))
}

struct Loaded {
    map: Arc<FileMap>,
    /// The number of the first entry of each page.
    starts: Vec<usize>,
    count: usize,
}

impl Loaded {
    fn get(&self, at: usize) -> &Entry {
        let page = self.starts.partition_point(|&start| start <= at) - 1;
        &self.map.rows(page).expect("all pages are there")[at - self.starts[page]]
    }
}

impl Source for Loaded {
    fn count(&self) -> usize {
        self.count
    }

    fn path(&self, at: usize) -> &[u8] {
        &self.get(at).path
    }

    fn entry(&self, at: usize) -> Entry {
        self.get(at).clone()
    }

    fn is_directory(&self, at: usize) -> bool {
        self.get(at).is_directory()
    }

    /// What an index keeps of a directory that no entry names is told by its saying nothing.
    fn is_named(&self, at: usize) -> bool {
        let entry = self.get(at);
        let says = (entry.mode, entry.uid, entry.gid, entry.mtime.sec, entry.mtime.nsec);
        says != (INVENTED_MODE, 0, 0, 0, 0) || !entry.xattrs.is_empty()
    }

    fn link(&self, at: usize) -> Option<&[u8]> {
        if let Kind::HardLink { first } = &self.get(at).kind { Some(first) } else { None }
    }
}

/// The number of the entry at a path.
pub fn find(source: &dyn Source, path: &[u8]) -> Option<usize> {
    let wanted = parent_and_name(path);
    let (mut low, mut high) = (0, source.count());
    while low < high {
        let middle = low + (high - low) / 2;
        match parent_and_name(source.path(middle)).cmp(&wanted) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
