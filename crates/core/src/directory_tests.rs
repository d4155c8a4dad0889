use super::*;

#[test]
fn nodes_are_sorted_by_kind_and_name_and_defaults_left_out() {
    let mut directory = Directory::default();
    directory.symlink(b"s", b"a");
    directory.directory(b"d", Digest::of(b""));
    directory.file(b"b", Digest::of(b""), false);
    directory.file(b"a", Digest::of(b"hi\n"), true);
    let bytes = directory.encode();
    // a: name, digest with size 3, executable
    assert_eq!(&bytes[..2], &[0x0a, 2 + 1 + 2 + 68 + 2]);
    assert_eq!(&bytes[2..9], &[0x0a, 1, b'a', 0x12, 68, 0x0a, 64]);
    assert_eq!(&bytes[9 + 64..9 + 64 + 4], &[0x10, 3, 0x20, 1]);
    // b: empty file, no size, not executable
    let b = &bytes[77..];
    assert_eq!(&b[..9], &[0x0a, 71, 0x0a, 1, b'b', 0x12, 66, 0x0a, 64]);
    // then the directory, then the symlink
    assert_eq!(b[73], 0x12);
    assert_eq!(&bytes[bytes.len() - 8..], &[0x1a, 6, 0x0a, 1, b's', 0x12, 1, b'a']);
}
