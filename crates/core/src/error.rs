//! What can go wrong, said once.
//!
//! Invariant: each variant names the thing, what was found, and maps to exactly one Python class and `kind`
//! (`crates/binding/src/errors.rs` matches without a wildcard). Messages are one line, without debug dumps.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub enum Error {
    /// The operating system refused `doing` on `path`.
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// Files or directories that may not be read, in walk order; never empty.
    Unreadable { paths: Vec<PathBuf> },
    /// Entries that a tree has and the directory has not; never empty.
    Absent { paths: Vec<PathBuf> },
    /// Directories that stand where a tree has something else, and are not empty; never empty. `removable`: they may be
    /// removed by who asks for it.
    InTheWay { paths: Vec<PathBuf>, removable: bool },
    /// A file that changed each time it was read.
    Unstable { path: PathBuf },
    /// Stored bytes that do not parse; `what` names the object, `found` the offence.
    Damaged { what: String, found: String },
    /// An archive whose TOC needs more than is given to any of its size.
    TocTooLarge { found: String },
    /// A file of an archive that cannot be read without having more of it at once than is allowed.
    ChunkTooLarge { name: String },
    /// Bytes whose digest is not the one they are named by.
    Mismatch { what: String, expected: Digest, got: Digest },
    /// A format version above ours.
    NewerFormat { what: String, version: u64 },
    /// The caller's argument cannot be used.
    Invalid { what: String, why: String },
    /// What should be a directory is none.
    NotADirectory { path: PathBuf },
    /// Something that should be there is not.
    Missing { what: String },
    /// A page of a file map that cannot be had.
    NoPage { page: usize, why: String },
    /// Cancelled by the caller.
    Stopped,
    /// A place where one cannot mount, or from which there is nothing to unmount; `remedy` is what to do instead.
    MountPoint { place: PathBuf, why: String, remedy: String },
    /// A limit of the system on watching directories; `name` is that of the setting.
    WatchLimit { path: PathBuf, name: &'static str, limit: String },
    /// A directory of which not every change would be told.
    Unwatchable { path: PathBuf, why: String },
    /// A stream that cannot be entered anywhere near a place in it.
    NoCheckpoint { what: String, why: String },
    /// The kernel or a helper program will not mount or unmount.
    Mount { place: PathBuf, why: String },
    /// Somebody uses a mount that was to be taken away.
    MountBusy { place: PathBuf },
}

impl Error {
    /// For `map_err`: keeps what was being done and to which path.
    pub fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { doing, path, source }
    }

    pub fn damaged(what: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Damaged { what: what.into(), found: found.into() }
    }
}

/// A path as one line of text: control bytes escaped, bytes that are not UTF-8 shown as `\xNN`.
pub fn show(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// What the system says, without the number that Rust adds.
fn said(source: &io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, path, source } => write!(f, "cannot {doing} {}: {}", show(path), said(source)),
            Error::Unreadable { paths } => {
                write!(f, "no permission to read {}", show(&paths[0]))?;
                if paths.len() > 1 { write!(f, " and {} more", paths.len() - 1) } else { Ok(()) }
            }
            Error::Absent { paths } => {
                write!(f, "{} does not exist as the tree has it", show(&paths[0]))?;
                if paths.len() > 1 { write!(f, ", nor do {} more", paths.len() - 1) } else { Ok(()) }
            }
            Error::InTheWay { paths, .. } => {
                write!(f, "the directory {} is in the way of what the tree has there", show(&paths[0]))?;
                if paths.len() > 1 { write!(f, ", and so are {} more", paths.len() - 1) } else { Ok(()) }
            }
            Error::Unstable { path } => write!(f, "{} changed each time it was read", show(path)),
            Error::Damaged { what, found } => write!(f, "{what} is damaged: {found}"),
            Error::TocTooLarge { found } => write!(f, "its TOC is too large: {found}"),
            Error::ChunkTooLarge { name } => write!(f, "{name}: a chunk needs more than 64 MiB"),
            Error::Mismatch { what, expected, got } => {
                write!(f, "{what} is damaged: its bytes hash to {}, not {}", got.short(), expected.short())
            }
            Error::NewerFormat { what, version } => {
                write!(f, "{what} has format {version}; this sapwood reads up to 1")
            }
            Error::Invalid { what, why } | Error::NoCheckpoint { what, why } => write!(f, "{what}: {why}"),
            Error::NotADirectory { path } => write!(f, "{} is not a directory", show(path)),
            Error::Missing { what } => write!(f, "{what} is missing"),
            Error::NoPage { page, why } => write!(f, "page {page} of the file map cannot be had: {why}"),
            Error::Stopped => write!(f, "stopped"),
            Error::MountBusy { place } => {
                write!(
                    f,
                    "{}: is in use: end what works in it, or unmount it lazily (sapwood umount --lazy)",
                    show(place)
                )
            }
            Error::Mount { place, why } | Error::MountPoint { place, why, .. } => write!(f, "{}: {why}", show(place)),
            Error::WatchLimit { path, name, limit } => {
                write!(f, "{} cannot be watched: fs.inotify.{name} is {limit}, and it takes more", show(path))
            }
            Error::Unwatchable { path, why } => write!(f, "{} cannot be watched: {why}", show(path)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
