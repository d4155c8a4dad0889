//! Where one may mount, and how mounts are taken away.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::world::{Mounted, PATIENCE, Tree};
use crate::fuse::far::connection;
use crate::fuse::{Layers, mount, mounts, table, unmount};

fn small() -> Tree {
    let mut tree = Tree::new();
    tree.file("f", "x");
    tree
}

#[test]
fn a_place_that_will_not_do_is_refused_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str| mount(&dir.path().join(name)).unwrap_err().to_string();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir_all(dir.path().join("full/of")).unwrap();
    assert!(refused("missing").contains("no such directory"));
    assert!(refused("file").contains("is not a directory"));
    assert!(refused("full").contains("is not empty"));
    let mounted = Mounted::new(small().store());
    let again = mount(&mounted.place).unwrap_err().to_string();
    assert!(again.contains("is already a mount (fuse.sapwood)"), "{again}");
}

#[test]
fn only_what_is_ours_is_unmounted() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |place: &std::path::Path| unmount(place, true).unwrap_err().to_string();
    assert!(refused(dir.path()).contains("is not mounted"));
    assert!(refused("/proc".as_ref()).contains("another kind (proc)"));
    assert!(refused(&dir.path().join("none")).contains("is not mounted"));
}

#[test]
fn mounts_are_listed_under_their_true_names() {
    let mounted = Mounted::new(small().store());
    assert!(mounted.place.to_str().unwrap().contains(' '));
    let place = mounted.place.canonicalize().unwrap();
    assert_eq!(mounts().unwrap().iter().filter(|other| other.place == place).count(), 1);
    let line = b"36 35 98:0 / /a\\040b\\134\\011c ro,noatime shared:1 - fuse.sapwood sapwood ro";
    let parsed = table::line(line).unwrap();
    assert_eq!((parsed.place.to_str().unwrap(), &parsed.device[..]), ("/a b\\\tc", "98:0"));
    assert_eq!(parsed.kind, "fuse.sapwood");
    assert!(parsed.is_all && !table::line(b"36 35 98:0 /d /a ro - fuse.sapwood sapwood ro").unwrap().is_all);
    assert!(
        table::is_bare(&place).unwrap()
            && !table::is_bare(&place.join("none")).unwrap()
            && !table::is_bare("/".as_ref()).unwrap()
    );
    assert!(table::line(b"36 35 98:0 / /a ro - ").is_some());
    assert!(table::line(b"").is_none());
}

#[test]
fn a_mount_whose_server_is_gone_says_so_and_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    drop(mount(dir.path()).unwrap());
    let error = fs::read_dir(dir.path()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    let refused = mount(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("whose server has died"), "{refused}");
    unmount(dir.path(), false).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_kernel_reads_ahead_far_once_it_may_and_not_while_it_is_traced() {
    let mounted = Mounted::new(small().store());
    let ours = mounts().unwrap().into_iter().find(|other| mounted.place.ends_with(&other.place)).unwrap();
    let kilobytes = || fs::read_to_string(format!("/sys/class/bdi/{}/read_ahead_kb", ours.device)).unwrap();
    assert_eq!(kilobytes().trim(), "128");
    mounted.server.read_far(true);
    assert_eq!(kilobytes().trim(), "1024");
    mounted.server.read_far(false);
    assert_eq!(kilobytes().trim(), "128");
    mounted.server.start_trace();
    mounted.server.read_far(true);
    assert_eq!(kilobytes().trim(), "128");
}

#[test]
fn the_number_of_a_mount_is_found_as_well_where_the_kernel_does_not_tell_it_of_the_device() {
    let mounted = Mounted::new(small().store());
    mounted.server.find_number(&mounted.place.canonicalize().unwrap(), None);
    let told = connection(mounted.server.device.as_ref().unwrap());
    assert!(told.is_some());
    assert_eq!(mounted.server.number.get().copied(), told);
    let dir = tempfile::tempdir().unwrap();
    let (layers, device) = Layers::new(dir.path(), None).unwrap();
    assert_eq!(layers.number(), connection(&device));
}

/// A thread that is an ordinary user, with a mount point of its own.
#[test]
fn an_ordinary_user_mounts_and_unmounts_with_the_helper() {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = dir.path().join("theirs");
    fs::create_dir(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
    let (done, over) = std::sync::mpsc::channel();
    let user = std::thread::spawn(move || {
        open_the_device();
        // The kernel's call changes this thread alone.
        let (user, group) = (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        let device = mount(&place).unwrap();
        assert_eq!(mounts().unwrap().iter().filter(|other| place.ends_with(&other.place)).count(), 1);
        unmount(&place, false).unwrap();
        drop(device);
        let device = mount(&place).unwrap();
        drop(device);
        unmount(&place, false).unwrap();
        assert_eq!(mounts().unwrap().iter().filter(|other| place.ends_with(&other.place)).count(), 0);
        done.send(()).unwrap();
    });
    // When it fails or hangs, its mounts and its descriptors end with its namespace and this process.
    over.recv_timeout(PATIENCE).expect("an ordinary user can mount and unmount");
    user.join().unwrap();
}

/// Give this thread a /dev/fuse that everybody may open, as distributions do.
fn open_the_device() {
    use rustix::fs::{CWD, FileType, Mode};
    use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change};
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    // SAFETY: the thread shares no descriptors' table that it would lose.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", private).unwrap();
    let dir = tempfile::tempdir().unwrap();
    rustix::mount::mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
    let node = dir.path().join("fuse");
    rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(10, 229)).unwrap();
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    mount_bind(&node, "/dev/fuse").unwrap();
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}
