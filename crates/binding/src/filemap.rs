//! `sapwood._core.filemap`: file maps, their pages and entries.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::frame;
use sapwood_core::digest::Digest;
use sapwood_core::error::Error;
use sapwood_core::filemap::{self, Missing};

use crate::enter::direct;
use crate::values::{Entry, Frame, digest_text, parse_sha};

#[pyclass(frozen, module = "sapwood._core.filemap")]
pub struct FileMap(pub Arc<filemap::FileMap>);

pub fn absent(Missing(page): Missing) -> Error {
    Error::Missing { what: format!("page {page} of the file map") }
}

#[pymethods]
impl FileMap {
    /// From a fence index as stored; `digest` and `size` are those of its text.
    #[new]
    fn new(py: Python<'_>, stored: PyBackedBytes, digest: &str, size: u64) -> PyResult<FileMap> {
        let map = py.detach(|| {
            let expected = Digest { sha256: parse_sha(digest)?, size };
            let text = frame::inflate("file map", &stored, size)?;
            let got = Digest::of(&text);
            if got != expected {
                return Err(Error::Mismatch { what: "file map".into(), expected, got });
            }
            filemap::FileMap::from_fence(&text)
        });
        Ok(FileMap(Arc::new(direct(py, map)?)))
    }

    #[getter]
    fn tree(&self) -> String {
        digest_text(&self.0.summary.tree)
    }

    #[getter]
    fn tree_size(&self) -> u64 {
        self.0.summary.tree.size
    }

    #[getter]
    fn entries(&self) -> u64 {
        self.0.summary.entries
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.0.summary.bytes
    }

    /// The frames of all pages, by page number.
    fn pages(&self) -> Vec<Frame> {
        self.0.pages().iter().map(|page| Frame(page.frame.clone())).collect()
    }

    /// Pages not yet brought that are needed to look up `path` (`children` false) or to list it (`children` true).
    fn missing(&self, path: &[u8], children: bool) -> Vec<usize> {
        if children {
            return self.0.pages_of(path).filter(|&page| !self.0.is_loaded(page)).collect();
        }
        self.0.find(path).err().map(|Missing(page)| page).into_iter().collect()
    }

    /// Bring a page: the bytes of its frame as stored.
    fn add_page(&self, py: Python<'_>, page: usize, stored: PyBackedBytes) -> PyResult<()> {
        let added = py.detach(|| {
            let at = self.0.pages().get(page).ok_or_else(|| absent(Missing(page)))?;
            let name = |error| match error {
                Error::Damaged { found, .. } => Error::damaged(format!("page {page} of the file map"), found),
                Error::Mismatch { expected, got, .. } => {
                    Error::Mismatch { what: format!("page {page} of the file map"), expected, got }
                }
                other => other,
            };
            let plain = frame::open(&stored, at.frame.plain).map_err(name)?;
            let text = frame::chunk(&plain, at.inner, &at.digest).map_err(name)?;
            self.0.add_page(page, text)
        });
        direct(py, added)
    }

    fn lookup(&self, py: Python<'_>, path: &[u8]) -> PyResult<Option<Entry>> {
        let found = self.0.find(path).and_then(|inode| inode.map_or(Ok(None), |inode| self.0.entry(inode)));
        Ok(direct(py, found.map_err(absent))?.cloned().map(Entry))
    }

    fn list(&self, py: Python<'_>, path: &[u8]) -> PyResult<Vec<Entry>> {
        let children = self.0.children(path).map_err(absent);
        Ok(direct(py, children)?.into_iter().map(|(_, entry)| Entry(entry.clone())).collect())
    }

    /// The chunk at `inner` of one of its frames, decompressed and proved.
    fn read_chunk<'py>(
        &self,
        py: Python<'py>,
        frame: &Frame,
        stored: PyBackedBytes,
        inner: u32,
        digest: &str,
        size: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let chunk = py.detach(|| {
            let digest = Digest { sha256: parse_sha(digest)?, size };
            let plain = self.0.form.open(&stored, frame.0.plain)?;
            frame::chunk(&plain, inner, &digest).map(<[u8]>::to_vec)
        });
        Ok(PyBytes::new(py, &direct(py, chunk)?))
    }

    fn __repr__(&self) -> String {
        format!("<FileMap {} of {} entries>", self.0.summary.tree.short(), self.0.summary.entries)
    }
}

/// The chunk at `inner` of a frame, decompressed and proved.
#[pyfunction]
fn read_chunk<'py>(
    py: Python<'py>,
    frame: &Frame,
    stored: PyBackedBytes,
    inner: u32,
    digest: &str,
    size: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let chunk = py.detach(|| {
        let digest = Digest { sha256: parse_sha(digest)?, size };
        let plain = frame::open(&stored, frame.0.plain)?;
        frame::chunk(&plain, inner, &digest).map(<[u8]>::to_vec)
    });
    Ok(PyBytes::new(py, &direct(py, chunk)?))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "filemap")?;
    module.add_class::<FileMap>()?;
    module.add_class::<Frame>()?;
    module.add_class::<Entry>()?;
    module.add_function(wrap_pyfunction!(read_chunk, &module)?)?;
    parent.add_submodule(&module)
}
