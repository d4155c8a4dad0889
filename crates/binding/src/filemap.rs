//! `sapwood._core.filemap`: file maps, their pages and entries.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::frame;
use sapwood_core::cache::Cache;
use sapwood_core::digest::Digest;
use sapwood_core::error::{Error, Result};
use sapwood_core::filemap::{self, ChunkAt, Missing, Part};

use crate::enter::direct;
use crate::values::{Entry, Frame, digest_text, parse_sha};

/// As `Entry.chunks` has them.
type Chunk = (Frame, u32, String, u64);

#[derive(IntoPyObject)]
enum TarPart<'py> {
    Raw(Bound<'py, PyBytes>),
    Chunk(Chunk, Vec<(u32, u32)>),
}

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

    /// The tree of a root directory, which grows as pages are brought.
    #[staticmethod]
    fn of_directory(py: Python<'_>, root: &str, size: u64, owner: (u32, u32)) -> PyResult<FileMap> {
        let root = direct(py, parse_sha(root))?;
        Ok(FileMap(Arc::new(filemap::FileMap::of_directory(Digest { sha256: root, size }, owner))))
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

    /// The frames of the pages of entries, then of those of split metadata.
    fn stored_pages(&self) -> Vec<Frame> {
        self.0.stored().iter().map(|page| Frame(page.frame.clone())).collect()
    }

    /// Digest and size of the tar that the tree was, where there is split metadata of it.
    #[getter]
    fn tar(&self) -> Option<(String, u64)> {
        self.0.summary.tar.map(|tar| (digest_text(&tar), tar.size))
    }

    /// Pages not yet brought that are needed to look up `path` (`children` false) or to list it (`children` true).
    fn missing(&self, path: &[u8], children: bool) -> Vec<usize> {
        if children {
            return self.0.pages_of(path).filter(|&page| !self.0.is_loaded(page)).collect();
        }
        self.0.find(path).err().map(|Missing(page)| page).into_iter().collect()
    }

    /// The first and behind the last page that may hold what is in the directory at `path`.
    fn pages_of(&self, path: &[u8]) -> (usize, usize) {
        let pages = self.0.pages_of(path);
        (pages.start, pages.end)
    }

    /// The same map without the pages that were brought.
    fn emptied(&self) -> FileMap {
        FileMap(Arc::new(self.0.emptied()))
    }

    /// Bring the pages that a cache has; the numbers of those that it has not.
    fn bring_cached(&self, py: Python<'_>, cache: PathBuf) -> PyResult<Vec<usize>> {
        let missing = py.detach(|| {
            let cache = Cache::open(&cache)?;
            let is_here = |&page: &usize| {
                let text = || cache.get(&self.0.pages()[page].digest);
                self.0.is_loaded(page) || text().is_some_and(|text| self.0.add_page(page, &text).is_ok())
            };
            Ok((0..self.0.pages().len()).filter(|page| !is_here(page)).collect())
        });
        direct(py, missing)
    }

    /// Bring a page: the bytes of its frame as stored.
    fn add_page(&self, py: Python<'_>, page: usize, stored: PyBackedBytes) -> PyResult<()> {
        let added = py.detach(|| {
            let at = self.0.stored().get(page).ok_or_else(|| absent(Missing(page)))?;
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

    fn list_page(&self, py: Python<'_>, path: &[u8], page: usize) -> PyResult<Vec<Entry>> {
        let children = self.0.children_in(path, page).map_err(absent);
        Ok(direct(py, children)?.iter().cloned().map(Entry).collect())
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

    /// Chunks (place, digest, size) of one of its frames, decompressed and proved, in the order asked.
    fn read_chunks<'py>(
        &self,
        py: Python<'py>,
        frame: &Frame,
        stored: PyBackedBytes,
        wanted: Vec<(u32, String, u64)>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let chunks = py.detach(|| {
            let plain = self.0.form.open(&stored, frame.0.plain)?;
            let chunk = |(inner, digest, size): &(u32, String, u64)| {
                let digest = Digest { sha256: parse_sha(digest)?, size: *size };
                frame::chunk(&plain, *inner, &digest).map(<[u8]>::to_vec)
            };
            wanted.iter().map(chunk).collect::<Result<Vec<_>>>()
        });
        Ok(direct(py, chunks)?.iter().map(|chunk| PyBytes::new(py, chunk)).collect())
    }

    /// What page `number` of the split metadata, whose frame's bytes these are, tells of the stream: bytes, or a chunk (frame,
    /// place, digest, size) and the ranges of it.
    fn tar_parts<'py>(&self, py: Python<'py>, number: usize, stored: PyBackedBytes) -> PyResult<Vec<TarPart<'py>>> {
        let parts = py.detach(|| {
            let missing = || Error::Missing { what: format!("page {number} of the split metadata") };
            let at = self.0.splits().get(number).ok_or_else(missing)?;
            let plain = frame::open(&stored, at.frame.plain)?;
            filemap::parts(&self.0, frame::chunk(&plain, at.inner, &at.digest)?)
        });
        Ok(told(py, direct(py, parts)?))
    }

    fn __repr__(&self) -> String {
        format!("<FileMap {} of {} entries>", self.0.summary.tree.short(), self.0.summary.entries)
    }
}

fn told(py: Python<'_>, parts: Vec<Part>) -> Vec<TarPart<'_>> {
    let part = |part| match part {
        Part::Raw(bytes) => TarPart::Raw(PyBytes::new(py, &bytes)),
        Part::Chunk(ChunkAt { digest, frame, inner }, ranges) => {
            TarPart::Chunk((Frame(frame), inner, digest_text(&digest), digest.size), ranges)
        }
    };
    parts.into_iter().map(part).collect()
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

/// The tar header of an entry whose first name is that of `first`; `before` is the name that came before it in the stream.
#[pyfunction]
#[pyo3(signature = (entry, first, before=None))]
fn tar_header<'py>(
    py: Python<'py>,
    entry: &Entry,
    first: &Entry,
    before: Option<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let header = filemap::header(&entry.0, &first.0, before.as_deref());
    Ok(PyBytes::new(py, &direct(py, header)?))
}

/// A file with holes in a tar that leaves them out: header, ranges of chunks, zeros behind them. Nothing of other entries.
#[pyfunction]
fn sparse_parts<'py>(py: Python<'py>, entry: &Entry, first: &Entry) -> PyResult<Vec<TarPart<'py>>> {
    Ok(told(py, direct(py, filemap::sparse(&entry.0, &first.0))?))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "filemap")?;
    module.add_class::<FileMap>()?;
    module.add_class::<Frame>()?;
    module.add_class::<Entry>()?;
    module.add_function(wrap_pyfunction!(read_chunk, &module)?)?;
    module.add_function(wrap_pyfunction!(sparse_parts, &module)?)?;
    module.add_function(wrap_pyfunction!(tar_header, &module)?)?;
    parent.add_submodule(&module)
}
