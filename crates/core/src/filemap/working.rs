//! A record of a working directory's state as an entry: what the index and the scan know of it.

use super::entry::{Content, Entry, Kind};
use crate::error::{Error, Result};
use crate::index::State;
use crate::scan;

impl Entry {
    /// The entry of a record, as if it stood alone: no places of chunks, holes, attributes, other names.
    ///
    /// # Errors
    /// `Missing` when a file has no digest: it is yet to be read.
    pub fn of_record(state: &State, record: u32) -> Result<Entry> {
        let stat = state.stat(record);
        let digest = || {
            let missing = || Error::Missing { what: format!("the digest of record {record}") };
            state.digest(record).ok_or_else(missing)
        };
        let (major, minor) = (rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev));
        let kind = match state.kind(record) {
            scan::Kind::Directory => Kind::Directory { digest: state.digest(record) },
            scan::Kind::File => Kind::Regular(Content { digest: digest()?, chunks: Vec::new(), holes: Vec::new() }),
            scan::Kind::Symlink => Kind::Symlink { target: state.target(record).to_vec() },
            scan::Kind::CharDevice => Kind::CharDevice { major, minor },
            scan::Kind::BlockDevice => Kind::BlockDevice { major, minor },
            _ => Kind::Fifo,
        };
        Ok(Entry {
            path: state.path_of(record),
            kind,
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mtime,
            links: 1,
            xattrs: Vec::new(),
        })
    }
}
