//! `sapwood._core.pull`: a file map and its frames into a directory.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sapwood_core::job::Job;
use sapwood_core::pull;

use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::Frame;

#[pyclass(frozen, module = "sapwood._core.pull")]
struct Pull(pull::Pull);

#[pymethods]
impl Pull {
    #[new]
    fn new(py: Python<'_>, map: &FileMap, directory: PathBuf) -> PyResult<Pull> {
        let map = map.0.clone();
        enter(py, None, |job| pull::Pull::begin(&map, &directory, job)).map(Pull)
    }

    #[getter]
    fn bytes_needed(&self) -> u64 {
        self.0.bytes_needed()
    }

    fn take(&self, max: usize) -> Vec<Frame> {
        self.0.take(max).into_iter().map(Frame).collect()
    }

    fn deliver(&self, py: Python<'_>, frame: &Frame, stored: PyBackedBytes) -> PyResult<()> {
        let delivered = py.detach(|| self.0.deliver(&frame.0, &stored, &Job::default()));
        direct(py, delivered)
    }

    /// (files, bytes, notes)
    #[pyo3(signature = (progress=None))]
    fn finish(&self, py: Python<'_>, progress: Option<Bound<'_, PyAny>>) -> PyResult<(u64, u64, Vec<String>)> {
        let pulled = enter(py, progress.as_ref(), |job| self.0.finish(job))?;
        Ok((pulled.files, pulled.bytes, pulled.notes))
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "pull")?;
    module.add_class::<Pull>()?;
    parent.add_submodule(&module)
}
