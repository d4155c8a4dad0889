//! `sapwood._core.stargz`: where an archive has its TOC, and the file map that it is.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sapwood_core::stargz;

use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::digest_text;

#[pyclass(frozen, module = "sapwood._core.stargz")]
struct Footer(stargz::Footer);

#[pymethods]
impl Footer {
    /// Of an archive of `size` bytes; `tail` are its last ones. None when it has none.
    #[staticmethod]
    fn read(py: Python<'_>, tail: PyBackedBytes, size: u64) -> PyResult<Option<Footer>> {
        let last = &tail[tail.len().saturating_sub(stargz::footer::LONGEST)..];
        Ok(direct(py, stargz::Footer::read(last, size))?.map(Footer))
    }

    /// Where the TOC lies, compressed: offset and length; None of one that lies elsewhere.
    #[getter]
    fn toc(&self) -> Option<(u64, u64)> {
        self.0.toc.as_ref().map(|toc| (toc.at.start, toc.at.end - toc.at.start))
    }
}

/// The file map of an archive, or of a layer of an image, and its TOC's digest, from the TOC as it lies there.
#[pyfunction]
#[pyo3(signature = (footer, compressed, *, is_layer=false))]
fn open_toc(py: Python<'_>, footer: &Footer, compressed: PyBackedBytes, is_layer: bool) -> PyResult<(FileMap, String)> {
    let length = compressed.len() as u64;
    let (map, digest) = enter(py, None, |job| stargz::file_map(&footer.0, &compressed[..], length, is_layer, job))?;
    Ok((FileMap(Arc::new(map)), digest_text(&digest)))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "stargz")?;
    module.add_class::<Footer>()?;
    module.add_function(wrap_pyfunction!(open_toc, &module)?)?;
    parent.add_submodule(&module)
}
