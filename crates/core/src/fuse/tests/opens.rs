//! The record of what is open.

use crate::fuse::opens::{Open, Opens};

#[test]
fn a_record_that_is_inherited_says_what_its_writer_knew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open");
    let mut opens = Opens::new(&path).unwrap();
    assert!(opens.agree());
    for (inode, backing) in [(5, 0), (7, 3), (9, 4)] {
        opens.first(Open { inode, backing, count: 1 });
    }
    assert_eq!(opens.again(7), Some(3));
    assert_eq!(opens.close(9), Some(4));
    assert_eq!(opens.close(9), None);
    drop(opens);
    let mut opens = Opens::inherit(&path).unwrap().unwrap();
    assert!(opens.is_agreed() && opens.may_pass());
    assert_eq!([opens.again(5), opens.again(7), opens.again(9)], [Some(0), Some(3), None]);
    assert_eq!([opens.close(7), opens.close(7), opens.close(7)], [None, None, Some(3)]);
    assert_eq!(opens.again(7), None);
}

#[test]
fn who_inherits_a_record_that_was_too_short_passes_nothing_through() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open");
    let mut opens = Opens::new(&path).unwrap();
    let mut inode = 0;
    while opens.may_pass() {
        inode += 1;
        opens.first(Open { inode, backing: 1, count: 1 });
    }
    assert!(!Opens::inherit(&path).unwrap().unwrap().may_pass());
    assert_eq!(opens.close(1), Some(1));
    assert!(opens.may_pass());
    for inode in [1, inode + 1] {
        opens.first(Open { inode, backing: 0, count: 1 });
    }
    assert_eq!(opens.close(2), Some(1));
    assert!(opens.may_pass());
    drop(opens);
    // What was not written down may be open, and not passed through.
    assert!(!Opens::inherit(&path).unwrap().unwrap().may_pass());
}

#[test]
fn without_a_record_nothing_is_inherited() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open");
    drop(Opens::new(&path).unwrap());
    assert!(Opens::none(&path).is_none());
    assert!(Opens::inherit(&path).unwrap().is_none());
}
