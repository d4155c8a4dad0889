//! A file map out of a TOC: its one pack is the archive, named by the TOC's digest.
//!
//! Invariant: what is given out is a tree that any reader of file maps may believe: each name once, below directories, each
//! hard link to the first name of its file, each blob with its digest, each frame inside the archive's data.
//! Not here: what proves a chunk when it comes (`archive::frame`, digests). Bytes: docs/archive.md, "Reading".

use std::io::Read;
use std::sync::Arc;

use super::files::{Chunk, File, Files};
use super::{Entries, Footer, TocText};
use crate::archive::MAX_PAGE_FRAME;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::{Error, Result, show};
use crate::filemap::{ChunkAt, Content, Entry, FileMap, FrameAt, Kind, Summary, parent_and_name};
use crate::job::Job;
use crate::scan::Time;
use crate::tar::{self, TreeBuilder};

/// Of a directory that no entry names.
const INVENTED_MODE: u32 = 0o755;
/// Compressed bytes that a frame may need beyond a quarter more than its plain ones.
const SLACK: u64 = 64 << 10;

/// The file map of the archive whose footer this is, and the TOC's digest; `compressed` are the `length` bytes of the TOC.
///
/// # Errors
/// `Damaged` when the TOC cannot be read, contradicts itself or leads outside, naming the entry; `Stopped`.
pub fn file_map(footer: &Footer, compressed: impl Read + Send, length: u64, job: &Job) -> Result<(FileMap, Digest)> {
    let mut entries = Entries::new(TocText::open(footer, compressed, length)?);
    let mut builder = TreeBuilder::new("TOC");
    let mut files = Vec::new();
    for file in Files::new(entries.by_ref(), footer.payload) {
        let file = file?;
        job.step(0)?;
        builder.push(&file.header)?;
        files.push(file);
    }
    let toc = entries.finish()?.digest()?;
    let tree = builder.finish()?;
    let frames = Frames::of(&files, footer.payload, Arc::new(toc.sha256))?;
    let mut out = placed(tree, files, &frames)?;
    job.step(0)?;
    out.sort_unstable_by(|a, b| parent_and_name(&a.path).cmp(&parent_and_name(&b.path)));
    let tree = hash_directories(&mut out);
    let bytes = out.iter().map(|entry| if let Kind::Regular(content) = &entry.kind { content.digest.size } else { 0 });
    let summary = Summary { push: None, tree, entries: out.len() as u64, bytes: bytes.sum() };
    Ok((FileMap::of_archive(summary, out, &frames.pack), toc))
}

fn wrong(name: &[u8], found: &str) -> Error {
    use std::os::unix::ffi::OsStrExt;
    let name = show(std::path::Path::new(std::ffi::OsStr::from_bytes(&name[..name.len().min(200)])));
    Error::damaged("TOC", format!("{name}: {found}"))
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

/// The archive's frames: where each begins, what is decompressed of it at most, and where that ends at most.
struct Frames {
    pack: Arc<[u8; 32]>,
    begins: Vec<u64>,
    plain: Vec<u64>,
    ends: Vec<u64>,
}

impl Frames {
    fn of(files: &[File], payload: u64, pack: Arc<[u8; 32]>) -> Result<Frames> {
        let mut begins: Vec<u64> =
            files.iter().flat_map(|file| &file.chunks).filter_map(|chunk| chunk.offset).collect();
        begins.sort_unstable();
        begins.dedup();
        let mut out = Frames { pack, plain: vec![0; begins.len()], ends: vec![0; begins.len()], begins };
        for file in files.iter().filter(|file| !file.chunks.is_empty()) {
            for run in runs(file)?.0 {
                let (at, last) = (out.number(run.offset), out.number(run.last));
                let end = out.begins.get(last + 1).copied().unwrap_or(payload);
                let plain = run.inner.saturating_add(run.digest.size);
                if plain > MAX_PAGE_FRAME as u64 {
                    return Err(wrong(&file.header.name, "it lies in a frame of more than 64 MiB"));
                }
                out.plain[at] = out.plain[at].max(plain);
                out.ends[at] = out.ends[at].max(end);
            }
        }
        Ok(out)
    }

    fn number(&self, offset: u64) -> usize {
        self.begins.partition_point(|&begin| begin < offset)
    }

    /// Where a run lies.
    fn chunk(&self, run: &Run) -> ChunkAt {
        let at = self.number(run.offset);
        let plain = self.plain[at];
        let length = (self.ends[at] - run.offset).min(plain + plain / 4 + SLACK);
        let frame = FrameAt { pack: self.pack.clone(), offset: run.offset, length: length as u32, plain: plain as u32 };
        ChunkAt { digest: run.digest, frame, inner: run.inner as u32 }
    }
}

/// What remains, in no order.
fn placed(tree: tar::Tree, files: Vec<File>, frames: &Frames) -> Result<Vec<Entry>> {
    let first_of = |at: usize| tree.entries[at].first.map_or(at, |first| first as usize);
    let key = |at: usize| parent_and_name(&tree.entries[at].name);
    let mut best: Vec<u32> = (0..tree.entries.len() as u32).collect();
    let mut links = vec![0u32; tree.entries.len()];
    for at in 0..tree.entries.len() {
        let first = first_of(at);
        links[first] += 1;
        if key(at) < key(best[first] as usize) {
            best[first] = at as u32;
        }
    }
    let mut out = Vec::with_capacity(tree.entries.len() + tree.invented.len() + 1);
    let mut has_root = false;
    for (at, placed) in tree.entries.iter().enumerate() {
        let file = &files[placed.entry as usize];
        let first = first_of(at);
        if best[first] as usize == at {
            has_root |= placed.name.is_empty();
            out.push(entry(&placed.name, file, links[first], frames)?);
        } else {
            let kind = Kind::HardLink { first: tree.entries[best[first] as usize].name.clone() };
            out.push(plain(placed.name.clone(), kind, file.header.mode & 0o7777));
        }
    }
    let root = if has_root { None } else { Some(Vec::new()) };
    for name in tree.invented.into_iter().filter(|name| !name.is_empty()).chain(root) {
        out.push(plain(name, Kind::Directory { digest: None }, INVENTED_MODE));
    }
    Ok(out)
}

fn plain(path: Vec<u8>, kind: Kind, mode: u32) -> Entry {
    Entry { path, kind, mode, uid: 0, gid: 0, mtime: Time { sec: 0, nsec: 0 }, links: 1, xattrs: Vec::new() }
}

fn entry(name: &[u8], file: &File, links: u32, frames: &Frames) -> Result<Entry> {
    let header = &file.header;
    let kind = match &header.kind {
        tar::Kind::Directory => Kind::Directory { digest: None },
        tar::Kind::Regular { holes, .. } => {
            let (runs, digest) = runs(file)?;
            let chunks = runs.iter().map(|run| frames.chunk(run)).collect();
            Kind::Regular(Content { digest, chunks, holes: holes.clone() })
        }
        tar::Kind::Symlink { target } => Kind::Symlink { target: target.clone() },
        tar::Kind::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
        tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        tar::Kind::Fifo => Kind::Fifo,
        tar::Kind::HardLink { .. } => return Err(wrong(name, "it is a hard link to no file")),
    };
    let number = |id: u64| u32::try_from(id).map_err(|_| wrong(name, "its owner has no such number here"));
    Ok(Entry {
        path: name.to_vec(),
        kind,
        mode: header.mode & 0o7777,
        uid: number(header.uid)?,
        gid: number(header.gid)?,
        mtime: header.mtime,
        links,
        xattrs: header.xattrs.clone(),
    })
}

/// Give each directory its digest, the deepest first: in file-map order what lies in a directory comes behind it.
fn hash_directories(entries: &mut [Entry]) -> Digest {
    let mut digests: Vec<Option<Digest>> = vec![None; entries.len()];
    let find =
        |path: &[u8]| entries.binary_search_by(|entry| parent_and_name(&entry.path).cmp(&parent_and_name(path))).ok();
    let empty = Directory::default().digest();
    let mut end = entries.len();
    while end > 1 {
        let parent = parent_and_name(&entries[end - 1].path).0;
        let is_within = |entry: &Entry| parent_and_name(&entry.path).0 == parent;
        let start = 1 + entries[1..end].iter().rposition(|entry| !is_within(entry)).map_or(0, |before| before + 1);
        let mut directory = Directory::default();
        for at in start..end {
            let entry = &entries[at];
            let named = match &entry.kind {
                Kind::HardLink { first } => find(first).map(|first| &entries[first].kind),
                kind => Some(kind),
            };
            match named {
                Some(Kind::Directory { .. }) => directory.directory(entry.name(), digests[at].unwrap_or(empty)),
                Some(Kind::Regular(content)) => {
                    directory.file(entry.name(), content.digest, entry.mode & 0o100 != 0);
                }
                Some(Kind::Symlink { target }) => directory.symlink(entry.name(), target),
                _ => {}
            }
        }
        let digest = directory.digest();
        if let Some(at) = find(parent) {
            digests[at] = Some(digest);
        }
        end = start;
    }
    for (entry, digest) in entries.iter_mut().zip(&digests) {
        if let Kind::Directory { digest: known } = &mut entry.kind {
            *known = Some(digest.unwrap_or(empty));
        }
    }
    digests.first().copied().flatten().unwrap_or(empty)
}
