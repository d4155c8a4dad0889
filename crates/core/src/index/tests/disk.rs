//! What a disk may hold, and what may happen to it meanwhile.

use std::os::unix::net::UnixListener;

use rustix::fs::{Mode, XattrFlags, lsetxattr, mkdirat, openat};
use rustix::process::geteuid;
use rustix::thread::{Uid, set_thread_res_uid};

use super::*;
use crate::error::Error;

/// Run `work` as a user without privileges (on a thread: the kernel keeps users by thread).
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            if geteuid().is_root() {
                set_thread_res_uid(None, Uid::from_raw(65534), None).unwrap();
            }
            work()
        });
        nobody.join().unwrap()
    })
}

/// A place whose `b/c` and `b/d` may not be read by others.
fn guarded() -> Place {
    let place = Place::new();
    let home = place.root.parent().unwrap();
    fs::create_dir(place.index.parent().unwrap()).unwrap();
    for open in [home, place.index.parent().unwrap()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    for closed in ["b/c", "b/d"] {
        fs::set_permissions(place.path(closed), fs::Permissions::from_mode(0o000)).unwrap();
    }
    place
}

#[test]
fn all_that_may_not_be_read_is_named_and_nothing_stored() {
    let place = guarded();
    let error = as_nobody(|| place.try_hash().map(|_| ())).unwrap_err();
    assert!(
        matches!(&error, Error::Unreadable { paths } if *paths == [place.path("b/c"), place.path("b/d")]),
        "{error}"
    );
    assert!(!place.index.exists());
}

#[test]
fn what_was_skipped_is_looked_at_again() {
    let place = guarded();
    let skip = |paths: &[&str]| {
        let hashed = as_nobody(|| hash(&place.root, Some(&place.index), &options(2, true), &Job::default()));
        let (state, _, unreadable) = hashed.unwrap();
        assert_eq!(unreadable, paths.iter().map(|path| place.path(path)).collect::<Vec<_>>());
        state
    };
    let state = skip(&["b/c", "b/d"]);
    let paths: Vec<_> = (1..state.len()).map(|entry| String::from_utf8(state.path_of(entry)).unwrap()).collect();
    assert_eq!(paths, ["a", "b", "empty", "fifo", "link", "b/g", "b/g/h"]);
    settle();
    let again = skip(&["b/c", "b/d"]);
    assert_eq!(again.root_digest(), state.root_digest());
    assert!(as_nobody(|| place.try_hash().map(|_| ())).is_err(), "a stored state does not hide them");
    fs::set_permissions(place.path("b/c"), fs::Permissions::from_mode(0o644)).unwrap();
    skip(&["b/d"]);
    fs::set_permissions(place.path("b/d"), fs::Permissions::from_mode(0o755)).unwrap();
    as_nobody(|| place.hash());
}

#[test]
fn a_directory_that_may_be_listed_and_not_searched_is_unreadable() {
    let place = guarded();
    fs::set_permissions(place.path("b"), fs::Permissions::from_mode(0o444)).unwrap();
    let error = as_nobody(|| place.try_hash().map(|_| ())).unwrap_err();
    assert!(matches!(&error, Error::Unreadable { paths } if *paths == [place.path("b")]), "{error}");
    fs::set_permissions(&place.root, fs::Permissions::from_mode(0o000)).unwrap();
    let error = as_nobody(|| hash(&place.root, None, &options(1, true), &Job::default()).map(|_| ())).unwrap_err();
    assert!(matches!(&error, Error::Unreadable { paths } if *paths == [place.root.clone()]), "the root: {error}");
    fs::set_permissions(&place.root, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn names_are_bytes_and_sockets_are_nothing() {
    let place = Place::new();
    for name in [&b"caf\xe9"[..], b"\xff\xfe", b"new\nline", b" ", b"\xc3\xa9"] {
        fs::write(place.root.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(b"to \xff"), place.path("z")).unwrap();
    let _socket = UnixListener::bind(place.path("socket")).unwrap();
    settle();
    place.hash();
    assert_eq!(place.hash(), 0);
    let (state, ..) = place.try_hash().unwrap();
    let names: Vec<_> = state.entries(0).map(|entry| state.name(entry).to_vec()).collect();
    assert!(names.is_sorted() && names.contains(&b"\xff\xfe".to_vec()) && !names.contains(&b"socket".to_vec()));
}

#[test]
fn hard_links_are_files_like_any_other() {
    let place = Place::new();
    fs::hard_link(place.path("a"), place.path("b/again")).unwrap();
    settle();
    assert_eq!(place.hash(), 6);
    let (state, ..) = place.try_hash().unwrap();
    assert!(state.has_links(state.find(b"b/again").unwrap()));
}

#[test]
fn extended_attributes_are_noticed_when_they_come_and_go() {
    let place = Place::new();
    let has = |path: &str| {
        let (state, ..) = place.try_hash().unwrap();
        state.has_xattrs(state.find(path.as_bytes()).unwrap())
    };
    let had = (has("a"), has("b"));
    for path in ["a", "b", ""] {
        lsetxattr(place.path(path), "user.sapwood", b"x", XattrFlags::empty()).unwrap();
    }
    settle();
    assert!(has("a") && has("b") && has(""));
    assert!(has("a"), "and kept with the record");
    for path in ["a", "b"] {
        rustix::fs::lremovexattr(place.path(path), "user.sapwood").unwrap();
    }
    assert_eq!((has("a"), has("b")), had);
}

#[test]
fn a_tree_deeper_than_a_path_may_be_long_is_hashed_bottom_to_top() {
    const DEPTH: usize = 400;
    let place = Place::empty();
    let name = "twenty-bytes-of-name";
    let mut expected = Vec::new();
    {
        let mut at = rustix::fs::open(&place.root, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&at, name, Mode::RWXU).unwrap();
            at = openat(&at, name, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        }
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        rustix::io::write(openat(&at, "f", flags, Mode::RWXU).unwrap(), b"deep").unwrap();
        let mut bottom = Directory::default();
        bottom.file(b"f", Digest::of(b"deep"), true);
        expected.push(bottom.digest());
        for _ in 0..DEPTH {
            let mut above = Directory::default();
            above.directory(name.as_bytes(), *expected.last().unwrap());
            expected.push(above.digest());
        }
    }
    settle();
    let (state, summary, _) = place.try_hash().unwrap();
    assert_eq!((state.root_digest(), summary.files_hashed), (expected.last().copied(), 1));
    let (state, summary, _) = place.try_hash().unwrap();
    assert_eq!((state.root_digest(), summary.files_hashed), (expected.last().copied(), 0));
    assert_eq!(summary.directories, DEPTH as u64);
}

#[test]
fn a_tree_that_is_rearranged_meanwhile_is_no_error_and_right_afterwards() {
    let place = Place::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let restless = scope.spawn(|| {
            let mut round = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                round += 1;
                fs::create_dir_all(place.path("b/x/y")).unwrap();
                fs::write(place.path("b/x/y/f"), "f").unwrap();
                fs::rename(place.path("b/x"), place.path("moved")).unwrap();
                fs::remove_dir_all(place.path("moved")).unwrap();
                if round.is_multiple_of(2) {
                    fs::write(place.path("moved"), "a file by now").unwrap();
                    fs::remove_file(place.path("moved")).unwrap();
                }
            }
        });
        for _ in 0..200 {
            match place.try_hash() {
                Ok(_) | Err(Error::Unstable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        restless.join().unwrap();
    });
    place.hash();
}

#[test]
fn after_the_clock_was_set_back_what_seems_to_come_from_the_future_is_not_believed() {
    let place = Place::new();
    place.hash();
    let (root, options, job) = (crate::scan::Root::open(&place.root).unwrap(), options(2, false), Job::default());
    let state = State::read(&place.index, 2, &job).unwrap().unwrap();
    let mut look = super::super::look::Look::new(&root, &options, None, &job).unwrap();
    assert!(look.findings(&state, Scope::All).unwrap().is_empty());
    look.began.sec -= 3600;
    let found: Vec<u32> = look.findings(&state, Scope::All).unwrap().iter().map(|finding| finding.directory).collect();
    let directories: Vec<u32> = (0..state.len()).filter(|&entry| state.kind(entry) == Kind::Directory).collect();
    assert_eq!(found, directories);
}

#[test]
fn a_stop_is_an_error_and_stores_nothing() {
    let place = Place::new();
    let job = Job::default();
    job.stop();
    assert!(matches!(hash(&place.root, Some(&place.index), &options(2, false), &job), Err(Error::Stopped)));
    assert!(!place.index.exists());
}

#[test]
fn progress_counts_what_is_read() {
    let place = Place::new();
    let job = Job::default();
    hash(&place.root, None, &options(2, false), &job).unwrap();
    assert_eq!((job.files_done.into_inner(), job.files_total.into_inner()), (5, 5));
    assert_eq!((job.bytes_done.into_inner(), job.bytes_total.into_inner()), (15, 15));
}

#[test]
fn the_root_must_be_there() {
    let place = Place::empty();
    let absent = hash(&place.path("absent"), None, &options(1, false), &Job::default());
    assert!(matches!(absent, Err(Error::Io { doing: "open", .. })));
    place.write("f", "");
    let file = hash(&place.path("f"), None, &options(1, false), &Job::default());
    assert!(matches!(file, Err(Error::NotADirectory { .. })));
}
