//! `sapwood._core.archive`: archives out of tars and directories.

use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::convert::{Made, Out, convert as of_tar, pack as of_directory};
use sapwood_core::error::{Error, Result, show};
use sapwood_core::stargz::{self, Compression};
use sapwood_core::tar::clean;

use crate::enter::{direct, enter};
use crate::values::{Options, digest_text, paths};

/// How an archive is made: `sapwood.archive.write.Choices`.
#[derive(FromPyObject)]
struct Choices {
    zstd: bool,
    level: Option<i32>,
    chunk_size: Option<usize>,
    min_chunk_size: usize,
    compatible_times: bool,
    prioritize: Vec<Vec<u8>>,
    threads: usize,
}

impl Choices {
    fn to_core(&self, temporary: PathBuf) -> stargz::Options {
        let compression = match (self.zstd, self.level) {
            (false, level) => level.map_or(Compression::GZIP, Compression::Gzip),
            (true, level) => level.map_or(Compression::ZSTD, Compression::Zstd),
        };
        let &Choices { chunk_size, min_chunk_size, compatible_times, threads, .. } = self;
        // Who chooses how members are made wants them made.
        let copy = self.level.is_none() && chunk_size.is_none() && min_chunk_size == 0;
        stargz::Options { compression, chunk_size, min_chunk_size, compatible_times, copy, threads, temporary }
    }
}

/// A file that Python has open, for ourselves.
pub fn own(fd: RawFd, path: &Path) -> Result<File> {
    // SAFETY: the caller keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map(File::from).map_err(Error::io("open", path))
}

/// Names as given, clean.
fn clean_all(names: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let each = |name: &Vec<u8>| {
        clean(name)
            .map_err(|why| Error::Invalid { what: String::from_utf8_lossy(name).into_owned(), why: why.to_string() })
    };
    names.iter().map(each).collect()
}

/// The tar in the file `input`, called `name`, into an archive in the file `output`, called `path`.
#[pyfunction]
#[pyo3(signature = (input, name, output, path, *, choices, temporary, is_layer=false, progress=None))]
#[expect(clippy::too_many_arguments, reason = "two files, each with its name")]
fn convert<'py>(
    py: Python<'py>,
    input: RawFd,
    name: PathBuf,
    output: RawFd,
    path: PathBuf,
    choices: Choices,
    temporary: PathBuf,
    is_layer: bool,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let made = enter(py, progress.as_ref(), |job| {
        let (input, front) = (own(input, &name)?, clean_all(&choices.prioritize)?);
        let mut out = Out::new(own(output, &path)?, path)?;
        of_tar(&show(&name), &input, is_layer, &front, &choices.to_core(temporary), &mut out, job)
    })?;
    describe(py, made)
}

/// The directory `root` into an archive in the file `output`, called `path`, which is to replace the file `replaced`.
#[pyfunction]
#[pyo3(signature = (root, output, path, *, replaced=None, options, choices, temporary, progress=None))]
#[expect(clippy::too_many_arguments, reason = "most of them by keyword")]
fn pack<'py>(
    py: Python<'py>,
    root: PathBuf,
    output: RawFd,
    path: PathBuf,
    replaced: Option<PathBuf>,
    options: Options,
    choices: Choices,
    temporary: PathBuf,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = direct(py, options.to_core())?;
    let made = enter(py, progress.as_ref(), |job| {
        let front = clean_all(&choices.prioritize)?;
        let mut out = Out::new(own(output, &path)?, path)?;
        let how = choices.to_core(temporary);
        of_directory(&root, &options, &front, &how, &mut out, replaced.as_deref(), job)
    })?;
    describe(py, made)
}

fn describe(py: Python<'_>, made: Made) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let Made { written, left_out, absent, unreadable } = made;
    let names = |names: Vec<Vec<u8>>| names.iter().map(|name| PyBytes::new(py, name)).collect::<Vec<_>>();
    let annotations = PyDict::new(py);
    for (name, value) in written.annotations() {
        annotations.set_item(name, value)?;
    }
    out.set_item("toc", digest_text(&written.toc_digest))?;
    out.set_item("tar", digest_text(&written.tar))?;
    out.set_item("tar_size", written.tar.size)?;
    out.set_item("size", written.size)?;
    out.set_item("entries", written.entries)?;
    out.set_item("chunks", written.chunks)?;
    out.set_item("annotations", annotations)?;
    out.set_item("left_out", names(left_out))?;
    out.set_item("absent", names(absent))?;
    out.set_item("unreadable", paths(py, &unreadable))?;
    Ok(out)
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "archive")?;
    module.add_function(wrap_pyfunction!(convert, &module)?)?;
    module.add_function(wrap_pyfunction!(pack, &module)?)?;
    parent.add_submodule(&module)
}
