//! Listing a directory: the names it has, and what each is.
//!
//! Invariant: sorted by name; sockets and what vanished meanwhile are left out; a symbolic link's target belongs to its
//! stat.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::State;
use super::look::{Changed, Look, SPLIT, STRIDE};
use super::record::Record;
use super::share::share;
use crate::error::{Error, Result, show};
use crate::scan::{Dir, Kind, is_gone};
use crate::select::InForce;

/// For an entry that is another thing each time we look.
const TRIES: u32 = 5;

#[derive(Default)]
pub(super) struct Listing {
    pub entries: Vec<Listed>,
    /// Of the new ones, a target after its name.
    pub names: Vec<u8>,
    /// The directory has a rule file that is left out.
    pub hides_rules: bool,
}

pub(super) enum Listed {
    /// As recorded, or a directory where there was one before: what it is now is for its own look to say.
    Kept(u32),
    /// Its name lies in the listing's names. `old` had the same name and kind.
    New { record: Record, old: Option<u32> },
}

impl Listing {
    /// When names, kinds and targets are those of the state: the entries that are not as recorded.
    pub fn as_entries(&self, state: &State, directory: u32) -> Option<Changed> {
        let olds = state.entries(directory);
        if olds.len() != self.entries.len() {
            return None;
        }
        let mut changed = Vec::new();
        for (old, listed) in olds.zip(&self.entries) {
            match listed {
                Listed::Kept(kept) if *kept == old => {}
                Listed::New { record, old: Some(was) } if *was == old => {
                    if record.kind() == Kind::Symlink && self.target(record) != state.target(old) {
                        return None;
                    }
                    changed.push((old, *record));
                }
                _ => return None,
            }
        }
        Some(changed)
    }

    /// The entries of the state that are in the directory no more.
    pub fn dropped(&self, state: &State, directory: u32) -> Vec<u32> {
        let kept = self.entries.iter().filter_map(|listed| match listed {
            Listed::Kept(old) | Listed::New { old: Some(old), .. } => Some(*old),
            Listed::New { old: None, .. } => None,
        });
        let mut kept = kept.peekable();
        state.entries(directory).filter(|entry| kept.next_if_eq(entry).is_none()).collect()
    }

    /// The entry `name`.
    pub fn find(&self, state: &State, name: &[u8]) -> Option<&Listed> {
        let name_of = |listed: &Listed| match listed {
            Listed::Kept(old) => state.name(*old),
            Listed::New { record, .. } => self.name(record),
        };
        self.entries.binary_search_by(|listed| name_of(listed).cmp(name)).ok().map(|at| &self.entries[at])
    }

    pub fn name(&self, record: &Record) -> &[u8] {
        let at = record.name_at() as usize;
        &self.names[at..at + usize::from(record.name_len())]
    }

    pub fn target(&self, record: &Record) -> &[u8] {
        let at = record.name_at() as usize + usize::from(record.name_len());
        &self.names[at..at + record.length() as usize]
    }

    fn append(&mut self, other: Listing) -> Result<()> {
        if self.entries.is_empty() {
            *self = other;
            return Ok(());
        }
        let base = u32::try_from(self.names.len()).map_err(|_| too_long(b"a directory"))?;
        self.names.extend_from_slice(&other.names);
        self.entries.extend(other.entries.into_iter().map(|listed| match listed {
            Listed::Kept(old) => Listed::Kept(old),
            Listed::New { mut record, old } => {
                record.set_name(record.name_at() + base, record.name_len());
                Listed::New { record, old }
            }
        }));
        Ok(())
    }
}

/// One entry as it is.
struct Present {
    record: Record,
    target: Vec<u8>,
    old: Option<u32>,
}

impl Look<'_> {
    /// List `dir`, whose path is `path` and which was a directory of the state before.
    pub fn list(&self, dir: &Dir, path: &[u8], before: Option<(&State, u32)>) -> Result<Listing> {
        let listed = dir.list(self.job);
        self.job.step(0)?;
        let listed = listed.map_err(Error::io("list", self.root.show(path)))?;
        let mut names: Vec<&[u8]> = listed.split(|&b| b == 0).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        let runs: Vec<&[&[u8]]> = names.chunks(SPLIT).collect();
        let threads = if runs.len() > 1 { self.options.threads } else { 1 };
        let rules = self.rules.of(path, &names)?;
        let listed = |run: usize| self.entries_of(dir, path, runs[run], &rules, before);
        let listed = share(threads, runs.len(), || (), |(), run| listed(run))?;
        let mut listing = Listing::default();
        listed.into_iter().try_for_each(|run| listing.append(run))?;
        listing.hides_rules = rules.hides_rules;
        Ok(listing)
    }

    fn entries_of(
        &self,
        dir: &Dir,
        path: &[u8],
        names: &[&[u8]],
        rules: &InForce,
        before: Option<(&State, u32)>,
    ) -> Result<Listing> {
        let mut listing = Listing { entries: Vec::with_capacity(names.len()), ..Listing::default() };
        for (number, &name) in names.iter().enumerate() {
            if number.is_multiple_of(STRIDE) {
                self.job.step(0)?;
            }
            let old = before.and_then(|(state, directory)| Some((state, state.find_in(directory, name)?)));
            listing.entries.extend(match self.entry(dir, path, name, rules, old)? {
                None => None,
                Some(Entry::Kept(old)) => Some(Listed::Kept(old)),
                Some(Entry::New(Present { mut record, target, old })) => {
                    let name_len = u16::try_from(name.len()).map_err(|_| too_long(name))?;
                    record.set_name(u32::try_from(listing.names.len()).map_err(|_| too_long(path))?, name_len);
                    record.set_length(u32::try_from(target.len()).map_err(|_| too_long(name))?);
                    listing.names.extend_from_slice(name);
                    listing.names.extend_from_slice(&target);
                    Some(Listed::New { record, old })
                }
            });
        }
        Ok(listing)
    }

    /// What an entry is; `None` when it is gone, a socket, or left out.
    fn entry(
        &self,
        dir: &Dir,
        path: &[u8],
        name: &[u8],
        rules: &InForce,
        old: Option<(&State, u32)>,
    ) -> Result<Option<Entry>> {
        let show = || self.root.show(path).join(OsStr::from_bytes(name));
        for _ in 0..TRIES {
            let stat = match dir.stat(name) {
                Err(e) if is_gone(&e) => return Ok(None),
                // Without the right to search it a directory is as good as unreadable.
                stat => stat.map_err(Error::io("stat", self.root.show(path)))?,
            };
            let kind = stat.kind();
            if kind == Kind::Socket || self.rules.leave_out(rules, path, name, kind == Kind::Directory) {
                return Ok(None);
            }
            let old = old.filter(|(state, old)| state.kind(*old) == kind);
            if let Some((state, old)) = old
                && (kind == Kind::Directory || self.holds(state, dir, old, &stat))
            {
                return Ok(Some(Entry::Kept(old)));
            }
            let record = match self.fresh(dir, name, &stat) {
                Err(e) if is_gone(&e) => continue,
                made => made.map_err(Error::io("list extended attributes of", show()))?,
            };
            let target = match kind {
                Kind::Symlink => match dir.read_link(name) {
                    // Gone, or no link any more.
                    Err(e) if is_gone(&e) || e.kind() == std::io::ErrorKind::InvalidInput => continue,
                    target => target.map_err(Error::io("read the link", show()))?,
                },
                _ => Vec::new(),
            };
            return Ok(Some(Entry::New(Present { record, target, old: old.map(|(_, old)| old) })));
        }
        Err(Error::Unstable { path: show() })
    }
}

enum Entry {
    Kept(u32),
    New(Present),
}

fn too_long(name: &[u8]) -> Error {
    Error::Invalid { what: show(Path::new(OsStr::from_bytes(name))), why: "too long a name for the index".to_owned() }
}
