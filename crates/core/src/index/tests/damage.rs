//! A damaged index costs time, never correctness.

use super::*;
use crate::error::Error;

/// Numbers that look random and are the same each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

#[test]
fn any_flipped_byte_is_harmless() {
    let place = Place::new();
    place.hash();
    let stored = fs::read(&place.index).unwrap();
    for at in 0..stored.len() {
        for flip in [1 << (at % 8), 0xff] {
            let mut damaged = stored.clone();
            damaged[at] ^= flip;
            fs::write(&place.index, &damaged).unwrap();
            place.hash();
        }
        assert_eq!(place.hash(), 0, "and it is whole again after byte {at}");
    }
}

#[test]
fn any_other_length_is_harmless() {
    let place = Place::new();
    place.hash();
    let stored = fs::read(&place.index).unwrap();
    for length in 0..stored.len() {
        fs::write(&place.index, &stored[..length]).unwrap();
        assert_eq!(place.hash(), 5, "nothing is believed of {length} bytes");
    }
    fs::write(&place.index, [&stored[..], b"x"].concat()).unwrap();
    assert_eq!(place.hash(), 5);
    fs::write(&place.index, [&stored[..64], &vec![0; stored.len() - 64][..]].concat()).unwrap();
    assert_eq!(place.hash(), 5, "zeros after a power failure");
}

#[test]
fn a_half_written_update_is_harmless() {
    let place = Place::new();
    place.hash();
    let old = fs::read(&place.index).unwrap();
    for (path, content) in [("a", "ONE"), ("b/c", "TWO"), ("b/d/e", "THREE"), ("b/d/f", "FIVE")] {
        place.write(path, content);
    }
    fs::set_permissions(place.path("b/g"), fs::Permissions::from_mode(0o700)).unwrap();
    settle();
    place.hash();
    let new = fs::read(&place.index).unwrap();
    assert_eq!(old.len(), new.len());
    let mut dice = Dice(1);
    for round in 0..400 {
        let mut torn = old.clone();
        // Whole records, or pieces that a disk might have written.
        let piece = [record::SIZE, 8, 32][round % 3];
        for at in (64..old.len()).step_by(piece).filter(|_| dice.roll().is_multiple_of(2)) {
            let end = (at + piece).min(old.len());
            torn[at..end].copy_from_slice(&new[at..end]);
        }
        fs::write(&place.index, &torn).unwrap();
        place.hash();
    }
}

#[test]
fn a_record_does_not_hold_with_another_target() {
    let place = Place::new();
    place.hash();
    let mut stored = fs::read(&place.index).unwrap();
    let at = stored.windows(7).position(|window| window == b"linkb/c").unwrap();
    stored[at + 6] = b'g';
    let names = stored.len() - 64 - 12 * record::SIZE;
    let sum = crc32fast::hash(&stored[stored.len() - names..]);
    stored[32..36].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32fast::hash(&stored[..60]);
    stored[60..64].copy_from_slice(&sum.to_le_bytes());
    fs::write(&place.index, &stored).unwrap();
    assert_eq!(place.hash(), 0);
}

/// The rule behind it: entries and directories written at different times do not fit together.
#[test]
fn a_directorys_digest_needs_the_entries_it_was_taken_of() {
    let place = Place::new();
    place.hash();
    let old = fs::read(&place.index).unwrap();
    place.write("b/d/e", "THREE");
    settle();
    let (state, ..) = place.try_hash().unwrap();
    let mut torn = old.clone();
    let at = 64 + state.find(b"b/d/e").unwrap() as usize * record::SIZE;
    torn[at..at + record::SIZE].copy_from_slice(&fs::read(&place.index).unwrap()[at..at + record::SIZE]);
    fs::write(&place.index, &torn).unwrap();
    // Nothing is read, for all records are valid; yet the digests above are not those recorded.
    assert_eq!(place.hash(), 0);
    assert_ne!(State::read(&place.index, 2, &Job::default()).unwrap().unwrap().root_digest(), None);
}

#[test]
fn a_newer_format_is_said_and_left_alone() {
    let place = Place::new();
    place.hash();
    let mut newer = fs::read(&place.index).unwrap();
    newer[8] = 3;
    let sum = crc32fast::hash(&newer[..60]);
    newer[60..64].copy_from_slice(&sum.to_le_bytes());
    fs::write(&place.index, &newer).unwrap();
    assert!(matches!(place.try_hash(), Err(Error::NewerFormat { version: 3, .. })));
    assert_eq!(fs::read(&place.index).unwrap(), newer);
}

#[test]
fn another_writer_is_left_in_peace() {
    let place = Place::new();
    place.hash();
    let stored = fs::read(&place.index).unwrap();
    let lock = fs::File::open(place.index.with_extension("index.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    place.write("a", "uno");
    settle();
    assert_eq!(place.hash(), 1);
    assert_eq!(fs::read(&place.index).unwrap(), stored);
    drop(lock);
    assert_eq!(place.hash(), 1);
    assert_eq!(place.hash(), 0);
}

#[test]
fn an_update_of_a_file_that_was_replaced_does_not_touch_the_new_one() {
    let place = Place::new();
    place.hash();
    let before = State::read(&place.index, 2, &Job::default()).unwrap();
    place.write("a", "uno");
    let root = crate::scan::Root::open(&place.root).unwrap();
    let options = options(1, false);
    let (mut ours, _) = State::look(&root, before, Scope::All, &options, None, &Job::default()).unwrap();
    ours.read_pending(&root, &options, &mut Vec::new(), &Job::default()).unwrap();
    ours.seal().unwrap();
    place.write("a0", "another process sees this one");
    place.hash();
    let theirs = fs::read(&place.index).unwrap();
    ours.write(&place.index).unwrap();
    assert_eq!(fs::read(&place.index).unwrap(), theirs);
    place.hash();
}

#[test]
fn what_a_killed_writer_left_does_not_matter() {
    let place = Place::new();
    place.hash();
    fs::write(place.index.with_extension("index.new"), "left over").unwrap();
    place.write("new", "structure");
    settle();
    place.hash();
    assert_eq!(place.hash(), 0);
    assert!(!place.index.with_extension("index.new").exists());
}
