//! The patterns of one rule file, or of the caller.
//!
//! Invariant: the last pattern that matches decides.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::pattern::translate;
use crate::error::show;

/// What becomes of a line that is no pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    Refused,
    /// As git has it.
    MatchesNothing,
}

pub struct Patterns(Gitignore);

impl Patterns {
    /// `None` when no line is a pattern.
    ///
    /// # Errors
    /// The number of the first bad line, from 0, and what is wrong with it.
    pub fn new<'a>(lines: impl Iterator<Item = &'a [u8]>, bad: Bad) -> Result<Option<Patterns>, (usize, String)> {
        // Paths are given relative to where the rules lie.
        let mut builder = GitignoreBuilder::new("");
        let mut last = 0;
        for (number, line) in lines.enumerate() {
            let added = match translate(line) {
                Ok(None) => continue,
                Ok(Some(text)) => builder.add_line(None, &text).map(|_| ()).map_err(|error| error.to_string()),
                Err(why) => Err(why.to_owned()),
            };
            match added {
                Err(why) if bad == Bad::Refused => return Err((number, why)),
                _ => last = number,
            }
        }
        let set = builder.build().map_err(|error| (last, error.to_string()))?;
        Ok((!set.is_empty()).then_some(Patterns(set)))
    }

    /// Whether the patterns leave the entry at `path` out; `None` when they say nothing of it.
    pub fn leave_out(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        match self.0.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }
}

/// A pattern in a message.
pub fn shown(line: &[u8]) -> String {
    show(Path::new(OsStr::from_bytes(line)))
}
