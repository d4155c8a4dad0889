//! A complete blob in `objects/`, open.
//!
//! Invariant: of a blob of one chunk all bytes were proved when it was opened; of a larger one each chunk is before its
//! first byte goes out, so that opening a big file costs nothing. A proof holds until the file is touched.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::is_one_chunk;
use super::pieces::{self, Piece, Proofs};
use crate::digest::{Digest, Hasher};
use crate::filemap::Content;

/// What a file looks like as long as nobody touches it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// What changes with the bytes of a file, and not with its names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Look {
    size: u64,
    mtime: (i64, i64),
}

impl Look {
    pub fn of(meta: &Metadata) -> Look {
        Look { size: meta.size(), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl Stamp {
    pub fn look(&self) -> Look {
        Look { size: self.size, mtime: self.mtime }
    }

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

/// What came of reading an open object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Got {
    Right,
    Damaged,
    /// Somebody touched the file since it was opened: what was proved of it is so no more.
    Touched,
}

pub struct Object {
    file: File,
    /// How it looked before anything of it was proved.
    stamp: Stamp,
    /// `None` when the whole was proved.
    chunks: Option<Proofs>,
}

impl Object {
    /// `None` when there is no such object; `is_proved` says whether this process proved it when it looked so.
    ///
    /// # Errors
    /// Any: the file is no good.
    pub fn open(
        path: &Path,
        content: &Content,
        is_proved: impl Fn(Stamp) -> bool,
    ) -> io::Result<Option<(Object, Stamp)>> {
        let Some((file, stamp)) = find(path, &content.digest)? else { return Ok(None) };
        let mut chunks = None;
        if !is_proved(stamp) {
            if !is_one_chunk(content) {
                chunks = Some(Proofs::new(content));
            } else if hash(&file)? != content.digest {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(Some((Object { file, stamp, chunks }, stamp)))
    }

    pub fn is_proved(&self) -> bool {
        self.chunks.is_none()
    }

    /// Fill `buffer`, which lies within the blob.
    pub fn read(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> Got {
        let right = self.prove_under(content, offset, buffer.len()) && self.file.read_exact_at(buffer, offset).is_ok();
        // After the read: whoever writes changes the time first.
        match self.file.metadata() {
            Ok(meta) if Stamp::of(&meta) != self.stamp => Got::Touched,
            Ok(_) if right => Got::Right,
            _ => Got::Damaged,
        }
    }

    fn prove_under(&self, content: &Content, offset: u64, length: usize) -> bool {
        let Some(proofs) = &self.chunks else { return true };
        let prove = |piece: Piece| proofs.is_proved(&piece) || proofs.prove(&self.file, &piece).is_some();
        pieces::covering(content, offset, length).all(prove)
    }
}

/// Fill `buffer`, which is as long as the object, with bytes that are proved. `None` when there is no such object.
///
/// # Errors
/// Any: the file is no good.
pub fn read_whole(
    path: &Path,
    digest: &Digest,
    is_proved: impl Fn(Stamp) -> bool,
    buffer: &mut [u8],
) -> io::Result<Option<Stamp>> {
    let Some((file, stamp)) = find(path, digest)? else { return Ok(None) };
    file.read_exact_at(buffer, 0)?;
    if !is_proved(stamp) && Digest::of(buffer) != *digest {
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

pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}
