//! `sapwood._core.push`: a directory, or a tar, into packs, pages and a fence index.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyMemoryView};
use sapwood_core::digest::{hex, parse_hex};
use sapwood_core::error::{Error, Result, show};
use sapwood_core::filemap::ChunkAt;
use sapwood_core::job::Job;
use sapwood_core::push::{
    self, Archive, Fragment, FragmentWriter, Known, Looked, Map, Mounted, PackBytes, PackName, Pushed, Request, Sealed,
    Usable, look,
};

use crate::archive::own;
use crate::enter::{direct, enter, ticking};
use crate::filemap::{FileMap, absent};
use crate::values::{Frame, Options, digest_text, parse_sha};

/// Packs that may wait for their upload, beside those being filled and sent.
const WAITING: usize = 1;

type Outcome = Result<Pushed>;

/// Name, bytes, fragment.
pub type Pack<'py> = (String, Bound<'py, PyMemoryView>, Bound<'py, PyBytes>);

/// The bytes of a sealed pack, as the owner of views; the core fills its memory again when nobody has one any more.
#[pyclass(frozen, module = "sapwood._core.push")]
struct SealedBytes(PackBytes);

#[pymethods]
impl SealedBytes {
    // SAFETY: Python's buffer protocol. The view is read-only and holds `slf`, which is frozen: the bytes stay where they are.
    unsafe fn __getbuffer__(slf: PyRef<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes: &[u8] = &slf.0;
        let (start, length) = (bytes.as_ptr() as *mut c_void, bytes.len() as ffi::Py_ssize_t);
        let owner = slf.as_ptr();
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner, start, length, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// A push: looked at when made, then `lacking` and `begin`; `next` gives its packs, then `result` the rest.
#[pyclass(frozen, module = "sapwood._core.push")]
struct Push {
    job: Arc<Job>,
    stage: Mutex<Stage>,
}

enum Stage {
    Looked(Box<Source>),
    Running { packs: Receiver<Sealed>, missed: Missed, thread: JoinHandle<Outcome> },
    Over,
}

enum Source {
    Directory(Looked),
    Mounted(Mounted),
    Archive(Archive),
}

/// Chunks that the run wants back, and the way of the file that has them.
#[derive(Clone)]
struct Missed {
    asked: Receiver<Vec<ChunkAt>>,
    given: Sender<File>,
}

/// Frame, place in it, digest, size.
type Chunk = (Frame, u32, String, u64);

impl Source {
    fn lacking(&self, known: &Known) -> Result<u64> {
        match self {
            Source::Directory(looked) => looked.lacking(known),
            Source::Mounted(mounted) => mounted.lacking(known),
            // What of it is known nobody knows before it is read; of a pipe not even how much there is.
            Source::Archive(archive) => Ok(archive.stored().unwrap_or(1)),
        }
    }
}

fn used_up(done: &str) -> Error {
    Error::Invalid { what: "push".into(), why: format!("it has {done}") }
}

fn pack_names(names: &[String]) -> Result<Vec<PackName>> {
    let parse = |name: &String| {
        parse_hex(name).ok_or_else(|| Error::Invalid { what: name.clone(), why: "not a pack's name".into() })
    };
    names.iter().map(parse).collect()
}

/// Names of the packs that are there, and of those of them that are sound.
pub fn usable_packs((there, sound): (Vec<String>, Vec<String>)) -> Result<Usable> {
    let (there, sound) = (pack_names(&there)?, pack_names(&sound)?);
    Ok(Usable { there: there.into_iter().collect(), sound: sound.into_iter().collect() })
}

pub fn describe_sealed<'py>(py: Python<'py>, sealed: Sealed) -> PyResult<Pack<'py>> {
    let Sealed { name, bytes, fragment } = sealed;
    let view = PyMemoryView::from(Bound::new(py, SealedBytes(bytes))?.as_any())?;
    Ok((hex(&name), view, PyBytes::new(py, &fragment)))
}

#[pymethods]
impl Push {
    /// Look at the directory; if it is a mount of `base`, whose pages have all been brought, believe that of what is not in `upper`.
    #[new]
    #[pyo3(signature = (root, *, index, options, progress=None, base=None, upper=None))]
    fn new(
        py: Python<'_>,
        root: PathBuf,
        index: Option<PathBuf>,
        options: Options,
        progress: Option<Bound<'_, PyAny>>,
        base: Option<PyRef<'_, FileMap>>,
        upper: Option<PathBuf>,
    ) -> PyResult<Push> {
        let options = direct(py, options.to_core())?;
        let base = base.map(|base| base.0.clone());
        let source = enter(py, progress.as_ref(), |job| {
            if let (Some(base), None) = (&base, &index)
                && let Some(mounted) = Mounted::look(&root, base.clone(), upper.as_deref(), &options, job)?
            {
                return Ok(Source::Mounted(mounted));
            }
            let mut looked = look(&root, index.as_deref(), &options, job)?;
            if let Some(base) = base {
                looked.trust(&base, upper.as_deref(), job)?;
            }
            Ok(Source::Directory(looked))
        })?;
        Ok(Push { job: Arc::new(Job::default()), stage: Mutex::new(Stage::Looked(Box::new(source))) })
    }

    /// Of the tar in the file `tar`, called `name`, which takes `stored` bytes where it lies; `temporary` is a directory for what
    /// memory should not hold.
    #[staticmethod]
    #[pyo3(signature = (tar, name, *, stored, temporary, told=None))]
    fn of_archive(
        py: Python<'_>,
        tar: RawFd,
        name: PathBuf,
        stored: Option<u64>,
        temporary: PathBuf,
        told: Option<Vec<u8>>,
    ) -> PyResult<Push> {
        let archive = own(tar, &name).map(|file| Archive::new(show(&name), file, stored, temporary));
        let archive = match told {
            Some(told) => archive.map(|archive| archive.told(told)),
            None => archive,
        };
        let source = Box::new(Source::Archive(direct(py, archive)?));
        Ok(Push { job: Arc::new(Job::default()), stage: Mutex::new(Stage::Looked(source)) })
    }

    /// Bytes of the files that `holdings` does not explain.
    fn lacking(&self, py: Python<'_>, holdings: Option<PyBackedBytes>) -> PyResult<u64> {
        let lacking = py.detach(|| {
            let known = Known::new(holdings.map(|bytes| bytes.to_vec()), Vec::new(), None)?;
            match &*self.stage.lock().expect("no method panics with it") {
                Stage::Looked(looked) => looked.lacking(&known),
                _ => Err(used_up("begun")),
            }
        });
        direct(py, lacking)
    }

    /// Begin to read. `usable` are the packs that are there, and those of them that are sound; `None`: all.
    #[pyo3(signature = (*, push, level, words, content, holdings, memory, fragments, pending, usable))]
    #[expect(clippy::too_many_arguments, reason = "by keyword: what a push knows and says")]
    fn begin(
        &self,
        py: Python<'_>,
        push: String,
        level: Option<i32>,
        words: Vec<u8>,
        content: Option<String>,
        holdings: Option<PyBackedBytes>,
        memory: PyBackedBytes,
        fragments: Vec<PyBackedBytes>,
        pending: Vec<PyBackedBytes>,
        usable: Option<(Vec<String>, Vec<String>)>,
    ) -> PyResult<()> {
        let parsed = py.detach(|| {
            let usable = usable.map(usable_packs);
            let all = fragments.iter().chain(&pending).map(|bytes| bytes.to_vec()).collect();
            let known = Known::new(holdings.map(|bytes| bytes.to_vec()), all, usable.transpose()?.as_ref())?;
            let pending: Result<Vec<_>> = pending.iter().map(|bytes| Fragment::parse(bytes.to_vec())).collect();
            let content = content.as_deref().map(parse_sha).transpose()?;
            Ok((known, pending?, content))
        });
        let (known, pending, content) = direct(py, parsed)?;
        let mut stage = self.stage.lock().expect("no method panics with it");
        let Stage::Looked(looked) = std::mem::replace(&mut *stage, Stage::Over) else {
            return direct(py, Err(used_up("begun")));
        };
        let (sender, packs) = bounded(WAITING);
        let (asking, asked) = bounded(1);
        let (given, coming) = bounded(1);
        let job = self.job.clone();
        let thread = std::thread::spawn(move || {
            let request =
                Request { push: &push, level, known: &known, pending, memory: &memory, content, words: &words };
            match *looked {
                Source::Directory(looked) => looked.push(request, &sender, &job),
                Source::Mounted(mounted) => mounted.push(request, &sender, &job),
                Source::Archive(archive) => {
                    let threads = std::thread::available_parallelism().map_or(1, usize::from);
                    let mut fetch = |chunks| fetch(chunks, &asking, &coming, &job);
                    archive.push(request, &sender, &mut fetch, threads, &job)
                }
            }
        });
        *stage = Stage::Running { packs, missed: Missed { asked, given }, thread };
        Ok(())
    }

    /// The next pack as (name, bytes, fragment), in the order of sealing; `None` when there are no more, or no more before
    /// what was `missed` is given.
    #[pyo3(signature = (progress=None))]
    fn next<'py>(&self, py: Python<'py>, progress: Option<Bound<'py, PyAny>>) -> PyResult<Option<Pack<'py>>> {
        let Some((packs, missed)) = self.running() else { return direct(py, Err(used_up("not begun"))) };
        let sealed = ticking(py, progress.as_ref(), &self.job, |tick: Duration| match packs.recv_timeout(tick) {
            Ok(sealed) => Some(Some(sealed)),
            Err(RecvTimeoutError::Disconnected) => Some(None),
            // What it asks for it asks after the last pack, which may have come since: `asked` is looked at before `packs`.
            Err(RecvTimeoutError::Timeout) => (!missed.asked.is_empty()).then(|| packs.try_recv().ok()),
        })?;
        sealed.map(|sealed| describe_sealed(py, sealed)).transpose()
    }

    /// Chunks of packs that `next` gave which the run needs again, once these are stored; none mostly.
    fn missed(&self) -> Vec<Chunk> {
        let chunks = self.running().and_then(|(_, missed)| missed.asked.try_recv().ok()).unwrap_or_default();
        let chunk = |chunk: ChunkAt| (Frame(chunk.frame), chunk.inner, digest_text(&chunk.digest), chunk.digest.size);
        chunks.into_iter().map(chunk).collect()
    }

    /// The chunks that were missed, one after the other in a file; there are more packs then.
    fn give(&self, py: Python<'_>, chunks: RawFd, name: PathBuf) -> PyResult<()> {
        let file = direct(py, own(chunks, &name))?;
        if let Some((_, missed)) = self.running() {
            // A run that has ended has no use for it.
            let _ = missed.given.try_send(file);
        }
        Ok(())
    }

    /// What remains to be written once all packs are stored.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Stage::Running { packs, thread, .. } = self.end() else {
            return direct(py, Err(used_up("no result to give")));
        };
        drop(packs);
        match py.detach(|| thread.join()) {
            Ok(outcome) => describe(py, direct(py, outcome)?),
            Err(panic) => Err(crate::errors::internal(py, &*panic)),
        }
    }

    /// Stop and wait for the end; nothing to do when `result` was taken.
    fn close(&self, py: Python<'_>) {
        self.job.stop();
        if let Stage::Running { packs, thread, .. } = self.end() {
            py.detach(|| {
                drop(packs);
                // A panic has nobody left to tell: the caller is already handling another error.
                let _ = thread.join();
            });
        }
    }
}

/// Ask for chunks, and wait for them.
fn fetch(chunks: Vec<ChunkAt>, asking: &Sender<Vec<ChunkAt>>, coming: &Receiver<File>, job: &Job) -> Result<File> {
    asking.send(chunks).map_err(|_| Error::Stopped)?;
    loop {
        job.step(0)?;
        match coming.recv_timeout(Duration::from_millis(50)) {
            Ok(file) => return Ok(file),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped),
        }
    }
}

impl Push {
    fn running(&self) -> Option<(Receiver<Sealed>, Missed)> {
        match &*self.stage.lock().expect("no method panics with it") {
            Stage::Running { packs, missed, .. } => Some((packs.clone(), missed.clone())),
            _ => None,
        }
    }

    fn end(&self) -> Stage {
        std::mem::replace(&mut *self.stage.lock().expect("no method panics with it"), Stage::Over)
    }
}

fn describe(py: Python<'_>, pushed: Pushed) -> PyResult<Bound<'_, PyDict>> {
    let out = PyDict::new(py);
    let Pushed { tree, summary, sent, unreadable, entries, bytes, map, fragment, holdings, reused, memory } = pushed;
    out.set_item("tree", digest_text(&tree))?;
    out.set_item("tree_size", tree.size)?;
    out.set_item("entries", entries)?;
    out.set_item("bytes", bytes)?;
    out.set_item("unchanged", map.is_none())?;
    if let Some(Map { digest, stored, content, packs }) = map {
        out.set_item("map", digest_text(&digest))?;
        out.set_item("map_size", digest.size)?;
        out.set_item("map_bytes", PyBytes::new(py, &stored))?;
        out.set_item("content", digest_text(&content))?;
        out.set_item("packs", packs.iter().map(|pack| hex(pack)).collect::<Vec<_>>())?;
    }
    out.set_item("fragment", fragment.map(|fragment| PyBytes::new(py, &fragment).unbind()))?;
    out.set_item("holdings", holdings.map(|holdings| PyBytes::new(py, &holdings).unbind()))?;
    out.set_item("memory", memory.map(|memory| PyBytes::new(py, &memory).unbind()))?;
    out.set_item("reused", reused.iter().map(|pack| hex(pack)).collect::<Vec<_>>())?;
    out.set_item("files", summary.files)?;
    out.set_item("files_hashed", summary.files_hashed)?;
    out.set_item("bytes_hashed", summary.bytes_hashed)?;
    out.set_item("chunks_sent", sent.chunks)?;
    out.set_item("chunk_bytes_sent", sent.chunk_bytes)?;
    out.set_item("content_bytes_sent", sent.content_bytes)?;
    out.set_item("pack_bytes_sent", sent.pack_bytes)?;
    out.set_item("packs_sent", sent.packs)?;
    out.set_item("unreadable", crate::values::paths(py, &unreadable))?;
    Ok(out)
}

/// The holdings of a file map whose pages have all been brought.
#[pyfunction]
fn holdings_of<'py>(py: Python<'py>, file_map: &FileMap) -> PyResult<Bound<'py, PyBytes>> {
    let holdings = py.detach(|| push::holdings_of(&file_map.0)).map_err(absent);
    Ok(PyBytes::new(py, &direct(py, holdings)?))
}

/// One fragment that says what all of `fragments` say.
#[pyfunction]
fn merged<'py>(py: Python<'py>, fragments: Vec<PyBackedBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let merged = py.detach(|| {
        let mut writer = FragmentWriter::default();
        for bytes in fragments {
            writer.fragment(&Fragment::parse(bytes.to_vec())?);
        }
        Ok(writer.finish())
    });
    Ok(PyBytes::new(py, &direct(py, merged)?))
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "push")?;
    module.add_class::<Push>()?;
    module.add_function(wrap_pyfunction!(merged, &module)?)?;
    module.add_function(wrap_pyfunction!(holdings_of, &module)?)?;
    parent.add_submodule(&module)
}
