//! Looking entries up by path.

use super::State;

impl State {
    /// The entry at a path relative to the root, not following symlinks; the empty path is the root.
    pub fn find(&self, path: &[u8]) -> Option<u32> {
        if path.is_empty() {
            return Some(0);
        }
        path.split(|&byte| byte == b'/').try_fold(0, |directory, name| self.find_in(directory, name))
    }

    /// The entry `name` of a directory.
    pub fn find_in(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let entries = self.entries(directory);
        let (mut low, mut high) = (entries.start, entries.end);
        while low < high {
            let middle = low.midpoint(high);
            if self.name(middle) < name { low = middle + 1 } else { high = middle }
        }
        (low < entries.end && self.name(low) == name).then_some(low)
    }
}
