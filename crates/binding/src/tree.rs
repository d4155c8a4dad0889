//! `sapwood._core.tree`: working directories.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sapwood_core::filemap;
use sapwood_core::index;

use crate::enter::{direct, enter};
use crate::values::{Entry, Options, digest_text, paths};

#[pyclass(frozen, module = "sapwood._core.tree")]
pub struct State(pub index::State);

#[pymethods]
impl State {
    #[getter]
    fn digest(&self) -> Option<String> {
        self.0.root_digest().map(|digest| digest_text(&digest))
    }

    #[getter]
    fn size(&self) -> Option<u64> {
        self.0.root_digest().map(|digest| digest.size)
    }

    fn lookup(&self, py: Python<'_>, path: &[u8]) -> PyResult<Option<Entry>> {
        self.0.find(path).map(|record| self.entry(py, record)).transpose()
    }

    fn list(&self, py: Python<'_>, path: &[u8]) -> PyResult<Vec<Entry>> {
        let entries = self.0.find(path).map(|record| self.0.entries(record));
        entries.into_iter().flatten().map(|record| self.entry(py, record)).collect()
    }
}

impl State {
    fn entry(&self, py: Python<'_>, record: u32) -> PyResult<Entry> {
        direct(py, filemap::Entry::of_record(&self.0, record)).map(Entry)
    }
}

/// files, directories, symlinks, bytes, files hashed, bytes hashed
type Numbers = (u64, u64, u64, u64, u64, u64);

#[pyfunction]
#[pyo3(signature = (root, index, options, progress=None))]
fn hash<'py>(
    py: Python<'py>,
    root: PathBuf,
    index: Option<PathBuf>,
    options: Options,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<(State, Numbers, Vec<Bound<'py, PyBytes>>)> {
    let (state, summary, unreadable) =
        enter(py, progress.as_ref(), |job| index::hash(&root, index.as_deref(), &options.to_core()?, job))?;
    let index::Summary { files, directories, symlinks, bytes, files_hashed, bytes_hashed, .. } = summary;
    let numbers = (files, directories, symlinks, bytes, files_hashed, bytes_hashed);
    Ok((State(state), numbers, paths(py, &unreadable)))
}

type Paths<'py> = Vec<Bound<'py, PyBytes>>;

/// added, changed, removed, not readable, whether there was no earlier state
type Differences<'py> = (Paths<'py>, Paths<'py>, Paths<'py>, Paths<'py>, bool);

#[pyfunction]
#[pyo3(signature = (root, index, options, progress=None))]
fn status<'py>(
    py: Python<'py>,
    root: PathBuf,
    index: PathBuf,
    options: Options,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Differences<'py>> {
    let status = enter(py, progress.as_ref(), |job| index::status(&root, &index, &options.to_core()?, job))?;
    let bytes = |paths: &[Vec<u8>]| paths.iter().map(|path| PyBytes::new(py, path)).collect();
    Ok((
        bytes(&status.added),
        bytes(&status.changed),
        bytes(&status.removed),
        paths(py, &status.unreadable),
        status.is_fresh,
    ))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "tree")?;
    module.add_class::<State>()?;
    module.add_function(wrap_pyfunction!(hash, &module)?)?;
    module.add_function(wrap_pyfunction!(status, &module)?)?;
    parent.add_submodule(&module)
}
