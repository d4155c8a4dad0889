//! `sapwood._core.pull`: a file map and its frames into a directory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sapwood_core::error::Error;
use sapwood_core::job::Job;
use sapwood_core::pull;

use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::Frame;

/// None once closed, so that whoever holds an error of this pull does not hold its directory.
#[pyclass(frozen, module = "sapwood._core.pull")]
struct Pull(Mutex<Option<Arc<pull::Pull>>>);

impl Pull {
    fn open(&self, py: Python<'_>) -> PyResult<Arc<pull::Pull>> {
        let open = self.0.lock().expect("no method panics with it").clone();
        direct(py, open.ok_or(Error::Stopped))
    }
}

#[pymethods]
impl Pull {
    #[new]
    fn new(py: Python<'_>, map: &FileMap, directory: PathBuf) -> PyResult<Pull> {
        let map = map.0.clone();
        let begun = enter(py, None, |job| pull::Pull::begin(&map, &directory, job))?;
        Ok(Pull(Mutex::new(Some(Arc::new(begun)))))
    }

    #[getter]
    fn bytes_needed(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.open(py)?.bytes_needed())
    }

    fn take(&self, py: Python<'_>, max: usize) -> PyResult<Vec<Frame>> {
        Ok(self.open(py)?.take(max).into_iter().map(Frame).collect())
    }

    fn deliver(&self, py: Python<'_>, frame: &Frame, stored: PyBackedBytes) -> PyResult<()> {
        let open = self.open(py)?;
        let delivered = py.detach(|| open.deliver(&frame.0, &stored, &Job::default()));
        direct(py, delivered)
    }

    /// (files, bytes, notes)
    #[pyo3(signature = (progress=None))]
    fn finish(&self, py: Python<'_>, progress: Option<Bound<'_, PyAny>>) -> PyResult<(u64, u64, Vec<String>)> {
        let open = self.open(py)?;
        let pulled = enter(py, progress.as_ref(), |job| open.finish(job))?;
        Ok((pulled.files, pulled.bytes, pulled.notes))
    }

    fn close(&self) {
        self.0.lock().expect("no method panics with it").take();
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "pull")?;
    module.add_class::<Pull>()?;
    parent.add_submodule(&module)
}
