//! What a library asks by path is what the kernel asks by inode.

use std::collections::BTreeMap;

use super::noise;
use super::world::{Act, Mounted, Tree};
use crate::filemap::Kind;
use crate::fuse::{Answer, Direct};

fn ask<T>(mounted: &Mounted, put: impl FnOnce(&mut Direct) -> Answer<T>) -> Answer<T> {
    put(&mut Direct { server: &mounted.server, gives_up: &mut || false })
}

#[test]
fn questions_by_path_are_answered_as_those_of_the_kernel() {
    let mut tree = Tree::new();
    let bytes = noise(1, 5_000_000);
    tree.directory("d");
    tree.file("d/file", &bytes).xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), vec![])];
    tree.hard_link("d/link", "d/file");
    tree.symlink("to", "d/file");
    tree.add("null", 0o600, Kind::CharDevice { major: 1, minor: 3 });
    let mounted = Mounted::direct(tree.store(), |_| Act::Bring);

    let file = ask(&mounted, |direct| direct.attributes(b"/d/file")).unwrap();
    assert_eq!((file.size, file.mode, file.mtime.nsec), (5_000_000, 0o100_644, 123_456_789));
    assert_eq!(ask(&mounted, |direct| direct.attributes(b"/d/link")).unwrap(), file);
    assert_eq!(ask(&mounted, |direct| direct.attributes(b"/")).unwrap().inode, 1);
    assert_eq!(ask(&mounted, |direct| direct.attributes(b"/null")).unwrap().device, 0x103);
    assert_eq!(ask(&mounted, |direct| direct.target(b"/to")).unwrap(), b"d/file");
    assert!(ask(&mounted, |direct| direct.read(b"/d/link", 4_000_000, 1 << 20)).unwrap() == bytes[4_000_000..]);
    assert_eq!(ask(&mounted, |direct| direct.xattr_names(b"/d/file")).unwrap(), [b"user.a", b"user.b"]);
    assert_eq!(ask(&mounted, |direct| direct.xattr(b"/d/file", b"user.a")).unwrap(), b"1");
    assert_eq!(ask(&mounted, |direct| direct.xattr(b"/d/file", b"user.b")).unwrap(), b"");
    assert_eq!(ask(&mounted, |direct| direct.room()).unwrap().1, 6);

    assert_eq!(ask(&mounted, |direct| direct.attributes(b"/d/no")), Err(libc::ENOENT));
    assert_eq!(ask(&mounted, |direct| direct.attributes(b"/to/no")), Err(libc::ENOTDIR));
    assert_eq!(ask(&mounted, |direct| direct.attributes(&[b'n'; 256])), Err(libc::ENAMETOOLONG));
    assert_eq!(ask(&mounted, |direct| direct.xattr(b"/d/file", b"user.c")), Err(libc::ENODATA));
    assert_eq!(ask(&mounted, |direct| direct.read(b"/d", 0, 1)), Err(libc::EISDIR));
    assert_eq!(mounted.server.stats().errors, 0);
}

#[test]
fn a_directory_is_listed_from_any_place() {
    let mut tree = Tree::new();
    tree.directory("d");
    for number in 0..1000 {
        tree.file(format!("d/{number:03}"), []);
    }
    let mounted = Mounted::direct(tree.store(), |_| Act::Bring);
    let (mut place, mut seen) = (0, BTreeMap::new());
    loop {
        let lines = ask(&mounted, |direct| direct.lines(b"/d", place)).unwrap();
        let Some(last) = lines.last() else { break };
        place = last.next;
        seen.extend(lines.into_iter().map(|line| (line.name, (line.inode, line.mode))));
    }
    assert_eq!(seen.len(), 1002);
    assert_eq!(seen[&b"007"[..]].1, libc::S_IFREG);
    assert_eq!(seen[&b"."[..]].0, ask(&mounted, |direct| direct.attributes(b"/d")).unwrap().inode);
}

#[test]
fn who_gives_up_is_answered_at_once_and_what_comes_later_is_for_the_next() {
    let mut tree = Tree::new();
    tree.file("a", noise(1, 1000));
    let mounted = Mounted::direct(tree.store(), |_| Act::Hold);
    let mut direct = Direct { server: &mounted.server, gives_up: &mut || true };
    assert_eq!(direct.read(b"/a", 0, 1000), Err(libc::EINTR));
    assert_eq!(mounted.server.stats().waiting, 0);
    mounted.gate.open();
    assert_eq!(ask(&mounted, |direct| direct.read(b"/a", 0, 1000)).unwrap(), noise(1, 1000));
}

#[test]
fn a_frame_that_fails_and_a_mount_that_ends_are_errors() {
    let mut tree = Tree::new();
    tree.file("a", noise(1, 1000));
    let failing = Mounted::direct(tree.clone().store(), |_| Act::Fail);
    assert_eq!(ask(&failing, |direct| direct.attributes(b"/a")), Err(libc::EIO));
    assert_eq!(failing.server.stats().last_error.unwrap(), "the store is away");

    let held = Mounted::direct(tree.store(), |_| Act::Hold);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(&held, |direct| direct.attributes(b"/a")));
        held.until_waiting(1);
        held.server.stop("the mount has ended");
        assert_eq!(waiting.join().unwrap(), Err(libc::EIO));
    });
}
