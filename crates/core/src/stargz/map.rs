//! A file map out of a TOC: its one pack is the archive, named by the TOC's digest.
//!
//! Invariant: what is given out is a tree that any reader of file maps may believe: each name once, below directories, each
//! hard link to the first name of its file, each blob with its digest, each frame inside the archive's data.
//! Not here: what proves a chunk when it comes (`archive::frame`, digests). Bytes: docs/archive.md, "Reading".

use std::io::Read;
use std::sync::Arc;

use super::files::{Chunk, File, Files};
use super::open::read_toc;
use super::{Footer, TocEntry};
use crate::archive::MAX_PAGE_FRAME;
use crate::digest::Digest;
use crate::error::{Error, Result, show};
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, Summary, described, unpacked};
use crate::job::Job;
use crate::tar::{self, Room, TreeBuilder};

/// Compressed bytes that a frame may need beyond a quarter more than its plain ones.
const SLACK: u64 = 64 << 10;

/// The file map of the archive whose footer this is, and the TOC's digest; `compressed` are the `length` bytes of the TOC.
///
/// # Errors
/// `Damaged` when the TOC cannot be read, contradicts itself or leads outside, naming the entry; `TocTooLarge`,
/// `ChunkTooLarge`; `Stopped`.
pub fn file_map(footer: &Footer, compressed: impl Read + Send, length: u64, job: &Job) -> Result<(FileMap, Digest)> {
    let mut gathering = Gathering {
        payload: footer.payload,
        builder: TreeBuilder::new("TOC"),
        group: Vec::new(),
        bodies: Vec::new(),
        spans: Vec::new(),
        unnamed: Arc::new([0; 32]),
        room: Room::of(length),
    };
    let toc = read_toc(footer, compressed, length, job, |entry| gathering.entry(entry))?.digest;
    gathering.end_group()?;
    let Gathering { builder, mut bodies, spans, .. } = gathering;
    let tree = builder.finish()?;
    job.step(0)?;
    let pack = Arc::new(toc.sha256);
    Frames::of(spans, footer.payload).place(&mut bodies, &pack);
    let (entries, tree) = unpacked(tree, bodies, job)?;
    let size = |entry: &Entry| if let Kind::Regular(content) = &entry.kind { content.digest.size } else { 0 };
    let bytes = entries.iter().map(size).sum();
    let summary = Summary { push: None, tree, entries: entries.len() as u64, bytes, tar: None };
    Ok((FileMap::of_archive(summary, entries, &pack), toc))
}

/// Takes a TOC's entries in order.
struct Gathering {
    payload: u64,
    builder: TreeBuilder,
    /// A file and its chunks, until the next entry.
    group: Vec<TocEntry>,
    /// What each entry says besides its name, by number; its frames are but begun.
    bodies: Vec<Entry>,
    spans: Vec<Span>,
    /// Stands for the archive, whose name is known at the end.
    unnamed: Arc<[u8; 32]>,
    room: Room,
}

/// What is needed of the frame that begins at `offset`: so many plain bytes, and of those behind it up to that at `last`.
struct Span {
    offset: u64,
    plain: u64,
    last: u64,
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
        let file = Files::new(self.group.drain(..).map(Ok), self.payload).next().transpose()?;
        let Some(file) = file else { return Ok(()) };
        self.builder.push(&file.header)?;
        let body = self.body(file)?;
        self.bodies.push(body);
        Ok(())
    }

    fn body(&mut self, file: File) -> Result<Entry> {
        let name = &file.header.name;
        let kind = match &file.header.kind {
            tar::Kind::Directory => Kind::Directory { digest: None },
            tar::Kind::Regular { holes, .. } => {
                let (runs, digest) = runs(&file)?;
                let mut chunks = Vec::with_capacity(runs.len());
                for run in runs {
                    let plain = run.inner.saturating_add(run.digest.size);
                    if plain > MAX_PAGE_FRAME as u64 {
                        return Err(Error::ChunkTooLarge { name: shown(name) });
                    }
                    let frame = FrameAt { pack: self.unnamed.clone(), offset: run.offset, length: 0, plain: 0 };
                    chunks.push(ChunkAt { digest: run.digest, frame, inner: run.inner as u32 });
                    self.spans.push(Span { offset: run.offset, plain, last: run.last });
                }
                Kind::Regular(Content { digest, chunks, holes: holes.clone() })
            }
            tar::Kind::Symlink { target } => Kind::Symlink { target: target.clone() },
            tar::Kind::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
            tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
            // What a hard link says is said by the file that it is.
            tar::Kind::Fifo | tar::Kind::HardLink { .. } => Kind::Fifo,
        };
        described(&file.header, kind).map_err(|found| wrong(name, found))
    }
}

fn shown(name: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    show(std::path::Path::new(std::ffi::OsStr::from_bytes(&name[..name.len().min(200)])))
}

fn wrong(name: &[u8], found: &str) -> Error {
    Error::damaged("TOC", format!("{}: {found}", shown(name)))
}

/// About how many bytes are kept of an entry, in all that is made of it.
fn weight(entry: &TocEntry) -> usize {
    const EACH: usize = 320;
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| 96 + name.len() + value.len()).sum();
    EACH + 2 * entry.name.len() + 2 * entry.link.len() + xattrs + 32 * entry.holes.len()
}

/// A run of a file's content that is proved as one: where it begins, where its last frame begins, and what it has.
struct Run {
    offset: u64,
    last: u64,
    inner: u64,
    digest: Digest,
}

/// The runs of a file, and its digest: its chunks if each has a digest, else all of it.
fn runs(file: &File) -> Result<(Vec<Run>, Digest)> {
    let name = &file.header.name;
    let size = file.header.size();
    let proved = |chunk: &Chunk| {
        Some(Run {
            offset: chunk.offset?,
            last: chunk.offset?,
            inner: chunk.inner,
            digest: Digest { sha256: chunk.sha256?, size: chunk.size },
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
            Ok((vec![Run { offset: *offset, last, inner: *inner, digest }], digest))
        }
        _ => Err(wrong(name, "its chunks have no digests, and it is too large to be proved whole")),
    }
}

/// The archive's frames, by where they begin.
struct Frames {
    spans: Vec<Span>,
    payload: u64,
}

impl Frames {
    fn of(mut spans: Vec<Span>, payload: u64) -> Frames {
        if !spans.is_sorted_by_key(|span| span.offset) {
            spans.sort_unstable_by_key(|span| span.offset);
        }
        spans.dedup_by(|next, span| {
            let is_same = next.offset == span.offset;
            if is_same {
                (span.plain, span.last) = (span.plain.max(next.plain), span.last.max(next.last));
            }
            is_same
        });
        Frames { spans, payload }
    }

    /// Say of each chunk how far its frame reaches, and in which pack it lies.
    fn place(&self, bodies: &mut [Entry], pack: &Arc<[u8; 32]>) {
        let mut at = 0;
        for body in bodies {
            let Kind::Regular(content) = &mut body.kind else { continue };
            for ChunkAt { frame, .. } in &mut content.chunks {
                // Mostly the same or the next.
                at = match [at, at + 1].into_iter().find(|&at| self.begin(at) == frame.offset) {
                    Some(at) => at,
                    None => self.spans.partition_point(|span| span.offset < frame.offset),
                };
                let Span { plain, last, .. } = self.spans[at];
                let next = if last == frame.offset { at + 1 } else { self.spans.partition_point(|s| s.offset <= last) };
                let length = (self.begin(next) - frame.offset).min(plain + plain / 4 + SLACK);
                (frame.length, frame.plain, frame.pack) = (length as u32, plain as u32, pack.clone());
            }
        }
    }

    /// Where a frame begins; behind the last, where the data ends.
    fn begin(&self, at: usize) -> u64 {
        self.spans.get(at).map_or(self.payload, |span| span.offset)
    }
}
