//! A file map out of a TOC: its one pack is the archive, named by the TOC's digest.
//!
//! Invariant: what is given out is a tree that any reader of file maps may believe: each name once, below directories, each
//! hard link to the first name of its file, each blob with its digest, each frame inside the archive's data.
//! Not here: what proves a chunk when it comes (`archive::frame`, digests). Bytes: docs/archive.md, "Reading".

use std::io::Read;
use std::sync::Arc;

use super::files::{Chunk, File, Files};
use super::frames::{Frames, Span};
use super::open::read_toc;
use super::rows::{Is, Row, Rows};
use super::{Footer, TocEntry};
use crate::archive::MAX_PAGE_FRAME;
use crate::chunk::MAX_CHUNK;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, Source, Summary, described, unpacked};
use crate::job::Job;
use crate::scan::Time;
use crate::tar::{self, Room, TreeBuilder, shown};

/// The file map of the archive whose footer this is, and the TOC's digest; `compressed` are the `length` bytes of the TOC.
/// One that `is_layer` may have hard links to what the layers below it have, which remain.
///
/// # Errors
/// `Damaged` when the TOC cannot be read, contradicts itself or leads outside, naming the entry; `TocTooLarge`,
/// `ChunkTooLarge`; `Stopped`.
pub fn file_map(
    footer: &Footer,
    compressed: impl Read + Send,
    length: u64,
    is_layer: bool,
    job: &Job,
) -> Result<(FileMap, Digest)> {
    let mut gathering = Gathering {
        payload: footer.payload,
        rows: Rows::default(),
        group: Vec::new(),
        spans: Vec::new(),
        unnamed: Arc::new([0; 32]),
        room: Room::of(length),
        zeros: None,
    };
    let toc = read_toc(footer, compressed, length, job, |entry| gathering.entry(entry))?.digest;
    gathering.end_group()?;
    let Gathering { rows, spans, .. } = gathering;
    job.step(0)?;
    let pack = Arc::new(toc.sha256);
    let (rows, spans) = match rows.settle(spans, footer.payload) {
        Ok(settled) => {
            let (tree, bytes) = (settled.tree(), settled.bytes());
            let summary = Summary { push: None, tree, entries: settled.count() as u64, bytes, tar: None };
            return Ok((FileMap::of_source(summary, Arc::new(settled.named(pack.clone())), &pack), toc));
        }
        Err(given_back) => *given_back,
    };
    let mut builder = TreeBuilder::new("TOC").of_layer(is_layer);
    for header in rows.headers() {
        builder.push(&header)?;
    }
    let tree = builder.finish()?;
    job.step(0)?;
    let mut bodies = rows.into_bodies(&pack);
    Frames::of(spans, footer.payload).place(&mut bodies);
    let (entries, tree) = unpacked(tree, bodies, job)?;
    let size = |entry: &Entry| if let Kind::Regular(content) = &entry.kind { content.digest.size } else { 0 };
    let bytes = entries.iter().map(size).sum();
    let summary = Summary { push: None, tree, entries: entries.len() as u64, bytes, tar: None };
    Ok((FileMap::of_archive(summary, entries, &pack), toc))
}

/// Takes a TOC's entries in order.
struct Gathering {
    payload: u64,
    rows: Rows,
    /// A file and its chunks, until the next entry.
    group: Vec<TocEntry>,
    spans: Vec<Span>,
    /// Stands for the archive, whose name is known at the end.
    unnamed: Arc<[u8; 32]>,
    room: Room,
    /// Of zeros, as many as it says: those of the last chunk of them.
    zeros: Option<Digest>,
}

impl Gathering {
    fn entry(&mut self, entry: TocEntry) -> Result<()> {
        if !self.room.take(weight(&entry)) {
            let found = "it has more entries than are read of a TOC of as many compressed bytes".into();
            return Err(Error::TocTooLarge { found });
        }
        if entry.kind != super::Kind::Chunk {
            self.end_group()?;
        }
        self.group.push(entry);
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        let too_many = || Error::damaged("TOC", "it has 2^32 entries or more");
        if let [entry] = &self.group[..]
            && let Some((row, span)) = simple(entry, self.payload)
        {
            let pushed = match row.is {
                Is::Symlink | Is::Link => self.rows.push_link(&entry.name, &entry.link, row),
                _ => self.rows.push(&entry.name, row),
            };
            self.spans.extend(span);
            self.group.clear();
            return pushed.ok_or_else(too_many);
        }
        let file = Files::new(self.group.drain(..).map(Ok), self.payload).next().transpose()?;
        let Some(file) = file else { return Ok(()) };
        let (name, kind) = (file.header.name.clone(), file.header.kind.clone());
        if name.is_empty() && kind != tar::Kind::Directory {
            return Err(Error::damaged("TOC", "its root is no directory"));
        }
        let body = self.body(file)?;
        let pushed = match kind {
            tar::Kind::HardLink { first } => self.rows.push_link(&name, &first, Row::new(Is::Link, 0)),
            _ => self.rows.push_other(&name, body),
        };
        pushed.ok_or_else(too_many)
    }

    fn body(&mut self, file: File) -> Result<Entry> {
        let name = &file.header.name;
        let mut content =
            Content { digest: Digest { sha256: [0; 32], size: 0 }, chunks: Vec::new(), holes: Vec::new() };
        if let tar::Kind::Regular { holes, .. } = &file.header.kind {
            let (runs, digest) = runs(&file)?;
            content = Content { digest, chunks: Vec::with_capacity(runs.len()), holes: holes.clone() };
            let (mut zeros, mut begin) = (Vec::new(), 0);
            for run in runs {
                let at = begin;
                begin += run.digest.size;
                if run.zeros {
                    self.add_zeros(name, run.digest.size, &mut content.chunks)?;
                    zeros.push((at, run.digest.size));
                    continue;
                }
                let plain = run.inner.saturating_add(run.digest.size);
                if plain > MAX_PAGE_FRAME as u64 {
                    return Err(Error::ChunkTooLarge { name: shown(name) });
                }
                let frame = FrameAt { pack: self.unnamed.clone(), offset: run.offset, length: 0, plain: 0 };
                content.chunks.push(ChunkAt { digest: run.digest, frame, inner: run.inner as u32 });
                self.spans.push(Span { offset: run.offset, plain, last: run.last });
            }
            if matches!(&content.chunks[..], [only] if only.digest != digest) && !zeros.is_empty() {
                return Err(wrong(name, "its TOC says that it is zeros, and another digest of it"));
            }
            if holes.is_empty() {
                content.holes = zeros;
            }
        }
        described("TOC", &file.header, content)
    }

    /// Chunks of so many zeros, in frames of no length where the data ends: nobody fetches them.
    fn add_zeros(&mut self, name: &[u8], mut left: u64, chunks: &mut Vec<ChunkAt>) -> Result<()> {
        const EACH: u64 = 128;
        let most = MAX_CHUNK as u64;
        if !usize::try_from(left.div_ceil(most).saturating_mul(EACH)).is_ok_and(|bytes| self.room.take(bytes)) {
            let found =
                format!("{}: it says more zeros than are read of a TOC of as many compressed bytes", shown(name));
            return Err(Error::TocTooLarge { found });
        }
        while left > 0 {
            let size = left.min(most);
            let digest = match self.zeros {
                Some(known) if known.size == size => known,
                _ => Digest::of(&vec![0; size as usize]),
            };
            self.zeros = Some(digest);
            let frame = FrameAt { pack: self.unnamed.clone(), offset: self.payload, length: 0, plain: size as u32 };
            chunks.push(ChunkAt { digest, frame, inner: 0 });
            left -= size;
        }
        Ok(())
    }
}

/// An entry that says nothing that a row can't hold and nothing that might be wrong, and what it needs of its frame.
fn simple(entry: &TocEntry, payload: u64) -> Option<(Row, Option<Span>)> {
    if entry.name.is_empty() && entry.kind != super::Kind::Directory || !entry.xattrs.is_empty() {
        return None;
    }
    let is = match entry.kind {
        super::Kind::Directory => Is::Directory,
        super::Kind::Regular => Is::File,
        super::Kind::Symlink => Is::Symlink,
        super::Kind::HardLink => Is::Link,
        _ => return None,
    };
    let Time { sec, nsec } = entry.mtime.unwrap_or(Time { sec: 0, nsec: 0 });
    let (uid, gid) = (u32::try_from(entry.uid).ok()?, u32::try_from(entry.gid).ok()?);
    let mut row = Row { uid, gid, sec, nsec, ..Row::new(is, entry.mode) };
    if is != Is::File {
        return Some((row, None));
    }
    if !entry.holes.is_empty() || entry.zeros || entry.size == 0 {
        return None;
    }
    let plain = entry.inner.checked_add(entry.size).filter(|&plain| plain <= MAX_PAGE_FRAME as u64)?;
    let is_whole = entry.chunk_offset == 0 && (entry.chunk_size == 0 || entry.chunk_size == entry.size);
    let agree = entry.digest.is_none() || entry.chunk_digest.is_none() || entry.digest == entry.chunk_digest;
    if !is_whole || !agree || entry.offset >= payload {
        return None;
    }
    row.sha256 = entry.digest.or(entry.chunk_digest)?;
    (row.size, row.offset, row.inner) = (entry.size, entry.offset, entry.inner as u32);
    Some((row, Some(Span { offset: entry.offset, plain, last: entry.offset })))
}

fn wrong(name: &[u8], found: &str) -> Error {
    Error::damaged("TOC", format!("{}: {found}", shown(name)))
}

/// About how many bytes are kept of an entry, in all that is made of it.
fn weight(entry: &TocEntry) -> usize {
    const EACH: usize = 320;
    EACH + 2 * entry.name.len() + 2 * entry.link.len() + Room::of_xattrs(&entry.xattrs) + 32 * entry.holes.len()
}

/// A run of a file's content that is proved as one: where it begins, where its last frame begins, and what it has.
struct Run {
    offset: u64,
    last: u64,
    inner: u64,
    digest: Digest,
    /// Only its size counts.
    zeros: bool,
}

/// The runs of a file, and its digest: its chunks if each has a digest, else all of it.
fn runs(file: &File) -> Result<(Vec<Run>, Digest)> {
    let name = &file.header.name;
    let size = file.header.size();
    let proved = |chunk: &Chunk| {
        if chunk.zeros {
            let digest = Digest { sha256: [0; 32], size: chunk.size };
            return Some(Run { offset: 0, last: 0, inner: 0, digest, zeros: true });
        }
        Some(Run {
            offset: chunk.offset?,
            last: chunk.offset?,
            inner: chunk.inner,
            digest: Digest { sha256: chunk.sha256?, size: chunk.size },
            zeros: false,
        })
    };
    let sha256 = file.sha256.or(if let [only] = &file.chunks[..] { only.sha256 } else { None });
    let Some(sha256) = sha256 else { return Err(wrong(name, "its TOC has no digest of it")) };
    let digest = Digest { sha256, size };
    if let [only] = &file.chunks[..]
        && only.sha256.is_some_and(|said| said != sha256)
    {
        return Err(wrong(name, "its TOC has two digests of one content"));
    }
    if let Some(runs) = file.chunks.iter().map(proved).collect::<Option<Vec<Run>>>() {
        return Ok((runs, digest));
    }
    // The stream has a file's content in one run, zeros included.
    let ends = file.chunks.first().zip(file.chunks.iter().rev().find_map(|chunk| chunk.offset));
    match ends {
        Some((Chunk { offset: Some(offset), inner, .. }, last)) if size <= MAX_PAGE_FRAME as u64 && last >= *offset => {
            Ok((vec![Run { offset: *offset, last, inner: *inner, digest, zeros: false }], digest))
        }
        _ => Err(wrong(name, "its chunks have no digests, and it is too large to be proved whole")),
    }
}
