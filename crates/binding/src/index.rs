//! `sapwood._core.index`: indexes as such, and working directories looked at in part.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::digest::Digest;
use sapwood_core::filemap;
use sapwood_core::index;
use sapwood_core::job::Job;
use sapwood_core::scan;

use crate::enter::{direct, enter};
use crate::values::{Entry, Options, digest_text, parse_sha};

#[pyclass(frozen, module = "sapwood._core.index")]
struct Live(index::Live);

#[pymethods]
impl Live {
    #[new]
    #[pyo3(signature = (root, index, options, progress=None))]
    fn new(
        py: Python<'_>,
        root: PathBuf,
        index: Option<PathBuf>,
        options: Options,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Live> {
        enter(py, progress.as_ref(), |job| index::Live::open(&root, index, options.to_core()?, job)).map(Live)
    }

    fn root(&self, py: Python<'_>) -> PyResult<Entry> {
        let entry = self.0.recorded(b"", &Job::default(), |state, _| filemap::Entry::of_record(state, 0));
        direct(py, entry.and_then(|entry| entry)).map(Entry)
    }

    #[pyo3(signature = (path, progress=None))]
    fn list(&self, py: Python<'_>, path: &[u8], progress: Option<Bound<'_, PyAny>>) -> PyResult<Option<Vec<Entry>>> {
        enter(py, progress.as_ref(), |job| self.0.list(path, job, looked_at).and_then(Option::transpose))
    }

    fn recorded(&self, py: Python<'_>, path: &[u8]) -> PyResult<Option<Vec<Entry>>> {
        direct(py, self.0.recorded(path, &Job::default(), entries).and_then(Option::transpose))
    }

    fn digest<'py>(&self, py: Python<'py>, progress: Option<Bound<'py, PyAny>>) -> PyResult<Option<(String, u64)>> {
        let digest = enter(py, progress.as_ref(), |job| self.0.all(job, |state| state.root_digest()))?;
        Ok(digest.map(|digest| (digest_text(&digest), digest.size)))
    }
}

type Listed = Option<sapwood_core::error::Result<Vec<Entry>>>;

/// Of the directories in it nothing is known but that they are there.
fn looked_at(state: &index::State, directory: Option<u32>) -> Listed {
    let listed = entries(state, directory)?;
    Some(listed.map(|mut listed| {
        for Entry(entry) in &mut listed {
            if let filemap::Kind::Directory { digest } = &mut entry.kind {
                *digest = None;
            }
        }
        listed
    }))
}

fn entries(state: &index::State, directory: Option<u32>) -> Listed {
    let numbers = state.entries(directory?);
    Some(numbers.map(|number| filemap::Entry::of_record(state, number).map(Entry)).collect())
}

/// path, mode with type, digest and size of a file, target of a symbolic link
type Given = (Vec<u8>, u32, Option<(String, u64)>, Vec<u8>);

#[pyfunction]
fn adopt(py: Python<'_>, root: PathBuf, path: PathBuf, given: Vec<Given>, options: Options) -> PyResult<()> {
    enter(py, None, |job| {
        let given = given.into_iter().map(|(path, mode, digest, target)| {
            let digest =
                digest.map(|(text, size)| parse_sha(&text).map(|sha256| Digest { sha256, size })).transpose()?;
            Ok(index::Given { path, mode, digest, target })
        });
        let given = given.collect::<sapwood_core::error::Result<Vec<_>>>()?;
        index::adopt(&root, &path, given, &options.to_core()?, job)
    })
}

#[pyfunction]
fn verify(py: Python<'_>, path: PathBuf, threads: usize) -> PyResult<(u32, Vec<String>)> {
    enter(py, None, |job| index::verify(&path, threads, job))
}

#[pyfunction]
fn is_valid_format(py: Python<'_>, path: PathBuf, threads: usize) -> PyResult<bool> {
    enter(py, None, |job| index::State::read(&path, threads, job).map(|state| state.is_some()))
}

/// path, type, device, inode
type FileId<'py> = (Bound<'py, PyBytes>, &'static str, u64, u64);

#[pyfunction]
fn file_ids(py: Python<'_>, path: PathBuf, threads: usize) -> PyResult<Vec<FileId<'_>>> {
    let Some(state) = enter(py, None, |job| index::State::read(&path, threads, job))? else { return Ok(Vec::new()) };
    let id = |entry| {
        let stat = state.stat(entry);
        (PyBytes::new(py, &state.path_of(entry)), kind_text(stat.kind()), stat.dev, stat.ino)
    };
    Ok((1..state.len()).map(id).collect())
}

/// What the record of `name` says, by field; `None` without an index or a record.
#[pyfunction]
fn describe<'py>(
    py: Python<'py>,
    root: PathBuf,
    path: PathBuf,
    name: &[u8],
    threads: usize,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let found = enter(py, None, |job| match index::State::read(&path, threads, job)? {
        Some(state) => state.describe(&root, name),
        None => Ok(None),
    })?;
    let Some(record) = found else { return Ok(None) };
    let stat = record.stat;
    let ns = |time: scan::Time| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let fields = PyDict::new(py);
    fields.set_item("record", record.number)?;
    fields.set_item("kind", kind_text(stat.kind()))?;
    fields.set_item("mode", stat.mode & 0o7777)?;
    fields.set_item("uid", stat.uid)?;
    fields.set_item("gid", stat.gid)?;
    fields.set_item("dev", stat.dev)?;
    fields.set_item("ino", stat.ino)?;
    fields.set_item("size", stat.size)?;
    fields.set_item("mtime_ns", ns(stat.mtime))?;
    fields.set_item("ctime_ns", ns(stat.ctime))?;
    fields.set_item("digest", record.digest.as_ref().map(digest_text))?;
    fields.set_item("target", (!record.target.is_empty()).then(|| PyBytes::new(py, &record.target)))?;
    fields.set_item("racy", record.is_racy)?;
    fields.set_item("xattrs", record.has_xattrs)?;
    fields.set_item("links", record.has_links)?;
    fields.set_item("sparse", record.is_sparse)?;
    fields.set_item("parent", record.parent)?;
    fields.set_item("first", record.first)?;
    fields.set_item("count", record.count)?;
    fields.set_item("checksum", record.checksum)?;
    fields.set_item("whole", record.is_whole)?;
    fields.set_item("summed", record.is_summed)?;
    fields.set_item("differs", record.differs)?;
    Ok(Some(fields))
}

fn kind_text(kind: scan::Kind) -> &'static str {
    match kind {
        scan::Kind::File => "reg",
        scan::Kind::Directory => "dir",
        scan::Kind::Symlink => "symlink",
        scan::Kind::Fifo => "fifo",
        scan::Kind::CharDevice => "char",
        scan::Kind::BlockDevice => "block",
        scan::Kind::Socket => "socket",
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "index")?;
    module.add_class::<Live>()?;
    module.add_function(wrap_pyfunction!(adopt, &module)?)?;
    module.add_function(wrap_pyfunction!(verify, &module)?)?;
    module.add_function(wrap_pyfunction!(is_valid_format, &module)?)?;
    module.add_function(wrap_pyfunction!(file_ids, &module)?)?;
    module.add_function(wrap_pyfunction!(describe, &module)?)?;
    parent.add_submodule(&module)
}
