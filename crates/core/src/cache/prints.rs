//! What the objects that this process proved looked like then, in 25 bytes each: a large tree has many.
//!
//! Invariant: an object that looks otherwise is not taken for proved, but by a chance of one in 2^64, by keys that nobody
//! knows. Past a bound all are forgotten, and proved again when opened.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::object::Stamp;

/// So many are remembered.
const MOST: usize = 1 << 18;

#[derive(Default)]
pub struct Prints {
    /// By the beginning of the digest; of two that begin alike one is remembered.
    prints: HashMap<[u8; 16], u64>,
    keys: RandomState,
}

impl Prints {
    /// Whether the object was proved when it looked so.
    pub fn has(&self, sha256: &[u8; 32], stamp: Stamp) -> bool {
        self.prints.get(&beginning(sha256)) == Some(&self.keys.hash_one((sha256, stamp)))
    }

    pub fn note(&mut self, sha256: &[u8; 32], stamp: Stamp) {
        let key = beginning(sha256);
        if self.prints.len() >= MOST && !self.prints.contains_key(&key) {
            self.prints.clear();
        }
        self.prints.insert(key, self.keys.hash_one((sha256, stamp)));
    }

    pub fn remove(&mut self, sha256: &[u8; 32]) {
        self.prints.remove(&beginning(sha256));
    }
}

fn beginning(sha256: &[u8; 32]) -> [u8; 16] {
    *sha256.first_chunk().expect("32 bytes begin with 16")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_object_is_known_as_it_looked_and_by_its_own_digest_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let stamp = |text: &str| {
            fs::write(&path, text).unwrap();
            Stamp::of(&fs::metadata(&path).unwrap())
        };
        let (before, after) = (stamp("before"), stamp("and after"));
        let (digest, alike) = ([7; 32], std::array::from_fn(|index| if index < 16 { 7 } else { 8 }));
        let mut prints = Prints::default();
        assert!(!prints.has(&digest, before));
        prints.note(&digest, before);
        assert!(prints.has(&digest, before) && !prints.has(&digest, after) && !prints.has(&alike, before));
        prints.note(&digest, after);
        assert!(prints.has(&digest, after) && !prints.has(&digest, before));
        prints.remove(&digest);
        assert!(!prints.has(&digest, after));
    }

    #[test]
    fn as_many_as_are_remembered_stay_so_however_often_they_are_looked_at() {
        let stamp = Stamp::of(&fs::metadata(".").unwrap());
        let digest = |number: usize| {
            let mut sha256 = [0; 32];
            sha256[..8].copy_from_slice(&number.to_le_bytes());
            sha256
        };
        let mut prints = Prints::default();
        for number in (0..MOST).chain([0]) {
            prints.note(&digest(number), stamp);
        }
        assert!(prints.has(&digest(MOST - 1), stamp));
        prints.note(&digest(MOST), stamp);
        assert!(prints.has(&digest(MOST), stamp) && !prints.has(&digest(0), stamp));
    }
}
