//! What is changed between the look at the upper layer and the making of the tree.

use std::fs;
use std::os::unix::net::UnixListener;

use super::*;
use crate::digest::Digest;

const PUSH: &str = "0123456789abcdef";

fn entry(path: &str, kind: Kind) -> Entry {
    bare(path.into(), kind, 0o755)
}

/// Directories `a` and `b`, with a file each.
fn base() -> Arc<FileMap> {
    let directory = || Kind::Directory { digest: None };
    let file = || Kind::Regular(Content { digest: Digest::of(b""), chunks: Vec::new(), holes: Vec::new() });
    let mut entries = vec![
        entry("", directory()),
        entry("a", directory()),
        entry("b", directory()),
        entry("a/f", file()),
        entry("b/f", file()),
    ];
    let tree = hash_directories(&mut entries);
    let summary = filemap::Summary { push: None, tree, entries: 5, bytes: 0, tar: None };
    Arc::new(FileMap::of_archive(summary, entries, &Arc::new([0; 32])))
}

/// The tree that is found when `before` was done to the upper layer before the look, and `after` after it; none: the mount is
/// looked at.
fn paths(before: impl FnOnce(&Path), after: impl FnOnce(&Path)) -> Option<Vec<String>> {
    let upper = tempfile::tempdir().unwrap();
    before(upper.path());
    let (options, job) = (Options::new(1), Job::default());
    let looked = Upper::look(upper.path(), &options, &job).unwrap().unwrap();
    after(upper.path());
    let mounted = Mounted::compose(upper.path(), base(), Some(looked), &options, &job).unwrap()?;
    Some(mounted.rows.iter().map(|row| String::from_utf8(row.path.clone()).unwrap()).collect())
}

#[test]
fn what_came_after_the_look_is_not_missed() {
    let all = ["", "a", "b", "a/f", "b/f"].map(String::from).to_vec();
    let nothing = |_: &Path| ();
    assert_eq!(paths(nothing, nothing), Some(all.clone()));
    let a = |upper: &Path| fs::create_dir(upper.join("a")).unwrap();
    assert_eq!(paths(a, nothing), Some(all));
    // A directory is copied up with what is changed in it.
    assert_eq!(paths(nothing, a), None);
    assert_eq!(paths(a, |upper| fs::write(upper.join("a/f"), "new").unwrap()), None);
    assert_eq!(paths(a, |upper| fs::rename(upper.join("a"), upper.join("c")).unwrap()), None);
    // What the look does not tell of hides what is below it all the same.
    assert_eq!(paths(|upper| drop(UnixListener::bind(upper.join("a")).unwrap()), nothing), None);
}

#[test]
fn what_went_away_after_the_look_is_left_out() {
    let upper = tempfile::tempdir().unwrap();
    fs::write(upper.path().join("stays"), "stays").unwrap();
    fs::write(upper.path().join("goes"), "goes").unwrap();
    let (options, job) = (Options::new(1), Job::default());
    let looked = Upper::look(upper.path(), &options, &job).unwrap().unwrap();
    let mounted = Mounted::compose(upper.path(), base(), Some(looked), &options, &job).unwrap().unwrap();
    fs::remove_file(upper.path().join("goes")).unwrap();
    let known = Known::new(None, Vec::new(), None).unwrap();
    let (sender, _packs) = crossbeam_channel::unbounded();
    let words = b"{\"format\":1}";
    let request =
        Request { push: PUSH, level: None, known: &known, pending: Vec::new(), memory: b"", content: None, words };
    assert_eq!(mounted.push(request, &sender, &job).unwrap().entries, 6);
}

#[test]
fn a_tree_that_has_what_the_kernel_notes_is_looked_at_through_the_mount() {
    let of = |kind: Kind, xattrs: Vec<(Vec<u8>, Vec<u8>)>| Entry { xattrs, ..entry("a", kind) };
    assert!(is_a_note(&of(Kind::CharDevice { major: 0, minor: 0 }, Vec::new())));
    assert!(!is_a_note(&of(Kind::CharDevice { major: 1, minor: 3 }, vec![(b"trusted.x".into(), b"y".into())])));
    assert!(is_a_note(&of(Kind::Fifo, vec![(b"trusted.overlay.opaque".into(), b"y".into())])));
}
