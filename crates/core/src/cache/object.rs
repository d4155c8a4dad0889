//! A complete blob in `objects/`, open.
//!
//! Invariant: of a blob of one chunk all bytes were proved when it was opened; of a larger one each chunk is before its
//! first byte goes out, so that opening a big file costs nothing.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::is_one_chunk;
use super::pieces::{self, Piece, Proofs};
use crate::digest::{Digest, Hasher};
use crate::filemap::Content;

/// What a file looks like as long as nobody touches it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    pub fn of(meta: &Metadata) -> Stamp {
        Stamp {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

pub struct Object {
    file: File,
    /// `None` when the whole was proved.
    chunks: Option<Proofs>,
}

impl Object {
    /// `None` when there is no such object; `proved` is how it looked when this process proved it.
    ///
    /// # Errors
    /// Any: the file is no good.
    pub fn open(path: &Path, content: &Content, proved: Option<Stamp>) -> io::Result<Option<(Object, Stamp)>> {
        let Some((file, stamp)) = find(path, &content.digest)? else { return Ok(None) };
        let mut chunks = None;
        if proved != Some(stamp) {
            if !is_one_chunk(content) {
                chunks = Some(Proofs::new(content));
            } else if hash(&file)? != content.digest {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(Some((Object { file, chunks }, stamp)))
    }

    pub fn is_proved(&self) -> bool {
        self.chunks.is_none()
    }

    /// Fill `buffer`, which lies within the blob. False when the file is damaged.
    pub fn read(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> bool {
        if let Some(proofs) = &self.chunks {
            let prove = |piece: Piece| proofs.is_proved(&piece) || proofs.prove(&self.file, &piece).is_some();
            if !pieces::covering(content, offset, buffer.len()).all(prove) {
                return false;
            }
        }
        self.file.read_exact_at(buffer, offset).is_ok()
    }
}

/// Fill `buffer`, which is as long as the object, with bytes that are proved. `None` when there is no such object.
///
/// # Errors
/// Any: the file is no good.
pub fn read_whole(path: &Path, digest: &Digest, proved: Option<Stamp>, buffer: &mut [u8]) -> io::Result<Option<Stamp>> {
    let Some((file, stamp)) = find(path, digest)? else { return Ok(None) };
    file.read_exact_at(buffer, 0)?;
    if proved != Some(stamp) && Digest::of(buffer) != *digest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(stamp))
}

/// A file of the right name and size.
pub fn find(path: &Path, digest: &Digest) -> io::Result<Option<(File, Stamp)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stamp = Stamp::of(&file.metadata()?);
    if stamp.size != digest.size {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some((file, stamp)))
}

/// Digest of a whole file.
pub fn hash(file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
