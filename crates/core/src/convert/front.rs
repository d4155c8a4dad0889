//! Names that archives have for themselves, and the files that are to be at the front.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::scan::{Time, parent_and_name};
use crate::stargz::{TOC_NAME, Writer};
use crate::tar::{self, Kind};

/// Stands after what is to be fetched first.
const LANDMARK: &[u8] = b".prefetch.landmark";
/// Says to others that there is nothing such.
const NO_LANDMARK: &[u8] = b".no.prefetch.landmark";

/// Whether a name of an input is not taken over.
pub fn is_reserved(name: &[u8]) -> bool {
    [TOC_NAME, LANDMARK, NO_LANDMARK].contains(&name)
}

/// Which entries are to be at the front: by number. Empty when none are.
pub struct Front {
    pub chosen: Vec<bool>,
    /// Names that no entry has.
    pub absent: Vec<Vec<u8>>,
}

impl Front {
    /// `wanted` are clean names; `names` those of all entries in their order, `first` of a hard link the number of its file.
    pub fn of<'a>(
        wanted: &[Vec<u8>],
        names: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        first: impl Fn(usize) -> Option<usize>,
    ) -> Front {
        if wanted.is_empty() {
            return Front { chosen: Vec::new(), absent: Vec::new() };
        }
        let mut chosen = vec![false; names.len()];
        let mut places: HashMap<&[u8], Option<usize>> = wanted.iter().map(|name| (&name[..], None)).collect();
        let mut firsts = HashSet::new();
        for (number, name) in names.clone().enumerate() {
            if let Some(place) = places.get_mut(name) {
                *place = Some(number);
                chosen[number] = true;
                firsts.extend(first(number));
            }
        }
        // Files whose other names are wanted, and directories: by their numbers and their names.
        let mut above = HashSet::new();
        for (number, name) in names.clone().enumerate() {
            chosen[number] |= firsts.contains(&number);
            let mut rest = if chosen[number] { name } else { b"" };
            while !rest.is_empty() {
                rest = parent_and_name(rest).0;
                if !above.insert(rest) {
                    break;
                }
            }
        }
        for (number, name) in names.enumerate() {
            chosen[number] |= above.contains(name);
        }
        let absent = wanted.iter().filter(|name| places[&name[..]].is_none()).cloned().collect();
        Front { chosen, absent }
    }

    pub fn is_empty(&self) -> bool {
        !self.chosen.contains(&true)
    }

    /// Whether an entry is in a part of the archive.
    pub fn is_in(&self, number: usize, front: bool) -> bool {
        self.chosen.get(number).copied().unwrap_or(false) == front
    }
}

/// Write the landmark.
///
/// # Errors
/// Those of the writer.
pub fn landmark(writer: &mut Writer<'_>) -> Result<()> {
    let header = tar::Header {
        name: LANDMARK.to_vec(),
        kind: Kind::Regular { size: 1, holes: Vec::new() },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    };
    writer.entry(&header, &mut &[0x0f][..])
}
