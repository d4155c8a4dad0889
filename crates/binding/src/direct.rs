//! `sapwood._core.direct`: a server asked by path, for a library that mounts.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::fuse::{self, Answer};

use crate::mount::Server;

/// Inode, size, blocks, mtime in ns, mode, links, uid, gid, device.
type Attributes = (u64, u64, u64, i128, u32, u32, u32, u32, u32);
/// Name, inode, mode, next.
type Line<'py> = (Bound<'py, PyBytes>, u64, u32, u64);

#[pyclass(frozen, module = "sapwood._core.direct")]
struct Direct {
    server: Py<Server>,
    gives_up: Py<PyAny>,
}

impl Direct {
    /// Put questions without the GIL, which is only taken to ask whether whoever waits still does.
    fn ask<T: Send>(&self, py: Python<'_>, put: impl FnOnce(&mut fuse::Direct<'_>) -> Answer<T> + Send) -> PyResult<T> {
        let server = self.server.get().core();
        let mut raised = None;
        let answer = py.detach(|| {
            let mut gives_up = || {
                let asked = Python::attach(|py| self.gives_up.call0(py)?.is_truthy(py));
                asked.unwrap_or_else(|error| {
                    raised = Some(error);
                    true
                })
            };
            put(&mut fuse::Direct { server, gives_up: &mut gives_up })
        });
        if let Some(error) = raised {
            return Err(error);
        }
        answer.map_err(|errno| PyOSError::new_err((errno, std::io::Error::from_raw_os_error(errno).to_string())))
    }
}

#[pymethods]
impl Direct {
    #[new]
    fn new(server: Py<Server>, gives_up: Py<PyAny>) -> Direct {
        Direct { server, gives_up }
    }

    fn attributes(&self, py: Python<'_>, path: PyBackedBytes) -> PyResult<Attributes> {
        let found = self.ask(py, |direct| direct.attributes(&path))?;
        let mtime = i128::from(found.mtime.sec) * 1_000_000_000 + i128::from(found.mtime.nsec);
        let (size, blocks) = (found.size, found.blocks);
        Ok((found.inode, size, blocks, mtime, found.mode, found.links, found.uid, found.gid, found.device))
    }

    fn lines<'py>(&self, py: Python<'py>, path: PyBackedBytes, place: u64) -> PyResult<Vec<Line<'py>>> {
        let lines = self.ask(py, |direct| direct.lines(&path, place))?;
        let line = |line: fuse::Line| (PyBytes::new(py, &line.name), line.inode, line.mode, line.next);
        Ok(lines.into_iter().map(line).collect())
    }

    fn target<'py>(&self, py: Python<'py>, path: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.ask(py, |direct| direct.target(&path))?))
    }

    fn read<'py>(&self, py: Python<'py>, path: PyBackedBytes, offset: u64, size: u32) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.ask(py, |direct| direct.read(&path, offset, size))?))
    }

    fn xattr<'py>(&self, py: Python<'py>, path: PyBackedBytes, name: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.ask(py, |direct| direct.xattr(&path, &name))?))
    }

    fn xattr_names<'py>(&self, py: Python<'py>, path: PyBackedBytes) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let names = self.ask(py, |direct| direct.xattr_names(&path))?;
        Ok(names.iter().map(|name| PyBytes::new(py, name)).collect())
    }

    fn room(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        self.ask(py, |direct| direct.room())
    }
}

/// Whether a signal waits for a thread that ends it, or asks it to end.
#[pyfunction]
fn is_asked_to_end(py: Python<'_>, thread: u32) -> bool {
    py.detach(|| fuse::is_asked_to_end(thread))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "direct")?;
    module.add_class::<Direct>()?;
    module.add_function(wrap_pyfunction!(is_asked_to_end, &module)?)?;
    parent.add_submodule(&module)
}
