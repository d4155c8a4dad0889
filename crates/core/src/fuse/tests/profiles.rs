//! What is read is told, and what is told is brought before anybody asks.

use super::noise;
use super::world::{Act, Mounted, Tree};
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
    assert_eq!((traced[0].offset, traced[0].bytes), (0, 20_000));
    assert!(traced[2].offset > 0 && traced[2].offset <= 9 << 20);
    let own = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    let own = own.trim_end().as_bytes();
    assert!(traced.iter().any(|part| part.readers.iter().any(|name| name == own)), "{traced:?}");
}

#[test]
fn what_a_profile_names_is_brought_without_being_asked_for_and_nothing_else() {
    let mounted = Mounted::new(tree().store());
    let wanted = |path: &str, offset| (path.as_bytes().to_vec(), offset);
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
    mounted.server.follow(&[(b"d/001".to_vec(), 0), (b"large".to_vec(), 0)]);
    assert_eq!(mounted.server.stats().errors, 0, "nobody waited for it");
}
