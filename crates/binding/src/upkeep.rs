//! `sapwood._core.upkeep`: packs read back, and what file maps need of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::{self, Holds, Lying, Redirect, Tail};
use sapwood_core::digest::{Digest, hex, parse_hex};
use sapwood_core::error::{Error, Result};
use sapwood_core::filemap::Summary;
use sapwood_core::push::{Fragment, PackName};
use sapwood_core::upkeep::{self, Need};

use crate::enter::{Shared, direct, enter};
use crate::filemap::FileMap;
use crate::values::{Frame, digest_text, parse_sha};

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
        let wanted = holding(holds);
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
struct Needs(Shared<upkeep::Needs>);

#[pymethods]
impl Needs {
    #[new]
    fn new() -> Needs {
        Needs(Shared::default())
    }

    fn add(&self, py: Python<'_>, map: &FileMap) {
        self.0.with(py, |needs| needs.add(&map.0));
    }

    fn packs(&self, py: Python<'_>) -> Vec<String> {
        self.0.with(py, |needs| needs.packs()).iter().map(|pack| hex(pack)).collect()
    }

    fn of(&self, py: Python<'_>, pack: &str) -> PyResult<Vec<Place>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.0.with(py, |needs| needs.of(&pack).iter().map(needed).collect()))
    }

    fn follow(&self, py: Python<'_>, pack: &str, redirect: PyBackedBytes) -> PyResult<bool> {
        let pack = direct(py, pack_name(pack))?;
        let redirect = direct(py, Redirect::decode(&redirect))?;
        Ok(self.0.with(py, |needs| needs.follow(&pack, &redirect)))
    }

    fn unlisted(&self, py: Python<'_>, pack: &str, toc: &Toc) -> PyResult<Vec<Place>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.0.with(py, |needs| needs.unmet(&pack, &toc.held)).iter().map(needed).collect())
    }

    fn unproved(&self, py: Python<'_>, pack: &str, proved: &Proved) -> PyResult<Vec<Place>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.0.with(py, |needs| needs.unmet(&pack, &proved.sound)).iter().map(needed).collect())
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

/// (digest, its size, the size of a file, offset in it) of each chunk of `wanted` that is not the whole of a file.
#[pyfunction]
fn held(py: Python<'_>, map: &FileMap, wanted: Vec<String>) -> PyResult<Vec<(String, u64, u64, u64)>> {
    let found = py.detach(|| {
        let wanted: HashSet<_> = wanted.iter().map(|digest| parse_sha(digest)).collect::<Result<_>>()?;
        Ok(upkeep::held(&map.0, &wanted))
    });
    let told = |held: &upkeep::Held| (digest_text(&held.digest), held.digest.size, held.file_size, held.offset);
    Ok(direct(py, found)?.iter().map(told).collect())
}

/// Digest, size, first entry's path and number of entries of each page that is stored; one of split metadata has no entries.
#[pyfunction]
fn pages<'py>(py: Python<'py>, map: &FileMap) -> Vec<(String, u64, Bound<'py, PyBytes>, u32)> {
    let page = |page: &sapwood_core::filemap::PageRef| {
        (digest_text(&page.digest), page.digest.size, PyBytes::new(py, &page.first), page.entries)
    };
    map.0.stored().iter().map(page).collect()
}

/// Where chunks lie, to tell lost pages of file maps again.
#[pyclass(frozen, module = "sapwood._core.upkeep")]
struct Places(Shared<upkeep::Places>);

#[pymethods]
impl Places {
    #[new]
    fn new() -> Places {
        Places(Shared::default())
    }

    fn redirect(&self, py: Python<'_>, pack: &str, redirect: PyBackedBytes) -> PyResult<()> {
        let pack = direct(py, pack_name(pack))?;
        let redirect = direct(py, Redirect::decode(&redirect))?;
        self.0.with(py, |places| places.redirect(&pack, &redirect));
        Ok(())
    }

    fn pack(&self, py: Python<'_>, pack: &str, toc: &Toc) -> PyResult<()> {
        let pack = direct(py, pack_name(pack))?;
        self.0.with(py, |places| places.pack(&pack, toc.held.iter().copied()));
        Ok(())
    }

    fn fragment(&self, py: Python<'_>, fragment: PyBackedBytes) -> PyResult<()> {
        let parsed = direct(py, py.detach(|| Fragment::parse(fragment.to_vec())))?;
        self.0.with(py, |places| places.fragment(&parsed));
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn page<'py>(
        &self,
        py: Python<'py>,
        map: &FileMap,
        first: PyBackedBytes,
        entries: u32,
        digest: &str,
        size: u64,
        packs: Vec<String>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let sha256 = direct(py, parse_sha(digest))?;
        let lost = upkeep::LostPage { first: first.to_vec(), entries, digest: Digest { sha256, size } };
        let packs: Result<HashSet<_>> = packs.iter().map(|pack| pack_name(pack)).collect();
        let packs = direct(py, packs)?;
        let page = self.0.with(py, |places| places.page(&map.0, &lost, &packs));
        Ok(page.map(|page| PyBytes::new(py, &page)))
    }
}

/// The packs that an index fragment names.
#[pyfunction]
fn fragment_packs(py: Python<'_>, fragment: PyBackedBytes) -> PyResult<Vec<String>> {
    let parsed = direct(py, py.detach(|| Fragment::parse(fragment.to_vec())))?;
    Ok(parsed.packs().map(|pack| hex(pack)).collect())
}

fn redirect_of(py: Python<'_>, pack: &str, redirect: &[u8]) -> PyResult<Redirect> {
    let of = direct(py, pack_name(pack))?;
    let found = py.detach(|| {
        let found = Redirect::decode(redirect)?;
        found.require_of(&of)?;
        Ok(found)
    });
    direct(py, found)
}

/// The packs that the redirect of a pack names.
#[pyfunction]
fn redirect_packs(py: Python<'_>, pack: &str, redirect: PyBackedBytes) -> PyResult<Vec<String>> {
    let redirect = redirect_of(py, pack, &redirect)?;
    Ok(redirect.packs.iter().map(|pack| hex(pack)).collect())
}

/// Old offset, old length, pack, new offset, new length.
type Moved = (u32, u32, String, u32, u32);

/// Where the frames of a moved pack lie now.
#[pyfunction]
fn redirect_rows(py: Python<'_>, pack: &str, redirect: PyBackedBytes) -> PyResult<Vec<Moved>> {
    let Redirect { packs, rows, .. } = redirect_of(py, pack, &redirect)?;
    Ok(rows.into_iter().map(|(at, length, pack, to, new)| (at, length, hex(&packs[pack as usize]), to, new)).collect())
}

/// A damaged pack made again.
#[pyclass(frozen, module = "sapwood._core.upkeep")]
struct Rebuild(Mutex<Option<upkeep::Rebuild>>);

fn holding(holds: &str) -> Holds {
    match holds {
        "page" => Holds::Page,
        "outline" => Holds::Outline,
        _ => Holds::Content,
    }
}

fn over() -> Error {
    Error::Invalid { what: "a pack made again".into(), why: "it was finished".into() }
}

/// Inner offset, digest, bytes.
type Part = (u32, String, PyBackedBytes);

#[pymethods]
impl Rebuild {
    #[new]
    fn new(py: Python<'_>, push: &str, pack: &str) -> PyResult<Rebuild> {
        let of = direct(py, pack_name(pack))?;
        Ok(Rebuild(Mutex::new(Some(upkeep::Rebuild::new(push, of)))))
    }

    fn copy(
        &self,
        py: Python<'_>,
        offset: u32,
        stored: PyBackedBytes,
        plain: u32,
        chunks: Vec<(String, u64, u32)>,
        holds: &str,
    ) -> PyResult<()> {
        let parse = |(digest, size, inner): &(String, u64, u32)| {
            Ok((Digest { sha256: parse_sha(digest)?, size: *size }, *inner))
        };
        let chunks: Result<Vec<(Digest, u32)>> = chunks.iter().map(parse).collect();
        let chunks = direct(py, chunks)?;
        let mut open = self.0.lock().expect("no method panics with it");
        let rebuild = direct(py, open.as_mut().ok_or_else(over))?;
        rebuild.copy(offset, &stored, plain, chunks, holding(holds));
        Ok(())
    }

    fn make(
        &self,
        py: Python<'_>,
        offset: u32,
        length: u32,
        plain: u32,
        chunks: Vec<Part>,
        holds: &str,
    ) -> PyResult<()> {
        let made = py.detach(|| {
            let parse = |(inner, digest, bytes): &Part| {
                Ok((*inner, Digest { sha256: parse_sha(digest)?, size: bytes.len() as u64 }, bytes.to_vec()))
            };
            let chunks: Vec<(u32, Digest, Vec<u8>)> = chunks.iter().map(parse).collect::<Result<_>>()?;
            let mut open = self.0.lock().expect("no method panics with it");
            open.as_mut().ok_or_else(over)?.make(offset, length, plain, &chunks, holding(holds))
        });
        direct(py, made)
    }

    /// `None` when no frame was added.
    #[pyo3(signature = (before=None))]
    fn finish<'py>(&self, py: Python<'py>, before: Option<PyBackedBytes>) -> PyResult<Option<Made<'py>>> {
        let before = direct(py, before.map(|before| Redirect::decode(&before)).transpose())?;
        let open = self.0.lock().expect("no method panics with it").take();
        let rebuild = direct(py, open.ok_or_else(over))?;
        if rebuild.is_empty() {
            return Ok(None);
        }
        let (made, redirect) = py.detach(|| {
            let made = rebuild.finish(before);
            let redirect = made.redirect.encode();
            (made, redirect)
        });
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
        Ok(Some((hex(&made.pack.name), bytes(&made.pack.bytes), bytes(&made.fragment), bytes(&redirect))))
    }
}

/// Name, bytes, fragment, redirect.
type Made<'py> = (String, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Digest, size, stored bytes, content, packs.
type MadeMap<'py> = (String, u64, Bound<'py, PyBytes>, String, Vec<String>);

/// What packs say of themselves, into fragments and fence indexes.
#[pyclass(frozen, module = "sapwood._core.upkeep")]
struct Recovery(Mutex<upkeep::Recovery>);

#[pymethods]
impl Recovery {
    #[new]
    fn new() -> Recovery {
        Recovery(Mutex::default())
    }

    fn pack(&self, py: Python<'_>, name: &str, toc: &Toc) -> PyResult<()> {
        let name = direct(py, pack_name(name))?;
        py.detach(|| self.0.lock().expect("no method panics with it").pack(&name, &toc.toc));
        Ok(())
    }

    fn page(
        &self,
        py: Python<'_>,
        stored: PyBackedBytes,
        plain: u32,
        inner: u32,
        digest: &str,
        size: u64,
    ) -> PyResult<()> {
        let page = py.detach(|| {
            let digest = Digest { sha256: parse_sha(digest)?, size };
            self.0.lock().expect("no method panics with it").page(&stored, plain, inner, digest)
        });
        direct(py, page)
    }

    fn split(
        &self,
        py: Python<'_>,
        stored: PyBackedBytes,
        plain: u32,
        inner: u32,
        digest: &str,
        size: u64,
    ) -> PyResult<()> {
        let page = py.detach(|| {
            let digest = Digest { sha256: parse_sha(digest)?, size };
            self.0.lock().expect("no method panics with it").split(&stored, plain, inner, digest)
        });
        direct(py, page)
    }

    fn has_page(&self, py: Python<'_>, digest: &str) -> PyResult<bool> {
        let sha256 = direct(py, parse_sha(digest))?;
        Ok(self.0.lock().expect("no method panics with it").has_page(&sha256))
    }

    #[allow(clippy::too_many_arguments)]
    fn map<'py>(
        &self,
        py: Python<'py>,
        push: &str,
        tree: &str,
        tree_size: u64,
        entries: u64,
        bytes: u64,
        pages: Vec<(String, Frame, u32)>,
        tar: Option<(String, u64)>,
    ) -> PyResult<MadeMap<'py>> {
        let made = py.detach(|| {
            let tree = Digest { sha256: parse_sha(tree)?, size: tree_size };
            let tar = tar.map(|(tar, size)| Ok(Digest { sha256: parse_sha(&tar)?, size })).transpose()?;
            let summary = Summary { push: Some(push.to_owned()), tree, entries, bytes, tar };
            let at = |(digest, frame, inner): &(String, Frame, u32)| {
                Ok(upkeep::PageAt { sha256: parse_sha(digest)?, frame: frame.0.clone(), inner: *inner })
            };
            let pages: Vec<upkeep::PageAt> = pages.iter().map(at).collect::<Result<_>>()?;
            let made = self.0.lock().expect("no method panics with it").map(&summary, &pages)?;
            let stored = archive::deflate(&made.text, 3);
            Ok((made, stored))
        });
        let (made, stored) = direct(py, made)?;
        let packs = made.packs.iter().map(|pack| hex(pack)).collect();
        Ok((digest_text(&made.map), made.map.size, PyBytes::new(py, &stored), digest_text(&made.content), packs))
    }

    fn fragments<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let made = py.detach(|| self.0.lock().expect("no method panics with it").fragments());
        made.iter().map(|fragment| PyBytes::new(py, fragment)).collect()
    }
}

/// Where files below `root` hold chunks (digest, size): digest -> (path, offset).
#[pyfunction]
fn search(
    py: Python<'_>,
    root: PathBuf,
    wanted: Vec<(String, u64)>,
    held: Vec<(String, u64, u64, u64)>,
) -> PyResult<HashMap<String, (OsString, u64)>> {
    let held = held.iter().map(|(digest, size, file_size, offset)| {
        let digest = Digest { sha256: parse_sha(digest)?, size: *size };
        Ok(upkeep::Held { digest, file_size: *file_size, offset: *offset })
    });
    let held = direct(py, held.collect::<Result<Vec<_>>>())?;
    let wanted: Result<HashSet<Digest>> =
        wanted.iter().map(|(digest, size)| Ok(Digest { sha256: parse_sha(digest)?, size: *size })).collect();
    let wanted = direct(py, wanted)?;
    let found = enter(py, None, |job| upkeep::search(&root, &wanted, &held, job))?;
    Ok(found
        .into_iter()
        .map(|(digest, spot)| (digest_text(&digest), (spot.path.into_os_string(), spot.offset)))
        .collect())
}

/// The bytes of a chunk that `search` found, proved.
#[pyfunction]
fn read_spot<'py>(
    py: Python<'py>,
    path: PathBuf,
    offset: u64,
    digest: &str,
    size: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let read = py.detach(|| {
        let digest = Digest { sha256: parse_sha(digest)?, size };
        upkeep::read_spot(&upkeep::Spot { path, offset }, &digest)
    });
    Ok(PyBytes::new(py, &direct(py, read)?))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "upkeep")?;
    module.add("TAIL", archive::TAIL)?;
    module.add_class::<Toc>()?;
    module.add_class::<Proved>()?;
    module.add_class::<Needs>()?;
    module.add_class::<Rebuild>()?;
    module.add_class::<Recovery>()?;
    module.add_function(wrap_pyfunction!(search, &module)?)?;
    module.add_function(wrap_pyfunction!(read_spot, &module)?)?;
    module.add_function(wrap_pyfunction!(read_toc, &module)?)?;
    module.add_function(wrap_pyfunction!(prove, &module)?)?;
    module.add_function(wrap_pyfunction!(paths, &module)?)?;
    module.add_function(wrap_pyfunction!(held, &module)?)?;
    module.add_function(wrap_pyfunction!(pages, &module)?)?;
    module.add_class::<Places>()?;
    module.add_function(wrap_pyfunction!(fragment_packs, &module)?)?;
    module.add_function(wrap_pyfunction!(redirect_packs, &module)?)?;
    module.add_function(wrap_pyfunction!(redirect_rows, &module)?)?;
    parent.add_submodule(&module)
}
