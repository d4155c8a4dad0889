//! What is mounted, as the kernel tells it in /proc/thread-self/mountinfo (a thread may have mounts of its own).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
pub use crate::scan::{KIND, SOURCE};

/// A mount of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub place: PathBuf,
    /// All of what is mounted is shown there, not a directory of it.
    pub is_all: bool,
    /// `major:minor` of the device; minor is also the number under /sys/fs/fuse/connections.
    pub device: String,
    pub kind: String,
    pub source: String,
}

impl Mounted {
    /// Whether it is a mount of sapwood, of whatever tier.
    pub fn is_ours(&self) -> bool {
        self.kind == KIND || self.kind == "overlay" && self.source == SOURCE
    }
}

/// The mounts of ours that this thread sees, oldest first.
///
/// # Errors
/// `Io` without /proc.
pub fn mounts() -> Result<Vec<Mounted>> {
    Ok(all()?.into_iter().filter(Mounted::is_ours).collect())
}

/// What is mounted last at exactly this place.
pub fn at(place: &Path) -> Result<Option<Mounted>> {
    Ok(all()?.into_iter().rfind(|mounted| mounted.place == place))
}

/// Whether what is seen at a place, an absolute path, is a mount of ours, all of it, and nothing is mounted below.
///
/// # Errors
/// `Io` without /proc, and when the mount does not answer.
pub fn is_bare(place: &Path) -> Result<bool> {
    let all = all()?;
    let Some(last) = all.iter().rfind(|mounted| mounted.place == place) else { return Ok(false) };
    if !(last.is_ours() && last.is_all)
        || all.iter().any(|other| other.place != place && other.place.starts_with(place))
    {
        return Ok(false);
    }
    // Something may be mounted over a directory above.
    let device = rustix::fs::stat(place).map_err(|error| Error::io("stat", place)(error.into()))?.st_dev;
    Ok(last.device == format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}

fn all() -> Result<Vec<Mounted>> {
    let path = Path::new("/proc/thread-self/mountinfo");
    let text = fs::read(path).map_err(Error::io("read", path))?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(line).collect())
}

/// `id parent major:minor root place options [optional…] - type source super`, see proc_pid_mountinfo(5).
pub fn line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?.to_string();
    let is_all = fields.next()? == b"/";
    let place = PathBuf::from(OsString::from_vec(plain(fields.next()?)));
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let mut text = || fields.next().map(|field| String::from_utf8_lossy(field).into_owned());
    Some(Mounted { place, is_all, device, kind: text()?, source: text().unwrap_or_default() })
}

/// Blank, tab, newline and backslash are written there as `\` and three octal digits.
fn plain(escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let value = digits.map(|digits| digits.iter().fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0')));
        (rest, _) = match value {
            Some(value) => (&after[3..], out.push(value as u8)),
            None => (after, out.push(byte)),
        };
    }
    out
}

/// The absolute path of a mount point. The mount itself is not asked anything: its server may be dead, or answer nothing.
pub fn absolute(place: &Path) -> std::io::Result<PathBuf> {
    let bytes = place.as_os_str().as_bytes();
    let trimmed = match bytes.iter().rposition(|&byte| byte != b'/') {
        Some(last) => Path::new(std::ffi::OsStr::from_bytes(&bytes[..=last])),
        None => return Ok(PathBuf::from("/")),
    };
    match (trimmed.parent(), trimmed.file_name()) {
        // To read what is no link is refused by the kernel alone.
        (Some(parent), Some(name)) if trimmed.read_link().is_err() => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize()?.join(name))
        }
        _ => trimmed.canonicalize(),
    }
}
