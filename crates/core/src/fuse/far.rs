//! How far the kernel reads ahead: a mebibyte where everything is here, and no further than it does by itself while it is not.
//!
//! A page of a mapped library that is missing brings as much around it as is read ahead: over a link that is mostly waste, and
//! what a trace notes is what was asked for. Not here: what we fetch ahead of readers (`ahead`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::native::Layers;
use super::server::Server;
use super::table::{self, KIND};

/// What the kernel does by itself.
const NEAR_KB: &str = "128";
/// Requests of the page cache grow to a mebibyte only when its read-ahead is as long.
const FAR_KB: &str = "1024";

impl Server {
    /// From now on the kernel reads ahead far, or not. Nothing changes while a trace is taken, or where we are not root:
    /// nothing but speed is lost.
    pub fn read_far(&self, far: bool) {
        let Some(device) = self.device.as_ref().filter(|_| !self.is_traced()) else { return };
        if let Some(number) = connection(device).or_else(|| self.number.get().copied()) {
            let kilobytes = if far { FAR_KB } else { NEAR_KB };
            let _ = fs::write(format!("/sys/class/bdi/0:{number}/read_ahead_kb"), kilobytes);
        }
    }

    /// Find the number of the mount that is at a place, or is to be made there of `layers`, for older kernels, which do not tell
    /// it of the device. Who takes over layers does not find it.
    pub fn find_number(&self, place: &Path, layers: Option<&Layers>) {
        if let Some(number) = layers.map_or_else(|| of_mount(place), Layers::number) {
            let _ = self.number.set(number);
        }
    }
}

fn of_mount(place: &Path) -> Option<u32> {
    let mounted = table::at(place).ok()??;
    mounted.device.strip_prefix("0:").filter(|_| mounted.kind == KIND)?.parse().ok()
}

/// The number of a connection, by which its mounts' device is called, from a kernel that tells.
pub(super) fn connection(device: &impl AsFd) -> Option<u32> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd())).ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("fuse_connection:"))?;
    line.trim().parse().ok()
}
