//! `sapwood._core.mount`: a file map served to the kernel, what it wants, and the cache it fills.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sapwood_core::cache::Cache;
use sapwood_core::digest::{Digest, parse_hex};
use sapwood_core::error::Error;
use sapwood_core::fuse::{self, Changes, Layers};
use sapwood_core::wanted::{Class, Wanted};

use crate::enter::direct;
use crate::filemap::FileMap;
use crate::values::{Frame, paths};

/// Threads that answer the kernel. Two are as fast as more: what is slow is parked, not waited for.
const THREADS: usize = 2;

/// Path, offset, bytes, readers.
type Traced<'py> = (Bound<'py, PyBytes>, u64, Vec<(u64, u64)>, Vec<Bound<'py, PyBytes>>);

#[pyclass(frozen, module = "sapwood._core.mount")]
pub struct Server {
    server: Arc<fuse::Server>,
    wanted: Arc<Wanted>,
    /// The descriptor of /dev/fuse that the server reads; open as long as this is. None where a library mounts.
    device: Option<RawFd>,
    native: bool,
    /// What a mount of several layers is made of, until it is established; none of one that is taken over.
    layers: Mutex<Option<Layers>>,
    /// There was a mount already.
    adopted: bool,
    place: PathBuf,
    /// Each pass through the tree holds it, too.
    passes: Arc<()>,
}

/// The device that somebody keeps for us, for ourselves.
fn own(fd: RawFd, place: &Path) -> Result<OwnedFd, Error> {
    // SAFETY: the caller keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(Error::io("take over", place))
}

impl Server {
    pub fn core(&self) -> &fuse::Server {
        &self.server
    }

    fn serve(&self) {
        let serving = self.server.clone();
        std::thread::spawn(move || {
            if let Err(error) = serving.serve(THREADS) {
                serving.stop(&error.to_string());
            }
        });
    }
}

fn class_of(name: &str) -> PyResult<Class> {
    match name {
        "demand" => Ok(Class::Demand),
        "readahead" => Ok(Class::Readahead),
        "profile" => Ok(Class::Profile),
        "background" => Ok(Class::Background),
        _ => Err(pyo3::exceptions::PyValueError::new_err(format!("{name}: no class of the wanted queue"))),
    }
}

fn patience(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 1e9))
}

#[pymethods]
impl Server {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "most of them by keyword")]
    #[pyo3(signature = (map, cache, place, *, native, in_flight, of_a_pack, by_library=false, device=None, record=None, passthrough=None, changes=None))]
    fn new(
        py: Python<'_>,
        map: &FileMap,
        cache: PathBuf,
        place: PathBuf,
        native: bool,
        in_flight: u64,
        of_a_pack: (usize, usize),
        by_library: bool,
        device: Option<RawFd>,
        record: Option<PathBuf>,
        passthrough: Option<bool>,
        changes: Option<PathBuf>,
    ) -> PyResult<Server> {
        let map = map.0.clone();
        let made = py.detach(|| {
            let cache = Arc::new(Cache::open(&cache)?);
            let wanted = Arc::new(Wanted::new(in_flight, of_a_pack));
            if by_library {
                let server = Arc::new(fuse::Server::direct(map, cache, wanted.clone(), &place)?);
                let (layers, device, passes) = (Mutex::default(), None, Arc::default());
                return Ok(Server { server, wanted, device, native, layers, adopted: false, place, passes });
            }
            let adopted = device.is_some();
            let (layers, device) = match device {
                Some(fd) => (None, own(fd, &place)?),
                None if native || changes.is_some() => {
                    let (layers, device) = Layers::new(&place, changes.map(Changes::new))?;
                    (Some(layers), device)
                }
                None => (None, fuse::mount(&place)?),
            };
            let number = device.as_raw_fd();
            let server = Arc::new(fuse::Server::new(map, cache, wanted.clone(), device));
            server.find_number(&place, layers.as_ref());
            if let Some(record) = record {
                server.pass_through(&record, adopted, passthrough)?;
            }
            if !native && adopted {
                server.take_over(&place)?;
            }
            let (device, layers, passes) = (Some(number), Mutex::new(layers), Arc::default());
            Ok(Server { server, wanted, device, native, layers, adopted, place, passes })
        });
        let made = direct(py, made)?;
        // Who takes over the native tier must first know which contents there are.
        if !(by_library || native && device.is_some()) {
            made.serve();
        }
        Ok(made)
    }

    #[getter]
    fn device(&self) -> Option<RawFd> {
        self.device
    }

    #[getter]
    fn closed(&self) -> bool {
        self.wanted.is_closed()
    }

    fn take(&self, py: Python<'_>, max: usize, max_bytes: u64, lowest: &str, timeout_s: f64) -> PyResult<Vec<Frame>> {
        let (lowest, timeout) = (class_of(lowest)?, Duration::from_secs_f64(timeout_s.clamp(0.0, 3600.0)));
        let wants = py.detach(|| self.wanted.take(max, max_bytes, lowest, timeout));
        Ok(wants.into_iter().map(|want| Frame(want.frame)).collect())
    }

    fn landed(&self, py: Python<'_>, frames: Vec<PyRef<'_, Frame>>, in_flight: u64) {
        let frames: Vec<_> = frames.iter().map(|frame| frame.0.clone()).collect();
        py.detach(|| {
            self.wanted.set_in_flight(in_flight);
            self.wanted.landed(frames.iter());
        });
    }

    fn deliver(&self, py: Python<'_>, frame: &Frame, stored: PyBackedBytes) -> PyResult<()> {
        let delivered = py.detach(|| self.server.deliver(&frame.0, &stored));
        direct(py, delivered)
    }

    fn deliver_file(&self, py: Python<'_>, frame: &Frame, path: PathBuf) -> PyResult<()> {
        let delivered = py.detach(|| self.server.deliver_file(&frame.0, &path));
        direct(py, delivered)
    }

    fn deliver_directory(&self, py: Python<'_>, message: PyBackedBytes) -> PyResult<()> {
        let delivered = py.detach(|| self.server.deliver_directory(&message));
        direct(py, delivered)
    }

    /// Those of (hex digits, size) that are not in the cache.
    fn absent(&self, py: Python<'_>, blobs: Vec<(String, u64)>) -> PyResult<Vec<(String, u64)>> {
        let absent = py.detach(|| -> Result<_, Error> {
            let no_digest = |hex: &str| Error::Invalid { what: hex.to_owned(), why: "it is no digest".to_owned() };
            let blob = |(hex, size): (String, u64)| {
                parse_hex(&hex).map(|sha256| Digest { sha256, size }).ok_or_else(|| no_digest(&hex))
            };
            let blobs = blobs.into_iter().map(blob).collect::<Result<Vec<_>, _>>()?;
            Ok(self.server.absent(blobs).iter().map(|blob| (blob.hex(), blob.size)).collect())
        });
        direct(py, absent)
    }

    fn silent(&self, py: Python<'_>, frames: Vec<PyRef<'_, Frame>>) {
        let frames: Vec<_> = frames.iter().map(|frame| frame.0.clone()).collect();
        py.detach(|| self.wanted.silent(frames.iter()));
    }

    fn are_demanded(&self, py: Python<'_>, frames: Vec<PyRef<'_, Frame>>) -> bool {
        let frames: Vec<_> = frames.iter().map(|frame| frame.0.clone()).collect();
        py.detach(|| self.wanted.are_demanded(frames.iter()))
    }

    fn fail(&self, py: Python<'_>, frame: &Frame, why: &str, patience_s: f64) {
        py.detach(|| self.server.fail(&frame.0, why, patience(patience_s)));
    }

    /// Waits for pages, which other threads must bring.
    fn establish(&self, py: Python<'_>) -> PyResult<()> {
        let established = py.detach(|| {
            let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner).take();
            if !self.native {
                return layers.map_or(Ok(()), Layers::cover);
            }
            self.server.establish(layers)?;
            if self.adopted {
                self.server.take_over(&self.place)?;
                self.serve();
            }
            Ok(())
        });
        direct(py, established)
    }

    fn stop(&self, py: Python<'_>, why: &str) {
        py.detach(|| self.server.stop(why));
    }

    fn expire(&self, py: Python<'_>, patience_s: f64, any: bool, why: &str) -> usize {
        py.detach(|| self.server.expire(patience(patience_s), any, why))
    }

    /// Hold the cache to its bound; bytes that were freed.
    #[pyo3(signature = (bound))]
    fn tidy(&self, py: Python<'_>, bound: Option<u64>) -> PyResult<u64> {
        let freed = py.detach(|| self.server.tidy(bound));
        direct(py, freed)
    }

    /// Returns at once; a thread of the core goes through the tree as the queue has room.
    fn prefetch(&self, contents: bool) {
        let (server, pass) = (self.server.clone(), self.passes.clone());
        std::thread::spawn(move || {
            server.prefetch(contents);
            drop(pass);
        });
    }

    fn read_far(&self, py: Python<'_>, far: bool) {
        py.detach(|| self.server.read_far(far));
    }

    fn give_back(&self, py: Python<'_>) {
        py.detach(|| self.server.give_back());
    }

    /// Whether a pass is not through yet.
    #[getter]
    fn is_prefetching(&self) -> bool {
        Arc::strong_count(&self.passes) > 1
    }

    #[getter]
    fn bound(&self) -> Option<u64> {
        self.server.bound()
    }

    /// Files and bytes that are not here.
    fn lacking(&self, py: Python<'_>) -> Option<(u64, u64)> {
        py.detach(|| self.server.lacking()).map(|lacking| (lacking.files, lacking.bytes))
    }

    /// Returns at once; a thread of the core queues these (path, from, to), in order.
    fn follow(&self, parts: Vec<(PyBackedBytes, u64, u64)>) {
        let parts: Vec<_> = parts.iter().map(|(path, from, to)| (path.to_vec(), *from, *to)).collect();
        let server = self.server.clone();
        std::thread::spawn(move || server.follow(&parts));
    }

    /// Returns at once; a thread of the core has directories listed by a process that `command` starts.
    fn walk(&self, command: Vec<OsString>) {
        let (server, place) = (self.server.clone(), self.place.clone());
        std::thread::spawn(move || server.walk(&command, &place));
    }

    /// From now on, note what is read and looked up.
    fn start_trace(&self) {
        self.server.start_trace();
    }

    /// What was read: (path, offset, ranges, names of processes) of each chunk, in order of first reading.
    fn traced<'py>(&self, py: Python<'py>) -> Vec<Traced<'py>> {
        let bytes = |bytes: &Vec<u8>| PyBytes::new(py, bytes);
        let traced = py.detach(|| self.server.traced());
        let part = |part: &fuse::Part| {
            (bytes(&part.path), part.offset, part.ranges.clone(), part.readers.iter().map(bytes).collect())
        };
        traced.iter().map(part).collect()
    }

    /// The files with bytes that were looked up, read or not.
    fn looked_up<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        py.detach(|| self.server.looked_up()).iter().map(|path| PyBytes::new(py, path)).collect()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.server.stats();
        let out = PyDict::new(py);
        out.set_item("requests", stats.requests)?;
        out.set_item("waited", stats.waited)?;
        out.set_item("waiting", stats.waiting)?;
        out.set_item("blocked_s", stats.blocked.as_secs_f64())?;
        out.set_item("frames_fetched", stats.frames)?;
        out.set_item("bytes_fetched", stats.bytes)?;
        out.set_item("files_read", stats.files_read)?;
        out.set_item("bytes_read", stats.bytes_read)?;
        out.set_item("proved", stats.proved)?;
        out.set_item("errors", stats.errors)?;
        out.set_item("frames_expected", stats.expected)?;
        out.set_item("frames_failed", stats.failed)?;
        out.set_item("last_error", stats.last_error)?;
        Ok(out)
    }
}

#[pyfunction]
#[pyo3(signature = (place, lazy=false))]
fn unmount(py: Python<'_>, place: PathBuf, lazy: bool) -> PyResult<()> {
    let unmounted = py.detach(|| fuse::unmount(&place, lazy));
    direct(py, unmounted)
}

/// True: mounted; false: something is missing.
#[pyfunction]
fn mount_whole(py: Python<'_>, map: &FileMap, cache: PathBuf, place: PathBuf, pin: PathBuf) -> PyResult<bool> {
    let map = map.0.clone();
    let mounted = py.detach(|| fuse::mount_whole(&map, &Cache::open(&cache)?, &place, &pin));
    direct(py, mounted)
}

#[pyfunction]
fn mounts(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyBytes>>> {
    let mounted: Vec<PathBuf> = direct(py, fuse::mounts())?.into_iter().map(|mounted| mounted.place).collect();
    Ok(paths(py, &mounted))
}

#[pyfunction]
fn is_bare(py: Python<'_>, place: PathBuf) -> PyResult<bool> {
    let bare = py.detach(|| fuse::is_bare(&place));
    direct(py, bare)
}

pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(parent.py(), "mount")?;
    module.add_class::<Server>()?;
    module.add_function(wrap_pyfunction!(unmount, &module)?)?;
    module.add_function(wrap_pyfunction!(mount_whole, &module)?)?;
    module.add_function(wrap_pyfunction!(mounts, &module)?)?;
    module.add_function(wrap_pyfunction!(is_bare, &module)?)?;
    parent.add_submodule(&module)
}
