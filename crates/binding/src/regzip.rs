//! `sapwood._core.regzip`: gzip streams as plain bytes and corrections.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::RawFd;
use std::path::PathBuf;

use pyo3::prelude::*;
use sapwood_core::error::{Error, Result, show};
use sapwood_core::regzip;

use crate::archive::own;
use crate::enter::enter;

/// The plain bytes of the gzip stream in the file `input`, called `name`, into `plain`, and its corrections; false if there are
/// none.
#[pyfunction]
fn apart(py: Python<'_>, input: RawFd, name: PathBuf, plain: RawFd, corrections: RawFd) -> PyResult<bool> {
    enter(py, None, |job| {
        let (mut plain, mut corrections) = (buffered(plain, &name)?, buffered(corrections, &name)?);
        let done = regzip::apart(&show(&name), own(input, &name)?, &mut plain, &mut corrections, job)?;
        let flushed = plain.flush().and_then(|()| corrections.flush());
        flushed.map_err(Error::io("write what is in", &name))?;
        Ok(done)
    })
}

/// The gzip stream of `plain` that `corrections` say, both read from where they stand, into `output`.
#[pyfunction]
fn together(py: Python<'_>, plain: RawFd, corrections: RawFd, name: PathBuf, output: RawFd) -> PyResult<()> {
    enter(py, None, |job| {
        let mut out = buffered(output, &name)?;
        regzip::together(&show(&name), own(plain, &name)?, own(corrections, &name)?, &mut out, job)?;
        out.flush().map_err(Error::io("write", &name))
    })
}

/// The plain bytes of a tar as it lies, plain or by gzip or zstd, into `output`.
#[pyfunction]
fn inflate(py: Python<'_>, input: RawFd, name: PathBuf, output: RawFd) -> PyResult<()> {
    enter(py, None, |job| {
        let mut out = buffered(output, &name)?;
        regzip::inflate(&show(&name), &own(input, &name)?, &mut out, job)?;
        out.flush().map_err(Error::io("write what is in", &name))
    })
}

fn buffered(fd: RawFd, name: &std::path::Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(256 << 10, own(fd, name)?))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "regzip")?;
    module.add_function(wrap_pyfunction!(apart, &module)?)?;
    module.add_function(wrap_pyfunction!(together, &module)?)?;
    module.add_function(wrap_pyfunction!(inflate, &module)?)?;
    parent.add_submodule(&module)
}
