//! One push, from the walk to the fence index.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Sender;

use super::entries::Places;
use super::fragment::{Fragment, FragmentWriter, PackName};
use super::holdings::{Held, blobs_of, holdings};
use super::known::Known;
use super::outline::outline;
use super::pages::{Pages, pages};
use super::read::{NONE, Work, read, work};
use super::remembered::{self, Remembered};
use super::send::{Packer, Sealed, Sent};
use super::split::Splits;
use crate::archive::frame::FrameWriter;
use crate::archive::{Holds, deflate};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::filemap::{self, ChunkAt, FileMap, PageRef, content_of, cut_of, fence};
use crate::index::{Options, Scope, State, Summary};
use crate::job::Job;
use crate::scan::Root;

/// zstd level of pages and fence indexes, which are read often and written once.
pub const MAP_LEVEL: i32 = 3;

/// A directory that has been looked at, to be pushed.
pub struct Looked {
    root: Root,
    index: Option<PathBuf>,
    options: Options,
    state: State,
    unreadable: Vec<PathBuf>,
}

/// What a push knows and says.
pub struct Request<'a> {
    /// 16 hex digits of its own.
    pub push: &'a str,
    /// zstd's, of chunks; by default what docs/decisions/0006 and 0014 say.
    pub level: Option<i32>,
    /// All that may be re-used.
    pub known: &'a Known,
    /// Fragments of packs that were sent by a run that did not finish.
    pub pending: Vec<Fragment>,
    /// What `Pushed` said with the holdings, if that is known.
    pub memory: &'a [u8],
    /// `content` of the snapshot before.
    pub content: Option<[u8; 32]>,
    /// The outline's beginning, a JSON object.
    pub words: &'a [u8],
}

/// What remains to be written when all packs of the run have been stored.
pub struct Pushed {
    pub tree: Digest,
    pub summary: Summary,
    pub sent: Sent,
    /// Skipped, in walk order.
    pub unreadable: Vec<PathBuf>,
    pub entries: u64,
    pub bytes: u64,
    /// `None` when the snapshot before says it all.
    pub map: Option<Map>,
    /// Names what the store has now and did not before; `None` when nothing was added.
    pub fragment: Option<Vec<u8>>,
    /// `None` when they are those of the snapshot before.
    pub holdings: Option<Vec<u8>>,
    /// Packs that are re-used though the holdings before did not say so.
    pub reused: BTreeSet<PackName>,
    /// What makes the next push on top of this one quicker: `Request::memory`; `None` when it is that.
    pub memory: Option<Vec<u8>>,
}

/// A new fence index.
pub struct Map {
    /// Of its text.
    pub digest: Digest,
    /// As stored.
    pub stored: Vec<u8>,
    /// Of its text without the first line.
    pub content: Digest,
    /// All packs that tree, pages and outline lie in, sorted.
    pub packs: Vec<PackName>,
}

/// Look at `root`, whose index is kept at `index`, if anywhere.
///
/// # Errors
/// `Unreadable` (all such paths) unless they are skipped, `Io`, `Stopped`.
pub fn look(root: &Path, index: Option<&Path>, options: &Options, job: &Job) -> Result<Looked> {
    let root = Root::open(root)?;
    let before = index.map(|path| State::read(path, options.threads, job)).transpose()?.flatten();
    let (state, unreadable) = State::look(&root, before, Scope::All, options, None, job)?;
    if !unreadable.is_empty() && !options.skip_unreadable {
        return Err(Error::Unreadable { paths: unreadable });
    }
    Ok(Looked { root, index: index.map(Path::to_owned), options: options.clone(), state, unreadable })
}

impl Looked {
    /// Believe of what was looked at, a mount of `base`, what that says of contents which were not changed in the mount; `upper`
    /// has those that were, if it takes changes.
    ///
    /// # Errors
    /// `Missing` while pages of the map are, `Io`, `Stopped`.
    pub fn trust(&mut self, base: &FileMap, upper: Option<&Path>, job: &Job) -> Result<()> {
        let upper = upper.map(Root::open).transpose()?;
        super::base::trust(&mut self.state, base, upper.as_ref(), job)
    }

    /// Bytes of the files of which `known` does not explain some chunk, or which have never been read.
    ///
    /// # Errors
    /// None, for nothing is read.
    pub fn lacking(&self, known: &Known) -> Result<u64> {
        let Work { lacking, .. } = work(&self.state, known, self.options.threads)?;
        Ok(lacking.iter().map(|&record| self.state.stat(record).size).sum())
    }

    /// Push it, giving each pack to `out` as it is sealed. Blocks while `out` is full.
    ///
    /// # Errors
    /// `Unreadable` (all such paths) unless they are skipped, `Unstable`, `Io`, `Stopped` (also when `out` is closed).
    pub fn push(self, request: Request<'_>, out: &Sender<Sealed>, job: &Job) -> Result<Pushed> {
        let Looked { root, index, options, mut state, mut unreadable } = self;
        let Request { push, level, known, pending, memory, content, words } = request;
        let packer = Packer::new(push, level, out, job);
        let Work { lacking: work, mut rows } = work(&state, known, options.threads)?;
        job.files_total.store(work.len() as u64, Relaxed);
        job.bytes_total.store(work.iter().map(|&record| state.stat(record).size).sum(), Relaxed);
        let mut outcome = read(&root, &state, &work, known, &packer, options.threads, job)?;
        if !outcome.unreadable.is_empty() && !options.skip_unreadable {
            return Err(Error::Unreadable { paths: outcome.unreadable.into_iter().map(|(_, path)| path).collect() });
        }
        let files_hashed = outcome.read.len() as u64;
        // What is not needed any more goes at once, here and below: of a tree of millions it is much.
        for (record, digest, stat) in std::mem::take(&mut outcome.read) {
            state.set_digest(record, digest, &stat);
            rows[record as usize] = NONE;
        }
        for (record, path) in &outcome.unreadable {
            state.remove(*record);
            unreadable.push(path.clone());
        }
        outcome.gone.iter().for_each(|&record| state.remove(record));
        if !outcome.unreadable.is_empty() || !outcome.gone.is_empty() {
            // `seal` gives records other numbers.
            rows.clear();
        }
        packer.flush()?;
        let tree = state.seal().ok_or_else(|| Error::Missing { what: "the digest of the root".to_owned() })?;
        let places = Places { known, packer: &packer, outcome: &outcome };
        let cut = cut_of(state.len().into());
        let remembered = if known.holds_all() { remembered::decode(memory, cut) } else { Vec::new() };
        let pages = pages(&root, &state, &places, &remembered, options.threads, job)?;
        let summary = filemap::Summary {
            push: Some(push.to_owned()),
            tree,
            entries: state.len().into(),
            bytes: pages.bytes(),
            tar: None,
        };
        let (map, refs) = map(&pages, &Splits::default(), &places, &summary, content, words)?;
        if let Some(index) = index {
            state.write(&index)?;
        }
        // The same pages hold the same, in the same places.
        let is_same = !remembered.is_empty() && pages.pages == remembered;
        let Held { holdings, reused } =
            if is_same { Held::default() } else { holdings(blobs_of(&state, &rows), &places, &refs, &rows)? };
        let memory = (!is_same).then(|| remembered::encode(cut, &pages.pages));
        let mut counts = state.summary();
        (counts.files_hashed, counts.bytes_hashed) = (files_hashed, outcome.bytes);
        drop(state);
        let filemap::Summary { entries, bytes, .. } = summary;
        let (sent, fragment) = (packer.sent(), added(&packer, known, &pending, outcome.large));
        Ok(Pushed { tree, summary: counts, sent, unreadable, entries, bytes, map, fragment, holdings, reused, memory })
    }
}

/// The fragment of what a run added, whose packs have all been sealed, and of what an earlier one left.
pub fn added(
    packer: &Packer<'_>,
    known: &Known,
    pending: &[Fragment],
    large: HashMap<[u8; 32], Vec<Digest>>,
) -> Option<Vec<u8>> {
    let mut fragment = FragmentWriter::default();
    packer.describe(&mut fragment);
    pending.iter().for_each(|pending| fragment.fragment(pending));
    for (sha256, pieces) in large {
        let size = pieces.iter().map(|piece| piece.size).sum();
        let blob = Digest { sha256, size };
        if known.pieces(&blob).is_none() {
            fragment.blob(blob, pieces);
        }
    }
    (!fragment.is_empty()).then(|| fragment.finish())
}

/// The fence index over pages, unless its content is that of `before`; packs the outline and what else is left.
pub fn map(
    pages: &Pages,
    splits: &Splits,
    places: &Places<'_>,
    summary: &filemap::Summary,
    before: Option<[u8; 32]>,
    words: &[u8],
) -> Result<(Option<Map>, Vec<PageRef>)> {
    let place = |page: &Remembered| -> Result<PageRef> {
        let ChunkAt { frame, inner, .. } = places.chunk(&page.digest)?;
        Ok(PageRef { first: page.first.clone(), digest: page.digest, entries: page.entries, frame, inner })
    };
    let split = |digest: &Digest| -> Result<PageRef> {
        let ChunkAt { frame, inner, .. } = places.chunk(digest)?;
        Ok(PageRef { first: Vec::new(), digest: *digest, entries: 0, frame, inner })
    };
    let refs = || pages.pages.iter().map(place).chain(splits.pages.iter().map(split)).collect::<Result<Vec<_>>>();
    // A page that had to be packed is a new one.
    if pages.all_known && !splits.is_new && before.is_some() {
        let refs = refs()?;
        if Some(content_of(&fence(summary, &refs)).sha256) == before {
            return Ok((None, refs));
        }
    }
    let outline = outline(words, summary, pages.pages.iter().map(|page| page.digest), splits.pages.iter().copied());
    let mut frames = FrameWriter::new(MAP_LEVEL);
    frames.add(Digest::of(&outline), &outline);
    places.packer.add_held(frames.seal(), Holds::Outline)?;
    places.packer.flush()?;
    let refs = refs()?;
    let mut packs = pages.packs();
    packs.extend(refs.iter().map(|page| *page.frame.pack));
    packs.extend(places.packer.outline());
    let text = fence(summary, &refs);
    let map = Map {
        digest: Digest::of(&text),
        stored: deflate(&text, MAP_LEVEL),
        content: content_of(&text),
        packs: packs.into_iter().collect(),
    };
    Ok((Some(map), refs))
}
