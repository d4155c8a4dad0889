//! Looks at a part of the tree: what is in scope is right afterwards, the rest is as recorded.

use std::sync::Mutex;

use rustix::fs::{XattrFlags, lsetxattr};

use super::*;
use crate::scan::Root;

fn look(place: &Place, state: State, scope: Scope<'_>) -> State {
    let root = Root::open(&place.root).unwrap();
    let (mut state, unreadable) =
        State::look(&root, Some(state), scope, &options(2, false), None, &Job::default()).unwrap();
    assert!(unreadable.is_empty());
    state.read_pending(&root, &options(2, false), &mut Vec::new(), &Job::default()).unwrap();
    state.seal();
    state
}

fn paths(paths: &[&str]) -> std::collections::BTreeSet<Vec<u8>> {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

#[test]
fn told_what_changed_a_look_at_that_alone_gives_the_digest_of_the_whole() {
    let place = Place::new();
    place.hash();
    let mut state = State::read(&place.index, 2, &Job::default()).unwrap().unwrap();
    let steps: [(&dyn Fn(), Dirty); 7] = [
        (&|| place.write("b/c", "TWO"), Dirty { entries: paths(&["b/c"]), ..Dirty::default() }),
        (&|| place.write("b/d/e", "longer"), Dirty { entries: paths(&["b/d/e", "no/such"]), ..Dirty::default() }),
        (&|| place.write("b/new", "new"), Dirty { directories: paths(&["b"]), ..Dirty::default() }),
        (&|| place.write("x/y/z", "deep"), Dirty { directories: paths(&["", "x", "x/y"]), ..Dirty::default() }),
        (&|| fs::remove_dir_all(place.path("b/g")).unwrap(), Dirty { directories: paths(&["b"]), ..Dirty::default() }),
        (&|| fs::remove_file(place.path("b/d/f")).unwrap(), Dirty { entries: paths(&["b/d/f"]), ..Dirty::default() }),
        (
            &|| {
                fs::rename(place.path("b/d"), place.path("out")).unwrap();
                place.write("out/e", "edited where nobody looked");
                fs::rename(place.path("out"), place.path("b/d")).unwrap();
            },
            Dirty { trees: paths(&["b/d"]), directories: paths(&["", "b"]), ..Dirty::default() },
        ),
    ];
    for (change, dirty) in steps {
        change();
        state = look(&place, state, Scope::Only(&dirty));
        assert_eq!(state.root_digest(), Some(independent(&place.root)), "{dirty:?}");
    }
}

#[test]
fn what_is_not_in_scope_is_left_as_recorded() {
    let place = Place::new();
    let (state, ..) = place.try_hash().unwrap();
    let old = state.digest(state.find(b"b/d/e").unwrap());
    place.write("b/d/e", "THREE");
    place.write("b/c", "TWO");
    let state = look(&place, state, Scope::Directory(b"b"));
    assert_eq!(state.digest(state.find(b"b/d/e").unwrap()), old);
    assert_eq!(state.digest(state.find(b"b/c").unwrap()), Some(Digest::of(b"TWO")));
    let state = look(&place, state, Scope::All);
    assert_eq!(state.root_digest(), Some(independent(&place.root)));
}

/// Of what is in the directory only the directory's own times tell, and those are read before.
#[test]
fn what_took_a_files_place_after_the_look_is_looked_at_again() {
    let place = Place::new();
    place.write("other/e", "three");
    lsetxattr(place.path("other/e"), "user.sapwood", b"x", XattrFlags::empty()).unwrap();
    fs::rename(place.path("other"), place.root.with_file_name("other")).unwrap();
    place.hash();
    place.write("b/d/e", "to be read");
    settle();
    let root = Root::open(&place.root).unwrap();
    let before = State::read(&place.index, 2, &Job::default()).unwrap();
    let mut state = State::look(&root, before, Scope::All, &options(2, false), None, &Job::default()).unwrap().0;
    fs::rename(place.path("b/d"), place.root.with_file_name("d")).unwrap();
    fs::rename(place.root.with_file_name("other"), place.path("b/d")).unwrap();
    state.read_pending(&root, &options(2, false), &mut Vec::new(), &Job::default()).unwrap();
    state.seal();
    state.write(&place.index).unwrap();
    settle();
    place.hash();
    let (state, ..) = place.try_hash().unwrap();
    assert!(state.has_xattrs(state.find(b"b/d/e").unwrap()));
}

#[test]
fn a_directory_in_a_listing_is_what_it_is_now() {
    let place = Place::new();
    place.hash();
    fs::set_permissions(place.path("b/d"), fs::Permissions::from_mode(0o700)).unwrap();
    place.write("b/d/new", "new");
    settle();
    let live = Live::open(&place.root, Some(place.index.clone()), options(2, false), &Job::default()).unwrap();
    let mode = live.list(b"b", &Job::default(), |state, _| state.mode(state.find(b"b/d").unwrap())).unwrap();
    assert_eq!(mode & 0o7777, 0o700);
    // That its stat is known does not mean that its names are.
    place.hash();
}

/// A state is kept that holds many files without a digest, which are pending already when they are found to differ.
#[test]
fn a_file_that_was_never_read_and_changed_since_is_read_once() {
    let place = Place::new();
    let live = Live::open(&place.root, Some(place.index.clone()), options(2, false), &Job::default()).unwrap();
    live.list(b"", &Job::default(), |_, _| ()).unwrap();
    place.write("b/d/e", "edited");
    place.write("b/g/h", "edited too");
    settle();
    assert_eq!(place.hash(), 4);
}

#[test]
fn directories_looked_at_in_any_order_have_all_their_files_read() {
    let place = Place::empty();
    for number in 0..1000 {
        place.write(&format!("{}/{number}", number % 7), "content");
    }
    settle();
    let live = Live::open(&place.root, Some(place.index.clone()), options(2, false), &Job::default()).unwrap();
    for directory in ["3", "0", "6", "", "1", "5"] {
        let unread = |state: &State, found: Option<u32>| {
            let mut entries = state.entries(found.unwrap());
            entries.any(|entry| state.kind(entry) == Kind::File && state.digest(entry).is_none())
        };
        place.write(&format!("{directory}/edited"), "since it was listed");
        assert!(!live.list(directory.as_bytes(), &Job::default(), unread).unwrap(), "{directory}");
    }
    settle();
    place.hash();
    assert_eq!(live.all(&Job::default(), |state| state.root_digest()).unwrap(), Some(independent(&place.root)));
}

#[test]
fn each_directory_is_announced_before_its_entries_are_looked_at() {
    let place = Place::new();
    let seen = Mutex::new(Vec::new());
    let hook = |path: &[u8], _: &crate::scan::Dir| {
        seen.lock().unwrap().push(String::from_utf8(path.to_vec()).unwrap());
        // Whatever comes now must be found.
        if path == b"b/d" {
            place.write("b/d/late", "late");
        }
        Ok(())
    };
    let root = Root::open(&place.root).unwrap();
    let announced = |state: Option<State>| {
        let state = State::look(&root, state, Scope::All, &options(2, false), Some(&hook), &Job::default()).unwrap().0;
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_unstable();
        (state, seen)
    };
    let (state, seen) = announced(None);
    assert_eq!(seen, ["", "b", "b/d", "b/g", "empty"]);
    assert!(state.find(b"b/d/late").is_some());
    place.write("new/deep/file", "");
    let (_, seen) = announced(Some(state));
    assert_eq!(seen, ["", "b", "b/d", "b/g", "empty", "new", "new/deep"]);
}

#[test]
fn a_status_of_the_dirty_part_is_that_of_the_whole() {
    let place = Place::new();
    let (state, ..) = place.try_hash().unwrap();
    place.write("b/c", "TWO");
    place.write("b/x/y", "new");
    fs::remove_dir_all(place.path("b/g")).unwrap();
    let root = Root::open(&place.root).unwrap();
    let dirty = Dirty { directories: paths(&["b", "b/g", "b/x"]), entries: paths(&["b/c"]), ..Dirty::default() };
    let part = state.status(&root, Scope::Only(&dirty), &options(2, false), None, &Job::default()).unwrap();
    assert_eq!(part, place.status());
    assert_eq!((part.added.len(), part.changed.len(), part.removed.len()), (2, 1, 2));
}

#[test]
fn a_directory_of_very_many_entries_is_shared_among_the_threads_and_gives_the_same_state() {
    let place = Place::empty();
    for number in 0..5000 {
        place.write(&format!("many/{number}"), if number % 1000 == 0 { "content" } else { "" });
    }
    settle();
    assert_eq!(place.hash(), 5000);
    assert_eq!(place.hash(), 0);
    place.write("many/4711", "edited");
    settle();
    assert_eq!(place.hash(), 1);
    place.write("many/added", "");
    settle();
    assert_eq!(place.hash(), 1);
}

#[test]
fn where_rules_changed_above_the_files_that_wait_to_be_read_are_found_again() {
    let place = Place::new();
    let write = |text: &str| {
        (0..20).for_each(|number| place.write(&format!("file-{number}"), text));
        place.write(".sapwoodignore", text);
    };
    write("none");
    settle();
    let live = Live::open(&place.root, Some(place.index.clone()), options(2, false), &Job::default()).unwrap();
    live.list(b"", &Job::default(), |_, _| ()).unwrap();
    // All at the root are looked at again, and stand behind those that wait below.
    write("nobody");
    for path in [&b"b/d"[..], b"b", b"", b"b/d"] {
        let all_known = live.list(path, &Job::default(), |state, found| {
            let mut files = state.entries(found.unwrap()).filter(|&entry| state.kind(entry) == Kind::File);
            files.all(|file| state.digest(file).is_some())
        });
        assert!(all_known.unwrap(), "{path:?}");
    }
    place.hash();
}
