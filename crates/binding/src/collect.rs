//! `sapwood._core.collect`: what is alive in a store's packs, redirects, and the moving of frames.

use std::collections::HashMap;
use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use sapwood_core::archive::{self, Holds, Tail, Toc, frame};
use sapwood_core::collect;
use sapwood_core::digest::{hex, parse_hex};
use sapwood_core::error::{Error, Result};
use sapwood_core::push::PackName;

use crate::enter::{Shared, direct};
use crate::filemap::{FileMap, absent};
use crate::values::Frame;

/// Number, name and bytes of a new pack.
type Moved<'py> = (u32, String, Bound<'py, PyBytes>);

fn pack_name(text: &str) -> Result<PackName> {
    parse_hex(text).ok_or_else(|| Error::Invalid { what: text.into(), why: "not a pack's name".into() })
}

/// Where the frames of a pack that was moved lie now.
#[pyclass(frozen, module = "sapwood._core.collect")]
struct Redirect(archive::Redirect);

#[pymethods]
impl Redirect {
    #[new]
    fn new(py: Python<'_>, stored: PyBackedBytes) -> PyResult<Redirect> {
        direct(py, py.detach(|| archive::Redirect::decode(&stored))).map(Redirect)
    }

    /// Pack and offset of the frame that was `length` bytes at `offset`, and its length there.
    fn find(&self, offset: u32, length: u32) -> Option<(String, u32, u32)> {
        self.0.find(offset, length).map(|(pack, offset, length)| (hex(&pack), offset, length))
    }
}

/// A pack and what it says it holds.
#[pyclass(frozen, module = "sapwood._core.collect")]
struct OldPack {
    name: PackName,
    toc: Toc,
}

#[pymethods]
impl OldPack {
    /// From the last bytes of a pack of `size` bytes; or how many of these it takes.
    #[staticmethod]
    fn read(py: Python<'_>, name: &str, tail: PyBackedBytes, size: u64) -> PyResult<(Option<OldPack>, u64)> {
        let read = py.detach(|| Ok((pack_name(name)?, Toc::of_tail(&tail, size)?)));
        Ok(match direct(py, read)? {
            (name, Tail::Toc(toc)) => (Some(OldPack { name, toc }), 0),
            (_, Tail::Short(needed)) => (None, needed),
        })
    }

    #[getter]
    fn end(&self) -> u32 {
        self.toc.end
    }

    /// Offset and length of the frames that hold an outline.
    fn outlines(&self) -> Vec<(u32, u32)> {
        let outlines = self.toc.entries.iter().filter(|entry| entry.holds == Holds::Outline);
        outlines.map(|entry| (entry.lying.offset, entry.lying.length)).collect()
    }

    /// Prove every chunk in these frames (offset, length).
    fn prove(&self, py: Python<'_>, frames: Vec<(u32, u32)>, stored: Vec<PyBackedBytes>) -> PyResult<()> {
        let proved = py.detach(|| {
            let stored: Vec<&[u8]> = stored.iter().map(|bytes| &bytes[..]).collect();
            collect::prove(&self.toc, &frames, &stored)
        });
        direct(py, proved)
    }
}

/// What live file maps use.
#[pyclass(frozen, module = "sapwood._core.collect")]
struct Marks(Shared<collect::Marks>);

#[pymethods]
impl Marks {
    #[new]
    fn new() -> Marks {
        Marks(Shared::default())
    }

    /// Mark the pages of a live map; gives number and frame of those that are to be brought.
    fn map(&self, py: Python<'_>, map: &FileMap) -> Vec<(usize, Frame)> {
        let wanted = self.0.with(py, |marks| marks.map(&map.0));
        wanted.into_iter().map(|page| (page, Frame(map.0.stored()[page].frame.clone()))).collect()
    }

    /// Mark what a page uses: the bytes of its frame as stored.
    fn page(&self, py: Python<'_>, map: &FileMap, page: usize, stored: PyBackedBytes) -> PyResult<()> {
        let entries = py.detach(|| {
            let at = map.0.stored().get(page).ok_or_else(|| absent(sapwood_core::filemap::Missing(page)))?;
            let plain = frame::open(&stored, at.frame.plain)?;
            map.0.read_page(page, frame::chunk(&plain, at.inner, &at.digest)?)
        });
        let entries = direct(py, entries)?;
        self.0.with(py, |marks| marks.page(&entries));
        Ok(())
    }

    /// Mark the outline at `offset` of a pack if the map of its run is live; tells whether it is.
    fn outline(&self, py: Python<'_>, pack: &OldPack, offset: u32, stored: PyBackedBytes) -> PyResult<bool> {
        let Some(entry) = pack.toc.entries.iter().find(|entry| entry.lying.offset == offset) else {
            return Ok(false);
        };
        direct(py, self.0.with(py, |marks| marks.outline(&pack.name, entry, &stored)))
    }

    /// Take every mark to where redirects, by pack, say that its frame lies now.
    fn follow(&self, py: Python<'_>, redirects: HashMap<String, PyBackedBytes>) -> PyResult<()> {
        let followed = self.0.with(py, |marks| {
            let decode =
                |(pack, stored): (&String, &PyBackedBytes)| Ok((pack_name(pack)?, archive::Redirect::decode(stored)?));
            marks.follow(&redirects.iter().map(decode).collect::<Result<_>>()?)
        });
        direct(py, followed)
    }

    /// Bytes of live frames by pack.
    fn packs(&self, py: Python<'_>) -> HashMap<String, u64> {
        self.0.with(py, |marks| marks.packs()).iter().map(|(pack, live)| (hex(pack), *live)).collect()
    }

    /// Chunks, their bytes and those of their frames as stored; pages, and the bytes of their frames.
    fn totals(&self, py: Python<'_>) -> (u64, u64, u64, u64, u64) {
        let totals = self.0.with(py, |marks| marks.totals());
        (totals.chunks, totals.chunk_bytes, totals.chunk_stored, totals.pages, totals.page_stored)
    }

    /// Packs that are needed through their redirects.
    fn moved(&self, py: Python<'_>) -> Vec<String> {
        self.0.with(py, |marks| marks.moved()).iter().map(|pack| hex(pack)).collect()
    }

    /// How many redirects lead to a pack, at most.
    fn hops(&self, py: Python<'_>, pack: &str) -> PyResult<usize> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.0.with(py, |marks| marks.hops(&pack)))
    }

    /// Offset and length of the live frames of a pack.
    fn frames(&self, py: Python<'_>, pack: &str) -> PyResult<Vec<(u32, u32)>> {
        let pack = direct(py, pack_name(pack))?;
        Ok(self.0.with(py, |marks| marks.frames(&pack)))
    }

    /// Index fragments of everything that is alive in these packs, each of about `limit` bytes at most.
    fn fragments<'py>(&self, py: Python<'py>, packs: Vec<String>, limit: usize) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let packs = direct(py, packs.iter().map(|pack| pack_name(pack)).collect::<Result<Vec<_>>>())?;
        let fragments = self.0.with(py, |marks| marks.fragments(&packs, limit));
        Ok(fragments.iter().map(|fragment| PyBytes::new(py, fragment)).collect())
    }
}

/// Copies frames of old packs into new ones.
#[pyclass(frozen, module = "sapwood._core.collect")]
struct Mover(Mutex<collect::Mover>);

fn shown(py: Python<'_>, moved: collect::Moved) -> Moved<'_> {
    (moved.number, hex(&moved.name), PyBytes::new(py, &moved.bytes))
}

#[pymethods]
impl Mover {
    #[new]
    fn new(push: String) -> Mover {
        Mover(Mutex::new(collect::Mover::new(push)))
    }

    /// Copy frames (offset, length) of an old pack; gives the packs that this has filled.
    fn add<'py>(
        &self,
        py: Python<'py>,
        pack: &OldPack,
        frames: Vec<(u32, u32)>,
        stored: Vec<PyBackedBytes>,
    ) -> PyResult<Vec<Moved<'py>>> {
        let full = py.detach(|| {
            let stored: Vec<&[u8]> = stored.iter().map(|bytes| &bytes[..]).collect();
            self.0.lock().expect("no method panics with it").add(&pack.name, &pack.toc, &frames, &stored)
        });
        Ok(direct(py, full)?.into_iter().map(|moved| shown(py, moved)).collect())
    }

    /// The last pack, not full.
    fn finish<'py>(&self, py: Python<'py>) -> Option<Moved<'py>> {
        let last = py.detach(|| self.0.lock().expect("no method panics with it").finish());
        last.map(|moved| shown(py, moved))
    }

    /// Pack and redirect of each old one all of whose frames are stored, now that this new pack is.
    fn stored<'py>(&self, py: Python<'py>, number: u32) -> Vec<(String, Bound<'py, PyBytes>)> {
        let ready = py.detach(|| self.0.lock().expect("no method panics with it").stored(number));
        ready.into_iter().map(|(pack, redirect)| (hex(&pack), PyBytes::new(py, &redirect))).collect()
    }
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "collect")?;
    module.add_class::<Redirect>()?;
    module.add_class::<OldPack>()?;
    module.add_class::<Marks>()?;
    module.add_class::<Mover>()?;
    parent.add_submodule(&module)
}
