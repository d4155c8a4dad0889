//! Names that the file system of a directory takes for one: those that differ in case only.
//!
//! Invariant: where that is so, nothing is changed as long as the tree and the directory have two such names between them.
//! Whether it is so is asked of one name that is there; normalisation is not looked at.

use std::collections::HashMap;

use rustix::fs::{AtFlags, statat};

use super::place::{Near, Place};
use super::plan::Tree;
use crate::error::{Error, Result};
use crate::filemap::parent_and_name;
use crate::index::State;
use crate::scan::Stat;

/// Refuse a tree of which two names, or one and one that is there, would be one file; `extra` are records of what the tree
/// has not.
///
/// # Errors
/// `Invalid`, with both names; `Io`.
pub fn require_apart(tree: &Tree, place: &Place, state: &State, extra: &[u32]) -> Result<()> {
    if !is_folded(place, state)? {
        return Ok(());
    }
    let there: Vec<Vec<u8>> = extra.iter().map(|&record| state.path_of(record)).collect();
    let mut seen: HashMap<(&[u8], String), &[u8]> = HashMap::new();
    for path in tree.entries[1..].iter().map(|entry| &entry.path).chain(&there) {
        let (parent, name) = parent_and_name(path);
        if let Some(first) = seen.insert((parent, String::from_utf8_lossy(name).to_lowercase()), path) {
            let [first, second] = [first, path].map(|path| crate::error::show(&place.show(path)));
            let why = format!("its file system takes it and {second} for one: rename one of them, or pull elsewhere");
            return Err(Error::Invalid { what: first, why });
        }
    }
    Ok(())
}

/// Whether a name that is there is found in other letters, too.
fn is_folded(place: &Place, state: &State) -> Result<bool> {
    let has_letters = |record: &u32| state.name(*record).iter().any(u8::is_ascii_alphabetic);
    let Some(record) = state.entries(0).find(has_letters) else { return Ok(false) };
    let turned =
        |byte: &u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    let other: Vec<u8> = state.name(record).iter().map(turned).collect();
    if state.find_in(0, &other).is_some() {
        return Ok(false);
    }
    let mut near = Near::default();
    let at = place.at(&mut near, &other)?;
    let found = statat(at, at.name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from);
    let known = state.stat(record);
    Ok(found.is_ok_and(|found| (found.dev, found.ino) == (known.dev, known.ino)))
}
