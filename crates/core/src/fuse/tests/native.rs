//! The native tier, by the real kernel.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::noise;
use super::world::{Mounted, Tree};
use crate::filemap::Kind;

/// Everything that a reader sees of a tree, by path.
fn seen(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().to_string_lossy().into_owned()
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, meta.len());
            crate::digest::Digest::of(&bytes).hex()
        } else {
            assert!(kind.is_char_device() || kind.is_block_device() || kind.is_fifo());
            meta.rdev().to_string()
        };
        let links = if kind.is_dir() { 0 } else { meta.nlink() };
        let size = if kind.is_dir() { 0 } else { meta.len() };
        let facts = (meta.permissions().mode(), meta.uid(), meta.gid(), links, size, meta.mtime(), meta.mtime_nsec());
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        out.insert(name, format!("{facts:?} {content}"));
    }
    out
}

/// Of everything a tree may have.
fn rich() -> Tree {
    let mut tree = Tree::new();
    tree.directory("d").mode = 0o1751;
    tree.directory("d/empty");
    tree.file("d/a", b"shared");
    tree.file("d/b", b"shared").uid = 4_000_000_000;
    tree.file("d/-sorts before the dots", b"x");
    tree.file("empty", b"").mode = 0o4755;
    for (seed, size) in [1, 4095, 4096, 131_073, (2 << 20) - 1, 2 << 20, 9_000_001].into_iter().enumerate() {
        tree.file(format!("d/{size}"), noise(seed as u64, size)).mode = 0o400;
    }
    tree.file("first", b"linked").links = 3;
    tree.hard_link("d/second", "first");
    tree.hard_link("z", "first");
    tree.symlink("link", "d/a");
    tree.symlink("long link", &"x/".repeat(2047));
    tree.add("null", 0o666, Kind::CharDevice { major: 1, minor: 3 });
    tree.add("disk", 0o600, Kind::BlockDevice { major: 259, minor: 70_000 });
    tree.add("pipe", 0o644, Kind::Fifo);
    tree.directory("many");
    for number in 0..3000 {
        tree.file(format!("many/{number:0100}"), b"same in each");
    }
    tree.file("old", b"before 1970").mtime.sec = -5;
    tree.file("n".repeat(255), b"a long name");
    tree
}

#[test]
fn the_native_tier_shows_what_the_fuse_tier_shows() {
    let store = rich().store();
    let fuse = Mounted::new(store.clone());
    let native = Mounted::native(store);
    let (expected, got) = (seen(&fuse.path("")), seen(&native.path("")));
    assert!(expected.len() > 3000);
    for (name, facts) in &expected {
        assert_eq!(got.get(name), Some(facts), "{name}");
    }
    assert_eq!(got.len(), expected.len());
    assert_eq!(native.server.stats().errors, 0);
}
