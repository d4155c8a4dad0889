//! `sapwood._core.push`: a directory into packs, pages and a fence index.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::digest::hex;
use sapwood_core::error::{Error, Result};
use sapwood_core::job::Job;
use sapwood_core::push::{Fragment, Known, Pushed, Request, Sealed, push};

use crate::enter::{direct, ticking};
use crate::values::{Options, digest_text};

/// Packs that may wait for their upload, beside those being filled and sent.
const WAITING: usize = 1;

type Outcome = Result<Pushed>;

/// Name, bytes, fragment.
type Pack<'py> = (String, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// A push under way: `next` gives its packs, then `result` the rest.
#[pyclass(frozen, module = "sapwood._core.push")]
struct Push {
    job: Arc<Job>,
    packs: Receiver<Sealed>,
    thread: Mutex<Option<JoinHandle<Outcome>>>,
}

#[pymethods]
impl Push {
    #[new]
    #[pyo3(signature = (root, *, index, fragments, pending, options))]
    fn new(
        py: Python<'_>,
        root: PathBuf,
        index: Option<PathBuf>,
        fragments: Vec<PyBackedBytes>,
        pending: Vec<PyBackedBytes>,
        options: Options,
    ) -> PyResult<Push> {
        let all = fragments.iter().chain(&pending).map(|bytes| bytes.to_vec()).collect();
        let known = direct(py, py.detach(|| Known::new(all)))?;
        let pending: Result<Vec<Fragment>> = pending.iter().map(|bytes| Fragment::parse(bytes.to_vec())).collect();
        let pending = direct(py, pending)?;
        let (sender, packs) = bounded(WAITING);
        let job = Arc::new(Job::default());
        let thread = {
            let (job, options) = (job.clone(), direct(py, options.to_core())?);
            std::thread::spawn(move || {
                let (root, index) = (root.as_path(), index.as_deref());
                push(Request { root, index, known: &known, pending, options: &options }, &sender, &job)
            })
        };
        Ok(Push { job, packs, thread: Mutex::new(Some(thread)) })
    }

    /// The next pack as (name, bytes, fragment), in the order of sealing; `None` when there are no more.
    #[pyo3(signature = (progress=None))]
    fn next<'py>(&self, py: Python<'py>, progress: Option<Bound<'py, PyAny>>) -> PyResult<Option<Pack<'py>>> {
        let sealed = ticking(py, progress.as_ref(), &self.job, |tick: Duration| match self.packs.recv_timeout(tick) {
            Ok(sealed) => Some(Some(sealed)),
            Err(RecvTimeoutError::Disconnected) => Some(None),
            Err(RecvTimeoutError::Timeout) => None,
        })?;
        let part =
            |sealed: Sealed| (hex(&sealed.name), PyBytes::new(py, &sealed.bytes), PyBytes::new(py, &sealed.fragment));
        Ok(sealed.map(part))
    }

    /// What remains to be written once all packs are stored.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let thread = self.thread.lock().expect("no method panics with it").take();
        let Some(thread) = thread else {
            return direct(py, Err(Error::Invalid { what: "push".into(), why: "its result was taken".into() }));
        };
        match py.detach(|| thread.join()) {
            Ok(outcome) => describe(py, direct(py, outcome)?),
            Err(panic) => Err(crate::errors::internal(py, &*panic)),
        }
    }

    /// Stop and wait for the end; nothing to do when `result` was taken.
    fn close(&self, py: Python<'_>) {
        self.job.stop();
        let thread = self.thread.lock().expect("no method panics with it").take();
        if let Some(thread) = thread {
            py.detach(|| {
                // A panic has nobody left to tell: the caller is already handling another error.
                let _ = thread.join();
            });
        }
    }
}

fn describe(py: Python<'_>, pushed: Pushed) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let Pushed { tree, summary, sent, unreadable, map, map_bytes, entries, bytes, packs, fragment } = pushed;
    out.set_item("tree", digest_text(&tree))?;
    out.set_item("tree_size", tree.size)?;
    out.set_item("map", digest_text(&map))?;
    out.set_item("map_size", map.size)?;
    out.set_item("map_bytes", PyBytes::new(py, &map_bytes))?;
    out.set_item("entries", entries)?;
    out.set_item("bytes", bytes)?;
    out.set_item("packs", packs.iter().map(|pack| hex(pack)).collect::<Vec<_>>())?;
    out.set_item("fragment", fragment.map(|fragment| PyBytes::new(py, &fragment).unbind()))?;
    out.set_item("files", summary.files)?;
    out.set_item("files_hashed", summary.files_hashed)?;
    out.set_item("bytes_hashed", summary.bytes_hashed)?;
    out.set_item("chunks_sent", sent.chunks)?;
    out.set_item("chunk_bytes_sent", sent.chunk_bytes)?;
    out.set_item("pack_bytes_sent", sent.pack_bytes)?;
    out.set_item("packs_sent", sent.packs)?;
    out.set_item("unreadable", crate::values::paths(py, &unreadable))?;
    Ok(out)
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "push")?;
    module.add_class::<Push>()?;
    parent.add_submodule(&module)
}
