//! What file a hard link of a layer is: one of its own layer, else what the layers below have by that name.
//!
//! Invariant: what is found is no link and no directory, and was to be seen where the layer was laid upon those below it.

use std::sync::Arc;

use super::merge::{OPAQUE, WHITEOUT, is_kept_back};
use super::source::find;
use crate::error::{Error, Result};
use crate::filemap::{Source, parent_and_name};
use crate::tar::shown;

/// A file: its layer, and its number there.
pub type File = (u16, u32);

pub struct Links<'a> {
    layers: &'a [Arc<dyn Source>],
    /// The directory that was looked at last, below which layer, and the lowest that has something in it: links mostly lie together.
    last: Option<(Vec<u8>, usize, usize)>,
}

impl<'a> Links<'a> {
    pub fn new(layers: &'a [Arc<dyn Source>]) -> Links<'a> {
        Links { layers, last: None }
    }

    /// The file that the entry `at` of a layer is; `None` if it is no link.
    ///
    /// # Errors
    /// `Damaged`, naming it: no layer below has a file by the name that it links to.
    pub fn file(&mut self, layer: usize, at: usize) -> Result<Option<File>> {
        let layers = self.layers;
        let Some(mut first) = layers[layer].link(at) else { return Ok(None) };
        let nothing = || {
            let (link, first) = (shown(layers[layer].path(at)), layers[layer].link(at).map(shown).unwrap_or_default());
            Error::damaged("image", format!("{link} is a hard link to {first}, of which no layer below has a file"))
        };
        let mut now = (layer, at);
        // Within a layer one leads to another at most, and then to a lower one.
        for _ in 0..=2 * layer + 1 {
            now = match find(&*layers[now.0], first) {
                Some(own) => (now.0, own),
                None => self.below(now.0, first).ok_or_else(nothing)?,
            };
            match layers[now.0].link(now.1) {
                Some(next) => first = next,
                None => return Ok(Some((now.0 as u16, now.1 as u32))),
            }
        }
        Err(nothing())
    }

    /// What is no directory and is seen of the layers below one by this name.
    fn below(&mut self, limit: usize, path: &[u8]) -> Option<(usize, usize)> {
        let (parent, name) = parent_and_name(path);
        if path.split(|&byte| byte == b'/').any(|part| part.starts_with(WHITEOUT)) || is_kept_back(parent, name) {
            return None;
        }
        let floor = match &self.last {
            Some((known, below, floor)) if (&known[..], *below) == (parent, limit) => *floor,
            _ => {
                let floor = self.floor(limit, parent);
                self.last = Some((parent.to_vec(), limit, floor));
                floor
            }
        };
        for layer in (floor..limit).rev() {
            let source = &*self.layers[layer];
            if let Some(at) = find(source, path) {
                return (!source.is_directory(at)).then_some((layer, at));
            }
            if find(source, &inside(parent, &[WHITEOUT, name].concat())).is_some() {
                return None;
            }
        }
        None
    }

    /// The lowest layer of which something is seen in a directory, of the layers below one.
    fn floor(&self, limit: usize, path: &[u8]) -> usize {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut floor = 0;
        for end in std::iter::once(0).chain(ends).chain([path.len()]) {
            let directory = &path[..end];
            let (parent, name) = parent_and_name(directory);
            let hidden = inside(parent, &[WHITEOUT, name].concat());
            for layer in (floor..limit).rev() {
                let source = &*self.layers[layer];
                if find(source, directory).is_some_and(|at| !source.is_directory(at)) {
                    floor = layer + 1;
                    break;
                }
                if find(source, &inside(directory, OPAQUE)).is_some() || (end > 0 && find(source, &hidden).is_some()) {
                    floor = layer;
                    break;
                }
            }
        }
        floor
    }
}

fn inside(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
