"""Measure all claims, or those that are named; print the tables and write them to the page."""

from __future__ import annotations

import argparse
import fcntl
import sys

from benchmarks import page
from benchmarks.claims import (
    build,
    changed,
    cold,
    compared,
    context,
    convert,
    demo,
    edit,
    environment,
    first_byte,
    fresh,
    gc,
    image,
    large,
    layers,
    million,
    mount,
    mount_large,
    mount_million,
    mount_native,
    mount_ten_million,
    pull,
    push,
    requests,
    seek,
    serve,
    startup,
    tar,
    ten_million,
    toc,
    unchanged,
    uplink,
    versions,
    watched,
)
from benchmarks.corpus import BUILD
from benchmarks.machine import machine

_GROUPS = {
    "Start": {"startup": startup},
    "Index": {
        "unchanged": unchanged,
        "million": million,
        "changed": changed,
        "cold": cold,
        "watched": watched,
        "compared": compared,
        "ten-million": ten_million,
    },
    "Push": {
        "push": push,
        "edit": edit,
        "fresh": fresh,
        "large": large,
        "versions": versions,
        "requests": requests,
    },
    "Pull": {"pull": pull},
    "Store": {"gc": gc},
    "Archives": {"convert": convert, "toc": toc, "first-byte": first_byte, "seek": seek, "tar": tar},
    "Builds": {"build": build, "uplink": uplink, "context": context, "serve": serve},
    "Mount": {
        "mount": mount,
        "mount-large": mount_large,
        "mount-native": mount_native,
        "mount-million": mount_million,
        "mount-ten-million": mount_ten_million,
        "demo": demo,
        "environment": environment,
    },
    "Images": {"image": image, "layers": layers},
}
_CLAIMS = {name: claim for claims in _GROUPS.values() for name, claim in claims.items()}
# Each takes up to half an hour, 13 million inodes and 12 GB of memory for the kernel's caches.
_ONLY_WHEN_NAMED = {"ten-million", "mount-ten-million"}
IN_README = (
    "start-up",
    "hash, nothing changed : git status",
    "a million files, nothing changed : git status with untracked cache",
    "cold hash : read and SHA-256 of all files",
    "push to a new store : restic",
    "its size : restic's",
    "push after one edited file",
    "the same : restic backup",
    "pull into a new directory : restic",
    "push of a file of 8 GiB : zstd -1 -T2",
    "gc of 1,000,000 chunks : copying 1338 MB that must be moved",
    "convert of a tar : estargz.Build",
    "opening the archive of a million files",
    "warm mount, tar : native",
    "warm mount, lstat of all, names dropped : native",
    "large files, none, sequential : native",
    "until the root is listed and a file is read",
    "run pandas from the mount : pull, then run",
    "first line, without a profile",
    "done, without a profile : tar.zst -19",
    "done, with a profile : tar.zst -19",
    "a builder on bound inputs : the same command outside",
    "1,000 derivations, nothing changed, beyond the hash of their sources",
    "ByteStream read of 128 MiB",
    "until the builder begins, after one edit : rsync",
    "an image of 50 layers with 1,000,000 entries, its layers merged",
    "image, first line, run : podman",
    "image, done, with a profile : tar.zst -19",
)
"""The figures that are shown there, where they were measured: of each part what it is for, and what it misses most."""


def main() -> int:
    """Returns 1 when a figure misses its bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", choices=[*_CLAIMS, []], help=", ".join(_CLAIMS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    lock = (BUILD / "lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Two would disturb each other's times, and share the places that `place` clears.
        raise SystemExit(f"bench: another measurement is under way: {lock.name} is locked") from None
    chosen = arguments.claims or [name for name in _CLAIMS if name not in _ONLY_WHEN_NAMED]
    holds = True
    for name in chosen:
        claim = _CLAIMS[name]
        what = (claim.__doc__ or "").partition("\n")[0]
        sides = getattr(claim, "SIDES", ("sapwood", "peer"))
        section = page.Section(what, claim.COMMANDS, machine(), sides, claim.figures(arguments.rounds))
        print("\n".join([f"{name}: {what}", *page.table(section.figures, sides), ""]), flush=True)
        # At once: what was measured stays when a later claim fails.
        page.write({name: section}, _GROUPS, IN_README)
        holds = holds and all(figure.holds for figure in section.figures)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
