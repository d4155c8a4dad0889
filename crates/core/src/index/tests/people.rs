//! `status`: what a person did since.

use super::*;

fn text(paths: &[Vec<u8>]) -> Vec<&str> {
    paths.iter().map(|path| std::str::from_utf8(path).unwrap()).collect()
}

#[test]
fn without_an_earlier_state_everything_is_added() {
    let place = Place::new();
    let status = place.status();
    assert!(status.is_fresh);
    assert_eq!(text(&status.added).len(), 11);
    assert!(status.added.is_sorted() && status.changed.is_empty() && status.removed.is_empty());
    assert!(!place.index.exists(), "looking stores nothing");
}

#[test]
fn status_tells_what_was_done_and_leaves_the_state_as_it_was() {
    let place = Place::new();
    place.hash();
    assert_eq!(place.status(), Status::default());
    place.write("b/c", "TWO");
    place.write("b/d/e", "another length");
    place.write("b/new/n", "n");
    fs::remove_file(place.path("a")).unwrap();
    fs::remove_dir_all(place.path("b/g")).unwrap();
    fs::remove_file(place.path("link")).unwrap();
    std::os::unix::fs::symlink("b/d", place.path("link")).unwrap();
    fs::set_permissions(place.path("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let stored = fs::read(&place.index).unwrap();
    let status = place.status();
    assert_eq!(text(&status.added), ["b/new", "b/new/n"]);
    assert_eq!(text(&status.changed), ["b/c", "b/d/e", "empty", "link"]);
    assert_eq!(text(&status.removed), ["a", "b/g", "b/g/h"]);
    assert!(!status.is_fresh);
    assert_eq!(fs::read(&place.index).unwrap(), stored);
    place.hash();
    assert_eq!(place.status(), Status::default());
}

#[test]
fn another_time_or_inode_with_the_same_content_is_no_change() {
    let place = Place::new();
    place.hash();
    let copy = place.path("copy");
    fs::copy(place.path("b/c"), &copy).unwrap();
    fs::rename(&copy, place.path("b/c")).unwrap();
    place.write("a", "one");
    fs::remove_file(place.path("link")).unwrap();
    std::os::unix::fs::symlink("b/c", place.path("link")).unwrap();
    assert_eq!(place.status(), Status::default());
}

#[test]
fn other_options_alone_are_no_change() {
    let place = Place::new();
    place.hash();
    let other = Options { one_file_system: true, ..options(2, false) };
    assert_eq!(status(&place.root, &place.index, &other, &Job::default()).unwrap(), Status::default());
    fs::set_permissions(place.path("b"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(text(&status(&place.root, &place.index, &other, &Job::default()).unwrap().changed), ["b"]);
}

#[test]
fn another_kind_or_mode_is_a_change() {
    let place = Place::new();
    place.hash();
    fs::set_permissions(place.path("a"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(place.path("b/c")).unwrap();
    place.write("b/c/in", "two");
    fs::remove_dir_all(place.path("b/d")).unwrap();
    place.write("b/d", "");
    let status = place.status();
    assert_eq!(text(&status.added), ["b/c/in"]);
    assert_eq!(text(&status.changed), ["a", "b/c", "b/d"]);
    assert_eq!(text(&status.removed), ["b/d/e", "b/d/f"]);
}
