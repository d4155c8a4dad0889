//! Values that cross the border: frames and entries.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::digest::{Digest, hex, parse_hex};
use sapwood_core::error::{Error, Result};
use sapwood_core::filemap::{self, FrameAt, Kind};
use sapwood_core::index;
use sapwood_core::select::Selection;

pub fn digest_text(digest: &Digest) -> String {
    format!("sha256:{}", digest.hex())
}

/// The SHA-256 of `sha256:<hex>`.
pub fn parse_sha(text: &str) -> Result<[u8; 32]> {
    let parsed = text.strip_prefix("sha256:").and_then(parse_hex);
    parsed.ok_or_else(|| Error::Invalid { what: text.into(), why: "not a digest".into() })
}

/// How to look at a working directory: `sapwood.tree.options.Options`.
#[derive(FromPyObject)]
pub struct Options {
    threads: usize,
    skip_unreadable: bool,
    one_file_system: bool,
    trust_ctime: bool,
    exclude: Vec<Vec<u8>>,
    gitignore: bool,
}

impl Options {
    /// # Errors
    /// `Invalid` naming a pattern that is none.
    pub fn to_core(&self) -> Result<index::Options> {
        let &Options { threads, skip_unreadable, one_file_system, trust_ctime, ref exclude, gitignore } = self;
        let selection = Selection::new(exclude.clone(), gitignore)?;
        Ok(index::Options { threads, skip_unreadable, one_file_system, trust_ctime, selection })
    }
}

/// A frame of a pack: the unit of fetching.
#[pyclass(frozen, eq, hash, ord, from_py_object, module = "sapwood._core.filemap")]
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame(pub FrameAt);

#[pymethods]
impl Frame {
    #[new]
    fn new(py: Python<'_>, pack: &str, offset: u64, length: u32, plain: u32) -> PyResult<Frame> {
        let name = parse_hex(pack).ok_or_else(|| Error::Invalid { what: pack.into(), why: "not a pack's name".into() });
        let pack = Arc::new(crate::enter::direct(py, name)?);
        Ok(Frame(FrameAt { pack, offset, length, plain }))
    }

    #[getter]
    fn pack(&self) -> String {
        hex(&self.0.pack[..])
    }

    #[getter]
    fn offset(&self) -> u64 {
        self.0.offset
    }

    #[getter]
    fn length(&self) -> u32 {
        self.0.length
    }

    #[getter]
    fn plain(&self) -> u32 {
        self.0.plain
    }

    fn __repr__(&self) -> String {
        format!("Frame({:?}, {}, {}, {})", self.pack(), self.0.offset, self.0.length, self.0.plain)
    }

    fn __getnewargs__(&self) -> (String, u64, u32, u32) {
        (self.pack(), self.0.offset, self.0.length, self.0.plain)
    }
}

/// One entry of a tree, whatever the tree's source.
#[pyclass(frozen, eq, from_py_object, module = "sapwood._core.filemap")]
#[derive(Clone, PartialEq)]
pub struct Entry(pub filemap::Entry);

#[pymethods]
impl Entry {
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.path)
    }

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    #[getter]
    fn kind(&self) -> &'static str {
        filemap::type_of(&self.0.kind)
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    #[getter]
    fn mode(&self) -> u32 {
        self.0.mode
    }

    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }

    #[getter]
    fn gid(&self) -> u32 {
        self.0.gid
    }

    #[getter]
    fn mtime_ns(&self) -> i128 {
        i128::from(self.0.mtime.sec) * 1_000_000_000 + i128::from(self.0.mtime.nsec)
    }

    #[getter]
    fn links(&self) -> u32 {
        self.0.links
    }

    #[getter]
    fn digest(&self) -> Option<String> {
        match &self.0.kind {
            Kind::Directory { digest } => digest.as_ref().map(digest_text),
            Kind::Regular(content) => Some(digest_text(&content.digest)),
            _ => None,
        }
    }

    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match &self.0.kind {
            Kind::Symlink { target } => Some(PyBytes::new(py, target)),
            Kind::HardLink { first } => Some(PyBytes::new(py, first)),
            _ => None,
        }
    }

    #[getter]
    fn device(&self) -> Option<(u32, u32)> {
        match self.0.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => Some((major, minor)),
            _ => None,
        }
    }

    #[getter]
    fn xattrs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (name, value) in &self.0.xattrs {
            out.set_item(PyBytes::new(py, name), PyBytes::new(py, value))?;
        }
        Ok(out)
    }

    /// Where the chunks of a regular file lie: (frame, place in the decompressed frame, digest, size), in order.
    #[getter]
    fn chunks(&self) -> Vec<(Frame, u32, String, u64)> {
        let Kind::Regular(content) = &self.0.kind else { return Vec::new() };
        let row = |chunk: &filemap::ChunkAt| {
            (Frame(chunk.frame.clone()), chunk.inner, digest_text(&chunk.digest), chunk.digest.size)
        };
        content.chunks.iter().map(row).collect()
    }

    fn __repr__(&self) -> String {
        format!("<Entry {} {}>", self.kind(), String::from_utf8_lossy(&self.0.path).escape_debug())
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.0.path.hash(&mut hasher);
        hasher.finish()
    }
}

/// Paths as bytes.
pub fn paths<'py>(py: Python<'py>, paths: &[std::path::PathBuf]) -> Vec<Bound<'py, PyBytes>> {
    use std::os::unix::ffi::OsStrExt;
    paths.iter().map(|path| PyBytes::new(py, path.as_os_str().as_bytes())).collect()
}
