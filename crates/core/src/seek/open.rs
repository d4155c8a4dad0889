//! Reading an index.
//!
//! Invariant: nothing is given out before the text was proved by its digest and every place in it found to be inside the
//! archive; what is decompressed is bounded by what came in, and memory follows what was read.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

use serde::Deserialize;

use super::{Checkpoint, ENDS, FOOTER, Identity, LONGEST_FRAME, MAGIC, SKIPPABLE, Stream, shown};
use crate::archive::MAX_PAGE_FRAME;
use crate::archive::frame::Form;
use crate::archive::lead;
use crate::digest::{Digest, Hasher, parse_hex};
use crate::error::{Error, Result};
use crate::filemap::{Entry, FileMap, Kind, Summary, hash_directories, page_of_form, parent_and_name};
use crate::job::Job;
use crate::tar::{MAX_NAME, Room};

/// No text has more bytes; nor more than `RATIO` times those it is compressed to: that of holes compresses best.
const LONGEST: u64 = 4 << 30;
const RATIO: u64 = 10_000;
/// Of a line that is no entry's.
const LONGEST_LINE: u64 = 1024;
/// Of a window, compressed.
const LONGEST_WINDOW: u32 = 64 << 10;
/// About how many bytes are kept of an entry, whatever it says, and of a chunk or a checkpoint.
const EACH: usize = 320;
const EACH_PLACE: usize = 80;

/// Where the text is in an index, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub text: Range<u64>,
    /// Of it, decompressed.
    pub digest: Digest,
}

/// All of an index but its file map.
pub struct SeekIndex {
    /// Of the text.
    pub digest: Digest,
    identity: Identity,
    stream: Stream,
    points: Vec<Checkpoint>,
}

fn damaged(found: impl Into<String>) -> Error {
    Error::damaged("seek index", found)
}

impl Found {
    /// `tail` are the last bytes, `FOOTER` or more, of an index of `size` bytes.
    ///
    /// # Errors
    /// `Damaged` when it is none, or cut; `NewerFormat`.
    pub fn read(tail: &[u8], size: u64) -> Result<Found> {
        let footer = tail.last_chunk::<FOOTER>().ok_or_else(|| damaged("it is too short to be one"))?;
        let number = |at: usize| {
            let bytes = footer[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        if footer[72..] != *MAGIC || footer[..4] != SKIPPABLE || footer[4..8] != (FOOTER as u32 - 8).to_le_bytes() {
            return Err(damaged("it has no footer: it is none, or was cut"));
        }
        match number(64) {
            1 | 2 => {}
            0 => return Err(damaged("format 0")),
            version => return Err(Error::NewerFormat { what: "seek index".into(), version }),
        }
        let (offset, length, plain) = (number(8), number(16), number(24));
        let before = size.saturating_sub(FOOTER as u64);
        let end = offset.checked_add(length).filter(|&end| end == before);
        let end = end.ok_or_else(|| damaged("its text is not where its footer says"))?;
        if plain > LONGEST.min(length.saturating_mul(RATIO)) {
            return Err(damaged("its text is larger than any can be"));
        }
        let sha256 = footer[32..64].try_into().expect("32 bytes");
        Ok(Found { text: offset..end, digest: Digest { sha256, size: plain } })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    format: u64,
    stream: &'a str,
    size: u64,
    first: &'a str,
    last: &'a str,
    tree: &'a str,
    tree_size: u64,
    entries: u64,
    bytes: u64,
    checkpoints: u64,
}

/// Byte, bit, plain, window and its length, and of one within a block the bits of its head.
#[derive(Deserialize)]
struct Point(u64, u8, u64, u64, u32, #[serde(default)] u16);

#[derive(Deserialize)]
struct Page {
    page: u64,
}

impl SeekIndex {
    /// Read the text, as it lies in the index; the file map of the archive besides. That of one that `is_layer` may have hard
    /// links to what the layers below it have.
    ///
    /// # Errors
    /// `Damaged`, `Mismatch`, `NewerFormat`, `Stopped`.
    pub fn open(found: &Found, compressed: &[u8], is_layer: bool, job: &Job) -> Result<(SeekIndex, FileMap)> {
        let decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(|e| damaged(e.to_string()))?;
        let proving = Proving { inner: decoder.single_frame(), hasher: Hasher::default(), job };
        let mut text = Lines { input: BufReader::new(proving.take(found.digest.size)), line: Vec::new() };
        let read = read(&mut text, found.text.start, is_layer, &mut Room::of(compressed.len() as u64), job);
        // Damage is told as such, whatever it did to what was read; and what follows the pages counts, too.
        let rest = std::io::copy(&mut text.input, &mut std::io::sink());
        job.step(0)?;
        rest.map_err(|e| damaged(e.to_string()))?;
        let got = text.input.into_inner().into_inner().hasher.finish();
        if got != found.digest {
            return Err(Error::Mismatch { what: "seek index".into(), expected: found.digest, got });
        }
        read.map(|(index, map)| (SeekIndex { digest: got, ..index }, map))
    }

    /// Whether this is the index of an archive of `size` bytes, of which these are the first and the last.
    pub fn is_of(&self, size: u64, first: &[u8], last: &[u8]) -> bool {
        let length = size.min(ENDS) as usize;
        let is = |bytes: Option<&[u8]>, sha256| bytes.is_some_and(|bytes| Digest::of(bytes).sha256 == sha256);
        let last = last.len().checked_sub(length).map(|at| &last[at..]);
        size == self.identity.size && is(first.get(..length), self.identity.first) && is(last, self.identity.last)
    }

    /// How the lead of a frame begins, and where in the index the rest of it lies.
    ///
    /// # Errors
    /// `Missing` when no frame begins there.
    pub fn lead(&self, offset: u64) -> Result<(Vec<u8>, Range<u64>)> {
        if offset == self.identity.size {
            return Ok((lead::head(lead::Entry::Zeros, 0), 0..0));
        }
        if self.stream == Stream::Tar {
            return Ok((lead::head(lead::Entry::Plain, 0), 0..0));
        }
        let point = self.points.binary_search_by_key(&offset, |point| point.at).map(|at| &self.points[at]);
        let point = point.map_err(|_| Error::Missing { what: format!("a checkpoint at byte {offset}") })?;
        let (begin, length) = point.window;
        Ok((lead::head(point.entry(), length), begin..begin + u64::from(length)))
    }
}

fn read(
    text: &mut Lines<impl Read>,
    end_of_windows: u64,
    is_layer: bool,
    room: &mut Room,
    job: &Job,
) -> Result<(SeekIndex, FileMap)> {
    let wrong = || damaged("its first line cannot be");
    let line = text.next()?.ok_or_else(|| damaged("it is empty"))?.to_vec();
    let head: Head<'_> = serde_json::from_slice(&line).map_err(|_| wrong())?;
    if !(1..=2).contains(&head.format) {
        return Err(Error::NewerFormat { what: "seek index".into(), version: head.format });
    }
    let sha = |text: &str| text.strip_prefix("sha256:").and_then(parse_hex).ok_or_else(wrong);
    let identity = Identity { size: head.size, first: sha(head.first)?, last: sha(head.last)? };
    let known = Stream::ALL.iter().find(|(_, name)| *name == head.stream);
    let stream = known.ok_or_else(|| damaged("it is of a kind of stream that is not known"))?.0;
    let tree = Digest { sha256: sha(head.tree)?, size: head.tree_size };
    let summary = Summary { push: None, tree, entries: head.entries, bytes: head.bytes, tar: None };
    let points = points(text, head.checkpoints, &identity, end_of_windows, room)?;
    let mut entries = entries(text, &points, stream, &identity, room, job)?;
    check(&summary, &entries, is_layer)?;
    // Whoever wrote it: directories have the digests of what is in them.
    if hash_directories(&mut entries) != summary.tree {
        return Err(damaged("its entries are not those of its tree"));
    }
    let mut map = FileMap::of_archive(summary, entries, &identity.pack());
    map.form = Form::Led;
    Ok((SeekIndex { digest: tree, identity, stream, points }, map))
}

/// Keep so many bytes more.
fn take(room: &mut Room, bytes: usize) -> Result<()> {
    if room.take(bytes) { Ok(()) } else { Err(damaged("its entries take more memory than is allowed for its size")) }
}

fn points(
    text: &mut Lines<impl Read>,
    count: u64,
    identity: &Identity,
    end: u64,
    room: &mut Room,
) -> Result<Vec<Checkpoint>> {
    let mut points: Vec<Checkpoint> = Vec::new();
    for _ in 0..count {
        let line = text.next()?.ok_or_else(|| damaged("its checkpoints are cut"))?;
        take(room, EACH_PLACE)?;
        let Point(at, bit, plain, begin, length, head) =
            serde_json::from_slice(line).map_err(|_| damaged("a checkpoint that cannot be"))?;
        let point = Checkpoint { at, bit, plain, window: (begin, length), head };
        let rises = points.last().is_none_or(|last| last.at < point.at && last.plain < point.plain);
        let window = point.window.0.checked_add(point.window.1.into()).is_some_and(|to| to <= end);
        let window = window && point.window.1 <= LONGEST_WINDOW && point.head <= lead::LONGEST_HEAD;
        if !rises || !window || point.at >= identity.size || point.bit > 7 {
            return Err(damaged("a checkpoint that cannot be"));
        }
        points.push(point);
    }
    Ok(points)
}

fn entries(
    text: &mut Lines<impl Read>,
    points: &[Checkpoint],
    stream: Stream,
    identity: &Identity,
    room: &mut Room,
    job: &Job,
) -> Result<Vec<Entry>> {
    let pack = identity.pack();
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(line) = text.next()? {
        job.step(0)?;
        let Page { page } = serde_json::from_slice(line).map_err(|_| damaged("a page that cannot be"))?;
        let body = text.take(page)?;
        // Before they are made: a line an entry, each kept once.
        take(room, EACH * memchr::memchr_iter(b'\n', &body).count())?;
        let (rows, _) = page_of_form(&body, Digest { sha256: [0; 32], size: page }, Form::Led)?;
        for mut entry in rows {
            take(room, weight(&entry))?;
            let key = parent_and_name(&entry.path);
            let is_sorted = entries.last().map_or(entry.path.is_empty(), |last| parent_and_name(&last.path) < key);
            if !is_sorted {
                return Err(damaged("an entry out of order"));
            }
            if let Kind::Regular(content) = &mut entry.kind {
                for chunk in &mut content.chunks {
                    let frame = &mut chunk.frame;
                    let is_inside =
                        frame.offset.checked_add(frame.length.into()).is_some_and(|end| end <= identity.size);
                    let is_known = stream == Stream::Tar
                        || frame.offset == identity.size
                        || points.binary_search_by_key(&frame.offset, |point| point.at).is_ok();
                    let is_inside = is_inside && u64::from(frame.length) <= LONGEST_FRAME;
                    if !is_inside || !is_known || frame.plain as usize > MAX_PAGE_FRAME {
                        return Err(damaged("a chunk that lies outside of the archive"));
                    }
                    frame.pack = pack.clone();
                }
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// What is kept of an entry besides what each takes.
fn weight(entry: &Entry) -> usize {
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| 96 + name.len() + value.len()).sum();
    let kind = match &entry.kind {
        Kind::Regular(content) => EACH_PLACE * content.chunks.len() + 32 * content.holes.len(),
        Kind::Symlink { target } => 2 * target.len(),
        Kind::HardLink { first } => 2 * first.len(),
        _ => 0,
    };
    2 * entry.path.len() + xattrs + kind
}

/// Hold what is said of all against each entry, each to its directory, and hard links to their files.
fn check(summary: &Summary, entries: &[Entry], is_layer: bool) -> Result<()> {
    let find = |path: &[u8]| {
        let found = entries.binary_search_by(|entry| parent_and_name(&entry.path).cmp(&parent_and_name(path)));
        found.ok().map(|at| &entries[at].kind)
    };
    let wrong = |entry: &Entry, found: &str| Err(damaged(format!("{}: {found}", shown(&entry.path))));
    let (mut bytes, mut parent) = (0u64, None);
    for entry in entries {
        let above = Some(parent_and_name(&entry.path).0);
        // Those of one directory stand together.
        if above != parent && !matches!(above.and_then(find), Some(Kind::Directory { .. })) {
            return wrong(entry, "it lies in no directory");
        }
        parent = above;
        match &entry.kind {
            Kind::HardLink { first } => {
                let is_wrong = match find(first) {
                    None | Some(Kind::HardLink { .. }) => !is_layer,
                    Some(kind) => matches!(kind, Kind::Directory { .. }),
                };
                if is_wrong {
                    return wrong(entry, "it is a hard link to no file");
                }
            }
            Kind::Regular(content) => bytes = bytes.saturating_add(content.digest.size),
            _ => {}
        }
        if entry.path.len() > MAX_NAME {
            return wrong(entry, "a name that is too long");
        }
    }
    if (entries.len() as u64, bytes) != (summary.entries, summary.bytes) || entries.is_empty() {
        return Err(damaged("it has others than the entries it says"));
    }
    Ok(())
}

/// Hashes what is read.
struct Proving<'a, R> {
    inner: R,
    hasher: Hasher,
    job: &'a Job,
}

impl<R: Read> Read for Proving<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.job.step(0).map_err(std::io::Error::other)?;
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// A text as lines, with pages in between.
struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = (&mut self.input).take(LONGEST_LINE).read_until(b'\n', &mut self.line);
        if read.map_err(|e| damaged(e.to_string()))? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') { Ok(Some(&self.line)) } else { Err(damaged("a line without end")) }
    }

    fn take(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_PAGE_FRAME as u64 {
            return Err(damaged("a page of more than 64 MiB"));
        }
        let mut out = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut out).map_err(|e| damaged(e.to_string()))?;
        if out.len() as u64 == size { Ok(out) } else { Err(damaged("a page that is cut")) }
    }
}
