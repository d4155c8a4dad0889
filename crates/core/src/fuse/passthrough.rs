//! Passthrough: what is complete and proved is read by the kernel itself, from the cache's file. For trees of large files,
//! since each open costs a request, which others do without.
//!
//! Invariant: all opens of a file at one time are alike, as the kernel demands: all by one backing file, or all by us. What is
//! open, and how, is in the record (`opens`), so a server that takes over goes on as its predecessor did.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::answer::{self, No};
use super::opens::{Open, Opens};
use super::server::Server;
use super::wire::{Reply, Request};
use crate::cache::Cache;
use crate::error::Result;
use crate::filemap::{Content, FileMap};

/// Bytes an entry of the tree has at least, on the average. An open costs what passthrough saves of 0.6 MiB read.
pub const MEAN: u64 = 1 << 20;

const KEEP_CACHE: u32 = 1 << 1;
const PASSTHROUGH: u32 = 1 << 7;

/// `FUSE_DEV_IOC_BACKING_OPEN` and `_CLOSE`, as `_IOW(229, 1, struct fuse_backing_map)` and `_IOW(229, 2, uint32_t)`.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

pub struct Passthrough {
    opens: Mutex<Opens>,
    /// Whose contents the cache holds for an open, by inode.
    held: Mutex<HashMap<u64, [u8; 32]>>,
    /// Second names of what is proved.
    proved: PathBuf,
    /// Inodes of what should be proved before it is opened again.
    to_prove: Mutex<Option<Sender<u64>>>,
    asked: Mutex<Option<Receiver<u64>>>,
}

impl Passthrough {
    fn new(opens: Opens, proved: PathBuf) -> Passthrough {
        let (sender, receiver) = channel();
        Passthrough {
            opens: Mutex::new(opens),
            held: Mutex::default(),
            proved,
            to_prove: Mutex::new(Some(sender)),
            asked: Mutex::new(Some(receiver)),
        }
    }

    /// Whether the kernel agreed; else it never asks us to open anything again.
    pub fn is_agreed(&self) -> bool {
        self.opens().is_agreed()
    }

    /// The kernel agreed.
    pub fn agree(&self) -> bool {
        self.opens().agree()
    }

    /// The answer to OPEN.
    pub fn open(
        &self,
        map: &FileMap,
        cache: &Cache,
        device: &OwnedFd,
        request: &Request,
        reply: &mut Reply,
    ) -> std::result::Result<(), No> {
        let (inode, content) = answer::content(map, request.node)?;
        let backing = self.begin(inode, content, cache, device);
        reply.begin(16);
        reply.u64(0); // a handle that nobody asks for
        reply.u32(if backing == 0 { KEEP_CACHE } else { PASSTHROUGH });
        reply.u32(backing);
        Ok(())
    }

    /// The backing file of one more open; 0: we answer its reads.
    fn begin(&self, inode: u64, content: &Content, cache: &Cache, device: &OwnedFd) -> u32 {
        let mut opens = self.opens();
        if let Some(backing) = opens.again(inode) {
            return backing;
        }
        let mut backing = 0;
        if content.digest.size > 0 && opens.may_pass() {
            match cache.proved_file(content, &self.proved) {
                Some(file) => backing = back(device, &file).unwrap_or(0),
                None => self.prove_later(inode),
            }
        }
        if backing != 0 {
            cache.hold(content.digest.sha256);
            self.held().insert(inode, content.digest.sha256);
        }
        opens.first(Open { inode, backing, count: 1 });
        backing
    }

    /// One open of a file has ended; the kernel has done with it already.
    pub fn release(&self, inode: u64, cache: &Cache, device: &OwnedFd) {
        // Whoever opens it next finds all of the last open ended.
        let mut opens = self.opens();
        let last = opens.close(inode);
        if let Some(backing) = last.filter(|&backing| backing != 0) {
            // SAFETY: the kernel reads a number from where the number is.
            unsafe { libc::ioctl(device.as_raw_fd(), BACKING_CLOSE, &raw const backing) };
            if let Some(sha256) = self.held().remove(&inode) {
                cache.release(&sha256);
            }
        }
    }

    fn prove_later(&self, inode: u64) {
        if let Some(sender) = &*self.to_prove.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(inode);
        }
    }

    /// Let `prove_asked` return.
    pub fn stop(&self) {
        *self.to_prove.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn opens(&self) -> MutexGuard<'_, Opens> {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, [u8; 32]>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Let the kernel read files itself if it can, and if the mean file is so large that it pays, or it is `wanted`.
    /// Before `serve`. What is open is written to `record`; a server that takes over goes on with that.
    ///
    /// # Errors
    /// `Io` when the record, or the directory of what is proved, cannot be made.
    pub fn pass_through(&self, record: &Path, adopted: bool, wanted: Option<bool>) -> Result<()> {
        let opens = if adopted {
            Opens::inherit(record)?
        } else {
            let summary = &self.map.summary;
            let pays = wanted.unwrap_or(summary.bytes / summary.entries.max(1) >= MEAN);
            let can = rustix::process::geteuid().is_root();
            if can && pays { Some(Opens::new(record)?) } else { Opens::none(record) }
        };
        if let Some(opens) = opens {
            let _ = self.passthrough.set(Passthrough::new(opens, self.cache.proved()?));
        }
        Ok(())
    }

    /// What opens files, if the kernel lets us, and the device for it.
    pub(super) fn opening(&self) -> Option<(&Passthrough, &OwnedFd)> {
        Some((self.passthrough.get().filter(|passthrough| passthrough.is_agreed())?, self.device.as_ref()?))
    }

    /// Prove what was opened when it was complete but not proved: the next open of it can be passed through.
    pub(super) fn prove_asked(&self) {
        let Some(passthrough) = self.passthrough.get() else { return };
        let asked = passthrough.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        for inode in asked.iter().flatten() {
            if let Ok((_, content)) = answer::content(&self.map, inode)
                && let Err(error) = self.cache.prove(content, &passthrough.proved)
            {
                self.note(&error.to_string());
            }
        }
    }
}

/// The number by which the kernel knows an open file of ours from now on; none if it does not want it.
fn back(device: &OwnedFd, file: &File) -> Option<u32> {
    let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads the struct, which is laid out as it demands, and nothing else.
    let number = unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) };
    u32::try_from(number).ok().filter(|&number| number != 0)
}
