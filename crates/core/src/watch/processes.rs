//! Files that were open before anybody told of it: what /proc says of the processes that we may look into.
//!
//! Its paths are those of our mount namespace, or of another and then of no use: docs/watch.md says so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Paths relative to `root`, which is one without symbolic links, of what some process holds open or has mapped.
pub(super) fn open_below(root: &Path) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let above = root.as_os_str().as_bytes().strip_suffix(b"/").unwrap_or(root.as_os_str().as_bytes());
    let mut note = |path: &[u8]| {
        let below = path.strip_prefix(above).and_then(|rest| rest.strip_prefix(b"/"));
        found.extend(below.filter(|rest| !rest.is_empty()).map(<[u8]>::to_vec));
    };
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    // Of a process that ends meanwhile, or is another user's, nothing can be said.
    for process in processes.flatten().filter(|process| is_number(process.file_name().as_bytes())) {
        for descriptor in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            if is_written_through(&descriptor)
                && let Ok(path) = fs::read_link(descriptor.path())
            {
                note(path.as_os_str().as_bytes());
            }
        }
        if let Ok(maps) = fs::read(process.path().join("maps")) {
            maps.split(|&b| b == b'\n').filter_map(written_through).for_each(|path| note(&path));
        }
    }
    found
}

fn is_number(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_digit)
}

/// Whether a descriptor is of a regular file and may change it: a mapping that may takes one that may read and write.
fn is_written_through(descriptor: &fs::DirEntry) -> bool {
    let may_write = descriptor.metadata().is_ok_and(|link| link.permissions().mode() & 0o600 == 0o600);
    may_write && fs::metadata(descriptor.path()).is_ok_and(|file| file.is_file())
}

/// The file of a line of `maps` whose mapping may change it.
fn written_through(line: &[u8]) -> Option<Vec<u8>> {
    let permissions = line.split(|&b| b == b' ').nth(1)?;
    if permissions.get(3) != Some(&b's') {
        return None;
    }
    let path = &line[line.iter().position(|&b| b == b'/')?..];
    // Only a newline is escaped, and a backslash is not: the name that has both is nobody's.
    Some(replace(path, b"\\012", b"\n"))
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                out.extend_from_slice(to);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}
