//! A directory that exists before the pull: what is in it now, and whether that is a tree which was pulled here.
//!
//! Invariant: `holds` says yes only of a directory in which every entry, down to inodes and times, is the one that was
//! there when a pull of that very file map had ended well. The record of it is a cache: without it, entries are compared.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::{At, Near, Place};
use crate::error::{Error, Result};
use crate::index::{Options, Scope, State};
use crate::job::Job;

pub struct Present {
    pub(super) place: Place,
    pub(super) state: State,
    pub(super) records: Records,
}

/// Where what is known of the directory is kept, and how it is looked at.
pub struct Records {
    pub index: PathBuf,
    pub options: Options,
}

/// What an earlier pull left, all of which still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    /// Entries of the directory that the tree has not.
    pub extra: u64,
}

#[derive(Serialize, Deserialize)]
struct Pulled {
    format: u64,
    map: String,
    state: String,
    entries: u64,
    files: u64,
    bytes: u64,
    extra: u64,
}

impl Present {
    /// Look at `directory` as `index::hash` does, and store the state. What may not be read is made readable if it is a
    /// directory, and else counts as not there.
    ///
    /// # Errors
    /// `Unreadable` with the directories that stay so; as `index::hash`.
    pub fn look(directory: &Path, records: Records, job: &Job) -> Result<Present> {
        let place = Place::open(directory)?;
        let mut options = records.options.clone();
        options.skip_unreadable = true;
        let mut before = State::read(&records.index, options.threads, job)?;
        let mut asked = Vec::new();
        loop {
            let (mut state, mut unreadable) = State::look(place.root(), before, Scope::All, &options, None, job)?;
            if unreadable.is_empty() {
                state.read_pending(place.root(), &options, &mut unreadable, job)?;
                state.seal();
                state.write(&records.index)?;
                return Ok(Present { place, state, records });
            }
            if unreadable == asked || !unreadable.iter().all(|path| make_readable(&place, path)) {
                return Err(Error::Unreadable { paths: unreadable });
            }
            asked = unreadable;
            before = None;
        }
    }

    /// Whether the directory is as a pull of the map with this digest left it.
    pub fn holds(&self, map: &str) -> Option<Held> {
        let text = std::fs::read(beside(&self.records.index)).ok()?;
        let told: Pulled = serde_json::from_slice(&text).ok()?;
        let is_it = told.format == 1 && told.map == map && told.state == self.state.fingerprint().hex();
        is_it.then_some(Held { entries: told.entries, files: told.files, bytes: told.bytes, extra: told.extra })
    }
}

impl Records {
    /// Note that `state` is what a pull of `map` left.
    pub fn remember(&self, state: &State, map: &str, held: Held) -> Result<()> {
        let Held { entries, files, bytes, extra } = held;
        let state = state.fingerprint().hex();
        let told = Pulled { format: 1, map: map.to_owned(), state, entries, files, bytes, extra };
        let path = beside(&self.index);
        let mut new = path.clone().into_os_string();
        new.push(format!(".{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(&told)?)?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|error| {
            let _ = std::fs::remove_file(&new);
            Error::io("write", &path)(error)
        })
    }
}

fn beside(index: &Path) -> PathBuf {
    let mut path = index.as_os_str().to_owned();
    path.push(".pulled");
    PathBuf::from(path)
}

/// Let the owner of a directory look into it. Whether that was possible.
fn make_readable(place: &Place, path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(below) = path.strip_prefix(place.root().path()) else { return false };
    let mut near = Near::default();
    let make = |at: At<'_>| {
        let stat = at.dir.stat(at.name.as_bytes())?;
        Ok::<_, std::io::Error>(at.chmod(stat.mode & 0o7777 | 0o700)?)
    };
    place.at(&mut near, below.as_os_str().as_bytes()).is_ok_and(|at| make(at).is_ok())
}
