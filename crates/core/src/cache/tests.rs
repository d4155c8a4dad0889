mod bound;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::*;
use crate::filemap::{ChunkAt, FrameAt};

fn open() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&dir.path().join("cache")).unwrap();
    (dir, cache)
}

fn again(cache: &Cache) -> Cache {
    Cache::open(&cache.root).unwrap()
}

fn content(chunks: &[&[u8]]) -> Content {
    let frame = FrameAt { pack: Arc::new([1; 32]), offset: 0, length: 1, plain: 1 };
    let at = |bytes: &&[u8]| ChunkAt { digest: Digest::of(bytes), frame: frame.clone(), inner: 0 };
    Content { digest: Digest::of(&chunks.concat()), chunks: chunks.iter().map(at).collect(), holes: vec![] }
}

fn read(cache: &Cache, content: &Content, offset: u64, length: usize) -> std::result::Result<Vec<u8>, Vec<usize>> {
    let mut buffer = vec![0xaa; length];
    match cache.read_at(content, offset, &mut buffer) {
        Read::Hit(n) => Ok(buffer[..n].to_vec()),
        Read::Miss(chunks) => Err(chunks),
    }
}

fn only_partial(cache: &Cache) -> PathBuf {
    let mut paths = fs::read_dir(cache.root.join("partial")).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_none()).unwrap()
}

#[test]
fn a_small_blob_is_missing_until_it_is_inserted_and_then_read_anywhere() {
    let (_dir, cache) = open();
    let blob = content(&[b"hello world"]);
    assert_eq!(read(&cache, &blob, 0, 5), Err(vec![0]));
    assert_eq!(cache.missing(&blob), [0]);
    cache.insert_chunk(&blob, 0, b"hello world").unwrap();
    assert_eq!(cache.missing(&blob), [0usize; 0]);
    for cache in [&cache, &again(&cache)] {
        assert_eq!(read(cache, &blob, 0, 5).unwrap(), b"hello");
        assert_eq!(read(cache, &blob, 6, 100).unwrap(), b"world");
        assert_eq!(read(cache, &blob, 11, 5).unwrap(), b"");
        assert_eq!(read(cache, &blob, u64::MAX, 5).unwrap(), b"");
        assert_eq!(cache.get(&blob.digest).unwrap(), b"hello world");
    }
    assert_eq!(fs::read_dir(cache.root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn an_empty_blob_is_always_here() {
    let (_dir, cache) = open();
    let blob = content(&[]);
    assert_eq!(read(&cache, &blob, 0, 9).unwrap(), b"");
    assert!(cache.missing(&blob).is_empty());
    cache.insert_blob(&blob.digest, b"").unwrap();
    assert!(!cache.path(&blob.digest).exists());
}

#[test]
fn bytes_that_are_others_are_refused() {
    let (_dir, cache) = open();
    let (small, large) = (content(&[b"right"]), content(&[b"one", b"two"]));
    assert!(matches!(cache.insert_chunk(&small, 0, b"wrong"), Err(Error::Mismatch { .. })));
    assert!(matches!(cache.insert_blob(&small.digest, b"right!"), Err(Error::Mismatch { .. })));
    assert!(matches!(cache.insert_chunk(&large, 1, b"one"), Err(Error::Mismatch { .. })));
    assert!(matches!(cache.insert_chunk(&large, 2, b"one"), Err(Error::Invalid { .. })));
    assert_eq!(cache.missing(&large), [0, 1]);
}

#[test]
fn a_damaged_object_is_removed_and_missing_again() {
    let (_dir, cache) = open();
    let blob = content(&[b"hello world"]);
    cache.insert_blob(&blob.digest, b"hello world").unwrap();
    for damaged in [&b"hello worlD"[..], b"hello", b""] {
        fs::write(cache.path(&blob.digest), damaged).unwrap();
        let other = again(&cache);
        assert_eq!(read(&other, &blob, 0, 5), Err(vec![0]), "{damaged:?}");
        assert!(!other.path(&blob.digest).exists());
        assert_eq!(other.get(&blob.digest), None);
        other.insert_blob(&blob.digest, b"hello world").unwrap();
        assert_eq!(read(&other, &blob, 0, 5).unwrap(), b"hello");
    }
}

#[test]
fn a_large_blob_is_read_while_incomplete_and_published_when_whole() {
    let (_dir, cache) = open();
    let (a, b, c) = (vec![1u8; 3000], vec![2u8; 5000], vec![3u8; 2000]);
    let blob = content(&[&a, &b, &c]);
    assert_eq!(read(&cache, &blob, 2999, 5002), Err(vec![0, 1, 2]));
    cache.insert_chunk(&blob, 1, &b).unwrap();
    assert_eq!(read(&cache, &blob, 3000, 5000).unwrap(), b);
    assert_eq!(read(&cache, &blob, 2999, 2), Err(vec![0]));
    assert_eq!(cache.missing(&blob), [0, 2]);

    let other = again(&cache);
    assert_eq!(read(&other, &blob, 3100, 10).unwrap(), [2; 10], "another process proves and reads it");
    other.insert_chunk(&blob, 0, &a).unwrap();
    assert_eq!(read(&cache, &blob, 2990, 20).unwrap(), [[1; 10], [2; 10]].concat(), "and what it adds is seen here");
    assert!(!cache.path(&blob.digest).exists());
    cache.insert_chunk(&blob, 2, &c).unwrap();
    assert!(cache.path(&blob.digest).exists());
    assert_eq!(fs::read_dir(cache.root.join("partial")).unwrap().count(), 0);
    for cache in [&cache, &other, &again(&cache)] {
        assert_eq!(read(cache, &blob, 0, 10_000).unwrap(), [&a[..], &b, &c].concat());
    }
}

#[test]
fn a_damaged_chunk_of_a_partial_or_a_large_object_is_missing_again() {
    let (_dir, cache) = open();
    let (a, b) = (vec![1u8; 3000], vec![2u8; 5000]);
    let blob = content(&[&a, &b]);
    cache.insert_chunk(&blob, 1, &b).unwrap();
    fs::OpenOptions::new().write(true).open(only_partial(&cache)).unwrap().write_all_at(b"x", 4000).unwrap();
    let other = again(&cache);
    assert_eq!(read(&other, &blob, 3000, 10), Err(vec![1]));
    assert_eq!(other.missing(&blob), [0, 1]);
    other.insert_chunk(&blob, 0, &a).unwrap();
    other.insert_chunk(&blob, 1, &b).unwrap();

    let path = cache.path(&blob.digest);
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"x", 7999).unwrap();
    let third = again(&cache);
    assert_eq!(read(&third, &blob, 0, 3000).unwrap(), a, "the part that is right is read");
    assert_eq!(read(&third, &blob, 0, 3001), Err(vec![0, 1]));
    assert!(!path.exists());
}

#[test]
fn what_is_open_and_proved_is_proved_again_when_somebody_else_has_written_to_it() {
    let (_dir, cache) = open();
    let blob = content(&[b"first-chunk", b"second"]);
    let spoil = |path: &Path, at: u64| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"!", at).unwrap();
    };
    cache.insert_chunk(&blob, 0, b"first-chunk").unwrap();
    assert_eq!(read(&cache, &blob, 0, 5).unwrap(), b"first");
    spoil(&only_partial(&cache), 3);
    // It came just now, and is still in memory; that it is not on the disk is found out when it is published.
    assert_eq!(read(&cache, &blob, 0, 5).unwrap(), b"first");
    cache.insert_chunk(&blob, 1, b"second").unwrap();
    assert_eq!(cache.missing(&blob), [0]);
    assert_eq!(read(&again(&cache), &blob, 0, 5), Err(vec![0]));
    cache.insert_chunk(&blob, 0, b"first-chunk").unwrap();
    assert_eq!(cache.missing(&blob), [0usize; 0]);
    assert_eq!(read(&cache, &blob, 11, 5).unwrap(), b"secon");
    spoil(&cache.path(&blob.digest), 3);
    // What is still right is still served.
    assert_eq!(read(&cache, &blob, 11, 5).unwrap(), b"secon");
    assert_eq!(read(&cache, &blob, 0, 5).unwrap(), b"first");
    assert!(!cache.path(&blob.digest).exists());
    cache.insert_chunk(&blob, 0, b"first-chunk").unwrap();
    cache.insert_chunk(&blob, 1, b"second").unwrap();
    assert_eq!(read(&cache, &blob, 0, 17).unwrap(), b"first-chunksecond");
    fs::File::options().write(true).open(cache.path(&blob.digest)).unwrap().set_len(4).unwrap();
    assert_eq!(read(&again(&cache), &blob, 0, 5), Err(vec![0]));
}

#[test]
fn a_record_without_its_bytes_claims_nothing() {
    let (_dir, cache) = open();
    let (a, b) = (vec![1u8; 3000], vec![0u8; 5000]);
    let blob = content(&[&a, &b]);
    cache.insert_chunk(&blob, 0, &a).unwrap();
    let data = only_partial(&cache);
    fs::File::create(&data).unwrap();
    let other = again(&cache);
    assert_eq!(read(&other, &blob, 0, 9), Err(vec![0]));
    other.insert_chunk(&blob, 0, &a).unwrap();
    assert_eq!(read(&other, &blob, 0, 3000).unwrap(), a);
}

#[test]
fn zeros_take_no_place_on_the_disk() {
    let (_dir, cache) = open();
    let (zeros, end) = (vec![0u8; 1 << 20], vec![7u8; 4096]);
    let blob = content(&[&zeros, &zeros, &end]);
    for (index, bytes) in [(0, &zeros), (1, &zeros), (2, &end)] {
        cache.insert_chunk(&blob, index, bytes).unwrap();
    }
    let meta = fs::metadata(cache.path(&blob.digest)).unwrap();
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    assert_eq!(read(&again(&cache), &blob, (2 << 20) - 1, 2).unwrap(), [0, 7]);
}

#[test]
fn a_map_that_lies_about_a_blob_cannot_spoil_it_for_others() {
    let (_dir, cache) = open();
    let honest = content(&[b"abc", b"def"]);
    let mut liar = content(&[b"abc", b"xyz"]);
    liar.digest = honest.digest;
    liar.chunks.iter().enumerate().for_each(|(index, _)| {
        cache.insert_chunk(&liar, index, [b"abc", b"xyz"][index]).unwrap();
    });
    assert_eq!(read(&cache, &liar, 0, 6).unwrap(), b"abcxyz", "each chunk is what that map says");
    assert!(!cache.path(&honest.digest).exists());
    assert_eq!(read(&cache, &honest, 3, 3), Err(vec![1]));
    for (index, bytes) in [b"abc", b"def"].into_iter().enumerate() {
        cache.insert_chunk(&honest, index, bytes).unwrap();
    }
    assert_eq!(read(&cache, &honest, 0, 6).unwrap(), b"abcdef");
    let other = again(&cache);
    for (index, bytes) in [b"abc", b"def"].into_iter().enumerate() {
        other.insert_chunk(&honest, index, bytes).unwrap();
    }
    assert_eq!(fs::read(other.path(&honest.digest)).unwrap(), b"abcdef");
}

#[test]
fn a_disk_that_takes_nothing_does_not_fail_the_reader() {
    let (_dir, cache) = open();
    let (small, large) = (content(&[b"hello"]), content(&[b"one", b"two"]));
    for name in ["objects", "partial", "tmp"] {
        fs::remove_dir_all(cache.root.join(name)).unwrap();
        fs::write(cache.root.join(name), "in the way").unwrap();
    }
    cache.insert_chunk(&small, 0, b"hello").unwrap();
    cache.insert_chunk(&large, 1, b"two").unwrap();
    assert_eq!(cache.unwritten(), 2);
    assert_eq!(read(&cache, &small, 1, 3).unwrap(), b"ell");
    assert_eq!(cache.get(&small.digest).unwrap(), b"hello");
    assert_eq!(read(&cache, &large, 4, 9).unwrap(), b"wo");
    assert_eq!(read(&cache, &large, 0, 9), Err(vec![0]));
    assert_eq!(cache.missing(&large), [0]);
}

#[test]
fn what_is_kept_in_memory_and_open_is_bounded() {
    let mut lru: Lru<u32> = Lru::new(10);
    for key in 0..5u8 {
        lru.insert([key; 32], u32::from(key), 3);
    }
    assert_eq!((0..5u8).filter(|&key| lru.has(&[key; 32])).collect::<Vec<_>>(), [2, 3, 4]);
    lru.get(&[2; 32]);
    assert_eq!(lru.insert([9; 32], 9, 4), [3]);
    assert_eq!(lru.insert([9; 32], 8, 4), [9]);
    assert_eq!(lru.insert([1; 32], 1, 99).len(), 3, "what is heavier than all is kept alone");
}

#[test]
fn files_of_killed_processes_are_swept() {
    let (_dir, cache) = open();
    let path = cache.root.join("tmp/dead");
    fs::write(&path, "half").unwrap();
    again(&cache);
    assert!(path.exists(), "a fresh one may belong to somebody");
    let old = SystemTime::now() - 2 * STALE;
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    again(&cache);
    assert!(!path.exists());
}
