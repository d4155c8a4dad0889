//! Which frames a tree needs, and who needs which chunk of each.

use std::collections::HashMap;

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

pub struct Plan {
    /// In file-map order, the root first.
    pub entries: Vec<Entry>,
    /// In order of pack and offset, so that neighbours are fetched as one.
    pub frames: Vec<Needed>,
}

/// # Errors
/// `Damaged` when an entry lies in no directory or a hard link names no file; `Missing` when a page has not been brought.
pub fn plan(map: &FileMap) -> Result<Plan> {
    let absent = |Missing(page)| Error::Missing { what: format!("page {page} of the file map") };
    let mut entries = Vec::with_capacity(usize::try_from(map.summary.entries).unwrap_or(0).min(1 << 20));
    for page in 0..map.pages().len() {
        entries.extend_from_slice(map.rows(page).map_err(absent)?);
    }
    let kinds: HashMap<&[u8], &Kind> = entries.iter().map(|entry| (&entry.path[..], &entry.kind)).collect();
    for entry in entries.iter().skip(1) {
        let show = || crate::error::show(&path_of(&entry.path));
        if !matches!(kinds.get(parent_and_name(&entry.path).0), Some(Kind::Directory { .. })) {
            return Err(Error::damaged("file map", format!("{} lies in no directory", show())));
        }
        if let Kind::HardLink { first } = &entry.kind
            && matches!(kinds.get(&first[..]), None | Some(Kind::Directory { .. } | Kind::HardLink { .. }))
        {
            return Err(Error::damaged("file map", format!("{} is a hard link to no file", show())));
        }
    }
    Ok(Plan { frames: frames(&entries), entries })
}

fn frames(entries: &[Entry]) -> Vec<Needed> {
    let mut uses: HashMap<(&FrameAt, u32), (&ChunkAt, Vec<Use>)> = HashMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let Kind::Regular(content) = &entry.kind else { continue };
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
    let mut out: Vec<Needed> =
        frames.into_iter().map(|(frame, chunks)| Needed { frame: frame.clone(), chunks }).collect();
    out.sort_unstable_by(|a, b| a.frame.cmp(&b.frame));
    out
}

pub fn path_of(path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(path).into()
}
