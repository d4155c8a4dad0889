//! `sapwood._core.watch`: a directory whose changes are known.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sapwood_core::index::Summary;
use sapwood_core::watch;

use crate::enter::{direct, enter};
use crate::values::{Options, digest_text, paths};

#[pyclass(frozen, module = "sapwood._core.watch")]
struct Watcher(watch::Watcher);

/// Tree digest, size of its message; files, directories, symlinks, bytes; files hashed, bytes hashed; not readable
type Hashed<'py> = (String, u64, (u64, u64, u64, u64), (u64, u64), Vec<Bound<'py, PyBytes>>);

type Paths<'py> = Vec<Bound<'py, PyBytes>>;

#[pymethods]
impl Watcher {
    #[new]
    #[pyo3(signature = (root, index, private, options, progress=None))]
    fn new(
        py: Python<'_>,
        root: PathBuf,
        index: PathBuf,
        private: PathBuf,
        options: Options,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Watcher> {
        let options = direct(py, options.to_core())?;
        let watcher = enter(py, progress.as_ref(), |job| watch::Watcher::start(&root, &index, &private, options, job))?;
        Ok(Watcher(watcher))
    }

    #[pyo3(signature = (skip_unreadable, progress=None))]
    fn hash<'py>(
        &self,
        py: Python<'py>,
        skip_unreadable: bool,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Hashed<'py>> {
        let hashed = enter(py, progress.as_ref(), |job| self.0.hash(skip_unreadable, job))?;
        let Summary { files, directories, symlinks, bytes, files_hashed, bytes_hashed, .. } = hashed.summary;
        Ok((
            digest_text(&hashed.digest),
            hashed.digest.size,
            (files, directories, symlinks, bytes),
            (files_hashed, bytes_hashed),
            paths(py, &hashed.unreadable),
        ))
    }

    #[pyo3(signature = (progress=None))]
    #[allow(clippy::type_complexity)]
    fn status<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<(Paths<'py>, Paths<'py>, Paths<'py>, Paths<'py>)>> {
        let status = enter(py, progress.as_ref(), |job| self.0.status(job))?;
        let bytes = |paths: &[Vec<u8>]| paths.iter().map(|path| PyBytes::new(py, path)).collect();
        Ok(status.map(|status| {
            (bytes(&status.added), bytes(&status.changed), bytes(&status.removed), paths(py, &status.unreadable))
        }))
    }

    #[getter]
    fn directories(&self) -> usize {
        self.0.directories()
    }

    #[getter]
    fn root_id(&self) -> (u64, u64) {
        self.0.id()
    }

    fn fileno(&self) -> i32 {
        self.0.over().as_raw_fd()
    }

    fn __repr__(&self) -> String {
        format!("Watcher({} directories)", self.0.directories())
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "watch")?;
    module.add_class::<Watcher>()?;
    parent.add_submodule(&module)
}
