//! `sapwood._core.digest`: SHA-256 for Python where `hashlib`, which loads OpenSSL, would be what takes longest.

use pyo3::prelude::*;
use sapwood_core::digest::Digest;

#[pyfunction]
fn sha256(data: &[u8]) -> String {
    Digest::of(data).hex()
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "digest")?;
    module.add_function(wrap_pyfunction!(sha256, &module)?)?;
    parent.add_submodule(&module)
}
