//! The canonical REAPI `Directory` message: what a tree digest is made of.
//!
//! Invariant: `encode` gives the one canonical form (docs/format.md, "Digest and tree digest"), whatever order nodes were added in.
//! Source: build.bazel.remote.execution.v2, message Directory.

use crate::digest::{Digest, hex};
use crate::wire::{put_bytes, put_number};

/// Collects one directory's nodes.
#[derive(Default)]
pub struct Directory<'a> {
    files: Vec<(&'a [u8], Digest, bool)>,
    directories: Vec<(&'a [u8], Digest)>,
    symlinks: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Directory<'a> {
    pub fn file(&mut self, name: &'a [u8], digest: Digest, executable: bool) {
        self.files.push((name, digest, executable));
    }

    pub fn directory(&mut self, name: &'a [u8], digest: Digest) {
        self.directories.push((name, digest));
    }

    pub fn symlink(&mut self, name: &'a [u8], target: &'a [u8]) {
        self.symlinks.push((name, target));
    }

    pub fn digest(self) -> Digest {
        Digest::of(&self.encode())
    }

    pub fn encode(mut self) -> Vec<u8> {
        self.files.sort_unstable_by_key(|node| node.0);
        self.directories.sort_unstable_by_key(|node| node.0);
        self.symlinks.sort_unstable_by_key(|node| node.0);
        let mut out = Vec::with_capacity(128 * (self.files.len() + self.directories.len() + self.symlinks.len()));
        let mut node = Vec::with_capacity(512);
        for (name, digest, executable) in &self.files {
            node.clear();
            bytes_field(&mut node, 1, name);
            digest_field(&mut node, digest);
            if *executable {
                node.extend([4 << 3, 1]);
            }
            bytes_field(&mut out, 1, &node);
        }
        for (name, digest) in &self.directories {
            node.clear();
            bytes_field(&mut node, 1, name);
            digest_field(&mut node, digest);
            bytes_field(&mut out, 2, &node);
        }
        for (name, target) in &self.symlinks {
            node.clear();
            bytes_field(&mut node, 1, name);
            bytes_field(&mut node, 2, target);
            bytes_field(&mut out, 3, &node);
        }
        out
    }
}

/// A length-delimited field; proto3 leaves an empty one out.
fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    put_bytes(out, number, bytes);
}

/// Field 2 of a node, a `Digest` message.
fn digest_field(out: &mut Vec<u8>, digest: &Digest) {
    let mut size = Vec::with_capacity(11);
    if digest.size > 0 {
        size.push(2 << 3);
        put_number(&mut size, digest.size);
    }
    out.push(2 << 3 | 2);
    put_number(out, 66 + size.len() as u64);
    out.extend([1 << 3 | 2, 64]);
    out.extend_from_slice(hex(&digest.sha256).as_bytes());
    out.extend_from_slice(&size);
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
