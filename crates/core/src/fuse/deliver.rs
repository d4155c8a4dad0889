//! Frames that arrive: proved, kept, and whoever waited for them answered.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::answer;
use super::parked::{Purpose, Waiting};
use super::server::{Server, TRIES};
use super::wire::Reply;
use crate::archive::MAX_FRAME;
use crate::archive::frame::Form;
use crate::digest::{Digest, hex};
use crate::error::{Error, Result};
use crate::filemap::{FrameAt, frame_of};

/// Decompressed into is memory that was before: what is given back to the kernel and taken again costs more than the bytes.
const SPARE: usize = 4;
const SPARE_BYTES: usize = 2 * MAX_FRAME;

impl Server {
    /// A frame has arrived. What it was asked for is proved and kept, with what else it holds, and requests that
    /// waited for nothing else are answered.
    ///
    /// # Errors
    /// `Damaged` or `Mismatch` when it is not what the file map says. It is wanted once more then if somebody waits for
    /// it; when it is damaged again they get EIO. The caller has nothing more to do.
    pub fn deliver(&self, at: &FrameAt, compressed: &[u8]) -> Result<()> {
        self.deliver_by(at, compressed.len() as u64, |purposes| self.keep(at, compressed, purposes))
    }

    /// As `deliver`, of a blob that is a pack of its own: the file at `path`, which is on the disk of the cache, becomes the
    /// cache's. When it is damaged it is left where it is.
    ///
    /// # Errors
    /// As `deliver`; `Io`.
    pub fn deliver_file(&self, at: &FrameAt, path: &Path) -> Result<()> {
        let size = fs::metadata(path).map_err(Error::io("read", path))?.len();
        self.deliver_by(at, size, |purposes| match self.chunk_of(purposes.first())? {
            Some((_, digest)) => self.cache.insert_file(&digest, path),
            None => Ok(()),
        })
    }

    /// A directory of a map that grows, which nobody may have asked for: it is kept, and who waits for it is answered.
    ///
    /// # Errors
    /// As `deliver`.
    pub fn deliver_directory(&self, message: &[u8]) -> Result<()> {
        let digest = Digest::of(message);
        let at = frame_of(&digest);
        if self.parked().expects(&at) { self.deliver(&at, message) } else { self.cache.insert_blob(&digest, message) }
    }

    /// Those of some blobs that the cache has not, as far as can be told without reading them.
    pub fn absent(&self, blobs: Vec<Digest>) -> Vec<Digest> {
        blobs.into_iter().filter(|blob| !self.cache.path(blob).exists()).collect()
    }

    fn deliver_by(&self, at: &FrameAt, bytes: u64, keep: impl FnOnce(&[Purpose]) -> Result<()>) -> Result<()> {
        let purposes = self.parked().purposes(at);
        let kept = keep(&purposes);
        // Who sees that something has come finds it in the cache.
        self.frames.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        let wrong =
            kept.as_ref().err().map(|error| format!("frame at {} of pack {}: {error}", at.offset, hex(&at.pack[..6])));
        let mut parked = self.parked();
        if let Some(wrong) = &wrong {
            self.note(wrong);
            self.wanted.fail(at);
        } else {
            self.wanted.done(at);
        }
        let waiting = parked.arrived(at);
        drop(parked);
        self.page.notify_all();
        // What was right in a damaged frame has been kept: who needs only that is answered.
        self.resume(waiting, at, wrong.as_deref());
        kept
    }

    /// A frame will not come: whoever has waited for it for `patience` gets EIO. Others wait on, and it is wanted anew, as by
    /// who asks later.
    pub fn fail(&self, at: &FrameAt, why: &str, patience: Duration) {
        let then = Instant::now().checked_sub(patience);
        let mut parked = self.parked();
        self.wanted.fail(at);
        let waiting = parked.failed(at);
        drop(parked);
        self.page.notify_all();
        self.note(why);
        let has_waited = |waiting: &Waiting| then.is_some_and(|then| waiting.request.since <= then);
        let (mut late, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(has_waited);
        late.iter_mut().for_each(|waiting| waiting.tries = TRIES);
        self.resume(late, at, Some(why));
        let mut reply = Reply::new();
        for waiting in others {
            self.dispatch(waiting.request, None, &mut reply);
        }
    }

    /// Answer who has waited for longer than `patience` with EIO, and say how many these were; what they waited for may
    /// come later. With `any` all of them, else those who wait for a pack of which something was asked for as long ago, and is
    /// not here: of what has not had its turn nobody is told that it does not come.
    pub fn expire(&self, patience: Duration, any: bool, why: &str) -> usize {
        let Some(then) = Instant::now().checked_sub(patience) else { return 0 };
        let waiting = if any {
            self.parked().take_older(then)
        } else {
            let overdue = self.wanted.overdue(then);
            self.parked().take_older_of(&overdue, then)
        };
        let number = waiting.len();
        self.refuse_all(waiting, why);
        number
    }

    /// Give the memory back that fetching took: all is here.
    pub fn give_back(&self) {
        *self.spare() = Vec::new();
        self.cache.forget_recent();
        #[cfg(target_env = "gnu")]
        // SAFETY: it only returns pages that nothing is in.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    fn keep(&self, at: &FrameAt, compressed: &[u8], purposes: &[Purpose]) -> Result<()> {
        let mut plain = self.spare().pop().unwrap_or_default();
        let opened = self.map.form.open_into(compressed, at.plain, &mut plain);
        let kept = opened.and_then(|()| self.keep_plain(&plain, purposes));
        let mut spare = self.spare();
        if spare.len() < SPARE && plain.capacity() <= SPARE_BYTES {
            spare.push(plain);
        }
        kept
    }

    fn keep_plain(&self, plain: &[u8], purposes: &[Purpose]) -> Result<()> {
        let mut asked = HashSet::new();
        let mut wanted = Vec::new();
        for purpose in purposes {
            let Some((inner, digest)) = self.chunk_of(Some(purpose))? else { continue };
            asked.insert(digest);
            wanted.push((*purpose, inner, digest));
        }
        // Neighbours first, so that what somebody waits for is the newest where the cache keeps little.
        if self.map.form == Form::Pack {
            self.keep_neighbours(plain, &asked);
        }
        let mut result = Ok(());
        for (purpose, inner, digest) in wanted {
            let kept = slice(plain, inner, &digest).and_then(|bytes| self.keep_one(purpose, bytes));
            result = result.and(kept);
        }
        result
    }

    /// Where in its frame lies what it was asked for, and the digest; none of nothing.
    fn chunk_of(&self, purpose: Option<&Purpose>) -> Result<Option<(u32, Digest)>> {
        let Some(purpose) = purpose else { return Ok(None) };
        let found = match *purpose {
            Purpose::Page(page) => self.map.page(page).map(|at| (at.inner, at.digest)),
            Purpose::Chunk(inode, index) => answer::content(&self.map, inode)
                .ok()
                .and_then(|(_, content)| content.chunks.get(index).map(|chunk| (chunk.inner, chunk.digest))),
        };
        found.map(Some).ok_or_else(|| Error::Missing { what: "what the frame was asked for".into() })
    }

    fn keep_one(&self, purpose: Purpose, bytes: &[u8]) -> Result<()> {
        match purpose {
            Purpose::Page(page) => {
                self.map.add_page(page, bytes)?;
                self.map.page(page).map_or(Ok(()), |at| self.cache.insert_blob(&at.digest, bytes))
            }
            Purpose::Chunk(inode, index) => match answer::content(&self.map, inode) {
                Ok((_, content)) => self.cache.insert_chunk(content, index, bytes),
                Err(_) => Ok(()),
            },
        }
    }
}

/// Where a chunk should be; the cache proves it.
fn slice<'a>(plain: &'a [u8], inner: u32, digest: &Digest) -> Result<&'a [u8]> {
    let start = inner as usize;
    let bytes = usize::try_from(digest.size).ok().and_then(|size| plain.get(start..start.checked_add(size)?));
    bytes.ok_or_else(|| Error::damaged("frame", "it ends before a chunk it should hold"))
}
