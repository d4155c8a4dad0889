//! The floor of a cold hash: read every file of a list and take its SHA-256, on all cores, and nothing else.
//!
//! `find DIR -type f -printf '%P\0' | floor DIR` prints the number of files and of bytes. No directory is listed, no
//! digest kept: whoever hashes a tree from nothing does at least this. `python -m benchmarks cold` builds and runs it.

use std::io::{Error, Read, Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

/// Files that a thread takes at a time: neighbours share a directory.
const RUN: usize = 64;
const BUFFER: usize = 1 << 20;

fn main() -> Result<()> {
    let root = std::env::args_os().nth(1).ok_or_else(|| Error::other("usage: floor DIR < NUL-separated paths"))?;
    std::env::set_current_dir(root)?;
    let mut list = Vec::new();
    std::io::stdin().read_to_end(&mut list)?;
    let paths: Vec<&[u8]> = list.split(|&byte| byte == 0).filter(|path| !path.is_empty()).collect();
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(|| hash(&paths, &next, &bytes))).collect();
        started.into_iter().try_for_each(|thread| thread.join().map_err(|_| Error::other("a thread panicked"))?)
    })?;
    writeln!(std::io::stdout(), "{} files, {} bytes", paths.len(), bytes.load(Ordering::Relaxed))
}

fn hash(paths: &[&[u8]], next: &AtomicUsize, bytes: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let from = next.fetch_add(RUN, Ordering::Relaxed).min(paths.len());
        for path in &paths[from..(from + RUN).min(paths.len())] {
            let mut file = std::fs::File::open(Path::new(std::ffi::OsStr::from_bytes(path)))?;
            let mut hasher = Sha256::new();
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
                bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            std::hint::black_box(hasher.finalize());
        }
        if from == paths.len() {
            return Ok(());
        }
    }
}
