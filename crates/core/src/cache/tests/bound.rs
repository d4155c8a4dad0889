//! A cache that is held to its size.

use std::fs::File;
use std::time::SystemTime;

use super::super::used;
use super::*;

const SIZE: usize = 64 << 10;
const COUNT: usize = 16;

/// Blobs that came so many seconds ago, the first longest ago.
fn filled(cache: &Cache) -> Vec<Content> {
    let blob = |number: usize| {
        let bytes = vec![number as u8; SIZE];
        let blob = content(&[&bytes]);
        cache.insert_blob(&blob.digest, &bytes).unwrap();
        came(cache, &blob, COUNT - number);
        blob
    };
    (0..COUNT).map(blob).collect()
}

fn came(cache: &Cache, blob: &Content, ago_s: usize) {
    let time = SystemTime::now() - Duration::from_secs(ago_s as u64);
    File::options().write(true).open(cache.path(&blob.digest)).unwrap().set_modified(time).unwrap();
}

fn here(cache: &Cache, blobs: &[Content]) -> Vec<usize> {
    (0..blobs.len()).filter(|&at| cache.path(&blobs[at].digest).exists()).collect()
}

fn bytes_of(number: usize) -> Vec<u8> {
    vec![number as u8; SIZE]
}

#[test]
fn what_was_used_longest_ago_goes_and_can_be_brought_again() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    // Another process reads two of the oldest.
    let other = again(&cache);
    assert_eq!(read(&other, &blobs[1], 0, SIZE).unwrap(), bytes_of(1));
    assert_eq!(read(&other, &blobs[2], 5, 5).unwrap(), [2; 5]);
    drop(other);
    assert!(cache.tidy(Some((SIZE * 9) as u64)).unwrap() > 0);
    let left = here(&cache, &blobs);
    assert!(left.starts_with(&[1, 2]), "{left:?}");
    assert_eq!(left[2..], (COUNT - (left.len() - 2)..COUNT).collect::<Vec<_>>());
    assert!((7..=9).contains(&left.len()));
    assert_eq!(read(&cache, &blobs[0], 0, 1), Err(vec![0]));
    cache.insert_blob(&blobs[0].digest, &bytes_of(0)).unwrap();
    assert_eq!(read(&cache, &blobs[0], 0, SIZE).unwrap(), bytes_of(0));
}

#[test]
fn what_is_open_goes_last_whatever_its_age() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    // A part of it: small files that are read whole are not kept open.
    assert_eq!(read(&cache, &blobs[0], 1, 1).unwrap(), [0]);
    cache.tidy(Some(SIZE as u64 * 3)).unwrap();
    assert!(here(&cache, &blobs).contains(&0));
    cache.full.store(true, Relaxed);
    cache.tidy(Some(0)).unwrap();
    assert_eq!(here(&cache, &blobs), [0usize; 0]);
    assert_eq!(read(&cache, &blobs[0], 1, 1), Err(vec![0]));
}

#[test]
fn nothing_goes_while_the_cache_is_within_its_bound_nor_is_it_measured_before_it_has_grown() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    assert_eq!(cache.tidy(Some((SIZE * COUNT * 2) as u64)).unwrap(), 0);
    assert_eq!(here(&cache, &blobs).len(), COUNT);
    assert_eq!(cache.tidy(Some(0)).unwrap(), 0, "it was measured again");
}

#[test]
fn a_full_disk_makes_room_within_the_bound() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    assert_eq!(cache.tidy(Some(u64::MAX)).unwrap(), 0);
    // As when a write has failed.
    cache.remember(&blobs[0].digest, &bytes_of(0));
    assert!(cache.tidy(Some(u64::MAX)).unwrap() >= (SIZE * COUNT / 8) as u64);
}

#[test]
fn the_second_name_of_what_goes_goes_too() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    let proved = cache.proved().unwrap();
    assert!(cache.prove(&blobs[0], &proved).unwrap());
    cache.tidy(Some(0)).unwrap();
    assert_eq!(
        fs::read_dir(&proved).unwrap().map(|entry| fs::read_dir(entry.unwrap().path()).unwrap().count()).sum::<usize>(),
        0
    );
}

#[test]
fn damaged_notes_of_use_cost_a_choice_and_nothing_else() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    fs::write(cache.root.join("used").join("1-2"), b"half a rec").unwrap();
    fs::write(cache.root.join("used").join("1-3"), [0xff; 100]).unwrap();
    assert!(cache.tidy(Some((SIZE * 8) as u64)).unwrap() > 0);
    assert!(here(&cache, &blobs).contains(&(COUNT - 1)));
}

#[test]
fn notes_of_use_are_written_anew_when_they_are_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = [0; 16];
    record[7] = 9;
    record[15] = 3;
    fs::write(dir.path().join("1-1"), record.repeat((17 << 20) / 16)).unwrap();
    assert_eq!(used::read(dir.path()), [(9, 3)].into());
    assert_eq!(used::read(dir.path()), [(9, 3)].into());
    let sizes: Vec<u64> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes, [16]);
}

#[test]
fn what_is_pinned_stays_whatever_the_bound_until_its_pin_goes() {
    let (_dir, cache) = open();
    let blobs = filled(&cache);
    let directory = cache.proved().unwrap();
    fs::create_dir(cache.root.join("mounts")).unwrap();
    let pin = cache.root.join("mounts").join("0.pin");
    let digests: Vec<_> = blobs[..3].iter().map(|blob| blob.digest).collect();
    assert!(cache.prove(&blobs[0], &directory).unwrap() && cache.prove(&blobs[1], &directory).unwrap());
    // Not all of it was proved: nothing is pinned.
    assert_eq!(cache.pin(&digests, &pin).unwrap(), None);
    assert!(!pin.exists());
    assert!(cache.prove(&blobs[2], &directory).unwrap());
    assert_eq!(cache.pin(&digests, &pin).unwrap().as_ref(), Some(&directory));
    cache.tidy(Some(1)).unwrap();
    assert_eq!(here(&cache, &blobs), [0, 1, 2]);
    for digest in &digests {
        assert!(directory.join(&digest.hex()[..2]).join(digest.hex()).exists());
    }
    // That of an earlier start of the machine pins nothing.
    let text = fs::read(&pin).unwrap();
    fs::write(&pin, [b"earlier-", &text[..]].concat()).unwrap();
    again(&cache).tidy(Some(1)).unwrap();
    assert_eq!(here(&cache, &blobs), [0usize; 0]);
    assert!(!pin.exists());
    assert_eq!(
        fs::read_dir(&directory).unwrap().flatten().flat_map(|entry| fs::read_dir(entry.path())).flatten().count(),
        0
    );
}
