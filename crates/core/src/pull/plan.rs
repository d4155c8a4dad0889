//! What a tree has, which frames are needed for it, and who needs which chunk of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use crate::archive::frame::Form;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{ChunkAt, Entry, FileMap, FrameAt, Kind, Missing, parent_and_name};

/// A chunk's use: the file (number of its entry) and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub file: u32,
    pub offset: u64,
}

/// A frame and the chunks in it that are used.
pub struct Needed {
    pub frame: FrameAt,
    pub chunks: Vec<(ChunkAt, Vec<Use>)>,
}

impl Needed {
    /// The one of these, which are in order, for a frame.
    ///
    /// # Errors
    /// `Missing` when nobody asked for it.
    pub fn find<'a>(frames: &'a [Needed], frame: &FrameAt) -> Result<&'a Needed> {
        let at = frames.binary_search_by(|needed| needed.frame.cmp(frame));
        at.map(|at| &frames[at]).map_err(|_| Error::Missing { what: "a frame that was asked for".into() })
    }
}

/// The entries of a map.
pub struct Tree {
    /// In file-map order, the root first.
    pub entries: Vec<Entry>,
    /// Of each entry the number of the directory that holds it; the root's is itself.
    pub parents: Vec<u32>,
    /// Of each hard link, the number of its first name; of anything else its own.
    pub firsts: Vec<u32>,
    /// How its frames lie.
    pub form: Form,
}

impl Tree {
    /// # Errors
    /// `Damaged` when an entry lies in no directory or a hard link names no file; `Missing` when a page has not been
    /// brought.
    pub fn of(map: &FileMap) -> Result<Tree> {
        let absent = |Missing(page)| Error::Missing { what: format!("page {page} of the file map") };
        let mut entries = Vec::with_capacity(usize::try_from(map.summary.entries).unwrap_or(0).min(1 << 20));
        for page in 0..map.pages().len() {
            entries.extend_from_slice(map.rows(page).map_err(absent)?);
        }
        let wrong = |entry: &Entry, why: &str| {
            Error::damaged("file map", format!("{} {why}", crate::error::show(&path_of(&entry.path))))
        };
        let is = |entry: &&Entry, directory: bool| entry.is_directory() == directory;
        let number = |directory| {
            let numbered = entries.iter().zip(0u32..).filter(move |(entry, _)| is(entry, directory));
            numbered.map(|(entry, number)| (&entry.path[..], number))
        };
        let directories: HashMap<&[u8], u32> = number(true).collect();
        let is_linked = entries.iter().any(|entry| matches!(entry.kind, Kind::HardLink { .. }));
        let others: HashMap<&[u8], u32> = if is_linked { number(false).collect() } else { HashMap::new() };
        let (mut parents, mut firsts) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for (entry, number) in entries.iter().zip(0u32..) {
            let parent = match number {
                0 => Some(&0),
                _ => directories.get(parent_and_name(&entry.path).0),
            };
            parents.push(*parent.ok_or_else(|| wrong(entry, "lies in no directory"))?);
            firsts.push(match &entry.kind {
                Kind::HardLink { first } => {
                    let file = others.get(&first[..]).filter(|&&at| !is_hard_link(&entries[at as usize]));
                    *file.ok_or_else(|| wrong(entry, "is a hard link to no file"))?
                }
                _ => number,
            });
        }
        Ok(Tree { entries, parents, firsts, form: map.form })
    }
}

fn is_hard_link(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::HardLink { .. })
}

/// Where the content of the files to be written comes from.
pub struct Sources {
    /// In order of pack and offset, so that neighbours are fetched as one.
    pub frames: Vec<Needed>,
    /// Files of the content of another one, by that one: cloned when it is complete.
    pub copies: HashMap<u32, Vec<u32>>,
}

/// A smaller blob is sooner written again than cloned.
pub const CLONED: u64 = 64 * 1024;

/// What files of the same content and the same holes have in common.
type Same<'a> = (Digest, &'a [(u64, u64)]);

/// For the files that are `wanted`; those of `cloned` bytes or more are copies of others of the same content.
pub fn sources(entries: &[Entry], cloned: u64, wanted: impl Fn(usize) -> bool) -> Sources {
    let mut uses: HashMap<(&FrameAt, u32), (&ChunkAt, Vec<Use>)> = HashMap::new();
    let mut first_of: HashMap<Same<'_>, u32> = HashMap::new();
    let mut copies: HashMap<u32, Vec<u32>> = HashMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let Kind::Regular(content) = &entry.kind else { continue };
        if !wanted(number) {
            continue;
        }
        if content.digest.size >= cloned {
            match first_of.entry((content.digest, &content.holes)) {
                Occupied(first) => {
                    copies.entry(*first.get()).or_default().push(number as u32);
                    continue;
                }
                Vacant(vacant) => vacant.insert(number as u32),
            };
        }
        let mut offset = 0;
        for chunk in &content.chunks {
            let used = uses.entry((&chunk.frame, chunk.inner)).or_insert_with(|| (chunk, Vec::new()));
            used.1.push(Use { file: number as u32, offset });
            offset += chunk.digest.size;
        }
    }
    let mut frames: HashMap<&FrameAt, Vec<(ChunkAt, Vec<Use>)>> = HashMap::new();
    for ((frame, _), (chunk, uses)) in uses {
        frames.entry(frame).or_default().push((chunk.clone(), uses));
    }
    let in_order = |(frame, mut chunks): (&FrameAt, Vec<(ChunkAt, Vec<Use>)>)| {
        chunks.sort_unstable_by_key(|(chunk, _)| chunk.inner);
        Needed { frame: frame.clone(), chunks }
    };
    let mut frames: Vec<Needed> = frames.into_iter().map(in_order).collect();
    frames.sort_unstable_by(|a, b| a.frame.cmp(&b.frame));
    Sources { frames, copies }
}

pub fn path_of(path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(path).into()
}
