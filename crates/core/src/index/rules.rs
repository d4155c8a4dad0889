//! When rule files change: what must be listed anew, and what the index may believe of them.
//!
//! Invariant: below a rule file whose record holds, every directory that is not racy was listed under what the file says.
//! So a rule file that is not as recorded makes everything below its directory be listed anew; its record is believed
//! only with the stat of the reading that was applied; one without a record makes its directory `HIDES_RULES`.

use std::collections::{BTreeSet, HashSet};

use super::list::Listed;
use super::look::{Finding, Look, Scope, What};
use super::record::{HIDES_RULES, RACY};
use super::share::share;
use super::{RESEAL, State};
use crate::error::Result;
use crate::scan::{Kind, parent_and_name};

impl Look<'_> {
    /// Where rules changed, look again at all that is below; in the scope of one directory, let it be listed when
    /// somebody looks there.
    pub fn follow_rules(&self, state: &State, scope: Scope<'_>, findings: &mut Vec<Finding>) -> Result<()> {
        let tops = findings.iter().filter(|finding| self.is_of_rules(state, finding)).map(|finding| finding.directory);
        let mut waiting: Vec<u32> = tops.collect();
        let mut again: BTreeSet<u32> = BTreeSet::new();
        while let Some(directory) = waiting.pop() {
            if again.insert(directory) {
                waiting.extend(state.entries(directory).filter(|&entry| state.kind(entry) == Kind::Directory));
            }
        }
        let looked_at: HashSet<u32> = findings.iter().map(|finding| finding.directory).collect();
        let is_in_scope = |directory: &u32| !matches!(scope, Scope::Directory(_)) || looked_at.contains(directory);
        findings.retain(|finding| !again.contains(&finding.directory));
        let (again, later): (Vec<u32>, Vec<u32>) = again.into_iter().partition(is_in_scope);
        findings.extend(later.into_iter().map(|directory| {
            let mut own = *state.record(directory);
            own.set(RACY, true);
            Finding { directory, own: Some(own), what: What::Entries(Vec::new()) }
        }));
        let look = |number: usize| self.directory(state, again[number], true);
        let found = share(self.options.threads, again.len(), || (), |(), number| look(number))?;
        findings.extend(found.into_iter().flatten());
        Ok(())
    }

    /// One directory, and those above it from the first on whose rules changed: all of these are listed then.
    pub fn one(&self, state: &State, directory: u32) -> Result<Vec<Finding>> {
        let mut way = vec![directory];
        let mut at = directory;
        while at != 0 {
            at = state.parent(at);
            way.push(at);
        }
        way.reverse();
        let mut findings = Vec::new();
        let mut is_dirty = false;
        for at in way {
            is_dirty |= self.has_other_rules(state, at);
            if is_dirty || at == directory {
                findings.extend(self.directory(state, at, is_dirty)?);
            }
        }
        Ok(findings)
    }

    /// Whether a finding is of a rule file.
    fn is_of_rules(&self, state: &State, finding: &Finding) -> bool {
        let hides = |record: &super::Record| record.has(HIDES_RULES);
        if hides(state.record(finding.directory)) || finding.own.as_ref().is_some_and(hides) {
            return true;
        }
        self.rules.selection().rule_names().iter().any(|name| {
            let was = state.find_in(finding.directory, name);
            match &finding.what {
                What::Entries(changed) => was.is_some_and(|was| changed.iter().any(|(entry, _)| *entry == was)),
                What::Listing(listing) => match (was, listing.find(state, name)) {
                    (None, None) => false,
                    (Some(was), Some(Listed::Kept(kept))) => was != *kept,
                    _ => true,
                },
                What::Unreadable | What::Gone => false,
            }
        })
    }

    /// Whether the rule files of a directory are not as recorded.
    fn has_other_rules(&self, state: &State, directory: u32) -> bool {
        let path = state.path_of(directory);
        let Ok(dir) = self.root.open_dir(&path) else { return true };
        let is_other = |name: &&[u8]| {
            let was = state.find_in(directory, name).filter(|&entry| state.kind(entry) == Kind::File);
            let now = dir.stat(name).ok().filter(|stat| stat.kind() == Kind::File);
            match (was, now) {
                (None, None) => false,
                (Some(was), Some(now)) => !self.holds(state, &dir, was, &now),
                _ => true,
            }
        };
        state.record(directory).has(HIDES_RULES) || self.rules.selection().rule_names().iter().any(is_other)
    }

    /// Believe no record of a rule file that may be of other bytes than those that were applied, and note where rules
    /// were applied that no record tells of.
    pub fn doubt_rules(self, state: &mut State) {
        let (began, trust_ctime) = (self.began, self.options.trust_ctime);
        for (path, applied) in self.rules.readings() {
            let (above, name) = parent_and_name(&path);
            let Some(directory) = state.find(above).filter(|&above| state.kind(above) == Kind::Directory) else {
                continue;
            };
            let entry = state.find_in(directory, name).filter(|&entry| state.kind(entry) == Kind::File);
            let Some(entry) = entry else {
                if applied.is_some() && !state.record(directory).has(HIDES_RULES) {
                    // It was gone when its directory was listed, or is left out.
                    state.records[directory as usize].hide_rules();
                    state.marks[directory as usize] |= RESEAL;
                }
                continue;
            };
            let record = &mut state.records[entry as usize];
            let is_sure = |stat| record.has_stat(&stat, trust_ctime) && !stat.is_racy(began, trust_ctime);
            if !record.has(RACY) && !applied.is_some_and(is_sure) {
                record.set(RACY, true);
                state.marks[entry as usize] |= RESEAL;
            }
        }
    }
}
