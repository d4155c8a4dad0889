mod direct;
mod faults;
mod native;
mod opens;
mod order;
mod places;
mod profiles;
mod signalled;
mod successor;
mod walks;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::lacking::Lacking;
use super::wire::Request;
use crate::filemap::Kind;
use world::{Act, Mounted, Tree};

/// Bytes without pattern, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    out.truncate(length);
    out
}

fn names(mounted: &Mounted, path: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(mounted.path(path)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn files_of_all_sizes_read_as_they_are() {
    let mut tree = Tree::new();
    tree.directory("d");
    let sizes = [0, 1, 4095, 4096, 4097, 131_073, 300_000, (2 << 20) - 1, 2 << 20, 9_000_001];
    for (seed, size) in sizes.into_iter().enumerate() {
        tree.file(format!("d/{size}"), noise(seed as u64, size));
    }
    let mounted = Mounted::new(tree.store());
    for (seed, size) in sizes.into_iter().enumerate() {
        let path = format!("d/{size}");
        assert_eq!(fs::symlink_metadata(mounted.path(&path)).unwrap().len(), size as u64);
        assert!(mounted.read(&path).unwrap() == noise(seed as u64, size), "{path}");
    }
    assert_eq!(mounted.server.stats().errors, 0);
}

#[test]
fn a_part_of_a_large_file_brings_little_more_than_that_part() {
    use std::os::unix::fs::FileExt;
    let mut tree = Tree::new();
    let bytes = noise(1, 40 << 20);
    tree.file("big", &bytes);
    let mounted = Mounted::new(tree.store());
    let mut buffer = [0; 5000];
    let at = 30 << 20;
    fs::File::open(mounted.path("big")).unwrap().read_exact_at(&mut buffer, at).unwrap();
    assert!(buffer[..] == bytes[at as usize..at as usize + 5000]);
    let stats = mounted.server.stats();
    assert!(stats.bytes < 8 << 20, "{stats:?}");
}

#[test]
fn a_directory_of_ten_thousand_lists_each_name_once_also_after_seeks() {
    let mut tree = Tree::new();
    tree.directory("many");
    tree.directory("none");
    tree.directory("one");
    tree.file("one/f", "x");
    for number in 0..10_000 {
        tree.file(format!("many/a rather long name to fill pages {number:05}"), "same");
    }
    let mounted = Mounted::new(tree.store());
    assert_eq!(names(&mounted, "many").len(), 10_000);
    assert_eq!(names(&mounted, "none").len(), 0);
    assert_eq!(names(&mounted, "one").len(), 1);
    assert_eq!(names(&mounted, "").len(), 3);

    let handle = fs::File::open(mounted.path("many")).unwrap();
    let mut list = rustix::fs::Dir::read_from(&handle).unwrap();
    let mut read = |from: Option<i64>, count: usize| {
        match from {
            Some(offset) => list.seek(offset).unwrap(),
            None => list.rewind(),
        }
        let lines = (&mut list).take(count).map(Result::unwrap);
        lines.map(|line| (line.file_name().to_owned(), line.ino(), line.offset())).collect::<Vec<_>>()
    };
    let all = read(None, usize::MAX);
    assert_eq!(all.len(), 10_002);
    assert_eq!(read(Some(all[5000].2), 100), all[5001..5101]);
    assert_eq!(read(Some(all[0].2), 3), all[1..4]);
    assert_eq!(read(Some(all[10_001].2), 3), []);
    assert_eq!(read(None, usize::MAX), all);
    let (name, inode, _) = &all[7777];
    let path = mounted.path("many").join(name.to_str().unwrap());
    assert_eq!(fs::symlink_metadata(path).unwrap().ino(), *inode);
}

#[test]
fn every_kind_has_its_attributes() {
    let mut tree = Tree::new();
    tree.directory("d").mode = 0o2750;
    let file = tree.file("d/file", "hello");
    (file.mode, file.uid, file.gid, file.mtime.sec) = (0o4755, 12, 34, -5);
    tree.symlink("link", "d/file");
    tree.add("fifo", 0o600, Kind::Fifo);
    tree.add("null", 0o666, Kind::CharDevice { major: 1, minor: 3 });
    tree.add("disk", 0o660, Kind::BlockDevice { major: 259, minor: 70_000 });
    let mounted = Mounted::new(tree.store());
    let stat = |path: &str| fs::symlink_metadata(mounted.path(path)).unwrap();

    let file = stat("d/file");
    assert_eq!((file.mode(), file.uid(), file.gid(), file.size()), (0o104_755, 12, 34, 5));
    assert_eq!((file.mtime(), file.mtime_nsec(), file.nlink()), (-5, 123_456_789, 1));
    assert_eq!((file.blocks(), file.blksize()), (1, 4096));
    assert_eq!((stat("d").mode(), stat("d").nlink()), (0o042_750, 1));
    assert_eq!(fs::metadata(&mounted.place).unwrap().ino(), 1);
    assert_eq!(fs::read_link(mounted.path("link")).unwrap().to_str().unwrap(), "d/file");
    assert_eq!((stat("link").size(), stat("link").mode()), (6, 0o120_777));
    assert_eq!(mounted.read("link").unwrap(), b"hello");
    assert!(stat("fifo").file_type().is_fifo());
    assert_eq!((stat("null").mode(), stat("null").rdev()), (0o020_666, libc::makedev(1, 3)));
    assert_eq!((stat("disk").mode(), stat("disk").rdev()), (0o060_660, libc::makedev(259, 70_000)));
    let whole = rustix::fs::statvfs(&mounted.place).unwrap();
    assert_eq!((whole.f_files, whole.f_namemax, whole.f_bfree), (7, 255, 0));
}

#[test]
fn hard_links_are_one_inode_wherever_the_first_name_lies() {
    let mut tree = Tree::new();
    tree.directory("a");
    tree.directory("z");
    tree.file("z/first", "shared").links = 3;
    tree.hard_link("a/before", "z/first");
    tree.hard_link("zlast", "z/first");
    for number in 0..3000 {
        tree.file(format!("m{number:06}{}", "x".repeat(100)), "filler between the pages");
    }
    let store = tree.store();
    assert!(store.file_map().pages().len() > 3);
    let mounted = Mounted::new(store);
    names(&mounted, "a");
    let first = fs::symlink_metadata(mounted.path("z/first")).unwrap();
    assert_eq!(first.nlink(), 3);
    for path in ["a/before", "zlast"] {
        let other = fs::symlink_metadata(mounted.path(path)).unwrap();
        assert_eq!((other.ino(), other.nlink(), other.size()), (first.ino(), 3, 6));
        assert_eq!(mounted.read(path).unwrap(), b"shared");
    }
}

#[test]
fn extended_attributes_are_listed_and_read() {
    let mut tree = Tree::new();
    tree.file("f", "x").xattrs = vec![(b"user.a".to_vec(), b"one".to_vec()), (b"user.b".to_vec(), noise(1, 3000))];
    tree.file("plain", "x");
    let mounted = Mounted::new(tree.store());
    let mut buffer = vec![0; 4096];
    let path = mounted.path("f");
    let get = |name: &str, buffer: &mut [u8]| rustix::fs::lgetxattr(&path, name, buffer);
    assert_eq!(get("user.a", &mut buffer), Ok(3));
    assert_eq!(&buffer[..3], b"one");
    assert_eq!(get("user.b", &mut buffer), Ok(3000));
    assert!(buffer[..3000] == noise(1, 3000));
    assert_eq!(rustix::fs::lgetxattr_query(&path, "user.b"), Ok(3000));
    assert_eq!(get("user.b", &mut buffer[..9]), Err(Errno::RANGE));
    assert_eq!(get("user.none", &mut buffer), Err(Errno::NODATA));
    assert_eq!(rustix::fs::llistxattr(&path, &mut buffer), Ok(14));
    assert_eq!(&buffer[..14], b"user.a\0user.b\0");
    assert_eq!(rustix::fs::llistxattr(&path, &mut buffer[..13]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::llistxattr(mounted.path("plain"), &mut buffer), Ok(0));
}

#[test]
fn what_was_asked_once_is_not_asked_again() {
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/f", noise(1, 10_000));
    tree.symlink("d/l", "f");
    let mounted = Mounted::new(tree.store());
    let all = || {
        assert_eq!(names(&mounted, "d").len(), 2);
        assert_eq!(mounted.read("d/f").unwrap().len(), 10_000);
        assert_eq!(fs::read_link(mounted.path("d/l")).unwrap().to_str().unwrap(), "f");
        for path in ["d/none", "none", "none/below", "d/f/below"] {
            fs::symlink_metadata(mounted.path(path)).unwrap_err();
        }
    };
    all();
    let before = mounted.server.stats().requests;
    all();
    assert_eq!(mounted.server.stats().requests, before);
}

#[test]
fn what_does_not_exist_is_absent_and_too_long_names_are_refused() {
    let mut tree = Tree::new();
    tree.file("f", "x");
    tree.file("y".repeat(255), "x");
    let mounted = Mounted::new(tree.store());
    let errno = |path: &str| fs::symlink_metadata(mounted.path(path)).unwrap_err().raw_os_error();
    assert_eq!(errno("g"), Some(libc::ENOENT));
    assert_eq!(errno("f/g"), Some(libc::ENOTDIR));
    assert_eq!(errno(&"x".repeat(255)), Some(libc::ENOENT));
    assert_eq!(errno(&"x".repeat(256)), Some(libc::ENAMETOOLONG));
    assert!(mounted.path(&"y".repeat(255)).exists());
}

#[test]
fn nothing_can_be_written() {
    let mut tree = Tree::new();
    tree.file("f", "x");
    let mounted = Mounted::new(tree.store());
    let refused = [
        fs::write(mounted.path("f"), "y"),
        fs::write(mounted.path("new"), "y"),
        fs::create_dir(mounted.path("new")),
        fs::remove_file(mounted.path("f")),
        fs::rename(mounted.path("f"), mounted.path("g")),
        fs::set_permissions(mounted.path("f"), fs::Permissions::from_mode(0o600)),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
}

#[test]
fn a_file_can_be_mapped_and_run() {
    use std::os::fd::AsRawFd;
    let mut tree = Tree::new();
    let bytes = noise(3, 5 << 20);
    tree.file("big", &bytes);
    tree.file("run", "#!/bin/sh\necho ran\n").mode = 0o755;
    let mounted = Mounted::new(tree.store());
    let file = fs::File::open(mounted.path("big")).unwrap();
    // SAFETY: a fresh private mapping of a file that nobody can change.
    let mapped = unsafe {
        let place =
            libc::mmap(std::ptr::null_mut(), bytes.len(), libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
        assert_ne!(place, libc::MAP_FAILED);
        std::slice::from_raw_parts(place.cast::<u8>(), bytes.len())
    };
    assert!(mapped.iter().rev().eq(bytes.iter().rev()));
    // SAFETY: nothing refers to it any more.
    unsafe { libc::munmap(mapped.as_ptr().cast_mut().cast(), mapped.len()) };
    let output = std::process::Command::new(mounted.path("run")).output().unwrap();
    assert_eq!(output.stdout, b"ran\n");
}

#[test]
fn holes_are_found_by_seeking() {
    let mut tree = Tree::new();
    let mut bytes = vec![0; 3 << 20];
    bytes[1 << 20..(1 << 20) + 4096].copy_from_slice(&noise(1, 4096));
    let Kind::Regular(content) = &mut tree.file("sparse", &bytes).kind else { unreachable!() };
    content.holes = vec![(0, 1 << 20), ((1 << 20) + 4096, (2 << 20) - 4096)];
    let mounted = Mounted::new(tree.store());
    let file = fs::File::open(mounted.path("sparse")).unwrap();
    let seek = |to| rustix::fs::seek(&file, to);
    assert_eq!(seek(SeekFrom::Data(5)), Ok(1 << 20));
    assert_eq!(seek(SeekFrom::Hole(5)), Ok(5));
    assert_eq!(seek(SeekFrom::Hole(1 << 20)), Ok((1 << 20) + 4096));
    assert_eq!(seek(SeekFrom::Data((1 << 20) + 1)), Ok((1 << 20) + 1));
    assert_eq!(seek(SeekFrom::Data((1 << 20) + 4096)), Err(Errno::NXIO));
    assert_eq!(seek(SeekFrom::Hole(3 << 20)), Err(Errno::NXIO));
    assert_eq!(file.metadata().unwrap().blocks(), 8);
    assert!(mounted.read("sparse").unwrap() == bytes);
}

#[test]
fn a_tree_without_holes_is_asked_for_them_once() {
    let mut tree = Tree::new();
    tree.file("a", noise(1, 9000));
    tree.file("b", noise(2, 9000));
    let mounted = Mounted::new(tree.store());
    let ends = |path: &str| rustix::fs::seek(fs::File::open(mounted.path(path)).unwrap(), SeekFrom::Hole(0));
    assert_eq!(ends("a"), Ok(9000));
    let before = mounted.server.stats().requests;
    assert_eq!(ends("a"), Ok(9000));
    assert_eq!(mounted.server.stats().requests, before);
    assert_eq!(ends("b"), Ok(9000));
}

#[test]
fn prefetch_brings_all_of_the_tree_and_then_nothing_is_asked_of_the_network() {
    let mut tree = Tree::new();
    for number in 0..500u64 {
        tree.file(format!("{number}"), noise(number, 2000));
    }
    tree.file("large", noise(999, 5 << 20));
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (first, second) = (tree.clone().store(), tree.store());
    let mounted = Mounted::with_cache(tempfile::tempdir().unwrap(), cache.clone(), first, |_| Act::Bring);
    mounted.server.prefetch(true);
    let counts = || mounted.wanted.counts();
    while counts().queued != [0; 4] || counts().in_flight != 0 {
        std::thread::yield_now();
    }
    assert_eq!(counts().taken[0], 0, "nobody demanded anything");
    drop(mounted);
    let offline = Mounted::with_cache(tempfile::tempdir().unwrap(), cache, second, |_| Act::Fail);
    for number in 0..500u64 {
        assert!(offline.read(&number.to_string()).unwrap() == noise(number, 2000));
    }
    assert!(offline.read("large").unwrap() == noise(999, 5 << 20));
    offline.server.prefetch(true);
    assert_eq!(offline.wanted.counts().taken, [0; 4]);
}

#[test]
fn bytes_that_are_no_request_are_refused() {
    let mut request = vec![0; 48];
    request[0] = 48;
    assert!(Request::parse(&request).is_ok());
    request[0] = 47;
    assert!(Request::parse(&request).is_err());
    for length in 0..40 {
        request.truncate(length);
        assert!(Request::parse(&request).is_err());
    }
}

#[test]
fn what_lies_beside_a_stored_image_is_not_shown() {
    let mut tree = Tree::new();
    for directory in [".wh..wh.image", ".wh..wh.image/layers", ".wh..wh.images", "d", "d/.wh..wh.image"] {
        tree.directory(directory);
    }
    tree.file(".wh..wh.image/image.json", noise(1, 3000));
    tree.file("d/.wh..wh.image/file", noise(2, 3000));
    let mounted = Mounted::new(tree.store());
    assert_eq!(names(&mounted, ""), [".wh..wh.images", "d"].map(String::from).into());
    assert_eq!(names(&mounted, "d"), [".wh..wh.image"].map(String::from).into());
    for hidden in [".wh..wh.image", ".wh..wh.image/image.json"] {
        assert_eq!(fs::metadata(mounted.path(hidden)).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
    assert!(mounted.read("d/.wh..wh.image/file").unwrap() == noise(2, 3000));
    assert_eq!(mounted.server.lacking(), Some(Lacking { files: 0, bytes: 0 }));
}
