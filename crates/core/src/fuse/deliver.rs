//! Frames that arrive: proved, kept, and whoever waited for them answered.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::answer;
use super::parked::{Purpose, Waiting};
use super::server::{Server, TRIES};
use super::wire::Reply;
use crate::archive::frame::Form;
use crate::digest::{Digest, hex};
use crate::error::{Error, Result};
use crate::filemap::FrameAt;

impl Server {
    /// A frame has arrived. What it was asked for is proved and kept, with what else it holds, and requests that
    /// waited for nothing else are answered.
    ///
    /// # Errors
    /// `Damaged` or `Mismatch` when it is not what the file map says. It is wanted once more then if somebody waits for
    /// it; when it is damaged again they get EIO. The caller has nothing more to do.
    pub fn deliver(&self, at: &FrameAt, compressed: &[u8]) -> Result<()> {
        let purposes = self.parked().purposes(at);
        let kept = self.keep(at, compressed, &purposes);
        // Who sees that something has come finds it in the cache.
        self.frames.fetch_add(1, Relaxed);
        self.bytes.fetch_add(compressed.len() as u64, Relaxed);
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

    fn keep(&self, at: &FrameAt, compressed: &[u8], purposes: &[Purpose]) -> Result<()> {
        let plain = self.map.form.open(compressed, at.plain)?;
        let mut asked = HashSet::new();
        let mut wanted = Vec::new();
        for purpose in purposes {
            let (inner, digest) = match *purpose {
                Purpose::Page(page) => self.map.pages().get(page).map(|at| (at.inner, at.digest)),
                Purpose::Chunk(inode, index) => answer::content(&self.map, inode)
                    .ok()
                    .and_then(|(_, content)| content.chunks.get(index).map(|chunk| (chunk.inner, chunk.digest))),
            }
            .ok_or_else(|| Error::Missing { what: "what the frame was asked for".into() })?;
            asked.insert(digest);
            wanted.push((*purpose, inner, digest));
        }
        // Neighbours first, so that what somebody waits for is the newest where the cache keeps little.
        if self.map.form == Form::Pack {
            self.keep_neighbours(&plain, &asked);
        }
        let mut result = Ok(());
        for (purpose, inner, digest) in wanted {
            let kept = slice(&plain, inner, &digest).and_then(|bytes| self.keep_one(purpose, bytes));
            result = result.and(kept);
        }
        result
    }

    fn keep_one(&self, purpose: Purpose, bytes: &[u8]) -> Result<()> {
        match purpose {
            Purpose::Page(page) => {
                self.map.add_page(page, bytes)?;
                self.cache.insert_blob(&self.map.pages()[page].digest, bytes)
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
