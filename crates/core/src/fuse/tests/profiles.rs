//! What is read is told, and what is told is brought before anybody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::noise;
use super::world::{Act, Mounted, Tree};
use crate::digest::Digest;
use crate::filemap::{ChunkAt, Content, FrameAt};
use crate::fuse::Lacking;
use crate::fuse::bounds::Bounds;
use crate::wanted::Class;

fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.directory("d");
    for number in 0..200u64 {
        tree.file(format!("d/{number:03}"), noise(number, 20_000));
    }
    tree.file("large", noise(7, 12 << 20));
    tree.hard_link("link", "large");
    tree
}

#[test]
fn a_trace_has_each_chunk_once_in_the_order_of_reading_and_who_read_it() {
    use std::os::unix::fs::FileExt;
    let mounted = Mounted::new(tree().store());
    mounted.read("d/001").unwrap();
    assert_eq!(mounted.server.traced(), [], "nobody asked for a trace yet");
    mounted.server.start_trace();
    for name in ["d/150", "d/007", "d/150"] {
        mounted.read(name).unwrap();
    }
    let mut buffer = [0; 10];
    std::fs::File::open(mounted.path("link")).unwrap().read_exact_at(&mut buffer, 9 << 20).unwrap();
    let traced = mounted.server.traced();
    let paths: Vec<_> = traced.iter().map(|part| String::from_utf8(part.path.clone()).unwrap()).collect();
    assert_eq!(paths[..3], ["d/150", "d/007", "large"]);
    assert!(paths[3..].iter().all(|path| path == "large"), "{paths:?}");
    assert_eq!((traced[0].offset, &traced[0].ranges[..]), (0, &[(0, 20_000)][..]));
    assert!(traced[2].offset > 0 && traced[2].offset <= 9 << 20);
    let own = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    let own = own.trim_end().as_bytes();
    assert!(traced.iter().any(|part| part.readers.iter().any(|name| name == own)), "{traced:?}");
}

#[test]
fn a_trace_has_each_file_that_was_asked_for_by_name_and_none_that_was_only_listed() {
    let mut tree = tree();
    tree.file("empty", "");
    tree.symlink("to", "d/010");
    let mounted = Mounted::new(tree.store());
    mounted.server.start_trace();
    let looked_up = || {
        let mut paths = mounted.server.looked_up();
        paths.sort();
        paths.into_iter().map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(std::fs::read_dir(mounted.path("d")).unwrap().count(), 200);
    assert!(std::fs::read_dir(&mounted.place).unwrap().all(|entry| entry.unwrap().file_type().is_ok()));
    for name in ["d", "empty", "no such file", "d/no such file"] {
        let _ = std::fs::metadata(mounted.path(name));
    }
    assert_eq!(looked_up(), <[&str; 0]>::default());
    for name in ["d/100", "d/007", "d/100", "to", "link"] {
        std::fs::metadata(mounted.path(name)).unwrap();
    }
    mounted.read("d/199").unwrap();
    assert_eq!(looked_up(), ["d/007", "d/010", "d/100", "d/199", "large"]);
    assert!(mounted.server.traced().iter().all(|part| part.path == b"d/199"));
    // As `ls -l` does.
    let sizes = std::fs::read_dir(mounted.path("d")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(sizes.eq([20_000; 200]));
    assert_eq!(looked_up().len(), 201);
}

#[test]
fn what_a_profile_names_is_brought_without_being_asked_for_and_nothing_else() {
    let mounted = Mounted::new(tree().store());
    let wanted = |path: &str, offset| (path.as_bytes().to_vec(), offset, offset + 1);
    let parts = [wanted("d/199", 0), wanted("no/such/file", 0), wanted("link", 11 << 20), wanted("d", 0)];
    mounted.server.follow(&parts);
    while mounted.wanted.counts().queued != [0; 4] || mounted.wanted.counts().in_flight != 0 {
        std::thread::yield_now();
    }
    let counts = mounted.wanted.counts();
    assert_eq!((counts.taken[Class::Demand as usize], counts.taken[Class::Background as usize]), (0, 0));
    let stats = mounted.server.stats();
    assert!(stats.bytes < 4 << 20, "{stats:?}");
    assert!(mounted.read("d/199").unwrap() == noise(199, 20_000));
    assert_eq!(mounted.server.stats().waited, 0, "nobody had to wait for what came before");
}

#[test]
fn a_profile_whose_frames_do_not_come_ends_all_the_same() {
    let mounted = Mounted::acting(tree().store(), |_| Act::Fail);
    mounted.server.follow(&[(b"d/001".to_vec(), 0, 1), (b"large".to_vec(), 0, 1)]);
    assert_eq!(mounted.server.stats().errors, 0, "nobody waited for it");
}

#[test]
fn files_that_were_read_in_turns_are_brought_and_traced_by_chunk_wherever_they_were_read() {
    use std::os::unix::fs::FileExt;
    let mut tree = Tree::new();
    for name in ["one", "two"] {
        tree.file(name, noise(name.len() as u64 + u64::from(name.as_bytes()[0]), 12 << 20));
    }
    let mounted = Mounted::new(tree.store());
    let places: Vec<(Vec<u8>, u64, u64)> = (0..12)
        .flat_map(|at| ["one", "two"].map(|name| (name.as_bytes().to_vec(), at << 20, (at << 20) + 1)))
        .collect();
    let behind = [(b"one".to_vec(), 12 << 20, 13 << 20), (b"two".to_vec(), u64::MAX, u64::MAX)];
    mounted.server.follow(&[&places[..], &behind].concat());
    while mounted.wanted.counts().queued != [0; 4] || mounted.wanted.counts().in_flight != 0 {
        std::thread::yield_now();
    }
    mounted.server.start_trace();
    let files = ["one", "two"].map(|name| std::fs::File::open(mounted.path(name)).unwrap());
    for (number, (_, offset, _)) in places.iter().enumerate() {
        files[number % 2].read_exact_at(&mut [0], *offset).unwrap();
    }
    assert_eq!(mounted.server.stats().errors, 0);
    let traced = mounted.server.traced();
    for (path, offset, _) in &places {
        let before = traced.iter().filter(|part| part.path == *path && part.offset <= *offset);
        assert!(before.max_by_key(|part| part.offset).is_some_and(|part| part.offset + (4 << 20) > *offset));
    }
}

#[test]
fn the_chunks_under_a_range_are_those_that_a_walk_over_all_finds() {
    let frame = FrameAt { pack: Arc::new([0; 32]), offset: 0, length: 1, plain: 1 };
    let chunk = |size| ChunkAt { digest: Digest { sha256: [1; 32], size }, frame: frame.clone(), inner: 0 };
    for sizes in [&[][..], &[5], &[3, 1, 4, 1, 5]] {
        let chunks: Vec<_> = sizes.iter().copied().map(chunk).collect();
        let whole = sizes.iter().sum();
        let bounds = Bounds::of(&Content { digest: Digest { sha256: [2; 32], size: whole }, chunks, holes: vec![] });
        let mut places = Vec::new();
        for size in sizes {
            let begin = places.last().map_or(0, |&(_, end)| end);
            places.push((begin, begin + size));
        }
        for start in 0..whole + 3 {
            assert_eq!(bounds.chunk_at(start), places.iter().filter(|&&(_, end)| end <= start).count());
            for end in start + 1..whole + 4 {
                let walked: Vec<_> = places.iter().copied().filter(|&(from, to)| from < end && to > start).collect();
                assert_eq!(bounds.covering(start, end).collect::<Vec<_>>(), walked, "{sizes:?} {start} {end}");
            }
        }
    }
}

/// What is lacking of a mount that for so long was never quiet; None if this thread did not ask often enough.
fn lacking_though_asked(mounted: &Mounted, time: Duration) -> Option<Lacking> {
    let (begun, mut last) = (Instant::now(), Instant::now());
    let is_late = |last: Instant| last.elapsed() > Duration::from_millis(1500);
    while begun.elapsed() < time && !is_late(last) {
        last = Instant::now();
        // Who reads what the kernel has may ask for nothing but names.
        rustix::fs::statvfs(&mounted.place).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let lacking = mounted.server.lacking();
    lacking.filter(|_| !is_late(last))
}

#[test]
fn the_rest_of_a_tree_comes_when_those_whom_a_profile_is_for_read_no_more() {
    // On a machine that stands still for seconds, a mount is quiet: then it is tried again.
    let is_told = (0..10).any(|_| {
        let mounted = Mounted::new(tree().store());
        mounted.server.follow(&[(b"d/199".to_vec(), 0, 1)]);
        let server = mounted.server.clone();
        let background = std::thread::spawn(move || server.prefetch(true));
        // Longer than it takes to be quiet.
        let lacking = lacking_though_asked(&mounted, Duration::from_secs(4));
        assert!(lacking.is_none_or(|lacking| lacking.files > 100), "{lacking:?}");
        background.join().unwrap();
        while mounted.server.lacking().is_none_or(|lacking| lacking.files > 0) {
            assert!(!mounted.wanted.is_closed(), "the watchdog ended the mount");
            std::thread::sleep(Duration::from_millis(10));
        }
        lacking.is_some()
    });
    assert!(is_told);
}
