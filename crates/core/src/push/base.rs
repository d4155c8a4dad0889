//! A mounted tree that was looked at: of what was not changed in the mount the contents are known, and not read.
//!
//! Invariant: a digest is taken from the map only for a file that the upper layer did not have after it was looked at, or of which
//! it had all but the content: so what was looked at is the map's. Whatever is not as the map says is read.
//! Not here: how an overlay is made (`fuse`). How the kernel writes changes down: docs/writable.md, "What a push looks at".

use std::collections::HashMap;
use std::io;

use crate::error::{Error, Result};
use crate::filemap::{Content, Entry, FileMap, Kind, Missing};
use crate::index::State;
use crate::job::Job;
use crate::scan::{self, Root, Stat};

const OWN: &[u8] = b"trusted.overlay.";
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const REDIRECT: &[u8] = b"trusted.overlay.redirect";
const METACOPY: &[u8] = b"trusted.overlay.metacopy";

/// Where an entry comes from.
struct Origin {
    /// Whether the upper layer has something of its name.
    is_upper: bool,
    /// The path in the map of what lies below it, or of its content; `None`: nothing does.
    lower: Option<Vec<u8>>,
}

/// Give the files of `state`, a mount of `base`, that were not changed the digests that the map has.
///
/// # Errors
/// `Missing` while pages of the map are, `Io` of the upper layer, `Stopped`.
pub fn trust(state: &mut State, base: &FileMap, upper: Option<&Root>, job: &Job) -> Result<()> {
    let mut directories = HashMap::from([(0, Origin { is_upper: upper.is_some(), lower: Some(Vec::new()) })]);
    let device = state.stat(0).dev;
    // Directories stand before what is in them.
    for record in 1..state.len() {
        if record.is_multiple_of(4096) {
            job.step(0)?;
        }
        let kind = state.kind(record);
        if !matches!(kind, scan::Kind::Directory | scan::Kind::File) {
            continue;
        }
        let Some(parent) = directories.get(&state.parent(record)) else { continue };
        let Some(origin) = origin(state, record, parent, upper)? else { continue };
        // What is mounted below is not the map's.
        if kind == scan::Kind::Directory && state.stat(record).dev == device {
            let is_doubtful =
                origin.lower.as_ref().map_or(Ok(false), |lower| is_note_at(base, lower)).map_err(absent)?;
            if !is_doubtful {
                directories.insert(record, origin);
            }
        } else if let (scan::Kind::File, Some(lower)) = (kind, origin.lower) {
            let stat = state.stat(record);
            let content = content(base, &lower, &stat, origin.is_upper);
            if let Some(content) = content.map_err(absent)? {
                let digest = content.digest;
                state.set_known(record, digest);
            }
        }
    }
    Ok(())
}

/// Where an entry comes from; `None` when nothing of it or below it can come from the map.
fn origin(state: &State, record: u32, parent: &Origin, upper: Option<&Root>) -> Result<Option<Origin>> {
    let plain = parent.lower.as_ref().map(|path| below(path, state.name(record)));
    let Some(upper) = upper.filter(|_| parent.is_upper) else {
        return Ok(plain.map(|lower| Origin { is_upper: false, lower: Some(lower) }));
    };
    let path = state.path_of(record);
    let attributes = match upper.stat(&path).and_then(|_| upper.xattrs(&path)) {
        Ok(attributes) => attributes,
        Err(error) if scan::is_gone(&error) || error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(plain.map(|lower| Origin { is_upper: false, lower: Some(lower) }));
        }
        Err(error) => return Err(Error::io("read", upper.show(&path))(error)),
    };
    let lower = lower_of(state.kind(record), state.name(record), parent.lower.as_deref(), &attributes);
    Ok(Some(Origin { is_upper: true, lower }))
}

/// The path in the map of what lies below a directory of the upper layer, or of the content of a file: by its own attributes, where
/// its directory lies over `parent`. `None`: nothing does.
pub fn lower_of(
    kind: scan::Kind,
    name: &[u8],
    parent: Option<&[u8]>,
    attributes: &[(Vec<u8>, Vec<u8>)],
) -> Option<Vec<u8>> {
    let attribute = |name: &[u8]| attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_slice());
    let beside = |name: &[u8]| parent.map(|parent| below(parent, name));
    match (kind, attribute(REDIRECT)) {
        (scan::Kind::Directory, _) if attribute(OPAQUE) == Some(b"y") => None,
        (scan::Kind::File, _) if attribute(METACOPY).is_none() => None,
        (scan::Kind::Directory | scan::Kind::File, Some(redirect)) => {
            redirect.strip_prefix(b"/").map(<[u8]>::to_vec).or_else(|| beside(redirect))
        }
        (scan::Kind::Directory | scan::Kind::File, None) => beside(name),
        _ => None,
    }
}

/// Whether an entry of the map says to the kernel what only an upper layer should: what lies there is not what the map says.
pub fn is_a_note(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::CharDevice { major: 0, minor: 0 })
        || entry.xattrs.iter().any(|(name, _)| name.starts_with(OWN))
}

fn is_note_at(base: &FileMap, path: &[u8]) -> std::result::Result<bool, Missing> {
    let Some(inode) = base.find(path)? else { return Ok(false) };
    Ok(base.resolve(inode)?.is_some_and(|(_, entry)| is_a_note(entry)))
}

/// The path of a name in a directory.
pub fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, name].join(&b'/') }
}

/// A page is missing.
pub fn absent(Missing(page): Missing) -> Error {
    Error::Missing { what: format!("page {page} of the file map") }
}

/// The content of the file at a path of the map, if what was looked at can be it.
fn content<'m>(
    base: &'m FileMap,
    path: &[u8],
    stat: &Stat,
    has_own_attributes: bool,
) -> std::result::Result<Option<&'m Content>, Missing> {
    let Some(inode) = base.find(path)? else { return Ok(None) };
    let Some((_, entry)) = base.resolve(inode)? else { return Ok(None) };
    let Kind::Regular(content) = &entry.kind else { return Ok(None) };
    if is_a_note(entry) {
        return Ok(None);
    }
    let is_same = content.digest.size == stat.size && (has_own_attributes || is_as_told(entry, stat));
    Ok(is_same.then_some(content))
}

fn is_as_told(entry: &Entry, stat: &Stat) -> bool {
    (entry.mode, entry.uid, entry.gid, entry.mtime) == (stat.mode & 0o7777, stat.uid, stat.gid, stat.mtime)
}
