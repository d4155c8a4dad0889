//! What is listed ahead of a reader, and how the walker gets at the mount.

use std::sync::Arc;
use std::time::Duration;

use super::world::{Mounted, Tree};
use crate::digest::Digest;
use crate::filemap::{FileMap, Summary, parent_and_name};
use crate::fuse::walk::Walk;
use crate::fuse::walker::root;

const NOTHING: [usize; 0] = [];

/// Directories of so many files each, all in memory.
fn map(sizes: &[usize]) -> FileMap {
    let mut tree = Tree::new();
    for (number, size) in sizes.iter().enumerate() {
        tree.directory(directory(number));
        for file in 0..*size {
            tree.symlink(&name(number, file), "to nothing");
        }
    }
    let mut entries = tree.entries;
    entries.sort_by(|a, b| parent_and_name(&a.path).cmp(&parent_and_name(&b.path)));
    let digest = Digest::of(b"tree");
    let summary = Summary { push: None, tree: digest, entries: entries.len() as u64, bytes: 0, tar: None };
    FileMap::of_archive(summary, entries, &Arc::new(digest.sha256))
}

fn directory(number: usize) -> String {
    format!("d{number:04}")
}

fn name(number: usize, file: usize) -> String {
    format!("{}/f{file:05}", directory(number))
}

struct World {
    map: FileMap,
    walk: Walk,
}

impl World {
    fn of(sizes: &[usize]) -> World {
        let world = World { map: map(sizes), walk: Walk::default() };
        world.walk.begin();
        world
    }

    fn inode(&self, path: &str) -> u64 {
        self.map.find(path.as_bytes()).unwrap().unwrap()
    }

    fn look_up(&self, number: usize, files: std::ops::Range<usize>) {
        for file in files {
            self.walk.note(&self.map, self.inode(&directory(number)), self.inode(&name(number, file)));
        }
    }

    /// The numbers of the directories that are to be listed now.
    fn listed(&self) -> Vec<usize> {
        let batch = self.walk.next(&self.map, Some(Duration::ZERO)).unwrap_or_default();
        batch.iter().map(|(_, path)| std::str::from_utf8(path).unwrap()[1..].parse().unwrap()).collect()
    }
}

#[test]
fn a_directory_is_listed_after_three_of_its_names() {
    let world = World::of(&[20; 100]);
    world.look_up(7, 0..2);
    assert_eq!(world.listed(), NOTHING);
    world.look_up(7, 2..3);
    assert_eq!(world.listed(), [7]);
    assert_eq!(world.listed(), NOTHING);
}

#[test]
fn a_program_that_starts_has_nothing_listed() {
    let world = World::of(&[20; 100]);
    for number in (0..100).step_by(3) {
        world.look_up(number, 4..6);
        // Directories on the way, and names that are absent.
        world.walk.note(&world.map, 1, world.inode(&directory(number)));
        world.walk.note(&world.map, world.inode(&directory(number)), 0);
    }
    assert_eq!(world.listed(), NOTHING);
}

#[test]
fn a_large_directory_waits_for_a_sixteenth_of_its_names() {
    let world = World::of(&[1600, 70_000]);
    world.look_up(0, 0..99);
    assert_eq!(world.listed(), NOTHING);
    world.look_up(0, 99..128);
    assert_eq!(world.listed(), [0]);
    world.look_up(1, 0..16_384);
    assert_eq!(world.listed(), NOTHING, "one that is too large is not listed at all");
}

#[test]
fn each_list_is_twice_as_long_as_the_one_before_and_waits_for_the_reader() {
    let world = World::of(&[16; 1000]);
    let mut reader = 0;
    world.look_up(reader, 0..3);
    assert_eq!(world.listed(), [0]);
    for names in [512, 1024, 2048, 4096] {
        assert_eq!(world.listed(), NOTHING, "nobody has come so far");
        reader += 1;
        world.look_up(reader, 0..1);
        let mut listed = Vec::new();
        while let [first, .., last] = world.listed()[..] {
            listed.extend(first..=last);
        }
        // What the reader looks up meanwhile is left to him.
        assert_eq!(listed.first(), Some(&(reader + 2)));
        assert_eq!(listed.len(), names / 16);
        reader = listed[listed.len() - 1];
    }
}

#[test]
fn who_is_faster_than_the_list_has_it_go_on_ahead_of_him() {
    let world = World::of(&[16; 1000]);
    world.look_up(0, 0..3);
    world.listed();
    world.look_up(1, 0..1);
    assert_eq!(world.listed()[0], 3);
    world.look_up(500, 0..1);
    assert_eq!(world.listed(), NOTHING, "too far: he does not follow");
    world.look_up(500, 1..3);
    assert_eq!(world.listed(), [500]);
    world.look_up(501, 0..1);
    let first = world.listed();
    world.look_up(first[first.len() - 1] + 4, 0..1);
    assert_eq!(world.listed()[0], first[first.len() - 1] + 6);
}

#[test]
fn the_end_of_the_tree_ends_a_list() {
    let world = World::of(&[16; 10]);
    world.look_up(5, 0..3);
    assert_eq!(world.listed(), [5]);
    world.look_up(6, 0..1);
    assert_eq!(world.listed(), [8, 9]);
    assert_eq!(world.listed(), NOTHING);
    world.walk.close();
    assert_eq!(world.walk.next(&world.map, None), Some(vec![]));
}

#[test]
fn what_names_take_in_an_answer_of_the_kernel_is_known() {
    let world = World::of(&[3]);
    world.look_up(0, 0..3);
    // `.` and `..` take 24 bytes each, a name of six letters 32.
    assert_eq!(world.walk.next(&world.map, None), Some(vec![(48 + 3 * 32, b"d0000".to_vec())]));
}

#[test]
fn the_root_is_had_only_of_the_mount_that_is_seen_and_makes_it_busy_for_nobody() {
    let mut tree = Tree::new();
    tree.file("f", "x");
    let mounted = Mounted::new(tree.store());
    mounted.server.find_number(&mounted.place, None);
    let number = *mounted.server.number.get().unwrap();
    assert!(root(&mounted.place, number + 1).is_none());
    assert!(root(&mounted.place.join("f"), number).is_none());
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &mounted.place, "tmpfs", flags, None).unwrap();
    let covered = root(&mounted.place, number);
    rustix::mount::unmount(&mounted.place, rustix::mount::UnmountFlags::empty()).unwrap();
    assert!(covered.is_none());
    let root = root(&mounted.place, number).unwrap();
    crate::fuse::unmount(&mounted.place, false).unwrap();
    assert!(rustix::fs::statat(&root, "f", rustix::fs::AtFlags::empty()).is_ok(), "as long as it is open it answers");
}
