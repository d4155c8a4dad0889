//! `sapwood._core.pull`: a file map and its frames into a directory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::error::Error;
use sapwood_core::job::Job;
use sapwood_core::pull;

use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::{Frame, Options};

/// None once closed, so that whoever holds an error of this pull does not hold its directory.
#[pyclass(frozen, module = "sapwood._core.pull")]
struct Pull(Mutex<Option<Arc<pull::Pull>>>);

impl Pull {
    fn open(&self, py: Python<'_>) -> PyResult<Arc<pull::Pull>> {
        let open = self.0.lock().expect("no method panics with it").clone();
        direct(py, open.ok_or(Error::Stopped))
    }
}

/// entries, files, bytes, extra
type Held = (u64, u64, u64, u64);

/// A directory as it is now; none once a pull into it has begun.
#[pyclass(frozen, module = "sapwood._core.pull")]
struct Present(Mutex<Option<pull::Present>>);

#[pymethods]
impl Present {
    #[new]
    #[pyo3(signature = (directory, index, options, progress=None))]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        index: PathBuf,
        options: Options,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Present> {
        let look =
            |job: &Job| pull::Present::look(&directory, pull::Records { index, options: options.to_core()? }, job);
        Ok(Present(Mutex::new(Some(enter(py, progress.as_ref(), look)?))))
    }

    fn holds(&self, py: Python<'_>, map: &str) -> Option<Held> {
        let present = self.0.lock().expect("no method panics with it");
        let held = py.detach(|| present.as_ref()?.holds(map))?;
        Some((held.entries, held.files, held.bytes, held.extra))
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

    #[staticmethod]
    fn update(py: Python<'_>, map: &FileMap, present: &Present, delete: bool, nonce: u64) -> PyResult<Pull> {
        let map = map.0.clone();
        let taken = present.0.lock().expect("no method panics with it").take();
        let present = direct(py, taken.ok_or(Error::Stopped))?;
        let begun = enter(py, None, |job| pull::Pull::update(&map, present, delete, nonce, job))?;
        Ok(Pull(Mutex::new(Some(Arc::new(begun)))))
    }

    #[getter]
    fn bytes_needed(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.open(py)?.bytes_needed())
    }

    fn take(&self, py: Python<'_>, bytes: u64) -> PyResult<Vec<Frame>> {
        Ok(self.open(py)?.take(bytes).into_iter().map(Frame).collect())
    }

    fn deliver(&self, py: Python<'_>, frame: &Frame, stored: PyBackedBytes) -> PyResult<()> {
        let open = self.open(py)?;
        let delivered = py.detach(|| open.deliver(&frame.0, &stored, &Job::default()));
        direct(py, delivered)
    }

    #[pyo3(signature = (progress=None))]
    fn finish<'py>(&self, py: Python<'py>, progress: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyDict>> {
        let open = self.open(py)?;
        let pulled = enter(py, progress.as_ref(), |job| open.finish(job))?;
        let out = PyDict::new(py);
        out.set_item("files", pulled.files)?;
        out.set_item("bytes", pulled.bytes)?;
        out.set_item("left_alone", pulled.left_alone)?;
        out.set_item("written", pulled.written)?;
        out.set_item("fixed", pulled.fixed)?;
        out.set_item("removed", pulled.removed)?;
        out.set_item("extra", pulled.extra)?;
        out.set_item("notes", pulled.notes)?;
        Ok(out)
    }

    #[pyo3(signature = (map, index, options))]
    fn record(&self, py: Python<'_>, map: &str, index: PathBuf, options: Options) -> PyResult<()> {
        let open = self.open(py)?;
        enter(py, None, |job| open.record(map, pull::Records { index, options: options.to_core()? }, job))
    }

    fn close(&self, py: Python<'_>) {
        let open = self.0.lock().expect("no method panics with it").take();
        if let Some(open) = open {
            py.detach(|| open.close());
        }
    }
}

/// A proof under way, of what a pull would write.
#[pyclass(frozen, module = "sapwood._core.pull")]
struct Proof(pull::Proof);

#[pymethods]
impl Proof {
    #[new]
    fn new(py: Python<'_>, map: &FileMap) -> PyResult<Proof> {
        let map = map.0.clone();
        Ok(Proof(enter(py, None, |_| pull::Proof::new(&map))?))
    }

    #[getter]
    fn bytes_needed(&self) -> u64 {
        self.0.bytes_needed()
    }

    fn take(&self, py: Python<'_>, bytes: u64) -> Vec<Frame> {
        py.detach(|| self.0.take(bytes)).into_iter().map(Frame).collect()
    }

    fn deliver(&self, py: Python<'_>, frame: &Frame, stored: PyBackedBytes) -> PyResult<()> {
        let delivered = py.detach(|| self.0.deliver(&frame.0, &stored));
        direct(py, delivered)
    }

    fn paths<'py>(&self, py: Python<'py>, frame: &Frame) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let paths = direct(py, self.0.paths(&frame.0))?;
        Ok(paths.iter().map(|path| PyBytes::new(py, path)).collect())
    }

    fn unlike<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, String)> {
        let found = py.detach(|| self.0.unlike());
        found.into_iter().map(|(path, error)| (PyBytes::new(py, &path), error.to_string())).collect()
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "pull")?;
    module.add_class::<Present>()?;
    module.add_class::<Pull>()?;
    module.add_class::<Proof>()?;
    parent.add_submodule(&module)
}
