//! A whole image: every entry gets its place, then inodes are written in the order of the map, then blocks.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::directory::{self, Line, Packed};
use super::inode::{self, Facts};
use super::layout::{BLOCK, FIRST, INODE, Layout, Place, Sizes};
use crate::error::{Error, Result};
use crate::filemap::{Entry, FileMap, Kind, parent_and_name, place_of};

const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = 12;
/// Times of inodes are those of their last change.
const TIMES_OF_CHANGE: u32 = 2;
const FILES_IN_CHUNKS: u32 = 4;

/// A directory by the numbers of entries: its own, its parent's, and its children's. Not all of these are shown: others have
/// inodes that no line names.
struct Directory {
    at: usize,
    parent: usize,
    children: std::ops::Range<usize>,
}

struct Image<'a> {
    map: &'a FileMap,
    /// The number of the first entry of each page.
    starts: Vec<usize>,
    count: usize,
    /// In the order of their own numbers.
    directories: Vec<Directory>,
    places: Vec<Place>,
}

/// Write the image of a tree to an empty file.
///
/// # Errors
/// `Missing` while pages of the map are, `Invalid` when EROFS or overlayfs cannot hold an entry, `Io`.
pub fn write(map: &FileMap, out: &mut File) -> Result<()> {
    let mut image = Image::new(map)?;
    let (data, blocks) = image.lay_out()?;
    image.write(out, data, blocks).map_err(Error::io("write", Path::new("the image of the tree's metadata")))
}

impl<'a> Image<'a> {
    fn new(map: &'a FileMap) -> Result<Image<'a>> {
        let mut starts = Vec::with_capacity(map.pages().len());
        let mut count = 0;
        for page in map.pages() {
            starts.push(count);
            count += page.entries as usize;
        }
        let mut image = Image { map, starts, count, directories: Vec::new(), places: vec![Place::default(); count] };
        image.find_directories()?;
        Ok(image)
    }

    fn find_directories(&mut self) -> Result<()> {
        let mut spans: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        let mut group: Option<&[u8]> = None;
        for at in 0..self.count {
            let entry = self.entry(at)?;
            let parent = parent_and_name(&entry.path).0;
            if at > 0 {
                if group != Some(parent) {
                    spans.push((self.number(parent)?, at..at));
                    group = Some(parent);
                }
                spans.last_mut().expect("one was pushed").1.end = at + 1;
            }
            if entry.is_directory() {
                let parent = spans.last().map_or(0, |span| span.0);
                self.directories.push(Directory { at, parent, children: 0..0 });
            }
        }
        for (at, children) in spans {
            let found = self.directories.binary_search_by_key(&at, |directory| directory.at);
            let found =
                found.map_err(|_| Error::damaged("the file map", "an entry lies below what is no directory"))?;
            self.directories[found].children = children;
        }
        Ok(())
    }

    fn entry(&self, at: usize) -> Result<&'a Entry> {
        let page = self.starts.partition_point(|&start| start <= at) - 1;
        let rows = self.map.rows(page);
        let rows = rows.map_err(|_| Error::Missing { what: format!("page {page} of the file map") })?;
        Ok(&rows[at - self.starts[page]])
    }

    /// The number of the entry at a path.
    fn number(&self, path: &[u8]) -> Result<usize> {
        let found = self.map.find(path).unwrap_or(None).and_then(place_of);
        let (page, row) =
            found.ok_or_else(|| Error::damaged("the file map", "an entry lies below what is not there"))?;
        Ok(self.starts[page] + row)
    }

    /// The number of the entry that has the inode.
    fn inode_of(&self, at: usize) -> Result<usize> {
        match &self.entry(at)?.kind {
            Kind::HardLink { first } => self.number(first),
            _ => Ok(at),
        }
    }

    /// Those of a directory's children that a mount shows.
    fn shown(&self, directory: &Directory) -> Result<Vec<usize>> {
        let mut shown = Vec::with_capacity(directory.children.len());
        for at in directory.children.clone() {
            if self.map.shows(&self.entry(at)?.path) {
                shown.push(at);
            }
        }
        Ok(shown)
    }

    /// A directory's lines, sorted by their names.
    fn lines(&self, directory: &Directory) -> Result<Vec<Line<'a>>> {
        let mut lines = Vec::with_capacity(directory.children.len() + 2);
        for at in self.shown(directory)? {
            let (entry, inode) = (self.entry(at)?, self.inode_of(at)?);
            let (node, kind) = (self.places[inode].node(), inode::type_of(self.entry(inode)?));
            lines.push(Line { name: entry.name(), node, kind });
        }
        for (name, at) in [(&b"."[..], directory.at), (b"..", directory.parent)] {
            let line = Line { name, node: self.places[at].node(), kind: inode::DIRECTORY };
            lines.insert(lines.partition_point(|other| other.name < name), line);
        }
        Ok(lines)
    }

    fn packed(&self, directory: &Directory) -> Result<Packed> {
        let mut lengths: Vec<&[u8]> = Vec::with_capacity(directory.children.len() + 2);
        for at in self.shown(directory)? {
            lengths.push(self.entry(at)?.name());
        }
        for name in [&b"."[..], b".."] {
            lengths.insert(lengths.partition_point(|other| *other < name), name);
        }
        Ok(Packed::of(lengths.into_iter().map(<[u8]>::len)))
    }

    /// Give each entry its place; the first block of data, and how many blocks there are.
    fn lay_out(&mut self) -> Result<(u32, u32)> {
        let mut layout = Layout::new();
        let mut next = 0;
        for at in 0..self.count {
            let entry = self.entry(at)?;
            if matches!(entry.kind, Kind::HardLink { .. }) {
                continue;
            }
            let attributes = inode::attributes(entry)?.len();
            let mut sizes = Sizes { attributes, chunks: inode::chunks_of(entry), blocks: 0, tail: 0 };
            match &entry.kind {
                Kind::Directory { .. } => {
                    let packed = self.packed(&self.directories[next])?;
                    next += 1;
                    (sizes.blocks, sizes.tail) = (packed.starts.len() as u32 - 1, packed.tail);
                }
                Kind::Symlink { target } => sizes.tail = target.len(),
                _ => {}
            }
            self.places[at] = layout.place(&sizes);
        }
        Ok(layout.ends())
    }

    fn write(&self, out: &mut File, data: u32, blocks: u32) -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, out);
        out.write_all(&self.superblock(blocks))?;
        let mut at_byte = FIRST;
        let mut directories = self.directories.iter();
        for at in 0..self.count {
            let entry = self.entry(at).map_err(std::io::Error::other)?;
            if matches!(entry.kind, Kind::HardLink { .. }) {
                continue;
            }
            let place = self.places[at];
            let attributes = inode::attributes(entry).map_err(std::io::Error::other)?;
            let mut tail = Vec::new();
            let (mut size, mut links) = (entry.size(), entry.links);
            match &entry.kind {
                Kind::Directory { .. } => {
                    let directory = directories.next().expect("there is one for each such entry");
                    let lines = self.lines(directory).map_err(std::io::Error::other)?;
                    let packed = Packed::of(lines.iter().map(|line| line.name.len()));
                    size = packed.size();
                    let is_directory = |line: &&Line| line.kind == inode::DIRECTORY;
                    links = lines.iter().filter(is_directory).count() as u32;
                    tail = directory::block(&lines[packed.starts[packed.starts.len() - 1] as usize..]);
                }
                Kind::Symlink { target } => tail.extend(target),
                _ => {}
            }
            pad(&mut out, &mut at_byte, place.offset)?;
            let facts = Facts { place, data, size, links, attributes: attributes.len() };
            out.write_all(&inode::inode(entry, &facts))?;
            out.write_all(&attributes)?;
            at_byte += (INODE + attributes.len()) as u64;
            if !place.inline {
                tail = vec![0xff; inode::chunks_of(entry)];
            }
            out.write_all(&tail)?;
            at_byte += tail.len() as u64;
        }
        pad(&mut out, &mut at_byte, u64::from(data) * BLOCK as u64)?;
        self.write_blocks(&mut out)?;
        out.flush()?;
        Ok(())
    }

    /// What lies behind the inodes, in the order in which it was laid out.
    fn write_blocks(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut directories = self.directories.iter();
        for at in 0..self.count {
            let entry = self.entry(at).map_err(std::io::Error::other)?;
            match &entry.kind {
                Kind::Directory { .. } => {
                    let directory = directories.next().expect("there is one for each such entry");
                    let lines = self.lines(directory).map_err(std::io::Error::other)?;
                    let packed = Packed::of(lines.iter().map(|line| line.name.len()));
                    let ends = packed.starts[1..].iter().map(|&start| start as usize).chain([lines.len()]);
                    let count = packed.starts.len() - usize::from(self.places[at].inline);
                    for (&start, end) in packed.starts.iter().zip(ends).take(count) {
                        write_block(out, &directory::block(&lines[start as usize..end]))?;
                    }
                }
                Kind::Symlink { target } if !self.places[at].inline => write_block(out, target)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn superblock(&self, blocks: u32) -> Vec<u8> {
        let inodes = self.places.iter().filter(|place| place.offset > 0).count() as u64;
        let mut out = vec![0; FIRST as usize];
        let mut put = |at: usize, bytes: &[u8]| out[1024 + at..1024 + at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(8, &TIMES_OF_CHANGE.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &(self.places[0].node() as u16).to_le_bytes());
        put(16, &inodes.to_le_bytes());
        put(36, &blocks.to_le_bytes());
        put(80, &FILES_IN_CHUNKS.to_le_bytes());
        out
    }
}

fn pad(out: &mut impl Write, at: &mut u64, to: u64) -> std::io::Result<()> {
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), to - *at), out)?;
    *at = to;
    Ok(())
}

fn write_block(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(&[0; BLOCK][bytes.len()..])
}
