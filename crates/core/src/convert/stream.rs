//! A tar stream into an archive, in passes: one learns what remains of it, the others write it.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering::Relaxed;

use super::front::{Front, is_reserved, landmark};
use super::{Made, Out, input};
use crate::error::{Error, Result};
use crate::job::{Job, release_memory};
use crate::stargz::{self, Bounds, Compression, Copies, Holes, Options, Origin, Writer, are_zeros, footer_of};
use crate::tar::{Header, Kind, Placed, Reader, Room, Tree, TreeBuilder, is_read_alike};

/// Read the tar in `input`, which can be read twice, and write the archive to `out`. `what` names the input in messages,
/// `front` the files that are to be first. One that `is_layer` of an image may have hard links to what the layers below it have,
/// which stay as they are.
///
/// # Errors
/// `Damaged` when the input is no tar, or cannot be unpacked, or changes; `Invalid`, `Io`, `Stopped`.
pub fn convert(
    what: &str,
    input: &File,
    is_layer: bool,
    front: &[Vec<u8>],
    options: &Options,
    out: &mut Out,
    job: &Job,
) -> Result<Made> {
    let made = convert_unwatched(what, input, is_layer, front, options, out, job);
    // A reader that was stopped says that it cannot read.
    job.step(0)?;
    made
}

fn convert_unwatched(
    what: &str,
    input: &File,
    is_layer: bool,
    front: &[Vec<u8>],
    options: &Options,
    out: &mut Out,
    job: &Job,
) -> Result<Made> {
    // The tar may have been made in this process, of a tree of millions.
    release_memory();
    let footer = footer_of(input)?;
    let is_zstd = footer.as_ref().map(|footer| footer.dialect.is_zstd());
    let copying = options.copy && is_zstd == Some(matches!(options.compression, Compression::Zstd(_)));
    let bounds = RefCell::new(Bounds::default());
    let said = footer.map_or_else(|| Ok(Holes::default()), |footer| Holes::of(input, &footer, job))?;
    let Surveyed { tree, left_out, holes } =
        survey(what, input, is_layer, options, copying.then_some(&bounds), &said, job)?;
    drop(said);
    let copies = copying.then(|| Copies::new(input, is_zstd == Some(true), bounds.into_inner()));
    job.files_total.store(tree.entries.len() as u64, Relaxed);
    let names = tree.entries.iter().map(|placed| &placed.name[..]);
    let front = Front::of(front, names, |number| tree.entries[number].first.map(|first| first as usize));
    let (plan, mut links) = Plan::of(tree, is_layer);
    let written = stargz::write(options, copies.as_ref(), job, &mut |bytes| out.give(bytes, job), |writer| {
        let mut part = |writer: &mut Writer<'_>, is_front| {
            let entries = Entries::open(what, input, None, job)?;
            pass(entries, &plan, &mut links, &holes, copying, writer, |number| front.is_in(number, is_front))
        };
        if !front.is_empty() {
            part(writer, true)?;
            landmark(writer)?;
        }
        part(writer, false)
    })?;
    Ok(Made { written, left_out, absent: front.absent, unreadable: Vec::new() })
}

/// About how many bytes are kept of an entry, while its chunks are made too: of holes, which a stream need not have; of the
/// rest they are fewer than it has.
fn weight(header: &Header, options: &Options) -> usize {
    const EACH: usize = 192;
    const CHUNK: u64 = 96;
    const HOLE: usize = 32;
    let kind = match &header.kind {
        Kind::HardLink { first } => 2 * first.len(),
        Kind::Regular { holes, .. } => {
            let each = options.piece_of(header.size());
            let chunks = holes.iter().map(|hole| hole.1 / each).sum::<u64>();
            usize::try_from(chunks * CHUNK).unwrap_or(usize::MAX).saturating_add(HOLE * holes.len())
        }
        _ => 0,
    };
    (EACH + 2 * header.name.len()).saturating_add(kind)
}

/// The first pass: what remains, and what is not taken over. Reads to the end, so that the sums of a compression are proved.
fn survey(
    what: &str,
    input: &File,
    is_layer: bool,
    options: &Options,
    bounds: Option<&RefCell<Bounds>>,
    said: &Holes,
    job: &Job,
) -> Result<Surveyed> {
    match input::open_plain(input, job).map_err(Error::io("read", what))? {
        Some(plain) => {
            let entries = Entries::of(what, Reader::jumping(what, plain), job);
            survey_entries(what, input, is_layer, options, entries, said)
        }
        None => survey_entries(what, input, is_layer, options, Entries::open(what, input, bounds, job)?, said),
    }
}

/// What the first pass finds.
struct Surveyed {
    tree: Tree,
    left_out: Vec<Vec<u8>>,
    /// Of files in which the TOC of the input says holes, and which have zeros there: by number of the entry.
    holes: HashMap<u32, Vec<(u64, u64)>>,
}

fn survey_entries<R: Read>(
    what: &str,
    input: &File,
    is_layer: bool,
    options: &Options,
    mut entries: Entries<'_, R>,
    said: &Holes,
) -> Result<Surveyed> {
    let mut proved = HashMap::new();
    let mut builder = TreeBuilder::new(what).of_layer(is_layer);
    let mut room = Room::of(input.metadata().map_err(Error::io("read", what))?.len());
    while let Some(header) = entries.next()? {
        if !room.take(weight(&header, options)) {
            return Err(Error::damaged(
                what,
                "it has more entries, or larger files, than are read of a tar of as many bytes",
            ));
        }
        builder.push(&header)?;
        if let Kind::Regular { size, holes } = &header.kind
            && let Some(said) = said.get(&header.name, *size).filter(|_| holes.is_empty())
            && are_zeros(&mut entries.reader, said, entries.job)?
        {
            proved.insert(entries.count - 1, said.clone());
        }
    }
    let mut rest = vec![0; 64 << 10];
    while entries.reader.rest(&mut rest)? > 0 {}
    let left_out = entries.left_out.into_iter().collect();
    Ok(Surveyed { tree: builder.finish()?, left_out, holes: proved })
}

/// The entries that are taken over, numbered.
struct Entries<'a, R = Box<dyn Read + 'a>> {
    what: &'a str,
    reader: Reader<R>,
    /// How many were given.
    count: u32,
    /// Each once: an archive may say them without end.
    left_out: BTreeSet<Vec<u8>>,
    job: &'a Job,
}

impl<'a> Entries<'a> {
    fn open(what: &'a str, input: &'a File, bounds: Option<&'a RefCell<Bounds>>, job: &'a Job) -> Result<Entries<'a>> {
        let stream = input::open(input, bounds, job).map_err(Error::io("read", what))?;
        Ok(Entries::of(what, Reader::keeping_headers(what, stream), job))
    }
}

impl<'a, R: Read> Entries<'a, R> {
    fn of(what: &'a str, reader: Reader<R>, job: &'a Job) -> Entries<'a, R> {
        Entries { what, reader, count: 0, left_out: BTreeSet::new(), job }
    }

    fn next(&mut self) -> Result<Option<Header>> {
        while let Some(header) = self.reader.next_entry()? {
            self.job.step(0)?;
            if is_reserved(&header.name) {
                self.left_out.insert(header.name);
                continue;
            }
            self.count += 1;
            return Ok(Some(header));
        }
        Ok(None)
    }

    /// The entry of a number, which lies ahead.
    fn to(&mut self, number: u32) -> Result<Header> {
        loop {
            match self.next()? {
                Some(header) if self.count == number + 1 => return Ok(header),
                Some(_) => {}
                None => return Err(self.changed()),
            }
        }
    }

    fn changed(&self) -> Error {
        Error::damaged(self.what, "it changed while it was read")
    }
}

/// What is to be written, in order.
struct Plan {
    /// Number of the entry in the stream; of a hard link the number here of its file.
    steps: Vec<(u32, Option<u32>)>,
    /// Where they are not those of their entries, and of hard links and their files: by number here.
    names: HashMap<u32, Vec<u8>>,
    /// Hard links that have no file here are to those of layers below.
    is_layer: bool,
}

impl Plan {
    /// Most names are let go of: their entries tell them again.
    fn of(tree: Tree, is_layer: bool) -> (Plan, Links) {
        let links = Links::of(&tree);
        let mut names = HashMap::new();
        let step = |(number, placed): (usize, Placed)| {
            let number = number as u32;
            if !placed.is_own || placed.first.is_some() || links.files.contains(&number) {
                names.insert(number, placed.name);
            }
            (placed.entry, placed.first)
        };
        let steps = tree.entries.into_iter().enumerate().map(step).collect();
        (Plan { steps, names, is_layer }, links)
    }
}

/// What files with several names hand on to their other names.
struct Links {
    /// Numbers of such files.
    files: HashSet<u32>,
    headers: HashMap<u32, Header>,
}

impl Links {
    fn of(tree: &Tree) -> Links {
        Links { files: tree.entries.iter().filter_map(|placed| placed.first).collect(), headers: HashMap::new() }
    }
}

/// Write the entries that are chosen by number.
fn pass(
    mut entries: Entries<'_>,
    plan: &Plan,
    links: &mut Links,
    holes: &HashMap<u32, Vec<(u64, u64)>>,
    copying: bool,
    writer: &mut Writer<'_>,
    chosen: impl Fn(usize) -> bool,
) -> Result<()> {
    for (number, &(entry, first)) in plan.steps.iter().enumerate().filter(|(number, _)| chosen(*number)) {
        let number = number as u32;
        if let Some(first) = first {
            let file = links.headers.get(&first).ok_or_else(|| entries.changed())?;
            let kind = Kind::HardLink { first: plan.names[&first].clone() };
            let link = Header { name: plan.names[&number].clone(), kind, xattrs: Vec::new(), ..file.clone() };
            writer.entry(&link, &mut std::io::empty())?;
            continue;
        }
        let mut header = entries.to(entry)?;
        let name = plan.names.get(&number);
        let headers = if copying { entries.reader.take_raw() } else { Vec::new() };
        let stays = name.is_none_or(|name| *name == header.name)
            && !entries.reader.has_globals()
            && is_read_alike(&headers, &header, entries.reader.raw_name());
        let content = entries.reader.position();
        let origin = copying.then_some(Origin { headers: stays.then_some(&headers), content });
        if let (Some(said), Kind::Regular { holes, .. }) = (holes.get(&entry), &mut header.kind) {
            holes.clone_from(said);
        }
        if let Some(name) = name {
            header.name.clone_from(name);
        }
        if matches!(header.kind, Kind::HardLink { .. }) && !plan.is_layer {
            return Err(entries.changed());
        }
        let mut content = entries.reader.content();
        if let Err(error) = writer.entry_of(&header, &mut content, origin) {
            return Err(content.blame(error));
        }
        if links.files.contains(&number) {
            links.headers.insert(number, Header { kind: Kind::Fifo, xattrs: Vec::new(), ..header });
        }
    }
    Ok(())
}
