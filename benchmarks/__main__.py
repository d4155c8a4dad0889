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
    convert,
    demo,
    edit,
    environment,
    first_byte,
    fresh,
    gc,
    large,
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
    "Builds": {"build": build, "serve": serve},
    "Mount": {
        "mount": mount,
        "mount-large": mount_large,
        "mount-native": mount_native,
        "mount-million": mount_million,
        "mount-ten-million": mount_ten_million,
        "demo": demo,
        "environment": environment,
    },
}
_CLAIMS = {name: claim for claims in _GROUPS.values() for name, claim in claims.items()}
# Each takes up to half an hour, 13 million inodes and 12 GB of memory for the kernel's caches.
_ONLY_WHEN_NAMED = {"ten-million", "mount-ten-million"}
_IN_README = (
    "startup",
    "unchanged",
    "million",
    "cold",
    "push",
    "edit",
    "fresh",
    "large",
    "versions",
    "requests",
    "pull",
    "gc",
    "convert",
    "toc",
    "first-byte",
    "seek",
    "tar",
    "build",
    "serve",
    "mount",
    "mount-large",
    "mount-native",
    "mount-million",
    "demo",
    "environment",
)


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
        page.write({name: section}, _GROUPS, _IN_README)
        holds = holds and all(figure.holds for figure in section.figures)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
