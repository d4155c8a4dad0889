//! Servers that die, and those that come after them.

use super::noise;
use super::world::{Act, Mounted, Tree};
use crate::fuse::mount;
use crate::fuse::wire::{REQUEST_BYTES, Request, op};

#[test]
fn a_mount_whose_server_died_before_it_answered_init_is_taken_over() {
    let mut tree = Tree::new();
    tree.file("f", noise(1, 700_000));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("mount point");
    std::fs::create_dir(&place).unwrap();
    let device = mount(&place).unwrap();
    let mut request = vec![0; REQUEST_BYTES];
    let length = rustix::io::read(&device, &mut request[..]).unwrap();
    assert_eq!(Request::parse(&request[..length]).unwrap().opcode, op::INIT);
    let mounted = Mounted::taken_over(dir, device, tree.store(), |_| Act::Bring);
    assert!(mounted.read("f").unwrap() == noise(1, 700_000));
}
