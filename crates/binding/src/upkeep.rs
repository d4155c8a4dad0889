//! `sapwood._core.upkeep`: packs read back, and what file maps need of them.

use std::collections::HashSet;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::{self, Holds, Lying, Redirect, Tail};
use sapwood_core::digest::{hex, parse_hex};
use sapwood_core::error::{Error, Result};
use sapwood_core::push::{Fragment, PackName};
use sapwood_core::upkeep::{self, Need};

use crate::enter::{direct, enter};
use crate::filemap::FileMap;
use crate::values::digest_text;

/// Offset, inner offset, length, plain length, digest, size: a chunk and its place in a pack.
type Place = (u32, u32, u32, u32, String, u64);

fn pack_name(text: &str) -> Result<PackName> {
    parse_hex(text).ok_or_else(|| Error::Invalid { what: text.into(), why: "not a pack's name".into() })
}

fn place(lying: &Lying) -> Place {
    (lying.offset, lying.inner, lying.length, lying.plain, digest_text(&lying.digest), lying.digest.size)
}

fn needed(need: &Need) -> Place {
    (need.offset, need.inner, need.length, need.plain, digest_text(&need.digest), need.digest.size)
}

/// What a pack says it holds.
#[pyclass(frozen, module = "sapwood._core.upkeep")]
struct Toc {
    toc: archive::Toc,
    held: Vec<Lying>,
}

impl Toc {
    fn new(toc: archive::Toc) -> Toc {
        let held = toc.entries.iter().map(|entry| entry.lying).collect();
        Toc { toc, held }
    }
}

#[pymethods]
impl Toc {
    #[getter]
    fn push(&self) -> Option<&str> {
        self.toc.push.as_deref()
    }

    #[getter]
    fn end(&self) -> u32 {
        self.toc.end
    }

    /// Everything of one kind, in the order of the pack.
    fn held(&self, holds: &str) -> Vec<Place> {
        let wanted = match holds {
            "page" => Holds::Page,
            "outline" => Holds::Outline,
            _ => Holds::Content,
        };
        self.toc.entries.iter().filter(|entry| entry.holds == wanted).map(|entry| place(&entry.lying)).collect()
    }

    fn __len__(&self) -> usize {
        self.toc.entries.len()
    }
}

/// The TOC of a pack of `size` bytes, or how many of its last bytes it takes to read it.
#[pyfunction]
fn read_toc(py: Python<'_>, tail: PyBackedBytes, size: u64) -> PyResult<(Option<Toc>, u64)> {
    let read = direct(py, py.detach(|| archive::Toc::of_tail(&tail, size)))?;
    Ok(match read {
        Tail::Toc(toc) => (Some(Toc::new(toc)), 0),
        Tail::Short(needed) => (None, needed),
    })
}

/// What reading a whole pack has shown.
#[pyclass(frozen, module = "sapwood._core.upkeep")]
struct Proved {
    sound: Vec<Lying>,
    #[pyo3(get)]
    faults: Vec<String>,
}

#[pymethods]
impl Proved {
    fn sound(&self) -> Vec<Place> {
        self.sound.iter().map(place).collect()
    }
}

#[pyfunction]
fn prove(py: Python<'_>, name: &str, data: PyBackedBytes, frames: Vec<(u32, u32, u32)>) -> PyResult<Proved> {
    let name = direct(py, pack_name(name))?;
    let archive::Proved { sound, faults, .. } = enter(py, None, |job| archive::prove(&name, &data, &frames, job))?;
    Ok(Proved { sound, faults })
}

/// What file maps need, by pack.
#[pyclass(frozen, module = "sapwood._core.upkeep")]
struct Needs(Mutex<upkeep::Needs>);

impl Needs {
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut upkeep::Needs) -> T + Send) -> T {
        py.detach(|| work(&mut self.0.lock().expect("no method panics with it")))
    }
}

#[pymethods]
impl Needs {
    #[new]
    fn new() -> Needs {
        Needs(Mutex::default())
    }

    fn add(&self, py: Python<'_>, map: &FileMap) {
        self.with(py, |needs| needs.add(&map.0));
    }

    fn packs(&self, py: Python<'_>) -> Vec<String> {
        self.with(py, |needs| needs.packs()).iter().map(|pack| hex(pack)).collect()
    }

    fn of(&self, py: Python<'_>, pack: &str) -> PyResult<Vec<Place>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.with(py, |needs| needs.of(&pack).iter().map(needed).collect()))
    }

    fn follow(&self, py: Python<'_>, pack: &str, redirect: PyBackedBytes) -> PyResult<()> {
        let pack = direct(py, pack_name(pack))?;
        let redirect = direct(py, Redirect::decode(&redirect))?;
        self.with(py, |needs| needs.follow(&pack, &redirect));
        Ok(())
    }

    fn unlisted(&self, py: Python<'_>, pack: &str, toc: &Toc) -> PyResult<Vec<Place>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.with(py, |needs| needs.unmet(&pack, &toc.held)).iter().map(needed).collect())
    }

    fn unproved(&self, py: Python<'_>, pack: &str, proved: &Proved) -> PyResult<Vec<Place>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.with(py, |needs| needs.unmet(&pack, &proved.sound)).iter().map(needed).collect())
    }
}

/// Paths that need what lies at one of `damaged` (pack, offset, inner), at most `limit`, and how many there are.
#[pyfunction]
fn paths<'py>(
    py: Python<'py>,
    map: &FileMap,
    damaged: Vec<(String, u32, u32)>,
    limit: usize,
) -> PyResult<(Vec<Bound<'py, PyBytes>>, u64)> {
    let places: Result<HashSet<_>> =
        damaged.iter().map(|(pack, offset, inner)| Ok((pack_name(pack)?, *offset, *inner))).collect();
    let places = direct(py, places)?;
    let (paths, count) = py.detach(|| upkeep::paths(&map.0, &places, limit));
    Ok((paths.iter().map(|path| PyBytes::new(py, path)).collect(), count))
}

/// Digest, size, frame's place and entries' first path of each page, by number.
#[pyfunction]
fn pages<'py>(py: Python<'py>, map: &FileMap) -> Vec<(String, u64, Bound<'py, PyBytes>)> {
    let page = |page: &sapwood_core::filemap::PageRef| {
        (digest_text(&page.digest), page.digest.size, PyBytes::new(py, &page.first))
    };
    map.0.pages().iter().map(page).collect()
}

/// The packs that an index fragment names.
#[pyfunction]
fn fragment_packs(py: Python<'_>, fragment: PyBackedBytes) -> PyResult<Vec<String>> {
    let parsed = direct(py, py.detach(|| Fragment::parse(fragment.to_vec())))?;
    Ok(parsed.packs().map(|pack| hex(pack)).collect())
}

/// The packs that a redirect names.
#[pyfunction]
fn redirect_packs(py: Python<'_>, redirect: PyBackedBytes) -> PyResult<Vec<String>> {
    let redirect = direct(py, py.detach(|| Redirect::decode(&redirect)))?;
    Ok(redirect.packs.iter().map(|pack| hex(pack)).collect())
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "upkeep")?;
    module.add("TAIL", archive::TAIL)?;
    module.add_class::<Toc>()?;
    module.add_class::<Proved>()?;
    module.add_class::<Needs>()?;
    module.add_function(wrap_pyfunction!(read_toc, &module)?)?;
    module.add_function(wrap_pyfunction!(prove, &module)?)?;
    module.add_function(wrap_pyfunction!(paths, &module)?)?;
    module.add_function(wrap_pyfunction!(pages, &module)?)?;
    module.add_function(wrap_pyfunction!(fragment_packs, &module)?)?;
    module.add_function(wrap_pyfunction!(redirect_packs, &module)?)?;
    parent.add_submodule(&module)
}
