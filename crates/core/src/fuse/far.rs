//! How far the kernel reads ahead: a mebibyte where everything is here, and no further than it does by itself while it is not.
//!
//! A page of a mapped library that is missing brings as much around it as is read ahead: over a link that is mostly waste, and
//! what a trace notes is what was asked for. Not here: what we fetch ahead of readers (`ahead`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use super::server::Server;

/// What the kernel does by itself.
const NEAR_KB: &str = "128";
/// Requests of the page cache grow to a mebibyte only when its read-ahead is as long.
const FAR_KB: &str = "1024";

impl Server {
    /// From now on the kernel reads ahead far, or not. Nothing changes while a trace is taken, or where we are not root:
    /// nothing but speed is lost.
    pub fn read_far(&self, far: bool) {
        if let (Some(device), false) = (&self.device, self.is_traced()) {
            set(device, if far { FAR_KB } else { NEAR_KB });
        }
    }
}

fn set(device: &impl AsFd, kilobytes: &str) {
    if let Some(number) = connection(device) {
        let _ = fs::write(format!("/sys/class/bdi/0:{number}/read_ahead_kb"), kilobytes);
    }
}

/// The number of a connection, by which its mounts' device is called, from a kernel that tells.
fn connection(device: &impl AsFd) -> Option<u32> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd())).ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("fuse_connection:"))?;
    line.trim().parse().ok()
}
