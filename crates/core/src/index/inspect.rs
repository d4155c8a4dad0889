//! An index for people: what one record says and whether it still holds; everything that is wrong with a file.

use std::path::Path;

use super::State;
use super::record::{HAS_DIGEST, RACY, Record};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::scan::{Kind, Root, Stat};

/// One record, and what the disk says.
pub struct Described {
    pub number: u32,
    pub stat: Stat,
    pub digest: Option<Digest>,
    pub target: Vec<u8>,
    pub is_racy: bool,
    pub has_xattrs: bool,
    pub has_links: bool,
    pub is_sparse: bool,
    pub parent: u32,
    /// First of a directory's entries, and how many.
    pub first: u32,
    pub count: u32,
    pub checksum: u32,
    /// Whether the checksum is right.
    pub is_whole: bool,
    /// Of a directory: whether its digest is of its entries as they stand in the index.
    pub is_summed: Option<bool>,
    /// What differs on disk, in the words of `stat`; empty when the record is as it is there.
    pub differs: Vec<&'static str>,
}

impl State {
    /// What the record of `path` says, beside what is at `root`; `None` when there is none.
    ///
    /// # Errors
    /// As `Root::open`; `Io` when there is something that may not be looked at.
    pub fn describe(&self, root: &Path, path: &[u8]) -> Result<Option<Described>> {
        let Some(number) = self.find(path) else { return Ok(None) };
        let root = Root::open(root)?;
        let record = self.record(number);
        let differs = match root.stat(path) {
            Err(e) if crate::scan::is_gone(&e) => vec!["gone"],
            stat => differences(record, &stat.map_err(Error::io("stat", root.show(path)))?),
        };
        Ok(Some(Described {
            number,
            stat: self.stat(number),
            digest: self.digest(number),
            target: self.target(number).to_vec(),
            is_racy: record.has(RACY),
            has_xattrs: self.has_xattrs(number),
            has_links: self.has_links(number),
            is_sparse: self.is_sparse(number),
            parent: record.parent(),
            first: record.first(),
            count: record.count(),
            checksum: record.sum(),
            is_whole: self.is_whole(number),
            is_summed: (record.kind() == Kind::Directory).then(|| self.is_summed(number)),
            differs,
        }))
    }
}

fn differences(record: &Record, now: &Stat) -> Vec<&'static str> {
    let was = record.stat();
    let checks = [
        ("type", was.kind() != now.kind()),
        ("mode", was.mode & 0o7777 != now.mode & 0o7777),
        ("dev", was.dev != now.dev),
        ("ino", was.ino != now.ino),
        ("size", was.size != now.size),
        ("mtime", was.mtime != now.mtime),
        ("ctime", was.ctime != now.ctime),
        ("owner", (was.uid, was.gid) != (now.uid, now.gid)),
    ];
    checks.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// Read the index at `path` and check all that can be without the directory: header, names, structure, the checksum of
/// each record, each directory's digest against its entries. How many records there are, and what is wrong.
///
/// # Errors
/// `Missing` without such a file; `Io`, `NewerFormat`, `Stopped`.
pub fn verify(path: &Path, threads: usize, job: &Job) -> Result<(u32, Vec<String>)> {
    if !path.exists() {
        return Err(Error::Missing { what: format!("the index {}", crate::error::show(path)) });
    }
    let Some(state) = State::read(path, threads, job)? else {
        return Ok((0, vec!["the header, the names or the structure: it counts as none and is made anew".to_owned()]));
    };
    let mut wrong = Vec::new();
    for entry in 0..state.len() {
        if entry.is_multiple_of(4096) {
            job.step(0)?;
        }
        let mut say = |what: &str| {
            use std::os::unix::ffi::OsStrExt;
            let path = state.path_of(entry);
            let shown = if path.is_empty() { b".".as_slice() } else { &path };
            wrong.push(format!("{}: {what}", crate::error::show(Path::new(std::ffi::OsStr::from_bytes(shown)))));
        };
        if !state.is_whole(entry) {
            say("the record does not match its checksum: it is read again");
        } else if state.kind(entry) == Kind::Directory && state.record(entry).has(HAS_DIGEST) {
            if !state.is_summed(entry) {
                say("the digest is not of the entries as they stand: it is taken again");
            } else if state.message_digest(entry) != state.digest(entry) {
                say("the digest is wrong although all checksums are right: remove the index and report this");
            }
        }
    }
    Ok((state.len(), wrong))
}
