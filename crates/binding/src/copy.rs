//! `sapwood._core.copy`: a tree out of one store into another.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::copy::{self, Copied, CopiedMap, Layout, Looking, Wanted};
use sapwood_core::digest::hex;
use sapwood_core::error::{Error, Result};
use sapwood_core::job::Job;
use sapwood_core::push::{Fragment, Known, Sealed};

use crate::enter::direct;
use crate::filemap::FileMap;
use crate::push::{Pack, describe_sealed, usable_packs};
use crate::values::{Frame, digest_text, parse_sha};

/// A copy: `look` at all pages, then `begin`, `deliver` all frames, `settle`, `place` all pages, `finish`.
#[pyclass(frozen, module = "sapwood._core.copy")]
struct Copy {
    job: Arc<Job>,
    stage: Mutex<Stage>,
}

enum Stage {
    Looking(Arc<Looking>),
    Running(Arc<copy::Copy>),
    Over,
}

fn wrong(why: &str) -> Error {
    Error::Invalid { what: "copy".into(), why: format!("it has {why}") }
}

impl Copy {
    fn looking(&self) -> Result<Arc<Looking>> {
        match &*self.stage.lock().expect("no method panics with it") {
            Stage::Looking(looking) => Ok(looking.clone()),
            _ => Err(wrong("begun")),
        }
    }

    fn running(&self) -> Result<Arc<copy::Copy>> {
        match &*self.stage.lock().expect("no method panics with it") {
            Stage::Running(running) => Ok(running.clone()),
            _ => Err(wrong("not begun, or ended")),
        }
    }

    /// What `work` gives out, as Python takes it.
    fn packs<'py>(
        &self,
        py: Python<'py>,
        work: impl FnOnce(&copy::Copy) -> Result<Vec<Sealed>> + Send,
    ) -> PyResult<Vec<Pack<'py>>> {
        let sealed = py.detach(|| work(&*self.running()?));
        direct(py, sealed)?.into_iter().map(|sealed| describe_sealed(py, sealed)).collect()
    }
}

#[pymethods]
impl Copy {
    /// Of `file_map` no page need have been brought.
    #[new]
    fn new(file_map: &FileMap) -> Copy {
        let looking = Stage::Looking(Arc::new(Looking::new(file_map.0.clone())));
        Copy { job: Arc::default(), stage: Mutex::new(looking) }
    }

    fn look(&self, py: Python<'_>, page: usize, stored: PyBackedBytes) -> PyResult<()> {
        let looked = py.detach(|| self.looking()?.look(page, &stored));
        direct(py, looked)
    }

    fn lacking(&self, py: Python<'_>, holdings: Option<PyBackedBytes>) -> PyResult<u64> {
        let lacking = py.detach(|| {
            let known = Known::new(holdings.map(|bytes| bytes.to_vec()), Vec::new(), None)?;
            Ok(self.looking()?.lacking(&known))
        });
        direct(py, lacking)
    }

    /// Gives the bytes of the frames that are to be delivered.
    #[pyo3(signature = (*, push, holdings, fragments, pending, usable, anew))]
    #[expect(clippy::too_many_arguments, reason = "by keyword: what a copy knows")]
    fn begin(
        &self,
        py: Python<'_>,
        push: &str,
        holdings: Option<PyBackedBytes>,
        fragments: Vec<PyBackedBytes>,
        pending: Vec<PyBackedBytes>,
        usable: Option<(Vec<String>, Vec<String>)>,
        anew: Vec<(String, Vec<(u32, u32)>)>,
    ) -> PyResult<u64> {
        let begun = py.detach(|| {
            let all = fragments.iter().chain(&pending).map(|bytes| bytes.to_vec()).collect();
            let usable = usable.map(usable_packs).transpose()?;
            let known = Known::new(holdings.map(|bytes| bytes.to_vec()), all, usable.as_ref())?;
            let pending: Result<Vec<_>> = pending.iter().map(|bytes| Fragment::parse(bytes.to_vec())).collect();
            let pending = pending?;
            let wanted = |(digest, ranges): (String, _)| Ok(Wanted { sha256: parse_sha(&digest)?, ranges });
            let anew = Layout::new(anew.into_iter().map(wanted).collect::<Result<_>>()?)?;
            let mut stage = self.stage.lock().expect("no method panics with it");
            let Stage::Looking(looking) = std::mem::replace(&mut *stage, Stage::Over) else {
                return Err(wrong("begun"));
            };
            let looking = Arc::into_inner(looking).ok_or_else(|| wrong("threads that still look"))?;
            let begun = looking.begin(push, known, &pending, anew, self.job.clone());
            let bytes = begun.bytes_left();
            *stage = Stage::Running(Arc::new(begun));
            Ok(bytes)
        });
        direct(py, begun)
    }

    fn take(&self, py: Python<'_>, bytes: u64) -> PyResult<Vec<Frame>> {
        let taken = py.detach(|| Ok(self.running()?.take(bytes)));
        Ok(direct(py, taken)?.into_iter().map(Frame).collect())
    }

    fn deliver<'py>(&self, py: Python<'py>, frame: &Frame, stored: PyBackedBytes) -> PyResult<Vec<Pack<'py>>> {
        self.packs(py, |copy| copy.deliver(&frame.0, &stored))
    }

    fn settle<'py>(&self, py: Python<'py>) -> PyResult<Vec<Pack<'py>>> {
        self.packs(py, copy::Copy::settle)
    }

    fn place<'py>(&self, py: Python<'py>, page: usize, stored: PyBackedBytes) -> PyResult<Vec<Pack<'py>>> {
        self.packs(py, |copy| copy.place(page, &stored))
    }

    /// Packs that are left, and what remains to be written after them.
    fn finish<'py>(&self, py: Python<'py>, words: &[u8], content: Option<&str>) -> PyResult<Bound<'py, PyDict>> {
        let finished = py.detach(|| {
            let content = content.map(parse_sha).transpose()?;
            self.running()?.finish(words, content)
        });
        describe(py, direct(py, finished)?)
    }

    fn close(&self) {
        self.job.stop();
        *self.stage.lock().expect("no method panics with it") = Stage::Over;
    }
}

fn describe(py: Python<'_>, copied: Copied) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let Copied { tree, packs, map, entries, bytes, fragment, holdings, reused, sent } = copied;
    let packs: PyResult<Vec<Pack<'_>>> = packs.into_iter().map(|sealed| describe_sealed(py, sealed)).collect();
    out.set_item("left", packs?)?;
    out.set_item("tree", digest_text(&tree))?;
    out.set_item("tree_size", tree.size)?;
    out.set_item("unchanged", map.is_none())?;
    if let Some(CopiedMap { digest, stored, content, packs }) = map {
        out.set_item("map", digest_text(&digest))?;
        out.set_item("map_size", digest.size)?;
        out.set_item("map_bytes", PyBytes::new(py, &stored))?;
        out.set_item("content", digest_text(&content))?;
        out.set_item("packs", packs.iter().map(|pack| hex(pack)).collect::<Vec<_>>())?;
    }
    out.set_item("entries", entries)?;
    out.set_item("bytes", bytes)?;
    out.set_item("fragment", fragment.map(|fragment| PyBytes::new(py, &fragment).unbind()))?;
    out.set_item("holdings", PyBytes::new(py, &holdings))?;
    // A copy looks at no directory, so there is nothing that makes the next look quicker.
    out.set_item("memory", py.None())?;
    out.set_item("reused", reused.iter().map(|pack| hex(pack)).collect::<Vec<_>>())?;
    out.set_item("chunks_sent", sent.chunks)?;
    out.set_item("chunk_bytes_sent", sent.chunk_bytes)?;
    out.set_item("packs_sent", sent.packs)?;
    out.set_item("pack_bytes_sent", sent.pack_bytes)?;
    Ok(out)
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "copy")?;
    module.add_class::<Copy>()?;
    parent.add_submodule(&module)
}
