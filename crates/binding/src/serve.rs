//! `sapwood._core.serve`: what a server of blobs asks of what a store holds, and zstd as its clients speak it.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::{self, deflate, frame};
use sapwood_core::digest::{Digest, parse_hex};
use sapwood_core::error::Result;
use sapwood_core::push::Known;

use crate::enter::{Shared, direct};
use crate::values::{Frame, digest_text, parse_sha};

/// Frame, place in it, digest, size.
type Chunk = (Frame, u32, String, u64);

/// What fragments say that a store has.
#[pyclass(frozen, module = "sapwood._core.serve")]
struct Held(Known);

fn named(hex: &str, size: u64) -> Option<Digest> {
    parse_hex(hex).map(|sha256| Digest { sha256, size })
}

#[pymethods]
impl Held {
    #[new]
    fn new(py: Python<'_>, fragments: Vec<PyBackedBytes>) -> PyResult<Held> {
        let known = py.detach(|| Known::new(None, fragments.iter().map(|bytes| bytes.to_vec()).collect(), None));
        direct(py, known).map(Held)
    }

    /// Those of (hex digits, size) that are neither a chunk nor a large blob, and what no blob can be.
    fn missing(&self, blobs: Vec<(String, i64)>) -> Vec<(String, i64)> {
        let lacks = |(hex, size): &(String, i64)| {
            let size = u64::try_from(*size).ok();
            size.and_then(|size| named(hex, size)).is_none_or(|digest| !self.has(&digest))
        };
        blobs.into_iter().filter(lacks).collect()
    }

    /// Where the chunks of a blob lie, or a chunk; `None` when it is not there.
    fn chunks(&self, hex: &str, size: u64) -> Option<Vec<Chunk>> {
        let digest = named(hex, size)?;
        let pieces = if self.0.has(&digest) { vec![digest] } else { self.0.pieces(&digest)? };
        let row = |piece: &Digest| {
            let at = self.0.chunk(piece)?;
            Some((Frame(at.frame), at.inner, digest_text(piece), piece.size))
        };
        pieces.iter().map(row).collect()
    }
}

impl Held {
    fn has(&self, digest: &Digest) -> bool {
        self.0.has(digest) || self.0.pieces(digest).is_some()
    }
}

/// Chunks (place, digest, size) of a frame, decompressed once and proved, in the order asked.
#[pyfunction]
fn read_chunks<'py>(
    py: Python<'py>,
    frame: &Frame,
    stored: PyBackedBytes,
    wanted: Vec<(u32, String, u64)>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let chunks = py.detach(|| {
        let plain = frame::open(&stored, frame.0.plain)?;
        let chunk = |(inner, digest, size): &(u32, String, u64)| {
            let digest = Digest { sha256: parse_sha(digest)?, size: *size };
            frame::chunk(&plain, *inner, &digest).map(<[u8]>::to_vec)
        };
        wanted.iter().map(chunk).collect::<Result<Vec<_>>>()
    });
    Ok(direct(py, chunks)?.iter().map(|chunk| PyBytes::new(py, chunk)).collect())
}

/// `bytes` as one zstd frame.
#[pyfunction]
fn compress<'py>(py: Python<'py>, bytes: PyBackedBytes) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &py.detach(|| deflate(&bytes, 1)))
}

/// A zstd stream of somebody else, as it comes.
#[pyclass(frozen, module = "sapwood._core.serve")]
#[derive(Default)]
struct Expand(Shared<archive::Expand>);

#[pymethods]
impl Expand {
    #[new]
    fn new() -> Expand {
        Expand::default()
    }

    /// Give it more of the stream.
    fn feed(&self, py: Python<'_>, bytes: PyBackedBytes) {
        self.0.with(py, |expand| expand.feed(&bytes));
    }

    /// The next bytes, at most `most`; none when it wants more.
    fn take<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyBytes>> {
        let taken = self.0.with(py, |expand| expand.take(most));
        Ok(PyBytes::new(py, &direct(py, taken)?))
    }

    /// Whether the stream may end here.
    fn is_whole(&self, py: Python<'_>) -> bool {
        self.0.with(py, |expand| expand.is_whole())
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "serve")?;
    module.add_class::<Expand>()?;
    module.add_class::<Held>()?;
    module.add_function(wrap_pyfunction!(compress, &module)?)?;
    module.add_function(wrap_pyfunction!(read_chunks, &module)?)?;
    parent.add_submodule(&module)
}
