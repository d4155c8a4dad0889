//! `sapwood._core.seek`: indexes of archives that have no TOC.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::convert::Out;
use sapwood_core::error::show;
use sapwood_core::seek;

use crate::archive::own;
use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::digest_text;

/// Where in an index its text lies.
#[pyclass(frozen, module = "sapwood._core.seek")]
struct Found(seek::Found);

#[pymethods]
impl Found {
    /// Of an index of `size` bytes; `tail` are its last ones.
    #[staticmethod]
    fn read(py: Python<'_>, tail: PyBackedBytes, size: u64) -> PyResult<Found> {
        Ok(Found(direct(py, seek::Found::read(&tail, size))?))
    }

    /// Offset and length.
    #[getter]
    fn text(&self) -> (u64, u64) {
        (self.0.text.start, self.0.text.end - self.0.text.start)
    }

    /// Of the text.
    #[getter]
    fn digest(&self) -> String {
        digest_text(&self.0.digest)
    }
}

#[pyclass(frozen, module = "sapwood._core.seek")]
struct SeekIndex {
    index: seek::SeekIndex,
    map: Arc<sapwood_core::filemap::FileMap>,
}

#[pymethods]
impl SeekIndex {
    /// From its text as it lies there; that of an archive, or of a layer of an image.
    #[staticmethod]
    #[pyo3(signature = (found, stored, *, is_layer=false))]
    fn open(py: Python<'_>, found: &Found, stored: PyBackedBytes, is_layer: bool) -> PyResult<SeekIndex> {
        let (index, map) = enter(py, None, |job| seek::SeekIndex::open(&found.0, &stored, is_layer, job))?;
        Ok(SeekIndex { index, map: Arc::new(map) })
    }

    #[getter]
    fn file_map(&self) -> FileMap {
        FileMap(self.map.clone())
    }

    /// Of its text.
    #[getter]
    fn digest(&self) -> String {
        digest_text(&self.index.digest)
    }

    /// Whether it is that of an archive of `size` bytes, of which these are the first and the last.
    fn is_of(&self, size: u64, first: &[u8], last: &[u8]) -> bool {
        self.index.is_of(size, first, last)
    }

    /// How the lead of the frame that begins at `offset` begins, and offset and length of its rest in the index.
    fn lead<'py>(&self, py: Python<'py>, offset: u64) -> PyResult<(Bound<'py, PyBytes>, u64, u64)> {
        let (head, rest) = direct(py, self.index.lead(offset))?;
        Ok((PyBytes::new(py, &head), rest.start, rest.end - rest.start))
    }
}

/// The index of the archive in the file `input`, called `name`, into the file `output`, called `path`; the directory `temporary` is for what
/// memory should not hold.
#[pyfunction]
#[pyo3(signature = (input, name, output, path, *, temporary, is_layer=false, ends=None, progress=None))]
#[expect(clippy::too_many_arguments, reason = "two files, each with its name")]
fn build<'py>(
    py: Python<'py>,
    input: RawFd,
    name: PathBuf,
    output: RawFd,
    path: PathBuf,
    temporary: PathBuf,
    is_layer: bool,
    ends: Option<(u64, PyBackedBytes, PyBackedBytes)>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let built = enter(py, progress.as_ref(), |job| {
        let mut out = Out::new(own(output, &path)?, path)?;
        let (input, what) = (own(input, &name)?, show(&name));
        let ends = match ends {
            Some((size, first, last)) => seek::Ends { size, first: first.to_vec(), last: last.to_vec() },
            None => seek::Ends::of(&what, &input)?,
        };
        seek::build(&what, &input, &ends, &mut out, &temporary, is_layer, job)
    })?;
    let out = PyDict::new(py);
    out.set_item("tree", digest_text(&built.tree))?;
    out.set_item("map", digest_text(&built.map))?;
    out.set_item("entries", built.entries)?;
    out.set_item("bytes", built.bytes)?;
    out.set_item("checkpoints", built.checkpoints)?;
    out.set_item("size", built.size)?;
    Ok(out)
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "seek")?;
    module.add_class::<Found>()?;
    module.add_class::<SeekIndex>()?;
    module.add_function(wrap_pyfunction!(build, &module)?)?;
    parent.add_submodule(&module)
}
