use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, Mode, XattrFlags, lsetxattr, mkdirat, mkfifoat};

use super::*;
use crate::error::{Error, Result};
use crate::job::Job;

/// Keeps what it got, and may do something to the file at each `begin`.
struct Collect<'a> {
    begun: u32,
    bytes: Vec<u8>,
    meddle: &'a dyn Fn(u32),
}

impl Sink for Collect<'_> {
    fn begin(&mut self, _: &Stat) -> Result<()> {
        self.begun += 1;
        self.bytes.clear();
        (self.meddle)(self.begun);
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<()> {
        assert!(bytes.len() <= PIECE);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn read(root: &Root, rel: &[u8], meddle: &dyn Fn(u32)) -> (Result<Stat>, Vec<u8>, Job) {
    let job = Job::default();
    let mut sink = Collect { begun: 0, bytes: Vec::new(), meddle };
    let result = read_stable(root, rel, &mut Vec::new(), &job, &mut sink);
    (result, sink.bytes, job)
}

#[test]
fn a_file_of_several_pieces_is_passed_on_whole() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..PIECE * 2 + 77).map(|at| (at % 251) as u8).collect();
    fs::write(dir.path().join("f"), &content).unwrap();
    let (stat, bytes, job) = read(&Root::open(dir.path()).unwrap(), b"f", &|_| {});
    assert_eq!(stat.unwrap().size, content.len() as u64);
    assert!(bytes == content);
    assert_eq!(job.bytes_done.into_inner(), content.len() as u64);
}

#[test]
fn a_file_that_changes_once_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "old").unwrap();
    let meddle = |begun| {
        if begun == 1 {
            fs::write(&path, "longer").unwrap();
        }
    };
    let (stat, bytes, job) = read(&Root::open(dir.path()).unwrap(), b"f", &meddle);
    assert_eq!(stat.unwrap().size, 6);
    assert_eq!(bytes, b"longer");
    assert_eq!(job.bytes_done.into_inner(), 6, "bytes of a void reading are not counted");
}

#[test]
fn a_rewrite_that_keeps_size_and_mtime_is_noticed_by_ctime() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "old").unwrap();
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    let written = Time::now();
    let meddle = |begun| {
        // The clock that stamps files must have moved on.
        while Time::now().minus_ms(25) < written {
            std::thread::yield_now();
        }
        if begun == 1 {
            fs::write(&path, "new").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
        }
    };
    let job = Job::default();
    let mut sink = Collect { begun: 0, bytes: Vec::new(), meddle: &meddle };
    read_stable(&Root::open(dir.path()).unwrap(), b"f", &mut Vec::new(), &job, &mut sink).unwrap();
    assert_eq!((sink.begun, &sink.bytes[..]), (2, &b"new"[..]));
}

#[test]
fn a_file_that_keeps_growing_or_shrinking_is_unstable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let root = Root::open(dir.path()).unwrap();
    fs::write(&path, vec![b'x'; 100]).unwrap();
    let mut log = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let grow = |_| (&log).write_all(b"more").unwrap();
    assert!(matches!(read(&root, b"f", &grow).0, Err(Error::Unstable { path: p }) if p == path));
    let shrink = |begun: u32| log.set_len(50 - u64::from(begun)).unwrap();
    assert!(matches!(read(&root, b"f", &shrink).0, Err(Error::Unstable { .. })));
    log.flush().unwrap();
}

#[test]
fn reading_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let job = Job::default();
    job.stop();
    let mut sink = Collect { begun: 0, bytes: Vec::new(), meddle: &|_| {} };
    let result = read_stable(&Root::open(dir.path()).unwrap(), b"f", &mut Vec::new(), &job, &mut sink);
    assert!(matches!(result, Err(Error::Stopped)));
}

#[test]
fn what_is_no_regular_file_is_neither_waited_for_nor_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    mkfifoat(CWD, dir.path().join("fifo"), Mode::RWXU).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("dir/f"), "x").unwrap();
    symlink("dir/f", dir.path().join("link")).unwrap();
    symlink("dir", dir.path().join("linked")).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    for rel in [&b"fifo"[..], b"dir", b"link", b"linked/f", b"socket"] {
        assert!(matches!(read(&root, rel, &|_| {}).0, Err(Error::Unstable { .. })), "{}", rel.escape_ascii());
    }
    for rel in [&b"../x"[..], b"/etc/passwd"] {
        assert!(root.open_file(rel).is_err(), "{}", rel.escape_ascii());
    }
}

#[test]
fn the_root_must_be_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "x").unwrap();
    assert!(matches!(Root::open(&file), Err(Error::NotADirectory { path }) if path == file));
    let absent = Root::open(&dir.path().join("absent"));
    assert!(matches!(absent, Err(Error::Io { doing: "open", source, .. }) if is_gone(&source)));
}

#[test]
fn paths_longer_than_the_kernel_takes_are_reached_and_not_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let name = "n".repeat(200);
    let mut path = Vec::new();
    for _ in 0..30 {
        let at = root.open_dir(&path).unwrap();
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
        path.extend_from_slice(name.as_bytes());
    }
    let bottom = root.open_dir(&path).unwrap();
    rustix::fs::symlinkat("there", &bottom, "link").unwrap();
    assert!(path.len() > 4096);
    assert_eq!(root.open_dir(&path).unwrap().read_link(b"link").unwrap(), b"there");
    // The same path with a link to the first directory in front.
    symlink(&name, dir.path().join("l")).unwrap();
    let through_link = [b"l", &path[name.len()..]].concat();
    assert!(root.open_dir(&through_link).is_err());
}

#[test]
fn extended_attributes_of_a_file_come_sorted_and_those_of_a_links_target_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "x").unwrap();
    symlink("f", dir.path().join("link")).unwrap();
    let user = |root: &Root, rel: &[u8]| {
        let mut all = root.xattrs(rel).unwrap();
        all.retain(|(name, _)| name.starts_with(b"user."));
        all
    };
    assert_eq!(user(&root, b"f"), vec![]);
    lsetxattr(&file, "user.b", b"2\0", XattrFlags::empty()).unwrap();
    lsetxattr(&file, "user.a", b"", XattrFlags::empty()).unwrap();
    assert_eq!(user(&root, b"f"), vec![(b"user.a".to_vec(), b"".to_vec()), (b"user.b".to_vec(), b"2\0".to_vec())]);
    assert_eq!(user(&root, b"link"), vec![]);
    lsetxattr(dir.path(), "user.top", b"t", XattrFlags::empty()).unwrap();
    assert_eq!(user(&root, b""), vec![(b"user.top".to_vec(), b"t".to_vec())]);
}

#[test]
fn holes_are_found_and_a_full_file_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mib = 1 << 20;
    let file = fs::File::create(dir.path().join("sparse")).unwrap();
    file.write_all_at(&[1; 4096], mib).unwrap();
    file.set_len(3 * mib).unwrap();
    file.sync_all().unwrap();
    let look = |name: &str| {
        let file = root.open_file(name.as_bytes()).unwrap();
        let stat = root.open_dir(b"").unwrap().stat(name.as_bytes()).unwrap();
        holes(&file, &stat).unwrap()
    };
    assert_eq!(look("sparse"), vec![(0, mib), (mib + 4096, 2 * mib - 4096)]);
    fs::File::create(dir.path().join("hole")).unwrap().set_len(mib).unwrap();
    assert_eq!(look("hole"), vec![(0, mib)]);
    fs::write(dir.path().join("full"), [1; 4096]).unwrap();
    assert_eq!(look("full"), vec![]);
}

#[test]
fn a_stat_is_racy_within_the_grain_of_the_clock() {
    let at = |sec, nsec| Time { sec, nsec };
    let stat = |mtime, ctime| Stat { mtime, ctime, ..Stat::default() };
    let began = at(100, 10_000_000);
    let long_ago = at(50, 1);
    assert!(!stat(long_ago, at(99, 989_999_999)).is_racy(began, true));
    assert!(stat(long_ago, at(99, 990_000_000)).is_racy(began, true));
    assert!(stat(at(99, 990_000_000), long_ago).is_racy(began, true));
    assert!(stat(at(2000, 0), long_ago).is_racy(began, true), "a time in the future says nothing");
    assert!(stat(long_ago, at(98, 0)).is_racy(at(100, 0), true), "whole seconds are a coarser clock's");
    assert!(!stat(long_ago, at(97, 0)).is_racy(at(100, 0), true));
    assert!(!stat(long_ago, at(100, 0)).is_racy(at(100, 0), false), "ctime is not asked where it is not trusted");
    assert!(stat(at(98, 5), long_ago).is_racy(at(100, 0), false), "and a server's clock is coarse");
}

#[test]
fn what_the_table_says_last_of_a_device_decides_whether_it_is_a_mount_of_ours() {
    let table = b"36 35 0:40 / /a ro shared:1 - fuse.sapwood sapwood ro\n\
        37 35 0:41 / /b ro - overlay sapwood ro\n\
        38 35 0:42 / /c ro - overlay overlay ro\n\
        39 35 0:4 / /d rw - fuse.other sapwood rw\n";
    let said = |device: &str| super::passing::said_of(table, device.as_bytes());
    assert_eq!(
        ["0:40", "0:41", "0:42", "0:4", "0:43"].map(said),
        [Some(true), Some(true), Some(false), Some(false), None]
    );
}

#[test]
fn a_suffix_is_what_is_behind_the_last_dot_of_a_name_that_begins_no_version() {
    for (path, suffix) in [
        ("a.b/c", ""),
        ("a/b.tar.gz", ".gz"),
        ("lib/libz.so.1.2", ".so"),
        ("notes.1", ".1"),
        ("a/.rc", ".rc"),
        ("a.", "."),
        ("", ""),
    ] {
        assert_eq!(suffix_of(path.as_bytes()), suffix.as_bytes(), "{path}");
    }
}
