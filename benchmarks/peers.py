"""The peers of push and pull: programs that store a directory in a place of their own and bring it back.

Rule: a peer is durable when it has stored, as a push is. restic and borg sync what they write; for others `sync` does.

desync is not among them: the Go module proxy refuses it to `go install`. casync, which made its format, stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Case, Word, stored_bytes
from benchmarks.sapwood import anew, aside, clear, place


@dataclass(frozen=True)
class Peer:
    """What it runs, in sh: `$1` is the directory, `$2` where it keeps all, the store in `$2/store`."""

    name: str
    storing: str
    restoring: str
    kept: Path
    environment: dict[str, str] = field(default_factory=dict)
    storing_again: str = ""

    def store_anew(self, tree: Path) -> Case:
        """Return the case: `tree` into a new store, without any earlier state."""
        return Case(self.name, self._shell(self.storing, tree), self._begin, self.environment)

    def restore(self, to: Path) -> Case:
        """Return the case: what it stored last into the directory `to`, which is empty; what was there is set aside."""

        def begin() -> None:
            aside(to)
            to.mkdir(parents=True)

        return Case(self.name, self._shell(self.restoring, to), begin, self.environment)

    def again(self, tree: Path, before: Callable[[], object] = lambda: None) -> Case:
        """Return the case: `tree` once more, beside what it has stored of it before."""
        return Case(self.name, self._shell(self.storing_again, tree), before, self.environment)

    def stored(self) -> int:
        """Return the bytes of its store."""
        return stored_bytes(self.kept / "store")

    def clear(self) -> None:
        """Remove all it keeps."""
        clear(self.kept)

    def _begin(self) -> None:
        clear(self.kept)
        _empty(self.kept / "store")

    def _shell(self, script: str, directory: Path) -> list[Word]:
        # A part of a pipe that failed is a failure.
        return ["bash", "-o", "errexit", "-o", "pipefail", "-c", script, "bash", directory, self.kept]


def restic(url: str | None = None, credentials: Mapping[str, str] | None = None) -> Peer:
    """Give restic; its repository is its store, or at a URL."""
    kept = place("restic")
    return Peer(
        "restic",
        'restic init --quiet; cd "$1"; restic backup --quiet .',
        'restic restore --quiet latest --target "$1"',
        kept,
        {
            **(credentials or {}),
            "RESTIC_REPOSITORY": url or str(kept / "store"),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(kept / "cache"),
        },
        'cd "$1"; restic backup --quiet .',
    )


def borg() -> Peer:
    """Give borg, without encryption and with the compression of a push."""
    kept = place("borg")
    return Peer(
        "borg",
        'borg init --encryption none; cd "$1"; borg create --compression zstd,1 ::main .',
        'cd "$1"; borg extract ::main',
        kept,
        {
            "BORG_REPO": str(kept / "store"),
            "BORG_BASE_DIR": str(kept / "base"),
            # The repository is new at each run, and where the last one was.
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        },
    )


def casync() -> Peer:
    """Give casync, whose chunks are compressed with zstd."""
    kept = place("casync")
    return Peer(
        "casync",
        'casync make --store="$2/store/chunks" "$2/store/tree.caidx" "$1" >/dev/null; sync --file-system "$2"',
        'casync extract --store="$2/store/chunks" "$2/store/tree.caidx" "$1"',
        kept,
    )


def tar_zstd() -> Peer:
    """Give a tar compressed by zstd on two threads: not a store, but the least that keeps a tree."""
    kept = place("tar")
    return Peer(
        "tar and zstd",
        'tar -cf - -C "$1" . | zstd -q -1 -T2 -o "$2/store/tree.tar.zst"; sync "$2/store/tree.tar.zst" "$2/store"',
        'zstd -q -dc "$2/store/tree.tar.zst" | tar -xf - -C "$1"',
        kept,
    )


def _empty(directory: Path) -> None:
    anew(directory)
    directory.mkdir(parents=True)
