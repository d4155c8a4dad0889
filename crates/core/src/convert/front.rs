//! Names that archives have for themselves, and the files that are to be at the front.

use std::collections::HashMap;

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
        names: impl ExactSizeIterator<Item = &'a [u8]>,
        first: impl Fn(usize) -> Option<usize>,
    ) -> Front {
        if wanted.is_empty() {
            return Front { chosen: Vec::new(), absent: Vec::new() };
        }
        let mut chosen = vec![false; names.len()];
        let at: HashMap<&[u8], usize> = names.enumerate().map(|(number, name)| (name, number)).collect();
        let mut absent = Vec::new();
        let mut take = |name: &[u8]| {
            let mut above = name;
            loop {
                if let Some(&number) = at.get(above) {
                    chosen[number] = true;
                }
                if above.is_empty() {
                    break;
                }
                above = parent_and_name(above).0;
            }
        };
        let named: HashMap<usize, &[u8]> = at.iter().map(|(&name, &number)| (number, name)).collect();
        for name in wanted {
            match at.get(&name[..]) {
                None => absent.push(name.clone()),
                Some(&number) => {
                    take(name);
                    if let Some(first) = first(number) {
                        take(named[&first]);
                    }
                }
            }
        }
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
