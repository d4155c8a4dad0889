//! What a request is answered, from the file map and the cache alone.
//!
//! Invariant: an answer is complete, or says which page or chunks are missing; nothing here waits, fetches or changes
//! anything. Inodes are places in the file map, so no table of open or looked-up files exists and FORGET means nothing.

use super::attr;
use super::wire::{MAX_READ, Reply, Request, op};
use crate::cache::{Cache, Read};
use crate::filemap::{Content, Entry, FileMap, Kind, Missing, Place, inode_of, parent_and_name, place_of};

/// What has to be brought before a request can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    Page(usize),
    /// Chunks, by index, of the regular file at an inode.
    Chunks(u64, Vec<usize>),
}

/// Why there is no answer (yet).
#[derive(Debug)]
pub enum No {
    Errno(i32),
    Need(Need),
}

impl From<Missing> for No {
    fn from(Missing(page): Missing) -> No {
        No::Need(Need::Page(page))
    }
}

type Answer<T = ()> = Result<T, No>;

fn refuse<T>(errno: i32) -> Answer<T> {
    Err(No::Errno(errno))
}

/// Offsets of `.` and `..` in every directory; those of its entries are their inodes above these.
const DOTS: u64 = 2;

const LONGEST_NAME: usize = 255;
/// A symlink's target is a path, NUL included.
const LONGEST_TARGET: usize = 4095;

/// Write the answer to `request` into `reply`.
pub fn answer(map: &FileMap, cache: &Cache, request: &Request, reply: &mut Reply) -> Answer {
    reply.begin(MAX_READ);
    match request.opcode {
        op::LOOKUP => lookup(map, request, reply),
        op::GETATTR => {
            let (inode, entry) = resolve(map, request.node)?;
            attr::push_attr_out(reply, inode, entry);
            Ok(())
        }
        op::READLINK => match &resolve(map, request.node)?.1.kind {
            Kind::Symlink { target } if target.len() > LONGEST_TARGET => refuse(libc::ENAMETOOLONG),
            Kind::Symlink { target } => {
                reply.push(target);
                Ok(())
            }
            _ => refuse(libc::EINVAL),
        },
        op::READ => read(map, cache, request, reply),
        op::READDIR => list(map, request, reply, Lines::Names),
        op::READDIRPLUS => list(map, request, reply, Lines::Entries),
        op::STATFS => {
            statfs(map, reply);
            Ok(())
        }
        op::GETXATTR | op::LISTXATTR => xattr(map, request, reply),
        op::LSEEK => seek(map, request, reply),
        other => refuse(refusal(other)),
    }
}

/// The error for what a read-only tree does not do. ENOSYS to OPEN, OPENDIR, ACCESS, FLUSH, RELEASE, STATX and so on tells
/// the kernel never to ask again: it knows all it needs.
fn refusal(opcode: u32) -> i32 {
    match opcode {
        op::SETATTR | op::SYMLINK | op::MKNOD | op::MKDIR | op::UNLINK | op::RMDIR | op::RENAME | op::RENAME2 => {
            libc::EROFS
        }
        op::LINK | op::WRITE | op::SETXATTR | op::REMOVEXATTR | op::CREATE | op::FALLOCATE | op::TMPFILE => libc::EROFS,
        op::IOCTL => libc::ENOTTY,
        _ => libc::ENOSYS,
    }
}

fn entry(map: &FileMap, inode: u64) -> Answer<&Entry> {
    map.entry(inode)?.ok_or(No::Errno(libc::ESTALE))
}

fn resolve(map: &FileMap, inode: u64) -> Answer<(u64, &Entry)> {
    map.resolve(inode)?.ok_or(No::Errno(libc::ESTALE))
}

/// The regular file at an inode.
pub fn content(map: &FileMap, inode: u64) -> Answer<(u64, &Content)> {
    match resolve(map, inode)? {
        (inode, Entry { kind: Kind::Regular(content), .. }) => Ok((inode, content)),
        (_, entry) if entry.is_directory() => refuse(libc::EISDIR),
        _ => refuse(libc::EINVAL),
    }
}

fn field<T>(value: Option<T>) -> Answer<T> {
    value.ok_or(No::Errno(libc::EINVAL))
}

fn lookup(map: &FileMap, request: &Request, reply: &mut Reply) -> Answer {
    let name = field(request.fields().name())?;
    let parent = entry(map, request.node)?;
    if !parent.is_directory() {
        return refuse(libc::ENOTDIR);
    }
    if name.len() > LONGEST_NAME {
        return refuse(libc::ENAMETOOLONG);
    }
    let inode = match name {
        // Asked for by an NFS server that has only an inode (EXPORT_SUPPORT).
        b"." => Some(request.node),
        b".." => map.find(parent_and_name(&parent.path).0)?,
        _ => {
            Some(joined(&parent.path, name)).filter(|path| map.shows(path)).map_or(Ok(None), |path| map.find(&path))?
        }
    };
    match inode {
        // A hard link whose first name is not there: the file map is wrong, the name is not absent.
        Some(inode) => attr::push_entry(reply, Some(map.resolve(inode)?.ok_or(No::Errno(libc::EIO))?)),
        None => attr::push_entry(reply, None),
    }
    Ok(())
}

fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn read(map: &FileMap, cache: &Cache, request: &Request, reply: &mut Reply) -> Answer {
    let mut fields = request.fields();
    let (_handle, offset, size) = (field(fields.u64())?, field(fields.u64())?, field(fields.u32())?);
    let (inode, content) = content(map, request.node)?;
    match cache.read_at(content, offset, reply.space(size as usize)) {
        Read::Hit(length) => {
            reply.shrink(length);
            Ok(())
        }
        Read::Miss(chunks) => Err(No::Need(Need::Chunks(inode, chunks))),
    }
}

/// What the lines of a directory say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// As READDIR wants them.
    Names,
    /// As READDIRPLUS wants them, but without what LOOKUP would say.
    Bare,
    Entries,
}

/// READDIRPLUS without entries: whoever wants to know more of a name looks it up.
pub fn list_names(map: &FileMap, request: &Request, reply: &mut Reply) -> Answer {
    list(map, request, reply, Lines::Bare)
}

/// READDIR and READDIRPLUS. A line's offset tells where the next begins, whatever was read before.
fn list(map: &FileMap, request: &Request, reply: &mut Reply, lines: Lines) -> Answer {
    let plus = lines != Lines::Names;
    let mut fields = request.fields();
    let (_handle, mut offset, size) = (field(fields.u64())?, field(fields.u64())?, field(fields.u32())?);
    let directory = entry(map, request.node)?;
    if !directory.is_directory() {
        return refuse(libc::ENOTDIR);
    }
    reply.begin(size as usize);
    while offset < DOTS {
        let (name, inode) = match offset {
            0 => (&b"."[..], request.node),
            _ => (&b".."[..], map.find(parent_and_name(&directory.path).0)?.unwrap_or(1)),
        };
        if !attr::line_fits(reply, plus, name.len()) {
            return Ok(());
        }
        offset += 1;
        attr::push_line(reply, plus.then_some(None), inode, offset, libc::S_IFDIR, name);
    }
    match list_entries(map, &directory.path, offset, reply, lines) {
        // What is here goes out first; the kernel comes back for the rest.
        Err(No::Need(_)) if reply.len() > 0 && offset > DOTS => Ok(()),
        other => other,
    }
}

fn list_entries(map: &FileMap, directory: &[u8], offset: u64, reply: &mut Reply, lines: Lines) -> Answer {
    let plus = lines != Lines::Names;
    let mut place: Place = match place_of(offset - DOTS) {
        Some((page, row)) => (page, row + 1),
        None => map.first_child(directory)?,
    };
    while let Some(((page, row), entry)) = map.child(directory, place)? {
        place = (page, row + 1);
        if !map.shows(&entry.path) {
            continue;
        }
        let name = entry.name();
        if !attr::line_fits(reply, plus, name.len()) {
            break;
        }
        let inode = inode_of(page, row);
        // A hard link's first name may be on a page that is not here; then the kernel looks it up when somebody asks.
        let target = map.resolve(inode).unwrap_or(None);
        let mode = target.map_or(attr::mode_of(entry), |(_, entry)| attr::mode_of(entry));
        let shown = target.map_or(inode, |(inode, _)| inode);
        attr::push_line(
            reply,
            plus.then_some(target.filter(|_| lines == Lines::Entries)),
            shown,
            inode + DOTS,
            mode,
            name,
        );
    }
    Ok(())
}

fn statfs(map: &FileMap, reply: &mut Reply) {
    reply.u64(map.summary.bytes.div_ceil(4096));
    reply.u64(0); // no block is free
    reply.u64(0);
    reply.u64(map.summary.entries);
    reply.u64(0);
    reply.u32(4096);
    reply.u32(LONGEST_NAME as u32);
    reply.u32(4096);
    reply.zeros(28);
}

fn xattr(map: &FileMap, request: &Request, reply: &mut Reply) -> Answer {
    let mut fields = request.fields();
    let (size, _padding) = (field(fields.u32())? as usize, field(fields.u32())?);
    let xattrs = &resolve(map, request.node)?.1.xattrs;
    let names: Vec<u8>;
    let value = if request.opcode == op::LISTXATTR {
        names = xattrs.iter().flat_map(|(name, _)| [&name[..], b"\0"].concat()).collect();
        &names
    } else {
        let wanted = field(fields.name())?;
        let found = xattrs.binary_search_by(|(name, _)| name[..].cmp(wanted));
        &xattrs[found.map_err(|_| No::Errno(libc::ENODATA))?].1
    };
    if size == 0 {
        reply.u32(value.len() as u32);
        reply.u32(0);
    } else if value.len() > size {
        return refuse(libc::ERANGE);
    } else {
        reply.push(value);
    }
    Ok(())
}

/// SEEK_DATA and SEEK_HOLE; the kernel does the others itself.
fn seek(map: &FileMap, request: &Request, reply: &mut Reply) -> Answer {
    let mut fields = request.fields();
    let (_handle, offset, whence) = (field(fields.u64())?, field(fields.u64())?, field(fields.u32())?);
    let (_, content) = content(map, request.node)?;
    if offset >= content.digest.size {
        return refuse(libc::ENXIO);
    }
    let next = content.holes.iter().find(|&&(start, length)| start + length > offset);
    let found = match (whence as i32, next) {
        (libc::SEEK_HOLE, Some(&(start, _))) => start.max(offset),
        (libc::SEEK_HOLE, None) => content.digest.size,
        (libc::SEEK_DATA, _) => {
            let end = content.holes.iter().fold(offset, |at, &(start, length)| {
                if (start..start + length).contains(&at) { start + length } else { at }
            });
            if end >= content.digest.size {
                return refuse(libc::ENXIO);
            }
            end
        }
        _ => return refuse(libc::EINVAL),
    };
    reply.u64(found);
    Ok(())
}
