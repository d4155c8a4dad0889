//! Each check compares with `independent`, which shares nothing with the index but the Directory message.

mod damage;
mod disk;
mod partial;
mod people;

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::*;
use crate::directory::Directory;
use crate::error::Result;
use crate::job::Job;

/// A directory to hash, and an index outside it.
struct Place {
    root: PathBuf,
    index: PathBuf,
    _home: tempfile::TempDir,
}

impl Place {
    fn empty() -> Place {
        let home = tempfile::tempdir().unwrap();
        let (root, index) = (home.path().join("tree"), home.path().join("state/tree.index"));
        fs::create_dir(&root).unwrap();
        Place { root, index, _home: home }
    }

    /// Some of everything, settled.
    fn new() -> Place {
        let place = Place::empty();
        for (path, content) in [("a", "one"), ("b/c", "two"), ("b/d/e", "three"), ("b/d/f", ""), ("b/g/h", "four")] {
            place.write(path, content);
        }
        fs::create_dir(place.path("empty")).unwrap();
        std::os::unix::fs::symlink("b/c", place.path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, place.path("fifo"), rustix::fs::Mode::RWXU).unwrap();
        settle();
        place
    }

    fn path(&self, rel: &str) -> PathBuf {
        self.root.join(rel)
    }

    fn write(&self, rel: &str, content: &str) {
        let path = self.path(rel);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn try_hash(&self) -> Result<(State, Summary, Vec<PathBuf>)> {
        hash(&self.root, Some(&self.index), &options(2, false), &Job::default())
    }

    /// How many files were read; the digest is right.
    #[track_caller]
    fn hash(&self) -> u64 {
        let (state, summary, unreadable) = self.try_hash().unwrap();
        assert_eq!(state.root_digest(), Some(independent(&self.root)));
        assert!(unreadable.is_empty());
        summary.files_hashed
    }

    fn status(&self) -> Status {
        status(&self.root, &self.index, &options(2, false), &Job::default()).unwrap()
    }
}

fn options(threads: usize, skip_unreadable: bool) -> Options {
    Options { skip_unreadable, ..Options::new(threads) }
}

/// Wait until the clock is past the grain, so that what was written before is not racy.
fn settle() {
    let written = Time::now();
    while (Stat { ctime: written, ..Stat::default() }).is_racy(Time::now(), true) {
        std::thread::yield_now();
    }
}

fn independent(directory: &Path) -> Digest {
    let entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect();
    let names: Vec<Vec<u8>> = entries.iter().map(|entry| entry.file_name().into_vec()).collect();
    let targets: Vec<Vec<u8>> = entries
        .iter()
        .map(|entry| {
            fs::read_link(entry.path()).map(|target| target.as_os_str().as_bytes().to_vec()).unwrap_or_default()
        })
        .collect();
    let mut message = Directory::default();
    for ((entry, name), target) in entries.iter().zip(&names).zip(&targets) {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            message.directory(name, independent(&entry.path()));
        } else if metadata.is_symlink() {
            message.symlink(name, target);
        } else if metadata.is_file() {
            message.file(
                name,
                Digest::of(&fs::read(entry.path()).unwrap()),
                metadata.permissions().mode() & 0o100 != 0,
            );
        }
    }
    message.digest()
}

/// The paths of the records that differ.
fn changed_records(old: &[u8], new: &State) -> Vec<String> {
    let records = old[64..].chunks(record::SIZE).zip(&new.records);
    let differs = |(number, (old, new)): (u32, (&[u8], &Record))| (*old != new.0).then_some(number);
    let changed = (0..).zip(records).filter_map(differs);
    changed.map(|entry| String::from_utf8(new.path_of(entry)).unwrap()).collect()
}

#[test]
fn the_first_hash_reads_all_and_the_second_nothing() {
    let place = Place::new();
    let (state, summary, _) = place.try_hash().unwrap();
    assert_eq!(state.root_digest(), Some(independent(&place.root)));
    let expected =
        Summary { files: 5, directories: 4, symlinks: 1, others: 1, bytes: 15, files_hashed: 5, bytes_hashed: 15 };
    assert_eq!(summary, expected);
    let stored = fs::read(&place.index).unwrap();
    let before = fs::metadata(&place.index).unwrap();
    let (again, summary, _) = place.try_hash().unwrap();
    assert_eq!(again.root_digest(), state.root_digest());
    assert_eq!(summary, Summary { files_hashed: 0, bytes_hashed: 0, ..expected });
    let after = fs::metadata(&place.index).unwrap();
    assert_eq!((after.ino(), after.ctime(), after.ctime_nsec()), (before.ino(), before.ctime(), before.ctime_nsec()));
    assert_eq!(fs::read(&place.index).unwrap(), stored, "nothing is written");
}

#[test]
fn a_state_tells_of_its_entries() {
    let place = Place::new();
    fs::set_permissions(place.path("a"), fs::Permissions::from_mode(0o750)).unwrap();
    let (state, ..) = place.try_hash().unwrap();
    let paths: Vec<String> = (0..state.len()).map(|entry| String::from_utf8(state.path_of(entry)).unwrap()).collect();
    let expected = ["", "a", "b", "empty", "fifo", "link", "b/c", "b/d", "b/g", "b/d/e", "b/d/f", "b/g/h"];
    assert_eq!(paths, expected, "breadth first, sorted");
    assert_eq!(state.entries(2), 6..9);
    assert_eq!(state.entries(3).len(), 0);
    assert_eq!(state.name(9), b"e");
    assert_eq!(state.parent(9), 7);
    assert_eq!(state.target(5), b"b/c");
    assert_eq!((state.kind(4), state.digest(4)), (Kind::Fifo, None));
    assert_eq!(state.digest(1), Some(Digest::of(b"one")));
    assert_eq!(state.digest(2), Some(independent(&place.path("b"))));
    let metadata = fs::metadata(place.path("a")).unwrap();
    let stat = state.stat(1);
    assert_eq!(stat.mode, metadata.mode());
    assert_eq!((stat.ino, stat.uid, stat.gid), (metadata.ino(), metadata.uid(), metadata.gid()));
    assert!(!state.has_links(1) && !state.is_sparse(1));
    assert_eq!((stat.mtime.sec, i64::from(stat.mtime.nsec)), (metadata.mtime(), metadata.mtime_nsec()));
}

#[test]
fn one_edit_reads_one_file_and_writes_its_record_and_its_ancestors() {
    let place = Place::new();
    place.hash();
    let stored = fs::read(&place.index).unwrap();
    let inode = fs::metadata(&place.index).unwrap().ino();
    place.write("b/d/e", "other");
    settle();
    let (state, summary, _) = place.try_hash().unwrap();
    assert_eq!((summary.files_hashed, summary.bytes_hashed), (1, 5));
    assert_eq!(state.root_digest(), Some(independent(&place.root)));
    assert_eq!(changed_records(&stored, &state), ["", "b", "b/d", "b/d/e"]);
    assert_eq!(fs::metadata(&place.index).unwrap().ino(), inode, "in place");
    let (rebuilt, ..) = hash(&place.root, None, &options(1, false), &Job::default()).unwrap();
    assert_eq!(&fs::read(&place.index).unwrap()[64..][..rebuilt.records.len() * record::SIZE], flat(&rebuilt));
    assert_eq!(place.hash(), 0);
}

fn flat(state: &State) -> Vec<u8> {
    state.records.iter().flat_map(|record| record.0).collect()
}

#[test]
fn the_same_size_and_mtime_do_not_hide_a_change() {
    let place = Place::new();
    let mtime = fs::metadata(place.path("b/c")).unwrap().modified().unwrap();
    place.hash();
    place.write("b/c", "TWO");
    fs::File::options().write(true).open(place.path("b/c")).unwrap().set_modified(mtime).unwrap();
    assert_eq!(place.hash(), 1, "ctime tells");
}

#[test]
fn what_changed_within_the_clocks_grain_is_read_again() {
    let place = Place::new();
    for round in 0..40 {
        // The same size each time, and as fast as we can: often within one tick of the clock.
        place.write("b/c", ["two", "TWO", "Two"][round % 3]);
        place.hash();
    }
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(place.path("a")).unwrap().set_modified(future).unwrap();
    settle();
    place.hash();
    assert_eq!(place.hash(), 1, "a time in the future stays racy");
    let (state, ..) = place.try_hash().unwrap();
    assert!(state.record(state.find(b"a").unwrap()).has(RACY));
}

#[test]
fn a_racy_directory_is_listed_again() {
    let place = Place::empty();
    for number in 0..40 {
        place.write(&format!("f{number}"), "");
        place.hash();
    }
}

#[test]
fn an_executable_bit_is_another_tree_though_the_same_content() {
    let place = Place::new();
    place.hash();
    let old = place.try_hash().unwrap().0;
    fs::set_permissions(place.path("a"), fs::Permissions::from_mode(0o755)).unwrap();
    // It is read again: ctime says that something changed, not what.
    assert_eq!(place.hash(), 1);
    let new = place.try_hash().unwrap().0;
    assert_ne!(new.root_digest(), old.root_digest());
    assert_eq!(new.digest(1), old.digest(1));
}

#[test]
fn every_change_of_structure_is_noticed() {
    let place = Place::new();
    let steps: [(&str, u64, &dyn Fn()); 12] = [
        ("add", 1, &|| place.write("b/new", "new")),
        ("add below new directories", 2, &|| {
            place.write("0/1/2", "deep");
            place.write("0/3", "less");
        }),
        ("rename a file", 1, &|| fs::rename(place.path("b/c"), place.path("b/z")).unwrap()),
        ("rename a directory", 2, &|| fs::rename(place.path("b/d"), place.path("b/y")).unwrap()),
        ("remove a file", 0, &|| fs::remove_file(place.path("a")).unwrap()),
        ("remove a tree", 0, &|| fs::remove_dir_all(place.path("0")).unwrap()),
        ("file to directory", 1, &|| {
            fs::remove_file(place.path("b/z")).unwrap();
            place.write("b/z/in", "in");
        }),
        ("directory to file", 1, &|| {
            fs::remove_dir_all(place.path("b/z")).unwrap();
            place.write("b/z", "file");
        }),
        ("file to symlink", 0, &|| {
            fs::remove_file(place.path("b/z")).unwrap();
            std::os::unix::fs::symlink("nowhere", place.path("b/z")).unwrap();
        }),
        ("another target", 0, &|| {
            fs::remove_file(place.path("b/z")).unwrap();
            std::os::unix::fs::symlink("elsewhere", place.path("b/z")).unwrap();
        }),
        ("symlink to file", 1, &|| {
            fs::remove_file(place.path("b/z")).unwrap();
            place.write("b/z", "file");
        }),
        ("swap two files", 2, &|| {
            fs::rename(place.path("b/z"), place.path("t")).unwrap();
            fs::rename(place.path("b/new"), place.path("b/z")).unwrap();
            fs::rename(place.path("t"), place.path("b/new")).unwrap();
        }),
    ];
    place.hash();
    for (step, files, change) in steps {
        change();
        settle();
        assert_eq!(place.hash(), files, "{step}");
        assert_eq!(place.hash(), 0, "after {step}");
    }
}

#[test]
fn a_tree_read_by_any_number_of_threads_is_the_same_state() {
    let place = Place::empty();
    for number in 0..300 {
        place.write(&format!("{}/{}/{number}", number % 7, number % 5), &number.to_string());
    }
    settle();
    let states =
        [1, 2, 16].map(|threads| hash(&place.root, None, &options(threads, false), &Job::default()).unwrap().0);
    assert!(states.iter().all(|state| flat(state) == flat(&states[0]) && state.names == states[0].names));
    assert_eq!(states[0].root_digest(), Some(independent(&place.root)));
}
