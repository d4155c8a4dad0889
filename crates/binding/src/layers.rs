//! `sapwood._core.layers`: the layers of an image as one file map.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::lead::{Entry, head};
use sapwood_core::digest::Digest;
use sapwood_core::layers;

use crate::archive::own;
use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::{digest_text, parse_sha};

/// One file map of all layers, the lowest first.
#[pyfunction]
fn merge(py: Python<'_>, maps: Vec<Bound<'_, FileMap>>) -> PyResult<FileMap> {
    let maps: Vec<_> = maps.iter().map(|map| map.get().0.clone()).collect();
    let merged = enter(py, None, |job| layers::merge(&maps, job))?;
    Ok(FileMap(Arc::new(merged)))
}

/// Write a merged map in pages to the file `output`, called `path`; where its fence index lies in it, how long that is there,
/// and its digest and size.
#[pyfunction]
fn keep(py: Python<'_>, map: Bound<'_, FileMap>, output: RawFd, path: PathBuf) -> PyResult<(u64, u64, String, u64)> {
    let map = map.get().0.clone();
    let kept = enter(py, None, |job| layers::keep(&map, &mut own(output, &path)?, &path, job))?;
    Ok((kept.at, kept.length, digest_text(&kept.digest), kept.digest.size))
}

/// The map of a fence index as it was kept.
#[pyfunction]
#[pyo3(signature = (stored, digest, size, *, is_led))]
fn open(py: Python<'_>, stored: PyBackedBytes, digest: &str, size: u64, is_led: bool) -> PyResult<FileMap> {
    let map = py.detach(|| layers::open(&stored, Digest { sha256: parse_sha(digest)?, size }, is_led));
    Ok(FileMap(Arc::new(direct(py, map)?)))
}

/// The lead of a frame that begins a gzip member or a zstd frame, or of zeros, which lie nowhere.
#[pyfunction]
#[pyo3(signature = (*, is_zeros))]
fn lead(py: Python<'_>, is_zeros: bool) -> Bound<'_, PyBytes> {
    let entry = if is_zeros { Entry::Zeros } else { Entry::Member };
    PyBytes::new(py, &head(entry, 0))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "layers")?;
    module.add_function(wrap_pyfunction!(merge, &module)?)?;
    module.add_function(wrap_pyfunction!(keep, &module)?)?;
    module.add_function(wrap_pyfunction!(open, &module)?)?;
    module.add_function(wrap_pyfunction!(lead, &module)?)?;
    parent.add_submodule(&module)
}
