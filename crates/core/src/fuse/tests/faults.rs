//! What goes wrong on the way, and who must not notice.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::world::{Act, Mounted, PATIENCE, Tree};
use super::{names, noise};
use crate::filemap::{Kind, Missing};
use crate::fuse::unmount;
use crate::wanted::{Class, Want};

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Two files too large to share a frame, in a directory.
fn two_files() -> Tree {
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/bad", noise(1, 400_000));
    tree.file("d/good", noise(2, 400_000));
    tree
}

/// Whether a want is for the first chunk of the pack of contents.
fn is_first_content(tree: &Tree) -> impl Fn(&Want) -> bool + Send + Sync + 'static {
    let map = tree.clone().store();
    let file_map = map.file_map();
    let page = &file_map.pages()[0];
    let text = crate::archive::frame::open(map.frame(&page.frame), page.frame.plain).unwrap();
    let text = &text[page.inner as usize..][..page.digest.size as usize];
    file_map.add_page(0, text).unwrap();
    let find = || {
        let inode = file_map.find(b"d/bad")?;
        Ok::<_, Missing>(file_map.entry(inode.unwrap())?.unwrap().kind.clone())
    };
    let Kind::Regular(content) = find().unwrap() else { unreachable!() };
    move |want| want.frame == content.chunks[0].frame
}

#[test]
fn a_damaged_frame_is_an_error_for_its_readers_only() {
    let tree = two_files();
    let bad = is_first_content(&tree);
    let mounted = Mounted::acting(tree.store(), move |want| if bad(want) { Act::Damage } else { Act::Bring });
    assert_eq!(errno(mounted.read("d/bad")), libc::EIO);
    assert!(mounted.read("d/good").unwrap() == noise(2, 400_000));
    assert_eq!(names(&mounted, "d").len(), 2);
    let said = mounted.server.stats().last_error.unwrap();
    assert!(said.contains("is damaged"), "{said}");
}

#[test]
fn a_frame_damaged_on_the_way_once_is_fetched_again() {
    let tree = two_files();
    let bad = is_first_content(&tree);
    let times = AtomicUsize::new(0);
    let mounted = Mounted::acting(tree.store(), move |want| {
        if bad(want) && times.fetch_add(1, Relaxed) == 0 { Act::Damage } else { Act::Bring }
    });
    assert!(mounted.read("d/bad").unwrap() == noise(1, 400_000));
    assert_eq!(mounted.server.stats().errors, 0);
}

#[test]
fn a_damaged_chunk_harms_nobody_who_shares_its_frame() {
    let mut tree = Tree::new();
    tree.file("first", "one");
    tree.file("last", "two");
    let page = tree.clone().store().file_map().pages()[0].frame.clone();
    let mounted =
        Mounted::acting(tree.store(), move |want| if want.frame == page { Act::Bring } else { Act::SpoilLast });
    assert_eq!(errno(mounted.read("last")), libc::EIO);
    assert_eq!(mounted.read("first").unwrap(), b"one");
    assert_eq!(errno(mounted.read("last")), libc::EIO);
}

#[test]
fn a_store_that_is_away_is_an_error_until_it_is_back() {
    let tree = two_files();
    let bad = is_first_content(&tree);
    let away = Arc::new(AtomicUsize::new(1));
    let mounted = {
        let away = away.clone();
        Mounted::acting(
            tree.store(),
            move |want| if bad(want) && away.load(Relaxed) == 1 { Act::Fail } else { Act::Bring },
        )
    };
    assert_eq!(errno(mounted.read("d/bad")), libc::EIO);
    assert_eq!(mounted.server.stats().last_error.unwrap(), "the store is away");
    assert!(mounted.read("d/good").unwrap() == noise(2, 400_000));
    away.store(0, Relaxed);
    assert!(mounted.read("d/bad").unwrap() == noise(1, 400_000));
}

#[test]
fn a_page_that_does_not_come_is_an_error_for_what_is_on_it_only() {
    let mut tree = Tree::new();
    for number in 0..5000 {
        tree.file(format!("{number:04}{}", "x".repeat(60)), "same");
    }
    let store = tree.store();
    let pages: Vec<_> = store.file_map().pages().iter().map(|page| page.frame.clone()).collect();
    assert!(pages.len() > 3);
    let last = pages[pages.len() - 1].clone();
    let mounted = Mounted::acting(store, move |want| if want.frame == last { Act::Fail } else { Act::Bring });
    let path = |number: usize| mounted.path(&format!("{number:04}{}", "x".repeat(60)));
    assert_eq!(std::fs::read(path(17)).unwrap(), b"same");
    assert_eq!(errno(std::fs::read(path(4999))), libc::EIO);
    let listed = std::fs::read_dir(&mounted.place).unwrap().collect::<Result<Vec<_>, _>>();
    assert_eq!(errno(listed), libc::EIO);
}

#[test]
fn many_readers_of_one_cold_file_cause_one_fetch() {
    let tree = two_files();
    let mounted = Arc::new(Mounted::acting(tree.store(), |want| {
        if want.class == Class::Demand && want.frame.length > 100_000 { Act::Hold } else { Act::Bring }
    }));
    names(&mounted, "d");
    let before = mounted.wanted.counts().taken[0];
    let start = Arc::new(Barrier::new(32));
    let readers = (0..32).map(|number| {
        let (mounted, start) = (mounted.clone(), start.clone());
        std::thread::spawn(move || {
            use std::os::unix::fs::FileExt;
            let mut buffer = vec![0; 1000];
            let file = std::fs::File::open(mounted.path("d/bad")).unwrap();
            start.wait();
            file.read_exact_at(&mut buffer, number * 12_000).unwrap();
            assert!(buffer[..] == noise(1, 400_000)[number as usize * 12_000..][..1000]);
        })
    });
    let readers: Vec<_> = readers.collect();
    mounted.until_waiting(2);
    mounted.gate.open();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(mounted.wanted.counts().taken[0] - before, 1);
}

#[test]
fn a_blocked_process_can_be_interrupted() {
    let tree = two_files();
    let pages = tree.clone().store().file_map().pages()[0].frame.clone();
    // First the page is held, so `ls` blocks on a look-up; a second mount holds contents, so `cat` blocks on a read.
    for (command, path, hold_page) in [("ls", "d/good", true), ("cat", "d/good", false)] {
        let pages = pages.clone();
        let mounted = Mounted::acting(tree.clone().store(), move |want| {
            if (want.frame == pages) == hold_page { Act::Hold } else { Act::Bring }
        });
        let mut blocked = Command::new(command).arg(mounted.path(path)).stdout(Stdio::null()).spawn().unwrap();
        mounted.until_waiting(1);
        // Not before it waits: a signal that comes earlier would prove nothing.
        let pid = rustix::process::Pid::from_child(&blocked);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(!blocked.wait().unwrap().success(), "{command}");
        mounted.gate.open();
        assert!(mounted.read(path).unwrap() == noise(2, 400_000), "what it asked for comes all the same");
    }
}

#[test]
fn a_mount_in_use_is_unmounted_lazily_and_stopping_frees_who_is_blocked() {
    let tree = two_files();
    let pages = tree.clone().store().file_map().pages()[0].frame.clone();
    let mounted =
        Arc::new(Mounted::acting(tree.store(), move |want| if want.frame == pages { Act::Bring } else { Act::Hold }));
    let reader = {
        let path = mounted.path("d/bad");
        std::thread::spawn(move || errno(std::fs::read(path)))
    };
    mounted.until_waiting(1);
    let refused = unmount(&mounted.place, false).unwrap_err().to_string();
    assert!(refused.contains("is in use"), "{refused}");
    unmount(&mounted.place, true).unwrap();
    assert_eq!(std::fs::read_dir(&mounted.place).unwrap().count(), 0);
    mounted.server.stop("unmounted");
    assert_eq!(reader.join().unwrap(), libc::EIO);
    assert!(mounted.wanted.is_closed());
}

#[test]
fn unmounting_ends_the_server_and_closes_the_queue() {
    let mounted = Mounted::new(two_files().store());
    mounted.read("d/good").unwrap();
    unmount(&mounted.place, false).unwrap();
    while !mounted.wanted.is_closed() {
        std::thread::yield_now();
    }
    assert!(mounted.wanted.take(1, 1, Class::Background, Duration::from_secs(60)).is_empty());
}

#[test]
fn a_cache_that_takes_nothing_is_no_error_for_the_reader() {
    let tree = two_files();
    let mounted = Mounted::new(tree.store());
    for name in ["objects", "partial", "tmp"] {
        std::fs::remove_dir_all(mounted.cache.join(name)).unwrap();
        std::fs::write(mounted.cache.join(name), "in the way").unwrap();
    }
    assert!(mounted.read("d/bad").unwrap() == noise(1, 400_000));
    assert!(mounted.read("d/good").unwrap() == noise(2, 400_000));
}

#[test]
fn a_map_with_links_to_nothing_harms_nobody_else() {
    let mut tree = two_files();
    tree.hard_link("d/dangling", "d/none");
    tree.hard_link("d/to directory", "d");
    tree.hard_link("d/round", "d/round2");
    tree.hard_link("d/round2", "d/round");
    let mounted = Mounted::new(tree.store());
    assert_eq!(names(&mounted, "d").len(), 6);
    for name in ["dangling", "to directory", "round"] {
        assert_eq!(errno(mounted.read(&format!("d/{name}"))), libc::EIO, "{name}");
    }
    assert!(mounted.read("d/good").unwrap() == noise(2, 400_000));
}

#[test]
fn who_has_waited_too_long_gets_an_error_and_who_comes_later_the_bytes() {
    for any in [true, false] {
        let mut tree = Tree::new();
        tree.file("f", noise(1, 400_000));
        let mounted =
            Mounted::acting(tree.store(), |want| if want.class == Class::Demand { Act::Hold } else { Act::Bring });
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| mounted.read("f"));
            mounted.until_waiting(1);
            assert_eq!(mounted.server.expire(PATIENCE, any, "not yet"), 0);
            assert_eq!(mounted.server.stats().waiting, 1);
            // Whatever it waits for now and next, its page or its bytes.
            while !reader.is_finished() {
                mounted.server.expire(Duration::ZERO, any, "the store is away");
                std::thread::yield_now();
            }
            assert_eq!(errno(reader.join().unwrap()), libc::EIO);
        });
        assert_eq!(mounted.server.stats().last_error.as_deref(), Some("the store is away"));
        mounted.gate.open();
        assert!(mounted.read("f").unwrap() == noise(1, 400_000));
    }
}

#[test]
fn who_came_late_to_what_is_given_up_waits_on_and_has_it_asked_for_anew() {
    let mut tree = Tree::new();
    tree.file("f", noise(1, 400_000));
    let times = AtomicUsize::new(0);
    let mounted = Mounted::acting(tree.store(), move |want| {
        let first = want.class == Class::Demand && times.fetch_add(1, Relaxed) < 2;
        if first { Act::Late } else { Act::Bring }
    });
    assert!(mounted.read("f").unwrap() == noise(1, 400_000));
}
