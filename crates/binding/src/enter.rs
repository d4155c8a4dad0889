//! The door: long work runs without the GIL while the caller looks for signals and shows progress.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use pyo3::prelude::*;
use sapwood_core::error::Result;
use sapwood_core::job::Job;

use crate::errors::{internal, raise};

/// What the methods of a class share; each has it alone, without the GIL.
#[derive(Default)]
pub struct Shared<T>(Mutex<T>);

impl<T: Send> Shared<T> {
    pub fn new(value: T) -> Shared<T> {
        Shared(Mutex::new(value))
    }

    pub fn with<R: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut T) -> R + Send) -> R {
        py.detach(|| work(&mut self.0.lock().expect("no method panics with it")))
    }
}

const TICK: Duration = Duration::from_millis(100);

/// Call `wait` again and again, each time for at most 100 ms, until it gives something. In between check signals and call
/// `progress(files_done, files_total, bytes_done, bytes_total)`. A signal's exception, or one of the callback, stops `job` and
/// comes out after `wait` has given something all the same: what works has then ended.
pub fn ticking<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    job: &Job,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<T> {
    let mut stopped: Option<PyErr> = None;
    loop {
        if let Some(value) = py.detach(|| wait(TICK)) {
            return stopped.map_or(Ok(value), Err);
        }
        if stopped.is_none()
            && let Err(error) = tick(py, progress, job)
        {
            job.stop();
            stopped = Some(error);
        }
    }
}

fn tick(py: Python<'_>, progress: Option<&Bound<'_, PyAny>>, job: &Job) -> PyResult<()> {
    py.check_signals()?;
    if let Some(progress) = progress {
        let numbers = [&job.files_done, &job.files_total, &job.bytes_done, &job.bytes_total];
        let [a, b, c, d] = numbers.map(|number| number.load(Relaxed));
        progress.call1((a, b, c, d))?;
    }
    Ok(())
}

/// Run `work` on a thread of its own and wait for it as `ticking` does.
pub fn enter<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Job) -> Result<T> + Send,
) -> PyResult<T> {
    let job = Job::default();
    let (sender, receiver) = bounded(0);
    std::thread::scope(|scope| {
        let worker = {
            let job = &job;
            // The sender goes when the work ends, also by a panic: that is the signal.
            scope.spawn(move || {
                let _sender: Sender<()> = sender;
                work(job)
            })
        };
        let ended = ticking(py, progress, &job, |tick| match receiver.recv_timeout(tick) {
            Err(RecvTimeoutError::Timeout) => None,
            _ => Some(()),
        });
        let result = py.detach(|| worker.join());
        ended?;
        match result {
            Ok(result) => direct(py, result),
            Err(panic) => Err(internal(py, &*panic)),
        }
    })
}

/// For work that is short or waits by itself.
pub fn direct<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error| raise(py, &error))
}
