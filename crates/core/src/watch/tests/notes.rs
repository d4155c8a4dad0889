//! What each notice makes dirty.

use rustix::fs::inotify::ReadFlags;

use super::super::book::{Book, MOST, Notice};
use crate::index::Dirty;

/// The root is watch 1, `a` 2, `a/b` 3.
fn book() -> Book {
    let mut book = Book::default();
    for (watch, path) in [(1, ""), (2, "a"), (3, "a/b")] {
        book.watch(watch, path.as_bytes());
    }
    book
}

fn note(book: &mut Book, watch: i32, what: ReadFlags, pair: u32, name: &str) {
    book.note(&Notice { watch, what, pair, name: name.as_bytes() });
}

fn paths<const N: usize>(paths: [&str; N]) -> std::collections::BTreeSet<Vec<u8>> {
    paths.into_iter().map(|path| path.as_bytes().to_vec()).collect()
}

fn suspects(book: &Book) -> Dirty {
    let mut dirty = Dirty::default();
    book.add_suspects(&mut dirty);
    dirty
}

#[test]
fn content_makes_the_entry_dirty_names_the_directory_and_a_directory_all_below() {
    let mut book = book();
    note(&mut book, 2, ReadFlags::MODIFY, 0, "f");
    note(&mut book, 3, ReadFlags::CLOSE_WRITE, 0, "g");
    note(&mut book, 1, ReadFlags::CREATE, 0, "h");
    note(&mut book, 1, ReadFlags::DELETE | ReadFlags::ISDIR, 0, "i");
    note(&mut book, 2, ReadFlags::ATTRIB | ReadFlags::ISDIR, 0, "b");
    note(&mut book, 9, ReadFlags::MODIFY, 0, "of a watch long gone");
    let dirty = book.take().dirty;
    assert_eq!(dirty.entries, paths(["a/f", "a/b/g"]));
    assert_eq!(dirty.directories, paths(["", "a/b"]));
    assert_eq!(dirty.trees, paths(["i"]));
    assert!(book.take().dirty.is_empty());
}

#[test]
fn a_moved_directory_gives_its_watches_up() {
    let mut book = book();
    note(&mut book, 1, ReadFlags::MOVED_FROM | ReadFlags::ISDIR, 7, "a");
    note(&mut book, 1, ReadFlags::MOVED_TO | ReadFlags::ISDIR, 7, "c");
    note(&mut book, 2, ReadFlags::MOVE_SELF, 0, "");
    note(&mut book, 3, ReadFlags::MODIFY, 0, "f");
    let mut gone = book.give_up();
    gone.sort_unstable();
    assert_eq!(gone, [2, 3]);
    let dirty = book.take().dirty;
    assert_eq!((dirty.trees, dirty.directories), (paths(["a", "c"]), paths([""])));
}

#[test]
fn overflow_too_much_and_unmounting_lose() {
    let mut overflown = book();
    note(&mut overflown, -1, ReadFlags::QUEUE_OVERFLOW, 0, "");
    assert!(overflown.take().is_lost);
    assert!(!overflown.take().is_lost);

    let mut flooded = book();
    (0..=MOST).for_each(|number| note(&mut flooded, 2, ReadFlags::MODIFY, 0, &number.to_string()));
    assert!(flooded.take().is_lost);

    let mut unmounted = book();
    note(&mut unmounted, 3, ReadFlags::UNMOUNT, 0, "");
    assert!(unmounted.take().is_lost);
}

#[test]
fn the_roots_end_is_the_end() {
    for what in [ReadFlags::MOVE_SELF, ReadFlags::DELETE_SELF, ReadFlags::IGNORED] {
        let mut book = book();
        note(&mut book, 2, what, 0, "");
        assert!(!book.is_over());
        note(&mut book, 1, what, 0, "");
        assert!(book.is_over());
    }
}

#[test]
fn one_directory_at_two_paths_is_looked_at_at_both() {
    let mut book = book();
    book.watch(3, b"bound");
    assert_eq!(suspects(&book).trees, paths(["a/b", "bound"]));
    book.begin_look();
    assert!(suspects(&book).is_empty());
}

#[test]
fn a_look_leaves_no_watch_that_it_did_not_come_by() {
    let mut book = book();
    book.begin_look();
    book.watch(1, b"");
    book.watch(4, b"new");
    let mut gone = book.end_look();
    gone.sort_unstable();
    assert_eq!(gone, [2, 3]);
    assert_eq!(book.len(), 2);
}

#[test]
fn an_open_file_is_a_suspect_until_as_many_closings_as_openings() {
    let mut book = book();
    let open = |book: &mut Book| note(book, 2, ReadFlags::OPEN, 0, "f");
    let close = |book: &mut Book, what| note(book, 2, what, 0, "f");
    open(&mut book);
    open(&mut book);
    note(&mut book, 1, ReadFlags::OPEN | ReadFlags::ISDIR, 0, "a");
    close(&mut book, ReadFlags::CLOSE_NOWRITE);
    assert_eq!(suspects(&book).entries, paths(["a/f"]));
    close(&mut book, ReadFlags::CLOSE_WRITE);
    assert!(suspects(&book).is_empty());
    close(&mut book, ReadFlags::CLOSE_NOWRITE);
    open(&mut book);
    note(&mut book, 2, ReadFlags::DELETE | ReadFlags::ISDIR, 0, "f");
    assert!(suspects(&book).is_empty());
}

#[test]
fn a_write_to_an_open_file_that_lost_its_name_may_be_one_to_any_file() {
    let mut book = book();
    let is_lost = |book: &mut Book| {
        note(book, 2, ReadFlags::MODIFY, 0, "f");
        book.take().is_lost
    };
    note(&mut book, 2, ReadFlags::OPEN, 0, "f");
    assert!(!is_lost(&mut book));
    note(&mut book, 2, ReadFlags::DELETE, 0, "f");
    assert!(is_lost(&mut book));
    // Another file has the name: whose writing is told, and whose closing?
    note(&mut book, 2, ReadFlags::CREATE, 0, "f");
    note(&mut book, 2, ReadFlags::OPEN, 0, "f");
    note(&mut book, 2, ReadFlags::CLOSE_NOWRITE, 0, "f");
    assert!(is_lost(&mut book));
    assert_eq!(suspects(&book).entries, paths(["a/f"]));
    note(&mut book, 2, ReadFlags::CLOSE_NOWRITE, 0, "f");
    assert!(!is_lost(&mut book));
    // Renamed over.
    note(&mut book, 2, ReadFlags::OPEN, 0, "f");
    note(&mut book, 2, ReadFlags::MOVED_TO, 9, "f");
    assert!(is_lost(&mut book));
}

#[test]
fn what_was_dirty_under_a_name_that_is_gone_is_not() {
    let mut book = book();
    for (watch, name) in [(2, "f"), (2, "f-other"), (3, "g")] {
        note(&mut book, watch, ReadFlags::MODIFY, 0, name);
    }
    note(&mut book, 2, ReadFlags::DELETE, 0, "f");
    note(&mut book, 2, ReadFlags::MOVED_FROM | ReadFlags::ISDIR, 1, "b");
    assert_eq!(book.take().dirty.entries, paths(["a/f-other"]));
}

#[test]
fn an_open_file_follows_renames_of_itself_and_of_directories_above() {
    let mut book = book();
    let both = |book: &mut Book, kind: ReadFlags, pair, from: (i32, &str), to: (i32, &str)| {
        note(book, from.0, ReadFlags::MOVED_FROM | kind, pair, from.1);
        note(book, to.0, ReadFlags::MOVED_TO | kind, pair, to.1);
    };
    note(&mut book, 3, ReadFlags::OPEN, 0, "f");
    note(&mut book, 2, ReadFlags::OPEN, 0, "b-other");
    both(&mut book, ReadFlags::empty(), 1, (3, "f"), (3, "g"));
    both(&mut book, ReadFlags::ISDIR, 2, (2, "b"), (1, "z"));
    assert_eq!(suspects(&book).entries, paths(["a/b-other", "z/g"]));
    // Over another that is open, and out of the tree.
    note(&mut book, 1, ReadFlags::OPEN, 0, "top");
    both(&mut book, ReadFlags::empty(), 3, (2, "b-other"), (1, "top"));
    assert_eq!(suspects(&book).entries, paths(["top", "z/g"]));
    note(&mut book, 1, ReadFlags::MOVED_FROM, 4, "top");
    assert_eq!(suspects(&book).entries, paths(["z/g"]));
}
