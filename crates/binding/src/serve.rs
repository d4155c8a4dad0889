//! `sapwood._core.serve`: what a server of blobs asks of what a store holds, and zstd as its clients speak it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};
use sapwood_core::archive::{self, deflate, frame};
use sapwood_core::digest::{Digest, hex, parse_hex};
use sapwood_core::error::{Error, Result};
use sapwood_core::push::Known;
use sapwood_core::serve::{self, Here, Place, Told, Wrong};

use crate::enter::{Shared, direct, enter};
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

/// Where staged blobs lie: file, place, size.
#[pyclass(frozen, module = "sapwood._core.serve")]
#[derive(Default)]
struct Staged(serve::Staged);

#[pymethods]
impl Staged {
    #[new]
    fn new() -> Staged {
        Staged::default()
    }

    /// File and place of a blob.
    fn find(&self, hex: &str, size: u64) -> Option<(u32, u64)> {
        self.0.find(&named(hex, size)?).map(|place| (place.file, place.at))
    }

    /// Those of (hex digits, size) that are not staged.
    fn missing(&self, blobs: Vec<(String, i64)>) -> Vec<(String, i64)> {
        let has = |(hex, size): &(String, i64)| {
            u64::try_from(*size).ok().and_then(|size| named(hex, size)).is_some_and(|digest| self.0.has(&digest))
        };
        blobs.into_iter().filter(|blob| !has(blob)).collect()
    }

    /// Know of blobs (hex digits, place, size) in a file.
    fn put(&self, py: Python<'_>, file: u32, blobs: Vec<(String, u64, u64)>) -> PyResult<()> {
        let row = |(hex, at, size): (String, u64, u64)| {
            let sha256 = parse_hex(&hex).ok_or_else(|| no_digest(&hex))?;
            Ok((sha256, Place { file, at, size }))
        };
        let rows: Result<Vec<_>> = blobs.into_iter().map(row).collect();
        self.0.put(direct(py, rows)?);
        Ok(())
    }

    /// Know of the blobs of a batch, whose records lie in a file from `begin` on.
    fn put_batch(&self, py: Python<'_>, file: u32, begin: u64, batch: &Batch) {
        let staged = &self.0;
        batch.0.with(py, |state| staged.put_records(file, begin, &state.places));
    }

    /// Forget all of a file.
    fn drop_file(&self, py: Python<'_>, file: u32) {
        py.detach(|| self.0.drop_file(file));
    }
}

/// `FindMissingBlobsRequest`.
#[pyclass(frozen, module = "sapwood._core.serve")]
struct Finding {
    message: PyBackedBytes,
    finding: serve::Finding,
}

#[pymethods]
impl Finding {
    #[new]
    fn new(py: Python<'_>, message: PyBackedBytes) -> PyResult<Finding> {
        let finding = direct(py, serve::Finding::of(&message).ok_or_else(|| no_message("FindMissingBlobsRequest")))?;
        Ok(Finding { message, finding })
    }

    #[getter]
    fn instance_name(&self) -> &str {
        &self.finding.instance
    }

    #[getter]
    fn digest_function(&self) -> i64 {
        self.finding.function
    }

    /// The first that is no digest, as it came.
    fn bad(&self) -> Option<(String, i64)> {
        self.finding.bad(&self.message).map(|told| text_of(&told))
    }

    /// The answer.
    fn answer<'py>(&self, py: Python<'py>, staged: &Staged, held: Vec<PyRef<'py, Held>>) -> Bound<'py, PyBytes> {
        let held: Vec<&Known> = held.iter().map(|held| &held.0).collect();
        let here = Here { staged: &staged.0, held: &held };
        PyBytes::new(py, &self.finding.answer(&self.message, here))
    }
}

/// `WriteRequest`.
#[pyclass(frozen, module = "sapwood._core.serve")]
struct Piece {
    message: Py<PyBytes>,
    piece: serve::Piece,
}

#[pymethods]
impl Piece {
    #[new]
    fn new(py: Python<'_>, message: Bound<'_, PyBytes>) -> PyResult<Piece> {
        let piece = serve::Piece::of(message.as_bytes()).ok_or_else(|| no_message("WriteRequest"));
        Ok(Piece { piece: direct(py, piece)?, message: message.unbind() })
    }

    #[getter]
    fn resource_name(&self) -> &str {
        &self.piece.resource_name
    }

    #[getter]
    fn write_offset(&self) -> i64 {
        self.piece.offset
    }

    #[getter]
    fn finish_write(&self) -> bool {
        self.piece.is_last
    }

    /// Its bytes, where they lie in the message.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let view = PyMemoryView::from(self.message.bind(py).as_any())?;
        let data = &self.piece.data;
        view.get_item(PySlice::new(py, data.start as isize, data.end as isize, 1))
    }
}

/// `BatchUpdateBlobsRequest`.
#[pyclass(frozen, module = "sapwood._core.serve")]
struct Batch(Shared<Sent>);

struct Sent {
    message: PyBackedBytes,
    batch: serve::Batch,
    /// Of the records that were made of it.
    places: Vec<(Digest, usize)>,
}

#[pymethods]
impl Batch {
    #[new]
    fn new(py: Python<'_>, message: PyBackedBytes) -> PyResult<Batch> {
        let batch = direct(py, serve::Batch::of(&message).ok_or_else(|| no_message("BatchUpdateBlobsRequest")))?;
        Ok(Batch(Shared::new(Sent { message, batch, places: Vec::new() })))
    }

    #[getter]
    fn instance_name(&self, py: Python<'_>) -> String {
        self.0.with(py, |sent| sent.batch.instance.clone())
    }

    #[getter]
    fn digest_function(&self, py: Python<'_>) -> i64 {
        self.0.with(py, |sent| sent.batch.function)
    }

    /// Bytes of all blobs, as their digests say.
    #[getter]
    fn size(&self, py: Python<'_>) -> u64 {
        self.0.with(py, |sent| sent.batch.size())
    }

    /// What is wrong: row, digest as it came, kind, what was found.
    fn prove(&self, py: Python<'_>) -> Vec<(usize, (String, i64), &'static str, String)> {
        self.0.with(py, |sent| {
            let row = |(number, told, wrong): (usize, Told<'_>, Wrong)| {
                let (kind, found) = match wrong {
                    Wrong::Digest => ("bad-digest", String::new()),
                    Wrong::Compressor(number) => ("bad-compressor", number.to_string()),
                    Wrong::Content(found) => ("blob-mismatch", found),
                };
                (number, text_of(&told), kind, found)
            };
            sent.batch.prove(&sent.message).into_iter().map(row).collect()
        })
    }

    /// Records of what was proved and is not here.
    fn records<'py>(&self, py: Python<'py>, staged: &Staged, held: Vec<PyRef<'py, Held>>) -> Bound<'py, PyBytes> {
        let (held, staged): (Vec<&Known>, _) = (held.iter().map(|held| &held.0).collect(), &staged.0);
        let records = self.0.with(py, |sent| {
            let (records, places) = sent.batch.records(&sent.message, Here { staged, held: &held });
            sent.places = places;
            records
        });
        PyBytes::new(py, &records)
    }

    /// (hex digits, size) of what became records.
    fn new_blobs(&self, py: Python<'_>) -> Vec<(String, u64)> {
        self.0.with(py, |sent| sent.places.iter().map(|(digest, _)| (digest.hex(), digest.size)).collect())
    }

    /// The answer; rows that were refused have a status.
    fn answer<'py>(&self, py: Python<'py>, statuses: BTreeMap<usize, Vec<u8>>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.with(py, |sent| sent.batch.answer(&sent.message, &statuses)))
    }
}

fn text_of(told: &Told<'_>) -> (String, i64) {
    (String::from_utf8_lossy(told.hash).into_owned(), told.size)
}

fn no_message(kind: &str) -> Error {
    Error::Invalid { what: "a call".to_owned(), why: format!("it is no {kind}") }
}

fn no_digest(hex: &str) -> Error {
    Error::Invalid { what: hex.to_owned(), why: "it is no digest".to_owned() }
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

/// The record of a blob, or of the result of an action.
#[pyfunction]
fn record<'py>(py: Python<'py>, kind: u8, key: [u8; 32], data: PyBackedBytes) -> Bound<'py, PyBytes> {
    let mut out = Vec::new();
    serve::record(&mut out, kind, &key, &data);
    PyBytes::new(py, &out)
}

/// Records of a log: kind, hex digits of the key, place, size.
#[pyfunction]
fn read_log(py: Python<'_>, path: PathBuf) -> PyResult<Vec<(u8, String, u64, u64)>> {
    enter(py, None, |job| {
        let (mut records, mut out) = (serve::Records::open(&path)?, Vec::new());
        while let Some(record) = records.following()? {
            job.step(record.data.len() as u64)?;
            out.push((record.kind, hex(&record.key), record.at, record.data.len() as u64));
        }
        Ok(out)
    })
}

/// A log as files; of each result of an action the hex digits of both, and its size.
#[pyfunction]
fn lay_out(
    py: Python<'_>,
    log: PathBuf,
    held: Vec<PyRef<'_, Held>>,
    blobs: PathBuf,
    results: PathBuf,
) -> PyResult<Vec<(String, String, u64)>> {
    let held: Vec<&Known> = held.iter().map(|held| &held.0).collect();
    let actions = enter(py, None, |job| serve::lay_out(&log, &held, &blobs, &results, job))?;
    Ok(actions.iter().map(|(action, result)| (hex(action), result.hex(), result.size)).collect())
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
    module.add_class::<Batch>()?;
    module.add_class::<Expand>()?;
    module.add_class::<Finding>()?;
    module.add_class::<Held>()?;
    module.add_class::<Piece>()?;
    module.add_class::<Staged>()?;
    module.add_function(wrap_pyfunction!(compress, &module)?)?;
    module.add_function(wrap_pyfunction!(lay_out, &module)?)?;
    module.add_function(wrap_pyfunction!(read_chunks, &module)?)?;
    module.add_function(wrap_pyfunction!(read_log, &module)?)?;
    module.add_function(wrap_pyfunction!(record, &module)?)?;
    parent.add_submodule(&module)
}
