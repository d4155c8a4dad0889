//! Names, each once, and what is known of them: a table that takes little more memory than the names.
//!
//! Invariant: the table has room, and each name stands in it where a search from its hash on meets it before a free place.

use std::hash::BuildHasher;

use super::hasher::Seeded;

const FREE: u32 = u32::MAX;

pub(super) struct Names<T> {
    rows: Vec<(Vec<u8>, T)>,
    /// Numbers of rows; a power of two, at most half of it in use.
    table: Vec<u32>,
    hash: Seeded,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { rows: Vec::new(), table: vec![FREE; 16], hash: Seeded::default() }
    }
}

impl<T> Names<T> {
    /// Where in the table the name stands, or would.
    fn place(&self, name: &[u8]) -> usize {
        let mut at = self.hash.hash_one(name) as usize;
        loop {
            at &= self.table.len() - 1;
            match self.table[at] {
                FREE => return at,
                row if self.rows[row as usize].0 == name => return at,
                _ => at += 1,
            }
        }
    }

    pub fn get(&self, name: &[u8]) -> Option<&T> {
        let row = self.table[self.place(name)];
        (row != FREE).then(|| &self.rows[row as usize].1)
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        let row = self.table[self.place(name)];
        (row != FREE).then(|| &mut self.rows[row as usize].1)
    }

    /// Whether the name was there. There may be 2^32 - 1 names.
    pub fn insert(&mut self, name: &[u8], what: T) -> bool {
        let at = self.place(name);
        if let Some((_, known)) = self.rows.get_mut(self.table[at] as usize) {
            *known = what;
            return true;
        }
        self.table[at] = self.rows.len() as u32;
        self.rows.push((name.to_vec(), what));
        if 2 * self.rows.len() > self.table.len() {
            self.table = vec![FREE; 2 * self.table.len()];
            for row in 0..self.rows.len() {
                let at = self.place(&self.rows[row].0);
                self.table[at] = row as u32;
            }
        }
        false
    }

    /// In the order in which they came first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.rows.iter().map(|(name, what)| (&name[..], what))
    }

    pub fn into_rows(self) -> Vec<(Vec<u8>, T)> {
        self.rows
    }
}
