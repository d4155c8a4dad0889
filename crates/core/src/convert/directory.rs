//! A directory into an archive, depth first.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use super::front::{Front, is_reserved, landmark};
use super::{Made, Out};
use crate::error::{Error, Result};
use crate::index::{self, Brief, Scope, State};
use crate::job::Job;
use crate::scan::{self, Root, Stat, is_denied, is_gone, read_stable};
use crate::stargz::{self, Options, Writer};
use crate::tar::{Header, Kind};

/// A file up to this size is read whole before it is written, again if it changes meanwhile; of a larger one a change is an
/// error.
const WHOLE: u64 = 4 << 20;

/// Write what is in the directory `root` as an archive to `out`; `front` names the files that are to be first. Neither what
/// `out` goes to is an entry, nor the file `replaced`, by its real path, whose name the archive will have.
///
/// # Errors
/// `Unreadable` unless that is to be skipped, `Unstable` when a file changes while it is read, `Invalid`, `Io`, `Stopped`.
pub fn pack(
    root: &Path,
    looking: &index::Options,
    front: &[Vec<u8>],
    options: &Options,
    out: &mut Out,
    replaced: Option<&Path>,
    job: &Job,
) -> Result<Made> {
    let root = Root::open(root)?;
    let (state, unreadable) = State::look(&root, None, Scope::All, looking, None, job)?;
    if !unreadable.is_empty() && !looking.skip_unreadable {
        return Err(Error::Unreadable { paths: unreadable });
    }
    let files = (0..state.len()).filter(|&record| state.kind(record) == scan::Kind::File);
    job.bytes_total.store(files.map(|record| state.stat(record).size).sum(), Relaxed);
    let inodes = inodes(&state);
    let is_out = |&record: &u32| (state.stat(record).dev, state.stat(record).ino) == out.inode();
    let own: HashSet<u32> = (0..state.len()).filter(is_out).collect();
    let replaced = replaced.and_then(|path| path.strip_prefix(root.path().canonicalize().ok()?).ok());
    let replaced = replaced.map(|path| path.as_os_str().as_bytes());
    let state = state.into_brief();
    let mut order = in_order(&state);
    order.retain(|record| !own.contains(record) && replaced.is_none_or(|path| state.path_of(*record) != path));
    let names: Vec<Vec<u8>> =
        order[..if front.is_empty() { 0 } else { order.len() }].iter().map(|&record| state.path_of(record)).collect();
    let firsts = if front.is_empty() { HashMap::new() } else { firsts(&inodes, &order) };
    let front = Front::of(front, names.iter().map(|name| &name[..]), |at| firsts.get(inodes.get(&order[at])?).copied());
    drop((names, firsts));
    job.files_total.store(order.len() as u64, Relaxed);
    let (first, left_out) = (HashMap::new(), Vec::new());
    let mut walk = Walk { root: &root, state: &state, inodes: &inodes, looking, first, unreadable, left_out };
    let written = stargz::write(options, None, job, &mut |bytes| out.give(bytes, job), |writer| {
        let mut part = |writer: &mut Writer<'_>, is_front| {
            let chosen = order.iter().enumerate().filter(|(at, _)| front.is_in(*at, is_front));
            chosen.map(|(_, &record)| record).try_for_each(|record| walk.entry(record, writer))
        };
        if !front.is_empty() {
            part(writer, true)?;
            landmark(writer)?;
        }
        part(writer, false)
    })?;
    let Walk { unreadable, left_out, .. } = walk;
    Ok(Made { written, left_out, absent: front.absent, unreadable })
}

/// All records, each directory before what is in it, and that before what follows the directory: whoever unpacks it can finish a
/// directory when he leaves it.
fn in_order(state: &Brief) -> Vec<u32> {
    let mut order = Vec::new();
    let root = 0..1;
    let mut open = vec![root];
    while let Some(entries) = open.last_mut() {
        let Some(record) = entries.next() else {
            open.pop();
            continue;
        };
        order.push(record);
        if state.kind(record) == scan::Kind::Directory {
            open.push(state.entries(record));
        }
    }
    order
}

/// Device and number.
type Inode = (u64, u64);

/// Of records that may have several names.
fn inodes(state: &State) -> HashMap<u32, Inode> {
    let several = (0..state.len()).filter(|&record| state.has_links(record));
    several.map(|record| (record, state.stat(record))).map(|(record, stat)| (record, (stat.dev, stat.ino))).collect()
}

/// Where in the order the first name of each of these stands.
fn firsts(inodes: &HashMap<u32, Inode>, order: &[u32]) -> HashMap<Inode, usize> {
    let backwards = order.iter().enumerate().rev();
    backwards.filter_map(|(at, record)| Some((*inodes.get(record)?, at))).collect()
}

struct Walk<'a> {
    root: &'a Root,
    state: &'a Brief,
    inodes: &'a HashMap<u32, Inode>,
    looking: &'a index::Options,
    /// The name that was written of what may have several.
    first: HashMap<Inode, Vec<u8>>,
    unreadable: Vec<PathBuf>,
    left_out: Vec<Vec<u8>>,
}

impl Walk<'_> {
    /// Write one record. What goes away meanwhile is left out.
    fn entry(&mut self, record: u32, writer: &mut Writer<'_>) -> Result<()> {
        let name = self.state.path_of(record);
        if is_reserved(&name) {
            self.left_out.push(name);
            return Ok(());
        }
        let path = || self.root.show(&name);
        let stat = match self.root.stat(&name) {
            Err(error) if is_gone(&error) => return Ok(()),
            stat => stat.map_err(|error| Error::io("read", path())(error))?,
        };
        if stat.kind() != self.state.kind(record) {
            return Err(Error::Unstable { path: path() });
        }
        let mut header = header_of(name, &stat);
        let inode = self.inodes.get(&record).copied();
        if inode.is_some_and(|inode| inode != (stat.dev, stat.ino)) {
            return Err(Error::Unstable { path: self.root.show(&header.name) });
        }
        if let Some(first) = inode.and_then(|inode| self.first.get(&inode)) {
            header.kind = Kind::HardLink { first: first.clone() };
            return writer.entry(&header, &mut io::empty());
        }
        if self.state.has_xattrs(record) {
            header.xattrs = match self.root.xattrs(&header.name) {
                Err(error) if is_gone(&error) => Vec::new(),
                xattrs => xattrs.map_err(Error::io("read", self.root.show(&header.name)))?,
            };
        }
        header.kind = match self.state.kind(record) {
            scan::Kind::Directory => Kind::Directory,
            scan::Kind::Symlink => Kind::Symlink { target: self.state.target(record).to_vec() },
            scan::Kind::CharDevice => {
                Kind::CharDevice { major: rustix::fs::major(stat.rdev), minor: rustix::fs::minor(stat.rdev) }
            }
            scan::Kind::BlockDevice => {
                Kind::BlockDevice { major: rustix::fs::major(stat.rdev), minor: rustix::fs::minor(stat.rdev) }
            }
            scan::Kind::Fifo => Kind::Fifo,
            scan::Kind::Socket => return Ok(()),
            scan::Kind::File => {
                let name = header.name.clone();
                match self.file(header, stat.size, inode, writer) {
                    Err(Error::Io { source, .. }) if is_gone(&source) => return Ok(()),
                    Err(Error::Io { source, path, .. }) if is_denied(&source) => {
                        if !self.looking.skip_unreadable {
                            return Err(Error::Unreadable { paths: vec![path] });
                        }
                        self.unreadable.push(path);
                        return Ok(());
                    }
                    written => written?,
                }
                self.first.extend(inode.map(|inode| (inode, name)));
                return Ok(());
            }
        };
        self.first.extend(inode.map(|inode| (inode, header.name.clone())));
        writer.entry(&header, &mut io::empty())
    }

    /// Write a file of about `size` bytes; one that has several names must still be `inode` when it is open.
    fn file(&self, header: Header, size: u64, inode: Option<Inode>, writer: &mut Writer<'_>) -> Result<()> {
        let path = self.root.show(&header.name);
        let io = |error| Error::io("read", &path)(error);
        let unstable = || Error::Unstable { path: path.clone() };
        let is_another = |stat: &Stat| inode.is_some_and(|inode| inode != (stat.dev, stat.ino));
        if size <= WHOLE {
            let mut bytes = Whole(Vec::new());
            // The writer counts.
            let stat = read_stable(self.root, &header.name, &mut Vec::new(), &Job::default(), &mut bytes)?;
            if is_another(&stat) {
                return Err(unstable());
            }
            if stat.blocks.saturating_mul(512) >= stat.size {
                let kind = Kind::Regular { size: bytes.0.len() as u64, holes: Vec::new() };
                let header = Header { kind, xattrs: header.xattrs, ..header_of(header.name, &stat) };
                return writer.entry(&header, &mut &bytes.0[..]);
            }
        }
        let mut file = self.root.open_file(&header.name).map_err(Error::io("open", &path))?;
        let now = |file: &File| rustix::fs::fstat(file).map(Stat::from).map_err(|errno| io(errno.into()));
        let before = now(&file)?;
        if before.kind() != scan::Kind::File || is_another(&before) {
            return Err(unstable());
        }
        let holes = scan::holes(&file, &before).map_err(io)?;
        io::Seek::rewind(&mut file).map_err(io)?;
        let kind = Kind::Regular { size: before.size, holes };
        let header = Header { kind, xattrs: header.xattrs, ..header_of(header.name, &before) };
        let written = writer.entry(&header, &mut (&mut file).take(before.size));
        match (written, now(&file)?.agrees(&before)) {
            (Err(Error::Stopped), _) => Err(Error::Stopped),
            (_, false) => Err(unstable()),
            (written, true) => written,
        }
    }
}

/// Takes a small file.
struct Whole(Vec<u8>);

impl scan::Sink for Whole {
    fn begin(&mut self, _: &Stat) -> Result<()> {
        self.0.clear();
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a stat says, the kind left open.
fn header_of(name: Vec<u8>, stat: &Stat) -> Header {
    Header {
        name,
        kind: Kind::Fifo,
        mode: stat.mode & 0o7777,
        uid: stat.uid.into(),
        gid: stat.gid.into(),
        mtime: stat.mtime,
        xattrs: Vec::new(),
    }
}
