//! What comes first: what somebody asks for, what lies beside it, what is of its kind, and the rest.

use std::sync::{Arc, Mutex};

use super::noise;
use super::world::{Act, Mounted, Tree};
use crate::filemap::FrameAt;

/// Each has a frame of its own.
const BYTES: usize = 300_000;

fn tree(paths: &[&str]) -> Tree {
    let mut tree = Tree::new();
    for (number, path) in paths.iter().enumerate() {
        tree.file(path, noise(number as u64 + 1, BYTES));
    }
    tree
}

fn settle(mounted: &Mounted) {
    while mounted.wanted.counts().queued != [0; 4] || mounted.wanted.counts().in_flight != 0 {
        std::thread::yield_now();
    }
}

#[test]
fn files_of_a_kind_that_lie_beside_what_is_demanded_come_with_it() {
    let mut tree = tree(&["d/a.so", "d/b.py", "d/c.so", "d/d.so", "e/e.so"]);
    for directory in ["d", "e"] {
        tree.directory(directory);
    }
    let mounted = Mounted::new(tree.store());
    mounted.read("d/c.so").unwrap();
    settle(&mounted);
    let waits = |path: &str| {
        std::fs::metadata(mounted.path(path)).unwrap();
        let before = mounted.server.stats().waited;
        mounted.read(path).unwrap();
        mounted.server.stats().waited - before
    };
    assert_eq!(["d/a.so", "d/d.so"].map(waits), [0, 0], "before it and behind it");
    assert!(waits("d/b.py") > 0, "another kind");
    assert!(waits("e/e.so") > 0, "another directory");
}

#[test]
fn of_a_large_library_what_is_loaded_is_read_ahead_and_what_is_behind_is_not() {
    let loaded = 3_000_000_u64;
    let mut library = noise(1, 12 << 20);
    library[..64].fill(0);
    library[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (library[0x20], library[0x36], library[0x38]) = (64, 56, 1);
    library[64..120].fill(0);
    library[64] = 1;
    library[96..104].copy_from_slice(&loaded.to_le_bytes());
    let mut tree = Tree::new();
    tree.file("l.so", &library);
    let mounted = Mounted::new(tree.store());
    let file = std::fs::File::open(mounted.path("l.so")).unwrap();
    let read = |offset: u64| {
        let mut bytes = [0; 16];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset).unwrap();
        assert_eq!(bytes, library[offset as usize..][..16]);
    };
    read(0);
    // Far from the first, as a loader reads.
    read(loaded - 16);
    settle(&mounted);
    let inode = mounted.server.map.find(b"l.so").unwrap().unwrap();
    let (_, content) = crate::fuse::answer::content(&mounted.server.map, inode).ok().unwrap();
    let bounds = crate::fuse::bounds::Bounds::of(content);
    let missing = mounted.server.cache.missing(content);
    let behind = bounds.chunk_at(loaded - 1) + 1;
    // What the kernel reads ahead itself is 128 KiB.
    assert!(missing[0] >= behind && missing.len() > (content.chunks.len() - behind) / 2, "{missing:?} from {behind}");
}

#[test]
fn the_background_begins_with_the_suffixes_of_which_several_files_are_read_and_ends_with_tests() {
    let came = Arc::new(Mutex::new(Vec::<FrameAt>::new()));
    let seen = came.clone();
    let paths = ["a.h", "l.so", "m.so", "p/tests/t.so", "q/x.h", "q/y.h", "q/z.so"];
    let mut tree = tree(&paths);
    for directory in ["p", "p/tests", "q"] {
        tree.directory(directory);
    }
    let mounted = Mounted::acting(tree.store(), move |want| {
        seen.lock().unwrap().push(want.frame.clone());
        Act::Bring
    });
    for path in ["q/x.h", "l.so", "m.so"] {
        mounted.read(path).unwrap();
    }
    // One at a time, so that neighbours do not come along.
    mounted.wanted.set_in_flight(1);
    mounted.server.prefetch(true);
    settle(&mounted);
    let came = came.lock().unwrap();
    let turn = |path: &str| {
        let inode = mounted.server.map.find(path.as_bytes()).unwrap().unwrap();
        let (_, content) = crate::fuse::answer::content(&mounted.server.map, inode).ok().unwrap();
        came.iter().position(|frame| *frame == content.chunks[0].frame).unwrap()
    };
    assert!(turn("q/z.so") < turn("a.h"), "of .h one was read");
    assert!(turn("a.h") < turn("p/tests/t.so"));
}

#[test]
fn the_first_reading_of_a_file_is_traced_as_its_opening_and_goes_before_what_is_queued() {
    let paths: Vec<String> = (0..40).map(|number| format!("{number:02}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mounted = Mounted::new(tree(&paths).store());
    // Nothing that nobody waits for is handed out.
    mounted.wanted.set_in_flight(0);
    mounted.server.start_trace();
    let server = mounted.server.clone();
    let background = std::thread::spawn(move || server.prefetch(true));
    let file = std::fs::File::open(mounted.path("39")).unwrap();
    assert_eq!(mounted.server.traced(), [], "an open is answered by the kernel");
    let mut first = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut first, 0).unwrap();
    assert_eq!(mounted.server.traced()[0].path, b"39");
    let counts = mounted.wanted.counts();
    assert_eq!(counts.taken[1..], [0; 3], "it did not wait for the others");
    assert!(counts.taken[0] > 0);
    mounted.wanted.set_in_flight(1 << 20);
    background.join().unwrap();
}
