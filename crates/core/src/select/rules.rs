//! The rules in force in each directory, read from rule files as they are met.
//!
//! Invariant: one look applies one reading of a rule file, whatever happens to the file meanwhile; `readings` tells
//! which. A rule file is a regular file, never what a symbolic link leads to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::patterns::{Bad, Patterns, shown};
use super::{GITS, REPOSITORY, Selection};
use crate::error::{Error, Result, show};
use crate::job::Job;
use crate::scan::{Kind, Root, Sink, Stat, is_denied, is_gone, parent_and_name, read_stable};

/// Of a rule file.
const MAX_BYTES: u64 = 1 << 20;

/// Those of one look.
pub struct Rules<'a> {
    root: &'a Root,
    selection: &'a Selection,
    known: RwLock<HashMap<Vec<u8>, InForce>>,
    readings: Mutex<HashMap<Vec<u8>, Option<Stat>>>,
}

/// The rules in force for the entries of one directory.
#[derive(Clone)]
pub struct InForce {
    /// From the root down.
    files: Arc<Vec<Arc<RuleFile>>>,
    /// Whether the directory has a rule file that is itself left out.
    pub hides_rules: bool,
}

struct RuleFile {
    patterns: Patterns,
    /// Bytes of a path up to what its patterns are relative to.
    below: usize,
}

impl<'a> Rules<'a> {
    pub fn new(root: &'a Root, selection: &'a Selection) -> Rules<'a> {
        Rules { root, selection, known: RwLock::default(), readings: Mutex::default() }
    }

    pub fn selection(&self) -> &'a Selection {
        self.selection
    }

    /// Those of the directory `path`, which has `names`, sorted.
    ///
    /// # Errors
    /// `Invalid` naming the file and line that is no pattern, or a file of more than 1 MiB; `Unreadable` naming a rule
    /// file that may not be read: nothing may get in because of that; what `read_stable` says.
    pub fn of(&self, path: &[u8], names: &[&[u8]]) -> Result<InForce> {
        let has = |name: &[u8]| names.binary_search(&name).is_ok();
        match self.known(path) {
            Some(known) => Ok(known),
            None if path.is_empty() => self.enter(path, &self.at_root(), has),
            None => self.enter(path, &self.above(path)?, has),
        }
    }

    /// Whether the entry `name` of the directory `path` is left out.
    pub fn leave_out(&self, in_force: &InForce, path: &[u8], name: &[u8], is_dir: bool) -> bool {
        let selection = self.selection;
        if in_force.files.is_empty() && selection.patterns.is_none() {
            return selection.gitignore && name == REPOSITORY;
        }
        let path = join(path, name);
        let by_caller = selection.patterns.as_ref().and_then(|patterns| patterns.leave_out(&path, is_dir));
        let by_git = || (selection.gitignore && name == REPOSITORY).then_some(true);
        let by_files = || {
            let mut deepest_first = in_force.files.iter().rev();
            deepest_first.find_map(|file| file.patterns.leave_out(&path[file.below..], is_dir))
        };
        by_caller.or_else(by_git).or_else(by_files).unwrap_or(false)
    }

    /// Each rule file that was looked for by path, with its stat when it was read; `None` if there was none.
    pub fn readings(self) -> HashMap<Vec<u8>, Option<Stat>> {
        self.readings.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, path: &[u8]) -> Option<InForce> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn at_root(&self) -> InForce {
        InForce { files: Arc::default(), hides_rules: false }
    }

    /// Those of the directory that holds `path`. A listing goes from above down, so it is mostly known.
    fn above(&self, path: &[u8]) -> Result<InForce> {
        let mut unknown = Vec::new();
        let mut at = path;
        let mut in_force = loop {
            if at.is_empty() {
                break self.at_root();
            }
            at = parent_and_name(at).0;
            match self.known(at) {
                Some(known) => break known,
                None => unknown.push(at),
            }
        };
        while let Some(path) = unknown.pop() {
            in_force = self.enter(path, &in_force, |_| true)?;
        }
        Ok(in_force)
    }

    /// Those of the directory `path`, from those of the one above. `may_have` says whether to look for a name.
    fn enter(&self, path: &[u8], above: &InForce, may_have: impl Fn(&[u8]) -> bool) -> Result<InForce> {
        let mut files = above.files.clone();
        let (mut found, mut readings) = (Vec::new(), Vec::new());
        for &name in self.selection.rule_names().iter().filter(|name| may_have(name)) {
            let file = join(path, name);
            let read = self.read(&file)?;
            readings.push((file.clone(), read.as_ref().map(|(stat, _)| *stat)));
            let Some((_, text)) = read else { continue };
            found.push(name);
            if let Some(patterns) = self.parse(&file, name, &text)? {
                let below = if path.is_empty() { 0 } else { path.len() + 1 };
                Arc::make_mut(&mut files).push(Arc::new(RuleFile { patterns, below }));
            }
        }
        let mut in_force = InForce { files, hides_rules: false };
        in_force.hides_rules = found.iter().any(|name| self.leave_out(&in_force, path, name, false));
        match self.known.write().unwrap_or_else(PoisonError::into_inner).entry(path.to_vec()) {
            // Another thread was faster: its reading is the one that counts.
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(place) => {
                self.readings.lock().unwrap_or_else(PoisonError::into_inner).extend(readings);
                Ok(place.insert(in_force).clone())
            }
        }
    }

    fn read(&self, file: &[u8]) -> Result<Option<(Stat, Vec<u8>)>> {
        let refused = || Error::Unreadable { paths: vec![self.root.show(file)] };
        let stat = match self.root.stat(file) {
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) if is_denied(&e) => return Err(refused()),
            stat => stat.map_err(Error::io("stat", self.root.show(file)))?,
        };
        if stat.kind() != Kind::File {
            return Ok(None);
        }
        let mut text = Text { text: Vec::new(), root: self.root, file };
        // It is no part of the progress: the tree has it once.
        match read_stable(self.root, file, &mut Vec::new(), &Job::default(), &mut text) {
            Err(Error::Io { source, .. }) if is_gone(&source) => Ok(None),
            Err(Error::Io { source, .. }) if is_denied(&source) => Err(refused()),
            read => Ok(Some((read?, text.text))),
        }
    }

    fn parse(&self, file: &[u8], name: &[u8], text: &[u8]) -> Result<Option<Patterns>> {
        // Git's own rules hold for git's own files: one that git takes must not stop us.
        let bad = if name == GITS { Bad::MatchesNothing } else { Bad::Refused };
        Patterns::new(lines(text), bad).map_err(|(number, why)| {
            let line = lines(text).nth(number).unwrap_or_default();
            let what = format!("{}, line {}: {}", show(&self.root.show(file)), number + 1, shown(line));
            Error::Invalid { what, why }
        })
    }
}

/// As git splits them: a byte order mark is none, and what ends a line may have a carriage return.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

struct Text<'a> {
    text: Vec<u8>,
    root: &'a Root,
    file: &'a [u8],
}

impl Sink for Text<'_> {
    fn begin(&mut self, stat: &Stat) -> Result<()> {
        self.text.clear();
        if stat.size > MAX_BYTES {
            let what = show(&self.root.show(self.file));
            return Err(Error::Invalid { what, why: "a rule file of more than 1 MiB".to_owned() });
        }
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        self.text.extend_from_slice(bytes);
        Ok(())
    }
}
