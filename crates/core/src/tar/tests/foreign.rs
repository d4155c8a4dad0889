//! One tree as GNU tar writes it in each of its formats.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::*;

/// A component that no field has room for.
fn long() -> String {
    "n".repeat(201)
}

fn make(root: &Path, with_long: bool) {
    fs::create_dir_all(root.join("dir/empty")).unwrap();
    fs::write(root.join("dir/data"), b"data".repeat(300)).unwrap();
    fs::hard_link(root.join("dir/data"), root.join("dir/hard")).unwrap();
    symlink("../nowhere", root.join("dir/link")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"dir/caf\xe9")), b"").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("dir/pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    if with_long {
        fs::create_dir_all(root.join("dir").join(long())).unwrap();
        fs::write(root.join("dir").join(long()).join("x"), b"far").unwrap();
        symlink(long(), root.join("dir/to long")).unwrap();
    }
}

/// Name, content or target or kind.
fn seen(stream: &[u8]) -> Vec<(String, String)> {
    let spell = |(header, content): (Header, Vec<u8>)| {
        let what = match header.kind {
            Kind::Regular { .. } => content.escape_ascii().to_string(),
            Kind::Symlink { target } => format!("-> {}", target.escape_ascii()),
            Kind::HardLink { first } => format!("= {}", first.escape_ascii()),
            other => format!("{other:?}"),
        };
        (header.name.escape_ascii().to_string(), what)
    };
    entries(stream).unwrap().into_iter().map(spell).collect()
}

#[test]
fn gnu_tar_is_read_alike_in_all_its_formats() {
    for (format, with_long, owner, time) in [
        ("v7", false, 2_097_151, "2001-02-03T04:05:06Z"),
        ("ustar", false, 2_097_151, "2001-02-03T04:05:06Z"),
        ("oldgnu", true, 3_000_000_000, "1901-02-03T04:05:06Z"),
        ("gnu", true, 3_000_000_000, "1901-02-03T04:05:06Z"),
        ("posix", true, 3_000_000_000, "1901-02-03T04:05:06.700000008Z"),
    ] {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), with_long);
        let mut tar = Command::new("tar");
        tar.arg(format!("--format={format}")).args(["--sort=name", "--numeric-owner", "-c", "-f", "-"]);
        tar.arg(format!("--owner=o:{owner}")).arg(format!("--group=g:{owner}")).arg(format!("--mtime={time}"));
        let exclude = if format == "v7" { "--exclude=./dir/pipe" } else { "--" };
        let out = tar.args([exclude, "."]).current_dir(&place).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut expected = vec![
            (String::new(), "Directory".to_string()),
            ("dir".into(), "Directory".into()),
            (r"dir/caf\xe9".into(), String::new()),
            ("dir/data".into(), "data".repeat(300)),
            ("dir/empty".into(), "Directory".into()),
            ("dir/hard".into(), "= dir/data".into()),
            ("dir/link".into(), "-> ../nowhere".into()),
        ];
        if with_long {
            expected.push((format!("dir/{}", long()), "Directory".into()));
            expected.push((format!("dir/{}/x", long()), "far".into()));
            expected.push(("dir/to long".into(), format!("-> {}", long())));
        }
        if format != "v7" {
            expected.insert(expected.len() - usize::from(with_long), ("dir/pipe".into(), "Fifo".into()));
        }
        assert_eq!(seen(&out.stdout), expected, "{format}");
        let (header, _) = entries(&out.stdout).unwrap().remove(3);
        assert_eq!((header.uid, header.gid), (owner, owner), "{format}");
        let (sec, nsec) = match format {
            "posix" => (-2_174_586_894, 700_000_008),
            "gnu" | "oldgnu" => (-2_174_586_894, 0),
            _ => (981_173_106, 0),
        };
        assert_eq!(header.mtime, Time { sec, nsec }, "{format}");
        super::split::goes_together_again(&out.stdout);
    }
}
