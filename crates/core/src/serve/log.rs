//! Logs of the staging area: records of blobs and of results of actions, read and laid out as files.
//!
//! Invariant: a record counts when all of it is there and its key or its sum proves it; what follows the first that does not
//! was never acknowledged. Bytes: docs/format.md, "Staging". Not here: what is durable when (python/sapwood/serve/log.py).

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, hex};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::push::Known;

pub const BLOB: u8 = 1;
pub const ACTION: u8 = 2;

const MAGIC: &[u8; 4] = b"SWLG";
const HEAD: usize = 48;
/// No message that a record comes in is larger.
const LARGEST: usize = 16 << 20;
const BUFFER: usize = 256 << 10;

/// The record of a blob, its key its hash, or of the result of the action of that hash.
pub struct Record<'a> {
    pub kind: u8,
    pub key: [u8; 32],
    /// Where in the log its content begins.
    pub at: u64,
    pub data: &'a [u8],
}

/// The sound records of a log, in order.
pub struct Records {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    data: Vec<u8>,
}

impl Records {
    /// # Errors
    /// `Io`.
    pub fn open(path: &Path) -> Result<Records> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let file = BufReader::with_capacity(BUFFER, file);
        Ok(Records { path: path.to_path_buf(), file, at: 0, data: Vec::new() })
    }

    /// The next; `None` where the log ends, or is sound no more.
    ///
    /// # Errors
    /// `Io`.
    pub fn following(&mut self) -> Result<Option<Record<'_>>> {
        let mut head = [0; HEAD];
        if !self.fill(|file| file.read_exact(&mut head))? {
            return Ok(None);
        }
        let (kind, told) = (head[4], &head[44..]);
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let mut key = [0; 32];
        key.copy_from_slice(&head[12..44]);
        if head[..4] != *MAGIC || length > LARGEST {
            return Ok(None);
        }
        let mut data = std::mem::take(&mut self.data);
        data.resize(length, 0);
        let is_whole = self.fill(|file| file.read_exact(&mut data));
        self.data = data;
        let is_sound = is_whole?
            && sum(kind, &key, &self.data).to_le_bytes() == *told
            && (kind != BLOB || Digest::of(&self.data).sha256 == key);
        if !is_sound {
            return Ok(None);
        }
        let at = self.at + HEAD as u64;
        self.at = at + length as u64;
        Ok(Some(Record { kind, key, at, data: &self.data }))
    }

    /// Whether there was as much as is read.
    fn fill(&mut self, read: impl FnOnce(&mut BufReader<File>) -> io::Result<()>) -> Result<bool> {
        match read(&mut self.file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }
}

/// Lay a log out as files: blobs that no pack holds and results of actions, each named by its key below a directory, which is
/// made when it is needed. Of each result the action, and what it is itself.
///
/// # Errors
/// `Io`, `Stopped`.
pub fn lay_out(
    log: &Path,
    held: &[&Known],
    blobs: &Path,
    results: &Path,
    job: &Job,
) -> Result<Vec<([u8; 32], Digest)>> {
    let mut actions = Vec::new();
    let mut records = Records::open(log)?;
    while let Some(Record { kind, key, data, .. }) = records.following()? {
        job.step(data.len() as u64)?;
        let digest = Digest { sha256: key, size: data.len() as u64 };
        if kind == ACTION {
            actions.push((key, Digest::of(data)));
            write(results, &key, data)?;
        } else if !data.is_empty() && !held.iter().any(|known| known.has(&digest) || known.pieces(&digest).is_some()) {
            write(blobs, &key, data)?;
        }
    }
    Ok(actions)
}

fn write(folder: &Path, key: &[u8; 32], data: &[u8]) -> Result<()> {
    let path = folder.join(hex(key));
    let file = match File::create(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
            File::create(&path)
        }
        other => other,
    };
    file.and_then(|mut file| file.write_all(data)).map_err(Error::io("write", &path))
}

/// Of a blob its key proves the content, which the sum of another record covers, too.
fn sum(kind: u8, key: &[u8; 32], data: &[u8]) -> u32 {
    let length = u32::try_from(data.len()).expect("no message is so large");
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(&[kind]);
    sum.update(&length.to_le_bytes());
    if kind == ACTION {
        sum.update(data);
    }
    sum.finalize()
}

/// Add a record.
pub fn record(out: &mut Vec<u8>, kind: u8, key: &[u8; 32], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("no message is so large");
    out.extend_from_slice(MAGIC);
    out.extend([kind, 0, 0, 0]);
    out.extend(length.to_le_bytes());
    out.extend_from_slice(key);
    out.extend(sum(kind, key, data).to_le_bytes());
    out.extend_from_slice(data);
}
