//! The one match from the core's errors to Python's classes: a new variant does not compile before it has a class and a kind.

use std::any::Any;
use std::io;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use sapwood_core::error::Error;

/// Class of `sapwood.errors`, kind, hint.
fn describe(error: &Error) -> (&'static str, &'static str, Option<&'static str>) {
    match error {
        Error::Io { source, .. } => of_io(source),
        Error::Unreadable { .. } => (
            "DeniedError",
            "path-denied",
            Some("run as a user who may read it, or leave it out with --skip-unreadable"),
        ),
        Error::Absent { .. } => ("NotFoundError", "path-missing", Some("write the tree there first: sapwood pull")),
        Error::InTheWay { removable: true, .. } => {
            ("ConflictError", "in-the-way", Some("move it away, or let it be removed with --delete"))
        }
        Error::InTheWay { .. } => (
            "ConflictError",
            "in-the-way",
            Some("move it away: --delete leaves what .sapwoodignore leaves out, sockets, and what is mounted"),
        ),
        Error::Unstable { .. } => ("UnavailableError", "file-changing", Some("try again when nothing writes to it")),
        Error::Damaged { .. } => ("CorruptError", "damaged", None),
        Error::TocTooLarge { .. } => ("CorruptError", "archive-toc-too-large", None),
        Error::ChunkTooLarge { .. } => (
            "InvalidInputError",
            "archive-chunk-too-large",
            Some("make one of its tar: sapwood convert ARCHIVE NEW.tar.gz"),
        ),
        Error::Mismatch { .. } => ("CorruptError", "chunk-corrupt", None),
        Error::NewerFormat { .. } => ("FormatError", "format-newer", Some("upgrade sapwood")),
        Error::Invalid { .. } => ("InvalidInputError", "invalid", None),
        Error::NoCheckpoint { .. } => (
            "InvalidInputError",
            "archive-not-seekable",
            Some("make an archive of it that can be entered anywhere: sapwood convert TAR OUT.tar.gz"),
        ),
        Error::NotADirectory { .. } => ("InvalidInputError", "not-a-directory", None),
        Error::Missing { .. } | Error::NoPage { .. } => ("NotFoundError", "missing", None),
        Error::Stopped => ("StoppedError", "stopped", None),
        Error::MountPoint { .. } => ("InvalidInputError", "bad-mount-point", None),
        Error::WatchLimit { name: "max_user_instances", .. } => {
            ("UnavailableError", "watch-limit", Some("sudo sysctl fs.inotify.max_user_instances=1024"))
        }
        Error::WatchLimit { .. } => {
            ("UnavailableError", "watch-limit", Some("sudo sysctl fs.inotify.max_user_watches=4194304"))
        }
        Error::Unwatchable { .. } => ("InvalidInputError", "unwatchable", None),
        Error::Mount { .. } => ("UnavailableError", "mount-failed", None),
        Error::MountBusy { .. } => ("UnavailableError", "mount-busy", None),
    }
}

fn of_io(source: &io::Error) -> (&'static str, &'static str, Option<&'static str>) {
    match source.kind() {
        io::ErrorKind::NotFound => ("NotFoundError", "path-missing", None),
        io::ErrorKind::PermissionDenied => ("DeniedError", "path-denied", None),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("UnavailableError", "disk-full", Some("free some space and run it again"))
        }
        io::ErrorKind::ReadOnlyFilesystem => ("DeniedError", "read-only", None),
        io::ErrorKind::NotADirectory => ("InvalidInputError", "not-a-directory", None),
        _ => ("UnavailableError", "io", None),
    }
}

/// The Python exception for `error`.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let (class, kind, hint) = describe(error);
    build(py, class, &error.to_string(), kind, hint, error).unwrap_or_else(|error| error)
}

fn build(py: Python<'_>, class: &str, text: &str, kind: &str, hint: Option<&str>, error: &Error) -> PyResult<PyErr> {
    let keywords = PyDict::new(py);
    keywords.set_item("kind", kind)?;
    keywords
        .set_item("hint", if let Error::MountPoint { remedy, .. } = error { Some(remedy.as_str()) } else { hint })?;
    if let Error::Unreadable { paths } | Error::Absent { paths } | Error::InTheWay { paths, .. } = error {
        keywords.set_item("paths", paths.iter().map(|path| path.as_os_str()).collect::<Vec<_>>())?;
    }
    let class = py.import("sapwood.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((text,), Some(&keywords))?))
}

/// A panic of the core: our bug, with what it said.
pub fn internal(py: Python<'_>, panic: &(dyn Any + Send)) -> PyErr {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = format!("internal error: {}", said.unwrap_or("the core panicked"));
    let make = || {
        let keywords = PyDict::new(py);
        keywords.set_item("kind", "internal")?;
        keywords.set_item("hint", "please report this with the command that led to it")?;
        let class = py.import("sapwood.errors")?.getattr("InternalError")?;
        Ok::<_, PyErr>(PyErr::from_value(class.call((text,), Some(&keywords))?))
    };
    make().unwrap_or_else(|error| error)
}
