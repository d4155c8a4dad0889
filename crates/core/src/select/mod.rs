//! Selection: which entries of a working directory its tree has (docs/selection.md).
//!
//! Promise: what is left out depends on the options and on the rule files in the directory alone, never on the machine
//! or its user. Not here: when the index must list anew because a rule file changed (`index`).

mod pattern;
mod patterns;
mod rules;

pub use rules::{InForce, Rules};

use std::sync::Arc;

use crate::error::{Error, Result};
use patterns::{Bad, Patterns};

const OURS: &[u8] = b".sapwoodignore";
/// What files are called that say what is left out, unless something else is asked for.
pub const RULES: &[u8] = OURS;
const GITS: &[u8] = b".gitignore";
const REPOSITORY: &[u8] = b".git";

/// What the caller wants left out besides what `.sapwoodignore` files say.
#[derive(Clone, Default)]
pub struct Selection {
    excludes: Vec<Vec<u8>>,
    /// Of the excludes; `None` when there are none.
    patterns: Option<Arc<Patterns>>,
    gitignore: bool,
}

impl Selection {
    /// `excludes` are patterns relative to the root, the last that matches decides. With `gitignore`, `.gitignore` files
    /// count too and `.git` is left out.
    ///
    /// # Errors
    /// `Invalid` naming the pattern that is none.
    pub fn new(excludes: Vec<Vec<u8>>, gitignore: bool) -> Result<Selection> {
        let what = |line: &[u8]| format!("the pattern {}", patterns::shown(line));
        let invalid = |line: &[u8], why: &str| Error::Invalid { what: what(line), why: why.to_owned() };
        for line in &excludes {
            match pattern::translate(line) {
                Err(why) => return Err(invalid(line, why)),
                Ok(None) => return Err(invalid(line, "it matches nothing")),
                Ok(Some(_)) => {}
            }
        }
        let patterns = Patterns::new(excludes.iter().map(Vec::as_slice), Bad::Refused)
            .map_err(|(line, why)| invalid(excludes.get(line).map_or(b"", Vec::as_slice), &why))?;
        Ok(Selection { excludes, patterns: patterns.map(Arc::new), gitignore })
    }

    /// The names of rule files; in one directory the later wins.
    pub fn rule_names(&self) -> &'static [&'static [u8]] {
        if self.gitignore { &[GITS, OURS] } else { &[OURS] }
    }

    /// What tells this selection from another, but for what rule files say; nothing by default.
    pub fn said(&self) -> Vec<Vec<u8>> {
        let gitignore = self.gitignore.then(|| b"gitignore".to_vec());
        let excludes = self.excludes.iter().map(|line| [b"exclude ", line.as_slice()].concat());
        gitignore.into_iter().chain(excludes).collect()
    }
}

/// Whether a file of this name may say what is left out, under some selection.
pub fn may_rule(name: &[u8]) -> bool {
    name == OURS || name == GITS
}

#[cfg(test)]
mod tests;
