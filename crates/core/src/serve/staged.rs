//! Where staged blobs lie, by their digests.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::digest::Digest;

/// In which file of the staging area, by its number, where in it, and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: u32,
    pub at: u64,
    pub size: u64,
}

/// Shared by all calls.
#[derive(Default)]
pub struct Staged(RwLock<HashMap<[u8; 32], Place>>);

impl Staged {
    pub fn has(&self, digest: &Digest) -> bool {
        self.find(digest).is_some()
    }

    pub fn find(&self, digest: &Digest) -> Option<Place> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&digest.sha256).copied().filter(|place| place.size == digest.size)
    }

    /// Know of blobs; where one was known of before, it lies there no more for us.
    pub fn put(&self, blobs: impl IntoIterator<Item = ([u8; 32], Place)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(blobs);
    }

    /// Forget all that lies in a file.
    pub fn drop_file(&self, file: u32) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, place| place.file != file);
    }
}
