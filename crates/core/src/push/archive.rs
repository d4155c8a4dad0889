//! One push of a tar, from the stream to the fence index.
//!
//! Invariant: what is pushed is the tree that unpacking gives, in the same chunks as a push of that, and split metadata from
//! which, with those chunks, the very stream can be made again. The stream is read once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crossbeam_channel::Sender;

use super::entries::Places;
use super::holdings::{Held, holdings};
use super::pages::pages_of;
use super::read::Outcome;
use super::run::{Pushed, Request, added, map};
use super::send::{Packer, Sealed};
use super::split::{Lines, Splits};
use super::stream::{Streamed, stream};
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};
use crate::filemap::{self, ChunkAt, Entry, Kind, parent_and_name, unpacked};
use crate::index;
use crate::job::Job;
use crate::tar::clean;

/// A tar, plain or compressed by gzip or zstd, to be pushed.
pub struct Archive {
    what: String,
    file: File,
    /// Of the file, if it is one.
    size: Option<u64>,
    /// As it was stored, if that is known.
    stored: Option<u64>,
    temporary: PathBuf,
    /// The attribute by which an entry says that the store has its content; of a tar that is made for this, and not given back.
    told: Option<Vec<u8>>,
}

/// Brings chunks of this run, whose packs have all been given out: their bytes one after the other, as a file that stands at
/// its beginning.
pub type Fetch<'a> = dyn FnMut(Vec<ChunkAt>) -> Result<File> + 'a;

/// Contents that a later entry of their name replaced.
#[derive(Default)]
struct Lost {
    entries: HashSet<u32>,
    chunks: Vec<ChunkAt>,
}

impl Archive {
    /// The tar in `file`, which is read from where it stands; `what` names it, `stored` are the bytes it takes where it lies.
    /// In the directory `temporary` is kept what memory should not hold.
    pub fn new(what: String, file: File, stored: Option<u64>, temporary: PathBuf) -> Archive {
        let size = file.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        Archive { what, file, size, stored: stored.or(size), temporary, told: None }
    }

    /// The same, which is nobody's tar: it is not kept how to give it back. An empty file in it that has the attribute `name` has the
    /// content that this says, `sha256:…/SIZE`, which is in the holdings, or in fragments, of the push.
    pub fn told(self, name: Vec<u8>) -> Archive {
        Archive { told: Some(name), ..self }
    }

    /// Bytes it takes where it lies; unknown of a pipe.
    pub fn stored(&self) -> Option<u64> {
        self.stored
    }

    /// Push it, giving each pack to `out` as it is sealed. Blocks while `out` is full. `fetch` is only called when the tar
    /// has two contents for one name.
    ///
    /// # Errors
    /// `Damaged` when it is no tar, or cannot be unpacked; `Invalid`, `Io`, `Stopped` (also when `out` is closed).
    pub fn push(
        self,
        request: Request<'_>,
        out: &Sender<Sealed>,
        fetch: &mut Fetch<'_>,
        threads: usize,
        job: &Job,
    ) -> Result<Pushed> {
        let Archive { what, file, size, stored, temporary, told } = self;
        let Request { push, level, known, pending, content, words, .. } = request;
        let packer = Packer::new(push, level, out, job);
        let streamed = stream(&what, &file, (size, stored), (known, &packer), Lines::new(&temporary)?, threads, job)?;
        packer.flush()?;
        let Streamed { mut bodies, tree, large, mut lines, tar, files, bytes } = streamed;
        let outcome = Outcome { large, ..Outcome::default() };
        let places = Places { known, packer: &packer, outcome: &outcome };
        let mut holes: HashMap<u32, Vec<(u64, u64)>> = HashMap::new();
        for (number, body) in bodies.iter_mut().enumerate() {
            let said = told.as_ref().and_then(|name| body.xattrs.iter().position(|(found, _)| found == name));
            let said = said.map(|at| body.xattrs.remove(at).1);
            let Kind::Regular(content) = &mut body.kind else { continue };
            if let Some(said) = said {
                content.digest = digest_said(&said)
                    .ok_or_else(|| Error::Invalid { what: what.clone(), why: "it tells of no content".into() })?;
            }
            content.chunks = places.chunks(&content.digest)?;
            if !content.holes.is_empty() {
                holes.insert(number as u32, content.holes.clone());
            }
        }
        let digests: Vec<Digest> = if tree.repeats { bodies.iter().map(digest_of).collect() } else { Vec::new() };
        let repeats = tree.repeats;
        let (entries, digest) = unpacked(tree, bodies, job)?;
        let lost = if repeats { lost(&entries, &digests, &mut lines, &places)? } else { Lost::default() };
        let mut replaced: Box<dyn Read> =
            if lost.chunks.is_empty() { Box::new(io::empty()) } else { Box::new(fetch(lost.chunks)?) };
        let pages = pages_of(&what, &entries, &places, job)?;
        let count = entries.len() as u64;
        let splits = if told.is_some() {
            Splits::default()
        } else {
            lines.pages(
                count,
                |entry| holes.get(&entry).cloned().unwrap_or_default(),
                |entry| lost.entries.contains(&entry).then(|| digests[entry as usize].size),
                &mut replaced,
                &places,
                job,
            )?
        };
        let summary = filemap::Summary {
            push: Some(push.to_owned()),
            tree: digest,
            entries: count,
            bytes: pages.bytes(),
            tar: told.is_none().then_some(tar),
        };
        let (map, refs) = map(&pages, &splits, &places, &summary, content, words)?;
        let blobs = entries.iter().filter(|entry| matches!(entry.kind, Kind::Regular(_))).map(digest_of);
        let Held { holdings, reused } = holdings(blobs, &places, &refs, &[])?;
        let counts = index::Summary { files_hashed: files, bytes_hashed: bytes, ..counted(&entries) };
        let (sent, bytes) = (packer.sent(), summary.bytes);
        let fragment = added(&packer, known, &pending, outcome.large);
        let reused: BTreeSet<_> = reused;
        Ok(Pushed {
            tree: digest,
            summary: counts,
            sent,
            unreadable: Vec::new(),
            entries: count,
            bytes,
            map,
            fragment,
            holdings,
            reused,
            memory: None,
        })
    }
}

/// `sha256:…/SIZE`.
fn digest_said(said: &[u8]) -> Option<Digest> {
    let (hex, size) = std::str::from_utf8(said).ok()?.strip_prefix("sha256:")?.split_once('/')?;
    Some(Digest { sha256: parse_hex(hex)?, size: size.parse().ok()? })
}

fn digest_of(entry: &Entry) -> Digest {
    if let Kind::Regular(content) = &entry.kind { content.digest } else { Digest::of(b"") }
}

/// The contents of the stream that the tree has not under the names they came with.
fn lost(entries: &[Entry], digests: &[Digest], lines: &mut Lines, places: &Places<'_>) -> Result<Lost> {
    let find = |path: &[u8]| {
        let found = entries.binary_search_by(|entry| parent_and_name(&entry.path).cmp(&parent_and_name(path)));
        found.ok().map(|at| &entries[at])
    };
    let mut lost = Lost::default();
    lines.contents(|content| {
        let named = clean(&content.name).ok().and_then(|name| find(&name));
        let file = match named.map(|entry| &entry.kind) {
            Some(Kind::HardLink { first }) => find(first),
            _ => named,
        };
        let digest = digests[content.entry as usize];
        if file.is_none_or(|file| digest_of(file) != digest) {
            lost.entries.insert(content.entry);
            lost.chunks.extend(places.chunks(&digest)?);
        }
        Ok(())
    })?;
    Ok(lost)
}

/// What there is of each kind.
pub fn counted(entries: &[Entry]) -> index::Summary {
    let mut out = index::Summary::default();
    for entry in entries {
        match &entry.kind {
            Kind::Directory { .. } => out.directories += 1,
            Kind::Regular(content) => {
                out.files += u64::from(entry.links);
                out.bytes += u64::from(entry.links) * content.digest.size;
            }
            Kind::Symlink { .. } => out.symlinks += u64::from(entry.links),
            Kind::HardLink { .. } => {}
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => out.others += u64::from(entry.links),
        }
    }
    out
}
