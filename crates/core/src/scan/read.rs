//! Reading a file whole, as it was at one time.
//!
//! Invariant: when `read_stable` returns, what its sink got since the last `begin` is the content that belongs to the
//! stat it returns. Not here: whether that stat can be trusted later (`Stat::is_racy`).

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::fstat;

use super::{Kind, Root, Stat};
use crate::error::{Error, Result};
use crate::job::Job;

/// The most that a sink gets at once.
pub const PIECE: usize = 1 << 20;

/// A file that changes under each of so many readings is given up.
const TRIES: u32 = 5;

/// Takes the bytes of a file, in order.
pub trait Sink {
    /// A reading starts, perhaps over: whatever came before is void.
    fn begin(&mut self, stat: &Stat) -> Result<()>;
    fn piece(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Read the regular file `rel`; `buffer` is scratch memory for the caller to keep.
///
/// # Errors
/// `Unstable` when it changed during each try or is no regular file (any more), `Io` "open" or "read", `Stopped`, and
/// what `sink` returns.
pub fn read_stable(root: &Root, rel: &[u8], buffer: &mut Vec<u8>, job: &Job, sink: &mut dyn Sink) -> Result<Stat> {
    use std::sync::atomic::Ordering::Relaxed;
    for _ in 0..TRIES {
        let mut file = match root.open_file(rel) {
            // A symbolic link by now, or a socket or a device without a driver.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => break,
            opened => opened.map_err(Error::io("open", root.show(rel)))?,
        };
        let before = stat_of(&file, root, rel)?;
        if before.kind() != Kind::File {
            break;
        }
        let piece = usize::try_from(before.size).map_or(PIECE, |size| size.min(PIECE));
        if buffer.len() < piece {
            buffer.resize(piece.next_power_of_two(), 0);
        }
        sink.begin(&before)?;
        let mut read = 0;
        while read < before.size {
            let want = usize::try_from(before.size - read).map_or(piece, |left| left.min(piece));
            let got = match file.read(&mut buffer[..want]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                got => got.map_err(Error::io("read", root.show(rel)))?,
            };
            if got == 0 {
                break;
            }
            read += got as u64;
            job.step(got as u64)?;
            sink.piece(&buffer[..got])?;
        }
        if read == before.size && stat_of(&file, root, rel)?.agrees(&before) {
            return Ok(before);
        }
        job.bytes_done.fetch_sub(read, Relaxed);
    }
    Err(Error::Unstable { path: root.show(rel) })
}

fn stat_of(file: &File, root: &Root, rel: &[u8]) -> Result<Stat> {
    fstat(file).map(Stat::from).map_err(|e| Error::io("stat", root.show(rel))(e.into()))
}
