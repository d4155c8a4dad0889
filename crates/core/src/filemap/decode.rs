//! Text back into pages and fence indexes, with every rule checked: what passes here is safe to use.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Visitor};

use super::entry::{ChunkAt, Content, Entry, FrameAt, Kind, parent_and_name};
use super::frames::Row as FrameRow;
use super::map::{PageRef, Summary};
use super::text::{object, parse_time, unescape};
use crate::archive::frame::Form;
use crate::archive::{MAX_FRAME, MAX_PAGE_FRAME};
use crate::chunk::MAX_CHUNK;
use crate::digest::{Digest, parse_hex};
use crate::error::{Error, Result};

pub struct Fence {
    pub summary: Summary,
    pub pages: Vec<PageRef>,
}

/// A string of any bytes.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Bytes, D::Error> {
        struct Raw;
        impl Visitor<'_> for Raw {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> std::result::Result<Bytes, E> {
                unescape(bytes.to_vec()).map(Bytes).ok_or_else(|| E::custom("a lone surrogate that is not a byte's"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Raw)
    }
}

/// `sha256:<hex>`
#[derive(Default)]
struct Sha([u8; 32]);

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Sha, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        text.strip_prefix("sha256:").and_then(parse_hex).map(Sha).ok_or_else(|| de::Error::custom("not a digest"))
    }
}

/// 64 hex digits, as packs are named.
struct Hex([u8; 32]);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Hex, D::Error> {
        parse_hex(<&str>::deserialize(deserializer)?).map(Hex).ok_or_else(|| de::Error::custom("not a pack's name"))
    }
}

/// Extended attributes: an object in the order of its lines.
#[derive(Default)]
struct Xattrs(Vec<(Vec<u8>, Vec<u8>)>);

impl<'de> Deserialize<'de> for Xattrs {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Xattrs, D::Error> {
        let each = |(name, value): (Bytes, &str)| {
            STANDARD.decode(value).map(|value| (name.0, value)).map_err(|_| "not base64")
        };
        object(deserializer, each).map(Xattrs)
    }
}

#[derive(Deserialize)]
struct PageHead {
    format: u64,
    packs: Vec<Hex>,
    frames: Vec<FrameRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    name: Bytes,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    modtime: Option<&'a str>,
    #[serde(default)]
    link_name: Bytes,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    dev_major: u32,
    #[serde(default)]
    dev_minor: u32,
    #[serde(default)]
    links: Option<u32>,
    #[serde(default)]
    xattrs: Xattrs,
    #[serde(default)]
    holes: Vec<(u64, u64)>,
    #[serde(default)]
    digest: Option<Sha>,
    #[serde(default)]
    frame: Option<u32>,
    #[serde(default)]
    inner_offset: u32,
    #[serde(default)]
    chunks: Vec<RowChunk>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowChunk {
    chunk_size: u64,
    chunk_digest: Sha,
    frame: u32,
    inner_offset: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FenceHead<'a> {
    format: u64,
    #[serde(default)]
    push: Option<&'a str>,
    tree: Sha,
    tree_size: u64,
    entries: u64,
    bytes: u64,
    packs: Vec<Hex>,
    #[serde(default)]
    tar: Option<Sha>,
    #[serde(default)]
    tar_size: u64,
}

/// Of a page of entries, or, numbered by `split`, of split metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FenceLine {
    #[serde(default)]
    first: Bytes,
    #[serde(default)]
    split: Option<usize>,
    digest: Sha,
    size: u64,
    #[serde(default)]
    entries: u32,
    frame: FrameRow,
    inner_offset: u32,
}

/// No frame of a pack begins behind it.
const LAST: u64 = u32::MAX as u64;

/// The most rows a page may have, so that a row fits its inode.
const MAX_ROWS: usize = 1 << 20;

fn lines<'a>(what: &'a str, text: &'a [u8]) -> Result<impl Iterator<Item = &'a [u8]>> {
    match text {
        [body @ .., b'\n'] => Ok(body.split(|&b| b == b'\n')),
        _ => Err(Error::damaged(what, "its last line is cut")),
    }
}

fn parse<'a, T: Deserialize<'a>>(what: &str, number: usize, line: &'a [u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|e| Error::damaged(what, format!("line {}: {e}", number + 1)))
}

fn version(what: &str, format: u64) -> Result<()> {
    match format {
        1 => Ok(()),
        version @ 2.. => Err(Error::NewerFormat { what: what.into(), version }),
        0 => Err(Error::damaged(what, "format 0")),
    }
}

fn frames(what: &str, packs: Vec<Hex>, rows: Vec<FrameRow>, form: Form) -> Result<Vec<FrameAt>> {
    let packs: Vec<Arc<[u8; 32]>> = packs.into_iter().map(|pack| Arc::new(pack.0)).collect();
    let frame = |(pack, offset, length, plain): FrameRow| {
        let pack = packs.get(pack as usize)?.clone();
        let fits = match form {
            Form::Pack => offset <= LAST && plain as usize <= MAX_FRAME && length as usize <= 2 * MAX_FRAME,
            Form::Archive | Form::Led | Form::Blob => plain as usize <= MAX_PAGE_FRAME,
        };
        fits.then_some(FrameAt { pack, offset, length, plain })
    };
    rows.into_iter().map(|row| frame(row).ok_or_else(|| Error::damaged(what, "a frame that cannot be"))).collect()
}

/// The text of a fence index.
pub fn fence(text: &[u8]) -> Result<Fence> {
    let what = "file map";
    let mut lines = lines(what, text)?.enumerate();
    let (_, first) = lines.next().ok_or_else(|| Error::damaged(what, "it is empty"))?;
    version(what, head_format(what, first)?)?;
    let head: FenceHead<'_> = parse(what, 0, first)?;
    debug_assert_eq!(head.format, 1);
    if head.push.is_some_and(|push| !is_push(push)) {
        return Err(Error::damaged(what, "a push that is not 16 hex digits"));
    }
    let push = head.push.map(str::to_owned);
    let packs: Vec<Arc<[u8; 32]>> = head.packs.into_iter().map(|pack| Arc::new(pack.0)).collect();
    let mut pages: Vec<PageRef> = Vec::new();
    let (mut entries, mut splits) = (0u64, 0);
    for (number, line) in lines {
        let line: FenceLine = parse(what, number, line)?;
        let (pack, offset, length, plain) = line.frame;
        let pack = packs.get(pack as usize).ok_or_else(|| Error::damaged(what, "a page in no pack"))?.clone();
        let (path, in_order) = match line.split {
            // Behind all entries, numbered from 0.
            Some(number) => {
                splits += 1;
                (Vec::new(), number + 1 == splits && line.entries == 0 && line.first.0.is_empty() && !pages.is_empty())
            }
            None => {
                let path = path_of(what, line.first.0)?;
                let after = pages.last().map_or(path.is_empty(), |last| {
                    parent_and_name(&last.first) < parent_and_name(&path) && splits == 0
                });
                (path, after && line.entries > 0)
            }
        };
        let end = u64::from(line.inner_offset) + line.size;
        if !in_order || line.entries as usize > MAX_ROWS || end > u64::from(plain) {
            return Err(Error::damaged(what, format!("line {}: a page that cannot be", number + 1)));
        }
        if offset > LAST || plain as usize > MAX_PAGE_FRAME || length as usize > MAX_PAGE_FRAME {
            return Err(Error::damaged(what, format!("line {}: a frame that cannot be", number + 1)));
        }
        entries += u64::from(line.entries);
        pages.push(PageRef {
            first: path,
            digest: Digest { sha256: line.digest.0, size: line.size },
            entries: line.entries,
            frame: FrameAt { pack, offset, length, plain },
            inner: line.inner_offset,
        });
    }
    if pages.is_empty() || entries != head.entries {
        return Err(Error::damaged(what, "its pages do not add up to its entries"));
    }
    if head.tar.is_some() != (splits > 0) {
        return Err(Error::damaged(what, "it has split metadata and no digest of the tar, or that without it"));
    }
    let tar = head.tar.map(|tar| Digest { sha256: tar.0, size: head.tar_size });
    let tree = Digest { sha256: head.tree.0, size: head.tree_size };
    Ok(Fence { summary: Summary { push, tree, entries, bytes: head.bytes, tar }, pages })
}

fn is_push(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Only the version, so that a newer format is told from a damaged one.
fn head_format(what: &str, line: &[u8]) -> Result<u64> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    Ok(parse::<Head>(what, 0, line)?.format)
}

/// The text of page number `page`, which `at` describes; `next` is the first path of the page after it.
pub fn page(text: &[u8], page: usize, at: &PageRef, next: Option<&[u8]>, form: Form) -> Result<Vec<Entry>> {
    let what = format!("page {page} of the file map");
    let mut lines = lines(&what, text)?.enumerate();
    let (_, first) = lines.next().ok_or_else(|| Error::damaged(what.as_str(), "it is empty"))?;
    version(&what, head_format(&what, first)?)?;
    let head: PageHead = parse(&what, 0, first)?;
    debug_assert_eq!(head.format, 1);
    let frames = frames(&what, head.packs, head.frames, form)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(at.entries.min(1 << 14) as usize);
    for (number, line) in lines {
        let row: Row = parse(&what, number, line)?;
        let wrong = |found: &str| Error::damaged(what.as_str(), format!("line {}: {found}", number + 1));
        let entry = entry(row, &frames, form).map_err(wrong)?;
        let key = parent_and_name(&entry.path);
        let sorted = match entries.last() {
            None => entry.path == at.first,
            Some(last) => parent_and_name(&last.path) < key,
        };
        if !sorted || next.is_some_and(|next| key >= parent_and_name(next)) {
            return Err(wrong("an entry out of order"));
        }
        if entry.path.is_empty() && !entry.is_directory() {
            return Err(wrong("a root that is no directory"));
        }
        entries.push(entry);
    }
    if entries.len() != at.entries as usize {
        return Err(Error::damaged(what, "it has another number of entries than the fence index says"));
    }
    Ok(entries)
}

fn path_of(what: &str, name: Vec<u8>) -> Result<Vec<u8>> {
    if name == b"." {
        return Ok(Vec::new());
    }
    if is_clean(&name) { Ok(name) } else { Err(Error::damaged(what, "a name that is no clean path")) }
}

fn is_clean(path: &[u8]) -> bool {
    !path.contains(&0)
        && path.split(|&b| b == b'/').all(|part| !part.is_empty() && part != b"." && part != b".." && part.len() <= 255)
}

fn entry(row: Row<'_>, frames: &[FrameAt], form: Form) -> std::result::Result<Entry, &'static str> {
    let path = if row.name.0 == b"." { Vec::new() } else { row.name.0 };
    if !path.is_empty() && !is_clean(&path) {
        return Err("a name that is no clean path");
    }
    if row.mode > 0o7777 {
        return Err("a mode that cannot be");
    }
    let kind = match row.kind {
        "dir" => Kind::Directory {
            digest: Some(Digest { sha256: row.digest.ok_or("a directory without digest")?.0, size: row.size }),
        },
        "reg" => {
            let digest = Digest { sha256: row.digest.ok_or("a file without digest")?.0, size: row.size };
            let chunks = chunks(digest, row.frame.map(|frame| (frame, row.inner_offset)), row.chunks, frames, form)?;
            Kind::Regular(Content { digest, chunks, holes: holes(row.holes, row.size)? })
        }
        "symlink" if row.link_name.0.is_empty() || row.link_name.0.contains(&0) => return Err("a symlink to nowhere"),
        "symlink" => Kind::Symlink { target: row.link_name.0 },
        "hardlink" if !is_clean(&row.link_name.0) || row.link_name.0 == path => {
            return Err("a hard link to no clean path");
        }
        "hardlink" => Kind::HardLink { first: row.link_name.0 },
        "char" => Kind::CharDevice { major: row.dev_major, minor: row.dev_minor },
        "block" => Kind::BlockDevice { major: row.dev_major, minor: row.dev_minor },
        "fifo" => Kind::Fifo,
        _ => return Err("an unknown type"),
    };
    let mtime = match (row.modtime, &kind) {
        (Some(text), _) => parse_time(text).ok_or("a time that is none")?,
        (None, Kind::HardLink { .. }) => crate::scan::Time { sec: 0, nsec: 0 },
        (None, _) => return Err("no time"),
    };
    let links = row.links.unwrap_or(1);
    if links == 0 || row.xattrs.0.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err("attributes that cannot be");
    }
    Ok(Entry { path, kind, mode: row.mode, uid: row.uid, gid: row.gid, mtime, links, xattrs: row.xattrs.0 })
}

fn chunks(
    digest: Digest,
    whole: Option<(u32, u32)>,
    rows: Vec<RowChunk>,
    frames: &[FrameAt],
    form: Form,
) -> std::result::Result<Vec<ChunkAt>, &'static str> {
    // Archives of others are cut as their writers please.
    let most = if form == Form::Pack { MAX_CHUNK } else { MAX_PAGE_FRAME } as u64;
    let chunk = |digest: Digest, frame: u32, inner: u32| {
        let frame = frames.get(frame as usize).ok_or("a chunk in no frame")?.clone();
        if digest.size == 0 || digest.size > most || u64::from(inner) + digest.size > u64::from(frame.plain) {
            return Err("a chunk that does not fit its frame");
        }
        Ok(ChunkAt { digest, frame, inner })
    };
    let chunks: Vec<ChunkAt> = match whole {
        Some((frame, inner)) if rows.is_empty() => vec![chunk(digest, frame, inner)?],
        Some(_) => return Err("both a frame and chunks"),
        None => rows
            .into_iter()
            .map(|row| chunk(Digest { sha256: row.chunk_digest.0, size: row.chunk_size }, row.frame, row.inner_offset))
            .collect::<std::result::Result<_, _>>()?,
    };
    let mut sum = 0u64;
    for chunk in &chunks {
        sum = sum.checked_add(chunk.digest.size).ok_or("chunks without end")?;
    }
    if sum == digest.size { Ok(chunks) } else { Err("chunks that do not add up to the size") }
}

fn holes(holes: Vec<(u64, u64)>, size: u64) -> std::result::Result<Vec<(u64, u64)>, &'static str> {
    let mut end = 0;
    for &(offset, length) in &holes {
        if offset < end || length == 0 {
            return Err("holes that overlap");
        }
        end = offset.checked_add(length).filter(|&end| end <= size).ok_or("a hole past the end")?;
    }
    Ok(holes)
}

/// A page that no fence index describes: its entries, and the packs it names.
///
/// # Errors
/// `Damaged`, `NewerFormat`.
pub fn page_alone(text: &[u8], digest: Digest) -> Result<(Vec<Entry>, Vec<[u8; 32]>)> {
    page_of_form(text, digest, Form::Pack)
}

/// The same, of frames of that form.
///
/// # Errors
/// The same.
pub fn page_of_form(text: &[u8], digest: Digest, form: Form) -> Result<(Vec<Entry>, Vec<[u8; 32]>)> {
    let what = "a page";
    let mut lines = lines(what, text)?;
    let head = lines.next().ok_or_else(|| Error::damaged(what, "it is empty"))?;
    version(what, head_format(what, head)?)?;
    let head: PageHead = parse(what, 0, head)?;
    let first: Row<'_> = parse(what, 1, lines.next().ok_or_else(|| Error::damaged(what, "it has no entry"))?)?;
    let at = PageRef {
        first: path_of(what, first.name.0)?,
        digest,
        entries: 1 + u32::try_from(lines.count()).map_err(|_| Error::damaged(what, "it has no end"))?,
        frame: FrameAt { pack: Arc::new([0; 32]), offset: 0, length: 0, plain: 0 },
        inner: 0,
    };
    Ok((page(text, 0, &at, None, form)?, head.packs.into_iter().map(|pack| pack.0).collect()))
}
