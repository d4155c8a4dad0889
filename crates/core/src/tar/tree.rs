//! From the entries of a stream in their order to the tree that remains when all were unpacked one after the other.
//!
//! Invariant: each name once, each below directories only, each hard link to a file that is there; what cannot be made so is
//! refused by name. Memory follows what was read. Not here: names that lead outside, which `clean` refuses.

use std::collections::HashSet;

use super::hasher::Seeded;
use super::name::shown;
use super::names::Names;
use super::{Header, Kind};
use crate::error::{Error, Result};
use crate::scan::parent_and_name;

/// The most bytes that the names of directories may have which no entry names, and what they are kept with.
pub const MAX_INVENTED: usize = 256 << 20;
const KEPT_WITH: usize = 256;

/// Takes entries in the order of the stream.
pub struct TreeBuilder {
    what: String,
    names: Names<Slot>,
    /// Directories that entries lie in, and the one of the last entry.
    parents: HashSet<Vec<u8>, Seeded>,
    parent: Vec<u8>,
    /// Of links to names that were not there yet.
    targets: Vec<Vec<u8>>,
    count: u32,
    repeats: bool,
    is_layer: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Number of the entry that gave it the name.
    at: u32,
    node: Node,
}

#[derive(Clone, Copy)]
enum Node {
    Directory,
    /// By the number of the entry that has its content.
    File(u32),
    /// To a name among the targets.
    Link(u32),
}

/// What remains.
#[derive(Debug, Default)]
pub struct Tree {
    /// A file where its content is in the stream, its other names behind it; else in the order of the stream.
    pub entries: Vec<Placed>,
    /// Directories that entries lie in and no entry names, sorted.
    pub invented: Vec<Vec<u8>>,
    /// Some name came twice.
    pub repeats: bool,
}

/// A name that remains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub name: Vec<u8>,
    /// Number of the entry in the stream, from 0, that says the rest and has the content. It may have had another name.
    pub entry: u32,
    /// Of a hard link: where among the entries the first name is.
    pub first: Option<u32>,
    /// Whether that entry had this name.
    pub is_own: bool,
}

impl TreeBuilder {
    /// `what` names the archive in messages.
    pub fn new(what: impl Into<String>) -> TreeBuilder {
        TreeBuilder {
            what: what.into(),
            names: Names::default(),
            parents: HashSet::default(),
            parent: Vec::new(),
            targets: Vec::new(),
            count: 0,
            repeats: false,
            is_layer: false,
        }
    }

    /// Whether it is a layer of an image: a hard link to what is not there is one to what the layers below have, and remains
    /// as an entry that is no other's name.
    pub fn of_layer(self, is_layer: bool) -> TreeBuilder {
        TreeBuilder { is_layer, ..self }
    }

    /// The next entry; a name that was there before is given anew.
    ///
    /// # Errors
    /// `Damaged` when it is a hard link to a directory, when the root is no directory, or when there are 2^32 - 1 already;
    /// `Invalid` as `Header::owner`.
    pub fn push(&mut self, header: &Header) -> Result<()> {
        header.owner(&self.what)?;
        let at = self.count;
        self.count = at.checked_add(1).ok_or_else(|| self.damaged("it has 2^32 entries or more".into()))?;
        let node = match &header.kind {
            Kind::Directory => Node::Directory,
            _ if header.name.is_empty() => return Err(self.damaged("its root is no directory".into())),
            Kind::HardLink { first } => match self.names.get(first).map(|slot| slot.node) {
                Some(Node::Directory) => return Err(self.to_directory(&header.name, first)),
                // As for who unpacks it: nothing is changed.
                Some(Node::File(_)) if *first == header.name => return Ok(()),
                Some(Node::File(entry)) => Node::File(entry),
                // Its target comes later, or never.
                Some(Node::Link(_)) | None => {
                    self.targets.push(first.clone());
                    Node::Link(self.targets.len() as u32 - 1)
                }
            },
            _ => Node::File(at),
        };
        self.repeats |= self.names.insert(&header.name, Slot { at, node });
        // Entries of one directory mostly come together.
        let parent = parent_and_name(&header.name).0;
        if *parent != *self.parent {
            self.parent = parent.to_vec();
            self.parents.insert(parent.to_vec());
        }
        Ok(())
    }

    /// The tree of all entries.
    ///
    /// # Errors
    /// `Damaged`, naming the entry: a link to nothing but in a layer, to a directory or in a circle; an entry below what is no directory; more
    /// than `MAX_INVENTED` of directories that no entry names.
    pub fn finish(mut self) -> Result<Tree> {
        let invented = self.check_parents()?;
        self.follow_links()?;
        // Which name has the content: the one that came with it, else the first.
        let rank = |at: u32, entry: u32| if at == entry { 0 } else { at + 1 };
        let mut best = vec![u32::MAX; self.count as usize];
        for (_, slot) in self.names.iter() {
            if let Node::File(entry) = slot.node {
                let best = &mut best[entry as usize];
                *best = (*best).min(rank(slot.at, entry));
            }
        }
        // Whose content it has, and whether it is a link.
        let meaning = |slot: Slot| {
            let Node::File(entry) = slot.node else { return (slot.at, false) };
            (entry, best[entry as usize] != rank(slot.at, entry))
        };
        let mut rows = std::mem::take(&mut self.names).into_rows();
        // Where it stands: mostly they do already.
        rows.sort_by_key(|&(_, slot)| {
            let (entry, is_link) = meaning(slot);
            (if is_link { slot.at.max(entry) } else { entry }, is_link, slot.at)
        });
        let mut firsts = vec![0; best.len()];
        // In the memory of the rows.
        let place = |(at, (name, slot)): (usize, (Vec<u8>, Slot))| {
            let (entry, is_link) = meaning(slot);
            if !is_link {
                firsts[entry as usize] = at as u32;
            }
            Placed { name, entry, first: is_link.then(|| firsts[entry as usize]), is_own: slot.at == entry }
        };
        let entries = rows.into_iter().enumerate().map(place).collect();
        Ok(Tree { entries, invented, repeats: self.repeats })
    }

    /// The directories that are missing.
    fn check_parents(&self) -> Result<Vec<Vec<u8>>> {
        let mut invented: HashSet<&[u8], Seeded> = HashSet::default();
        let mut bytes = 0;
        for parent in &self.parents {
            let mut parent = &parent[..];
            while !parent.is_empty() {
                match self.names.get(parent).map(|slot| slot.node) {
                    Some(Node::Directory) => break,
                    Some(_) => return Err(self.below(parent)),
                    None if !invented.insert(parent) => break,
                    None => bytes += parent.len() + KEPT_WITH,
                }
                if bytes > MAX_INVENTED {
                    return Err(
                        self.damaged("it lies in more directories that it does not name than are allowed".into())
                    );
                }
                parent = parent_and_name(parent).0;
            }
        }
        let mut invented: Vec<Vec<u8>> = invented.into_iter().map(<[u8]>::to_vec).collect();
        invented.sort_unstable();
        Ok(invented)
    }

    /// Give each link that came before its target the file that has the target's name now.
    fn follow_links(&mut self) -> Result<()> {
        let links: Vec<Vec<u8>> = (self.names.iter())
            .filter(|(_, slot)| matches!(slot.node, Node::Link(_)))
            .map(|(name, _)| name.to_vec())
            .collect();
        // Each link of a chain is followed once: those before it get what it gets.
        let mut chain: Vec<&[u8]> = Vec::new();
        for link in &links {
            let mut name: &[u8] = link;
            let entry = loop {
                match self.names.get(name).map(|slot| slot.node) {
                    Some(Node::File(entry)) => break entry,
                    Some(Node::Directory) => return Err(self.to_directory(chain.last().unwrap_or(&name), name)),
                    Some(Node::Link(_)) if chain.len() == links.len() => {
                        return Err(self.damaged(format!("{} is a hard link in a circle", shown(link))));
                    }
                    Some(Node::Link(target)) => {
                        chain.push(name);
                        name = &self.targets[target as usize];
                    }
                    None => match chain.last().and_then(|last| self.names.get(last)) {
                        Some(last) if self.is_layer => break last.at,
                        _ => {
                            let link = shown(chain.last().unwrap_or(&name));
                            let found = format!("{link} is a hard link to {}, which is not there", shown(name));
                            return Err(self.damaged(found));
                        }
                    },
                }
            };
            for name in chain.drain(..) {
                if let Some(slot) = self.names.get_mut(name) {
                    slot.node = Node::File(entry);
                }
            }
        }
        Ok(())
    }

    fn below(&self, parent: &[u8]) -> Error {
        let inside = |name: &[u8]| name.strip_prefix(parent).is_some_and(|rest| rest.first() == Some(&b'/'));
        let first = self.names.iter().filter(|(name, _)| inside(name)).min_by_key(|(_, slot)| slot.at);
        let name = first.map_or("an entry".into(), |(name, _)| shown(name));
        self.damaged(format!("{name} lies below {}, which is no directory", shown(parent)))
    }

    fn to_directory(&self, name: &[u8], first: &[u8]) -> Error {
        self.damaged(format!("{} is a hard link to {}, which is a directory", shown(name), shown(first)))
    }

    fn damaged(&self, found: String) -> Error {
        Error::damaged(self.what.clone(), found)
    }
}
