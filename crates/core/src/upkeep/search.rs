//! Chunks in a directory: where files hold bytes that a store has lost.
//!
//! Invariant: a spot is a guess from when the file was read; `read_spot` proves the bytes again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::needs::Held;
use crate::chunk::{Cutter, MAX_CHUNK};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::job::Job;

/// Where the bytes of a chunk are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub path: PathBuf,
    pub offset: u64,
}

/// Look for chunks in all regular files below `root`, whole or cut as a push cuts them, and where `held` says that files of some
/// size hold them; what may not be read, or changes meanwhile, is passed over.
///
/// # Errors
/// `Io` of `root` itself, `Stopped`.
pub fn search(root: &Path, wanted: &HashSet<Digest>, held: &[Held], job: &Job) -> Result<HashMap<Digest, Spot>> {
    let sizes: HashSet<u64> = wanted.iter().map(|digest| digest.size).collect();
    let mut by_size: HashMap<u64, Vec<&Held>> = HashMap::new();
    held.iter().for_each(|held| by_size.entry(held.file_size).or_default().push(held));
    let mut found = HashMap::new();
    let mut todo = vec![root.to_path_buf()];
    std::fs::read_dir(root).map_err(Error::io("list the directory", root))?;
    while let Some(folder) = todo.pop() {
        let Ok(listed) = std::fs::read_dir(&folder) else { continue };
        for entry in listed.flatten() {
            job.step(0)?;
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            if kind.is_dir() {
                todo.push(path);
                continue;
            }
            let size = entry.metadata().map_or(0, |stat| stat.len());
            for &&Held { digest, offset, .. } in by_size.get(&size).filter(|_| kind.is_file()).into_iter().flatten() {
                job.step(0)?;
                let spot = Spot { path: path.clone(), offset };
                if wanted.contains(&digest) && !found.contains_key(&digest) && read_spot(&spot, &digest).is_ok() {
                    found.insert(digest, spot);
                }
            }
            if !kind.is_file() || size == 0 || (size < MAX_CHUNK as u64 && !sizes.contains(&size)) {
                continue;
            }
            // A file that cannot be read holds nothing for us.
            let Ok(chunks) = chunks_of(&path, size, job) else {
                job.step(0)?;
                continue;
            };
            for (digest, offset) in chunks {
                if wanted.contains(&digest) {
                    found.entry(digest).or_insert_with(|| Spot { path: path.clone(), offset });
                }
            }
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    Ok(found)
}

/// The bytes at a spot.
///
/// # Errors
/// `Io`; `Mismatch` when they are others now.
pub fn read_spot(spot: &Spot, digest: &Digest) -> Result<Vec<u8>> {
    let size = usize::try_from(digest.size).ok().filter(|&size| size <= MAX_CHUNK);
    let size = size.ok_or_else(|| Error::damaged("a chunk", "it cannot be that large"))?;
    let mut bytes = vec![0; size];
    let file = File::open(&spot.path).map_err(Error::io("open", &spot.path))?;
    file.read_exact_at(&mut bytes, spot.offset).map_err(Error::io("read", &spot.path))?;
    let got = Digest::of(&bytes);
    if got != *digest {
        let what = format!("what {} holds at {}", crate::error::show(&spot.path), spot.offset);
        return Err(Error::Mismatch { what, expected: *digest, got });
    }
    Ok(bytes)
}

/// The chunks of a file, as a push would cut it, with their offsets.
fn chunks_of(path: &Path, size: u64, job: &Job) -> Result<Vec<(Digest, u64)>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let (mut out, mut at) = (Vec::new(), 0);
    let mut note = |chunk: &[u8]| {
        out.push((Digest::of(chunk), at));
        at += chunk.len() as u64;
        job.step(chunk.len() as u64)
    };
    if size < MAX_CHUNK as u64 {
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(MAX_CHUNK as u64).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        note(&bytes)?;
        return Ok(out);
    }
    let (mut cutter, mut buffer) = (Cutter::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => break,
            got => cutter.piece(&buffer[..got], &mut note)?,
        }
    }
    cutter.finish(note)?;
    Ok(out)
}
