//! A large blob while it is incomplete: a sparse file, and beside it a byte a chunk that says which are there.
//!
//! Invariant: a chunk's byte is set after its bytes were written, and a chunk is proved whenever it is read: others write to
//! the file, too, and nothing tells whose a change was. Processes that fill one partial at once write the same bytes to the same places.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::object::{Look, hash};
use super::pieces::{Piece, Proofs};
use crate::digest::{Hasher, hex};
use crate::filemap::Content;

pub struct Partial {
    file: File,
    have: File,
    path: PathBuf,
    record: PathBuf,
    proofs: Proofs,
    /// All chunks are right and yet their sum is another blob: the file map lies. Its chunks are served, never published.
    spoiled: AtomicBool,
}

impl Partial {
    /// `None` when there is none and none is to be made.
    pub fn open(dir: &Path, content: &Content, create: bool) -> io::Result<Option<Partial>> {
        let mut list = Hasher::default();
        content.chunks.iter().for_each(|chunk| list.update(&chunk.digest.sha256));
        let name = format!("{}-{}", content.digest.hex(), hex(&list.finish().sha256[..8]));
        let (path, record) = (dir.join(&name), dir.join(format!("{name}.have")));
        let open = |path: &Path, size: u64| -> io::Result<File> {
            let file =
                OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)?;
            if create && file.metadata()?.len() != size {
                file.set_len(size)?;
            }
            Ok(file)
        };
        let proofs = Proofs::new(content);
        let files = open(&path, content.digest.size).and_then(|file| Ok((file, open(&record, proofs.len() as u64)?)));
        match files {
            Ok((file, have)) => Ok(Some(Partial { file, have, path, record, proofs, spoiled: AtomicBool::new(false) })),
            Err(error) if !create && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the chunk is said to be here, by this process or another.
    pub fn has(&self, index: usize) -> bool {
        let mut byte = [0];
        self.have.read_exact_at(&mut byte, index as u64).is_ok() && byte[0] == 1
    }

    /// The bytes of the piece's chunk, proved, if they are here.
    pub fn read(&self, piece: &Piece) -> Option<Vec<u8>> {
        if self.proofs.start(piece.index, &piece.chunk.digest) != Some(piece.start) || !self.has(piece.index) {
            return None;
        }
        let bytes = self.proofs.prove(&self.file, piece);
        if bytes.is_none() {
            self.mark(piece.index, 0);
        }
        bytes
    }

    /// Write a chunk that the caller has proved. False when there is no place for it.
    pub fn write(&self, content: &Content, index: usize, bytes: &[u8]) -> bool {
        let Some(start) = self.proofs.start(index, &content.chunks[index].digest) else { return false };
        let is_hole = bytes.iter().all(|&byte| byte == 0) && self.is_hole(start, bytes.len() as u64);
        (is_hole || self.file.write_all_at(bytes, start).is_ok()) && self.mark(index, 1)
    }

    /// Whether all chunks are here and make up the blob; if so, how the file looked before all of it was read and hashed.
    pub fn whole(&self, content: &Content) -> Option<Look> {
        let mut have = vec![0; self.proofs.len()];
        if self.spoiled.load(Relaxed)
            || self.have.read_exact_at(&mut have, 0).is_err()
            || have.iter().any(|&byte| byte != 1)
        {
            return None;
        }
        let look = Look::of(&self.file.metadata().ok()?);
        if hash(&self.file).is_ok_and(|digest| digest == content.digest) {
            return Some(look);
        }
        match self.proofs.first_wrong(&self.file) {
            Some(wrong) => drop(self.mark(wrong, 0)),
            None => self.spoiled.store(true, Relaxed),
        }
        None
    }

    /// Remove what says which chunks are here: the blob is complete and has its name.
    pub fn remove_record(&self) {
        let _ = fs::remove_file(&self.record);
    }

    fn mark(&self, index: usize, here: u8) -> bool {
        self.have.write_all_at(&[here], index as u64).is_ok()
    }

    fn is_hole(&self, start: u64, length: u64) -> bool {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(start)) {
            Ok(data) => data >= start + length,
            Err(error) => error == rustix::io::Errno::NXIO,
        }
    }
}
