//! Names of entries.
//!
//! Invariant: a clean name leads to no place outside the tree that it is put in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::show;

/// The longest name of an entry.
pub const MAX_NAME: usize = 1 << 20;
/// The longest part of one, as file systems have it.
pub const MAX_PART: usize = 255;
/// The most parts of one: no system call takes a path of more.
pub const MAX_PARTS: usize = 2048;

/// A name as a tree has it: without `/` at its ends, without parts that are empty or `.`. That of the root is empty.
///
/// # Errors
/// Says why it cannot be the name of an entry.
pub fn clean(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.len() > MAX_NAME {
        return Err("its name is longer than 1 MiB");
    }
    if name.contains(&0) {
        return Err("its name has a NUL");
    }
    let mut out = Vec::with_capacity(name.len());
    let mut parts = 0;
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("its name has a .. and may lead outside"),
            part if part.len() > MAX_PART => return Err("a part of its name is longer than 255 bytes"),
            _ if parts == MAX_PARTS => return Err("its name has more than 2,048 parts"),
            _ if out.is_empty() => {}
            _ => out.push(b'/'),
        }
        out.extend_from_slice(part);
        parts += 1;
    }
    Ok(out)
}

/// A name for a message: a long one is cut.
pub fn shown(name: &[u8]) -> String {
    const MOST: usize = 200;
    match name {
        [] => ".".into(),
        name if name.len() > MOST => show(Path::new(OsStr::from_bytes(&name[..MOST]))) + "…",
        name => show(Path::new(OsStr::from_bytes(name))),
    }
}
