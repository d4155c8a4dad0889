//! Each answer is compared with that of a scan that knows nothing.

mod notes;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::index;
use crate::select::Selection;

/// A directory that is watched, with an index outside it.
struct Place {
    root: PathBuf,
    index: PathBuf,
    private: PathBuf,
    _home: tempfile::TempDir,
}

fn options() -> Options {
    Options::new(2)
}

impl Place {
    fn new() -> Place {
        let home = tempfile::tempdir().unwrap();
        let [root, index, private] = ["tree", "tree.index", "private"].map(|name| home.path().join(name));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&private).unwrap();
        let place = Place { root, index, private, _home: home };
        for (path, content) in [("a", "one"), ("b/c", "two"), ("b/d/e", "three"), ("b/d/f", ""), ("g/h", "four")] {
            place.write(path, content);
        }
        symlink("b/c", place.path("link")).unwrap();
        place
    }

    /// Hashed, and then watched.
    fn watched() -> (Place, Watcher) {
        let place = Place::new();
        settle();
        place.scan();
        let watcher = place.watch();
        (place, watcher)
    }

    fn watch(&self) -> Watcher {
        Watcher::start(&self.root, &self.index, &self.private, options(), &Job::default()).unwrap()
    }

    fn path(&self, rel: &str) -> PathBuf {
        self.root.join(rel)
    }

    fn write(&self, rel: &str, content: &str) {
        let path = self.path(rel);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn scan(&self) -> Digest {
        let (state, ..) = index::hash(&self.root, Some(&self.index), &options(), &Job::default()).unwrap();
        state.root_digest().unwrap()
    }

    /// How many files the watcher read; its answers are those of a scan.
    #[track_caller]
    fn check(&self, watcher: &Watcher) -> u64 {
        let scanned = index::status(&self.root, &self.index, &options(), &Job::default()).unwrap();
        assert_eq!(watcher.status(&Job::default()).unwrap(), Some(scanned));
        let hashed = watcher.hash(false, &Job::default()).unwrap();
        let (state, summary, _) = index::hash(&self.root, None, &options(), &Job::default()).unwrap();
        assert_eq!(Some(hashed.digest), state.root_digest());
        let Summary { files_hashed, .. } = hashed.summary;
        let expected = Summary { files_hashed, bytes_hashed: hashed.summary.bytes_hashed, ..summary };
        assert_eq!(hashed.summary, expected);
        let nothing = Status::default();
        assert_eq!(index::status(&self.root, &self.index, &options(), &Job::default()).unwrap(), nothing);
        files_hashed
    }
}

/// Wait until the clock is past the grain: what a look at everything finds racy is read again.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

#[test]
fn without_a_change_nothing_is_read() {
    let (place, watcher) = Place::watched();
    assert_eq!(place.check(&watcher), 0);
    assert_eq!(place.check(&watcher), 0);
}

#[test]
fn an_edit_costs_one_file_and_is_told_until_it_is_hashed() {
    let (place, watcher) = Place::watched();
    place.write("b/d/e", "five");
    for _ in 0..2 {
        let status = watcher.status(&Job::default()).unwrap().unwrap();
        assert_eq!(status.changed, [b"b/d/e"]);
    }
    assert_eq!(place.check(&watcher), 1);
    assert_eq!(place.check(&watcher), 0);
}

#[test]
fn what_was_changed_before_the_start_is_told() {
    let place = Place::new();
    place.scan();
    place.write("b/c", "changed");
    place.write("b/new/n", "new");
    fs::remove_file(place.path("a")).unwrap();
    let watcher = place.watch();
    place.write("b/new/m", "newer");
    place.check(&watcher);
}

#[test]
fn without_an_index_hash_makes_one_and_status_says_nothing() {
    let place = Place::new();
    let watcher = place.watch();
    assert_eq!(watcher.status(&Job::default()).unwrap(), None);
    let hashed = watcher.hash(false, &Job::default()).unwrap();
    assert_eq!(hashed.summary.files_hashed, 5);
    place.check(&watcher);
    fs::remove_file(&place.index).unwrap();
    assert_eq!(watcher.status(&Job::default()).unwrap(), None);
    watcher.hash(false, &Job::default()).unwrap();
    place.check(&watcher);
}

#[test]
fn an_index_that_another_process_wrote_is_read_anew() {
    let (place, watcher) = Place::watched();
    place.write("a", "other");
    place.scan();
    assert_eq!(watcher.status(&Job::default()).unwrap(), Some(Status::default()));
    place.write("new", "structure");
    settle();
    place.scan();
    place.write("g/h", "more");
    assert_eq!(place.check(&watcher), 1);
}

#[test]
fn directories_that_come_move_and_go_stay_watched() {
    let (place, watcher) = Place::watched();
    place.write("new/x/y", "1");
    place.check(&watcher);
    place.write("new/x/y", "22");
    assert_eq!(place.check(&watcher), 1);
    fs::rename(place.path("new"), place.path("b/moved")).unwrap();
    place.check(&watcher);
    place.write("b/moved/x/y", "333");
    assert_eq!(place.check(&watcher), 1);
    // Another in its place, without a look between.
    fs::rename(place.path("b/moved"), place.path("away")).unwrap();
    fs::rename(place.path("g"), place.path("b/moved")).unwrap();
    place.write("b/moved/h", "4444");
    place.check(&watcher);
    place.write("b/moved/h", "55555");
    place.write("away/x/y", "666666");
    assert_eq!(place.check(&watcher), 2);
    fs::remove_dir_all(place.path("b")).unwrap();
    place.check(&watcher);
    assert_eq!(watcher.directories(), 3);
    place.write("b", "a file now");
    place.check(&watcher);
    // Renamed over an empty one of the same name as one that is known.
    fs::create_dir_all(place.path("e/inner")).unwrap();
    place.check(&watcher);
    fs::rename(place.path("away/x"), place.path("e/inner")).unwrap();
    place.check(&watcher);
    place.write("e/inner/y", "7777777");
    assert_eq!(place.check(&watcher), 1);
}

#[test]
fn modes_links_and_kinds_are_told() {
    let (place, watcher) = Place::watched();
    fs::set_permissions(place.path("b/c"), fs::Permissions::from_mode(0o755)).unwrap();
    place.check(&watcher);
    fs::set_permissions(place.path("b/d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(watcher.status(&Job::default()).unwrap().unwrap().changed, [b"b/d"]);
    place.check(&watcher);
    fs::remove_file(place.path("link")).unwrap();
    symlink("b/d", place.path("link")).unwrap();
    place.check(&watcher);
    fs::remove_file(place.path("a")).unwrap();
    fs::create_dir(place.path("a")).unwrap();
    place.write("a/b", "x");
    place.check(&watcher);
}

#[test]
fn a_write_through_another_name_is_found() {
    let (place, watcher) = Place::watched();
    // Outside the tree: before the watcher knew of a second name it could not be told.
    let outside = place.index.with_file_name("outside");
    fs::hard_link(place.path("a"), &outside).unwrap();
    place.write("a", "known to have two names");
    settle();
    place.check(&watcher);
    fs::OpenOptions::new().append(true).open(&outside).unwrap().write_all(b"!").unwrap();
    assert_eq!(place.check(&watcher), 1);
    // Inside: the first name is in another directory, which has no notice of it.
    fs::hard_link(place.path("g/h"), place.path("b/second")).unwrap();
    place.check(&watcher);
    settle();
    place.check(&watcher);
    place.write("b/second", "through the second");
    assert_eq!(place.check(&watcher), 2);
    fs::remove_file(place.path("b/second")).unwrap();
    place.check(&watcher);
    place.write("g/h", "alone again");
    assert_eq!(place.check(&watcher), 1);
}

#[test]
fn a_write_to_a_file_that_lost_the_name_it_was_opened_by_is_found() {
    let (place, watcher) = Place::watched();
    let mut file = fs::OpenOptions::new().append(true).open(place.path("a")).unwrap();
    fs::hard_link(place.path("a"), place.path("g/other")).unwrap();
    fs::remove_file(place.path("a")).unwrap();
    place.check(&watcher);
    settle();
    place.check(&watcher);
    file.write_all(b"late").unwrap();
    assert_eq!(watcher.status(&Job::default()).unwrap().unwrap().changed, [b"g/other"]);
    place.check(&watcher);
    // And another file has that name.
    place.write("a", "another");
    fs::hard_link(place.path("b/c"), place.path("g/third")).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(place.path("b/c")).unwrap();
    fs::rename(place.path("a"), place.path("b/c")).unwrap();
    place.check(&watcher);
    settle();
    place.check(&watcher);
    file.write_all(b"late").unwrap();
    place.check(&watcher);
}

#[test]
fn an_index_of_another_selection_is_listed_anew() {
    let (place, watcher) = Place::watched();
    let other = Options { selection: Selection::new(vec![b"h".to_vec()], false).unwrap(), ..options() };
    index::hash(&place.root, Some(&place.index), &other, &Job::default()).unwrap();
    assert_eq!(watcher.status(&Job::default()).unwrap().unwrap().added, [b"g/h"]);
    place.check(&watcher);
}

#[test]
fn a_file_that_is_open_is_looked_at_and_follows_its_name() {
    let (place, watcher) = Place::watched();
    let file = fs::OpenOptions::new().read(true).write(true).open(place.path("b/d/e")).unwrap();
    // A mapping's write gives no notice, and neither does this, for a watcher that was told only of the opening.
    let open = || {
        let mut dirty = Dirty::default();
        watcher.settle(&watcher.root().unwrap(), &mut watcher.known(), &Job::default()).unwrap();
        watcher.notices.hold().book.add_suspects(&mut dirty);
        dirty.entries.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(open(), [b"b/d/e".to_vec()]);
    fs::rename(place.path("b/d/e"), place.path("b/d/z")).unwrap();
    fs::rename(place.path("b/d"), place.path("q")).unwrap();
    assert_eq!(open(), [b"q/z".to_vec()]);
    // Until the directory is looked at in its new place, nobody would tell of the closing.
    place.check(&watcher);
    drop(file);
    assert!(open().is_empty());
    place.check(&watcher);
    assert!(open().is_empty());
}

#[test]
fn a_file_that_was_open_before_the_start_or_while_notices_were_lost_is_looked_at() {
    let (place, watcher) = Place::watched();
    drop(watcher);
    let open = |rel| fs::OpenOptions::new().read(true).write(true).open(place.path(rel)).unwrap();
    let (before, _reading) = (open("b/d/e"), fs::File::open(place.path("a")).unwrap());
    let watcher = place.watch();
    let suspects = || {
        let mut dirty = Dirty::default();
        watcher.settle(&Root::open(&watcher.path).unwrap(), &mut watcher.known(), &Job::default()).unwrap();
        watcher.notices.hold().book.add_suspects(&mut dirty);
        dirty.entries.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(suspects(), [b"b/d/e".to_vec()]);
    drop(before);
    assert!(suspects().is_empty());
    let _meanwhile = open("b/c");
    watcher.settle(&Root::open(&watcher.path).unwrap(), &mut watcher.known(), &Job::default()).unwrap();
    watcher.known().is_lost = true;
    place.check(&watcher);
    assert_eq!(suspects(), [b"b/c".to_vec()]);
}

#[test]
fn lost_notices_cost_a_look_at_everything_once() {
    let (place, watcher) = Place::watched();
    place.write("a", "lost");
    place.write("n/e/w", "lost too");
    watcher.notices.settle().unwrap();
    watcher.notices.hold().book.lose();
    place.check(&watcher);
    place.write("n/e/w", "told again");
    assert_eq!(place.check(&watcher), 1);
}

#[test]
fn a_root_that_moves_ends_it() {
    let (place, watcher) = Place::watched();
    fs::rename(&place.root, place.root.with_file_name("elsewhere")).unwrap();
    let mut wait = [rustix::event::PollFd::new(watcher.notices.over(), rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut wait, None), Ok(1));
    assert!(watcher.hash(false, &Job::default()).is_err());
}

#[test]
fn a_file_system_that_others_change_is_refused() {
    let place = Place::new();
    let refused =
        Watcher::start(&PathBuf::from("/proc/self"), &place.index, &place.private, options(), &Job::default());
    let Err(error) = refused else { panic!("/proc is watched") };
    assert!(matches!(error, Error::Unwatchable { .. }), "{error}");
}

#[test]
fn whatever_is_done_the_answers_are_those_of_a_scan() {
    let (place, watcher) = Place::watched();
    let mut seed = 42_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let names = ["a", "b", "c", "d"];
    let mut held = Vec::new();
    for step in 0..400 {
        let mut path = |depth: usize| {
            let mut path = place.root.clone();
            (0..=random(depth)).for_each(|_| path.push(names[random(names.len())]));
            path
        };
        let (one, other) = (path(3), path(3));
        // What cannot be done is not.
        let _ = match random(12) {
            0 => fs::create_dir_all(&one),
            1 => fs::remove_dir_all(&one),
            2 => fs::remove_file(&one),
            3 | 4 => fs::rename(&one, &other),
            5 => fs::hard_link(&one, &other),
            6 => symlink(&other, &one),
            7 => fs::set_permissions(&one, fs::Permissions::from_mode(0o700 + random(64) as u32)),
            8 => fs::OpenOptions::new().write(true).open(&one).map(|file| held.push(file)),
            9 => held.pop().map_or(Ok(()), |mut file| file.write_all(b"late")),
            10 => fs::write(one.with_file_name(".sapwoodignore"), ["a", "b/", "!a", "*", ".*"][random(5)]),
            _ => fs::write(&one, format!("{step}")),
        };
        if random(3) == 0 && fs::metadata(&place.root).is_ok_and(|meta| meta.mode() != 0) {
            place.check(&watcher);
        }
    }
}

#[test]
fn rules_that_change_are_obeyed_where_nothing_else_did() {
    let (place, watcher) = Place::watched();
    let (rules, hidden) = ("b/.sapwoodignore", "g/.sapwoodignore");
    let edits: [&dyn Fn(); 9] = [
        &|| place.write(rules, "e\n"),
        &|| place.write(rules, "f\n"),
        &|| place.write(".sapwoodignore", "h\n"),
        &|| place.write(hidden, "!h\n.*\n"),
        &|| place.write(hidden, "h\n.*\n"),
        &|| place.write("g/deep/h", "below hidden rules"),
        &|| place.write(hidden, "!h\n.*\n"),
        &|| fs::remove_file(place.path(hidden)).unwrap(),
        &|| fs::rename(place.path("b"), place.path("g/b")).unwrap(),
    ];
    for (number, edit) in edits.iter().enumerate() {
        edit();
        place.check(&watcher);
        if number % 2 == 0 {
            settle();
            place.check(&watcher);
        }
    }
}
