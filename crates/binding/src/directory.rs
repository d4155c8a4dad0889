//! `sapwood._core.directory`: one directory at a time, its digest and what differs between two.

use pyo3::prelude::*;
use sapwood_core::digest::Digest;
use sapwood_core::directory::Directory;
use sapwood_core::filemap::{self, Node};

use crate::enter::direct;
use crate::filemap::{FileMap, absent};
use crate::tree::State;
use crate::values::{Entry, digest_text, parse_sha};

/// name, digest, size, whether it is executable
type File = (Vec<u8>, String, u64, bool);
/// name, digest, size of the message
type Folder = (Vec<u8>, String, u64);
/// name, target
type Link = (Vec<u8>, Vec<u8>);

/// Digest and size of the canonical message of a directory that has these nodes, given in any order.
#[pyfunction]
fn directory_digest(
    py: Python<'_>,
    files: Vec<File>,
    directories: Vec<Folder>,
    symlinks: Vec<Link>,
) -> PyResult<(String, u64)> {
    let digest = py.detach(|| {
        let mut message = Directory::default();
        for (name, digest, size, is_executable) in &files {
            message.file(name, Digest { sha256: parse_sha(digest)?, size: *size }, *is_executable);
        }
        for (name, digest, size) in &directories {
            message.directory(name, Digest { sha256: parse_sha(digest)?, size: *size });
        }
        for (name, target) in &symlinks {
            message.symlink(name, target);
        }
        Ok(message.digest())
    });
    let digest = direct(py, digest)?;
    Ok((digest_text(&digest), digest.size))
}

/// Where the entries of a directory can be found.
#[derive(FromPyObject)]
enum Listing<'py> {
    State(PyRef<'py, State>),
    Map(PyRef<'py, FileMap>),
}

impl Listing<'_> {
    fn nodes(&self, py: Python<'_>, path: &[u8]) -> PyResult<Vec<Node<'_>>> {
        match self {
            Listing::State(state) => Ok(filemap::nodes_of_state(&state.0, path)),
            Listing::Map(map) => direct(py, filemap::nodes_of_map(&map.0, path).map_err(absent)),
        }
    }
}

/// The entries of the directories at `path_a` of `a` and `path_b` of `b` that are in one only or differ, by name.
#[pyfunction]
fn differing(
    py: Python<'_>,
    a: Listing<'_>,
    path_a: &[u8],
    b: Listing<'_>,
    path_b: &[u8],
) -> PyResult<Vec<(Option<Entry>, Option<Entry>)>> {
    let (mine, theirs) = (a.nodes(py, path_a)?, b.nodes(py, path_b)?);
    let entry = |node: Option<Node<'_>>| node.map(|node| direct(py, node.entry()).map(Entry)).transpose();
    filemap::differing(&mine, &theirs).into_iter().map(|(a, b)| Ok((entry(a)?, entry(b)?))).collect()
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "directory")?;
    module.add_function(wrap_pyfunction!(directory_digest, &module)?)?;
    module.add_function(wrap_pyfunction!(differing, &module)?)?;
    parent.add_submodule(&module)
}
