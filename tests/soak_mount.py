"""Mounts under fire for a while: readers, kills, a network that spoils, a cache that is damaged or full, unmounts.

Promise: it fails, and says why, if a reader saw a wrong byte, an operation took longer than the deadline allows, a
mount could not be taken away, or anything is left mounted or running at the end; and if a reader got an error that
nothing explains: EIO while the network was fine (docs/mount.md), or that the mount has ended when it had not.

    python -m tests.soak_mount --minutes 30 [--seed N]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sapwood import open_store
from sapwood.errors import InvalidInputError, SapwoodError, UnavailableError
from sapwood.mount import Mount, mounts, process, unmount
from tests.support import faultyproxy, peers, soakreader
from tests.support.smalldisk import fill, small_ext4, writable

# Longer than a busy machine keeps any process from its work: what is then late is explained by nothing.
DEADLINE_S = 12.0
# For so long at most the network is in one mood.
_MOOD_S = 6.0
# What an operation may take in all: each of its reads waits for the deadline at most, and for a successor.
LONGEST_S = 90.0
_READERS = 6
# Of the disk with the cache; the tree is a third of it.
_DISK = 80 << 20
# By turns; of who is not root the first only.
_KINDS: dict[str, dict[str, object]] = {
    "fuse": {"tier": "fuse"},
    "native": {"tier": "native"},
    "passthrough": {"tier": "fuse", "passthrough": True},
    "writable": {"tier": "fuse", "writable": True, "discard": True},
    "libfuse": {"tier": "libfuse"},
}
_FAULTS = ["503", "cut before", "done, and cut", "the reply is cut", "corrupted", "one byte short", "another range"]


class WrongError(Exception):
    """A promise of the mount was broken."""


@dataclass
class _Network:
    """Between server and store: fine, spoiling some requests, silent, or away; another mood every few seconds."""

    dice: random.Random
    mood: str = "fine"
    until: float = 0.0
    bad: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it was not fine; until it is asked again it stays as it was."""

    def spoil(self, _: int) -> faultyproxy.Fault | None:
        now = time.monotonic()
        if now > self.until:
            if self.mood != "fine":
                self.bad[-1] = (self.bad[-1][0], now)
            self.mood = self.dice.choice(["fine", "fine", "spoiling", "away", "silent"])
            self.until = now + self.dice.uniform(0.5, _MOOD_S)
            if self.mood != "fine":
                self.bad.append((now, math.inf))
        if self.mood == "spoiling" and self.dice.random() < 0.4:
            return faultyproxy.FAULTS[self.dice.choice(_FAULTS)]
        return {"away": faultyproxy.FAULTS["cut before"], "silent": self._silent}.get(self.mood)

    def was_bad(self, begun: float, ended: float) -> bool:
        """Whether it was not fine at any time from when something asked then may have waited."""
        return any(since <= ended and until >= begun - DEADLINE_S for since, until in list(self.bad))

    def _silent(self, passing: faultyproxy.Passing) -> None:
        time.sleep(max(0.0, self.until - time.monotonic()))  # the fault itself
        passing.cut()


@dataclass
class _Reading:
    process: subprocess.Popen[bytes]
    log: Path
    place: Path
    mounted: process.Started


@dataclass
class _Soak:
    address: str
    tree: Path
    work: Path
    dice: random.Random
    network: _Network
    disk: Path | None
    did: Counter[str] = field(default_factory=Counter)
    reading: list[_Reading] = field(default_factory=list)
    started: dict[Path, process.Started] = field(default_factory=dict)
    kinds: dict[Path, str] = field(default_factory=dict)
    ended: set[Path] = field(default_factory=set)
    """Mounts that were taken away, or that nobody serves any more."""
    numbers: int = 0
    mounts: int = 0
    full_until: float = 0.0

    @property
    def cache(self) -> Path:
        return (self.disk or self.work) / "cache"

    def mount(self) -> None:
        place = self.work / f"mount-{self.mounts}"
        place.mkdir()
        kind = list(_KINDS)[self.mounts % len(_KINDS)] if os.getuid() == 0 else "fuse"
        self.mounts += 1
        options: dict[str, Any] = _KINDS[kind]
        try:
            self.started[place] = process.start(
                self.address,
                place,
                cache_dir=self.cache,
                prefetch=self.dice.random() < 0.5,
                cache_size=self.dice.choice([None, 8 << 20]),
                deadline_s=DEADLINE_S,
                **options,
            )
            self.kinds[place] = kind
            self.did[f"mounted {kind}"] += 1
        except SapwoodError as error:  # of a network that is away
            self.did[f"not mounted: {error.kind}"] += 1
            place.rmdir()

    def unmount(self, place: Path) -> None:
        """Take a mount away, politely or lazily, or by a signal to its holder."""
        if self.found(place) is None:
            log = self.started[place].log
            raise WrongError(f"{place} is not mounted any more: {log.read_text()[-2000:] if log.exists() else ''}")
        self.ended.add(place)
        # One that needs no process hears no signal.
        how = self.dice.choice(["polite", "lazy", "signal"] if self.started[place].is_served else ["polite", "lazy"])
        if how == "polite":
            try:
                unmount(place, cache_dir=self.cache)
            except UnavailableError as error:
                # Of who has ended meanwhile it is not said who.
                if "is in use" not in str(error):
                    raise WrongError(f"{place}: {error}") from error
                self.did["busy"] += 1
                return
        elif how == "lazy":
            unmount(place, lazy=True, cache_dir=self.cache)
        else:
            self.started[place].process.terminate()
        self.did[f"unmounted, {how}"] += 1
        self.see_out(place)

    def see_out(self, place: Path) -> None:
        started = self.started.pop(place)
        try:
            started.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired as error:
            raise WrongError(f"{place}: its holder does not end: {started.log.read_text()[-500:]}") from error
        if self.found(place) is not None:
            raise WrongError(f"{place}: its holder has ended, and it is still mounted")
        self.kinds.pop(place)
        place.rmdir()

    def found(self, place: Path) -> Mount | None:
        return next((mount for mount in mounts(self.cache) if mount.path == place), None)

    def read(self) -> None:
        self.numbers += 1
        log = self.work / f"reader-{self.numbers}"
        log.touch()
        place = self.dice.choice(sorted(self.started))
        words = [place, self.tree, log, self.numbers, self.dice.uniform(0.5, 6)]
        command = [sys.executable, "-I", "-S", soakreader.__file__, *map(str, words)]
        with log.open("ab") as said:
            self.reading.append(_Reading(subprocess.Popen(command, stderr=said), log, place, self.started[place]))

    def check_readers(self) -> None:
        for one in list(self.reading):
            code = one.process.poll()
            if code is None:
                if time.time() - one.log.stat().st_mtime > LONGEST_S:
                    stack = Path(f"/proc/{one.process.pid}/wchan").read_text()
                    one.process.kill()
                    raise WrongError(f"a reader is stuck for {LONGEST_S:g} s, in {stack}: {one.log.read_text()[-300:]}")
                continue
            said = one.log.read_text()
            # Interrupted before it runs the script, Python ends with a code of its own.
            is_interrupted = code == -signal.SIGINT or said.endswith("KeyboardInterrupt\n")
            if code not in (0, -signal.SIGKILL) and not is_interrupted:
                raise WrongError(f"a reader ended with {code}: {said.lstrip('.')[-500:]}{self.kinds}")
            self._explain(one, said)
            for what, times in re.findall(r"(\w+)=(\d+)", said):
                self.did[f"read: {what}"] += int(times)
            self.reading.remove(one)
            one.log.unlink()

    def _explain(self, one: _Reading, said: str) -> None:
        """Hold the errors that a reader got against what was done."""
        for name, begun, ended in re.findall(r"^error (\w+) (\S+) (\S+)$", said, re.MULTILINE):
            # A mount that has ended aborts what is under way.
            if one.place in self.ended or (
                name in ("EIO", "SIGBUS") and self.network.was_bad(float(begun), float(ended))
            ):
                continue
            log = one.mounted.log.read_text()[-1000:] if one.mounted.log.exists() else ""
            raise WrongError(f"{one.place} ({self.kinds.get(one.place)}): {name}, and nothing explains it: {log}")

    def harm(self) -> None:
        """Kill a server, its holder, both, or a reader; damage or remove what is in the cache, or fill its disk."""
        what = self.dice.choice(
            ["server", "server", "holder", "both", "reader", "interrupt", "damage", "truncate", "cache", "disk"]
        )
        if self.disk and not self.did["harm: disk"]:
            what = "disk"
        if what == "disk":
            if not self.disk or self.full_until:
                return
            fill(self.disk, leave=self.dice.choice([0, 200_000]))
            self.full_until = time.monotonic() + self.dice.uniform(1, 6)
        elif what in ("reader", "interrupt"):
            if self.reading:
                signo = signal.SIGKILL if what == "reader" else signal.SIGINT
                self.dice.choice(self.reading).process.send_signal(signo)
        elif what in ("server", "holder", "both"):
            place = self.dice.choice(sorted(self.started))
            # Nobody takes over there.
            what = "both" if what == "server" and self.kinds[place] == "libfuse" else what
            found = self.found(place)
            # A native mount that is whole needs no process.
            if found is None or not found.server or self.started[place].process.poll() is not None:
                return
            if what in ("holder", "both"):
                self.ended.add(place)
                self.started[place].process.kill()
                self.started[place].process.wait()
            if what in ("server", "both"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found.server, signal.SIGKILL)
            if what in ("holder", "both"):
                # Without a server readers get errors until it is unmounted; without a holder nobody would take over.
                with contextlib.suppress(InvalidInputError):
                    unmount(place, lazy=True, cache_dir=self.cache)
                self.see_out(place)
        elif what == "cache":
            # Without what tells of mounts; of the native tier also what it reads by itself is removed.
            for name in ("objects", "partial", "tmp"):
                shutil.rmtree(self.cache / name, ignore_errors=True)
        elif "passthrough" in self.kinds.values():
            # What the kernel reads by itself it trusts: docs/mount.md.
            return
        else:
            self._damage(cut=what == "truncate")
        self.did[f"harm: {what}"] += 1

    def _damage(self, *, cut: bool) -> None:
        # What the native tier has proved it trusts: docs/native.md.
        places = [path for name in ("objects", "partial") for path in (self.cache / name).rglob("*")]
        for path in self.dice.sample(places, min(8, len(places))):
            with contextlib.suppress(OSError):
                if not path.is_file() or path.stat().st_nlink > 1:
                    continue
                size = path.stat().st_size
                if cut:
                    os.truncate(path, size // 2)
                    continue
                with open(path, "r+b") as file:
                    at = self.dice.randrange(size)
                    byte = os.pread(file.fileno(), 1, at)
                    os.pwrite(file.fileno(), bytes([byte[0] ^ 0x20]), at)

    def empty_disk(self) -> None:
        """Let there be room again."""
        if self.disk and self.full_until:
            writable(self.disk)
            self.full_until = 0.0

    def step(self) -> None:
        if self.full_until and time.monotonic() > self.full_until:
            self.empty_disk()
        if len(self.started) < 2:
            self.mount()
        while self.started and len(self.reading) < _READERS:
            self.read()
        if self.started:
            act = self.dice.random()
            if act < 0.15:
                self.unmount(self.dice.choice(sorted(self.started)))
            elif act < 0.6:
                self.harm()
        self.check_readers()
        time.sleep(self.dice.uniform(0.1, 0.6))  # between two harms readers read

    def end(self) -> None:
        """See all readers out, then the mounts."""
        self.empty_disk()
        deadline = time.monotonic() + LONGEST_S + 10
        while self.reading and time.monotonic() < deadline:
            self.check_readers()
            time.sleep(0.1)
        if self.reading:
            raise WrongError(f"{len(self.reading)} readers do not end")
        for place in sorted(self.started):
            unmount(place, lazy=True, cache_dir=self.cache)
            self.see_out(place)
        left = [str(mount.path) for mount in mounts(self.cache) if mount.path.is_relative_to(self.work)]
        if left:
            raise WrongError(f"still mounted: {left}")

    def clear(self) -> None:
        """Leave nothing, after whatever went wrong."""
        for one in self.reading:
            one.process.kill()
        for started in self.started.values():
            with contextlib.suppress(SapwoodError):
                started.end()
        for one in self.reading:
            one.process.wait()


def campaign(work: Path, *, seconds: float, seed: int) -> Counter[str]:
    """Do all that for so long; return what was done.

    Raises:
        WrongError: the first promise that was broken.
    """
    dice = random.Random(seed)
    tree = work / "tree"
    make_tree(tree, dice)
    with _disk(work) as disk, _store(work) as proxy:
        open_store("s3://bucket/store", create=True).push(tree, "main")
        network = _Network(dice)
        proxy.begin(network.spoil)
        soak = _Soak("s3://bucket/store#main", tree, work, random.Random(seed + 1), network, disk)
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                soak.step()
            soak.end()
        finally:
            soak.clear()
        return soak.did


def make_tree(root: Path, dice: random.Random) -> None:
    """Make a tree with files that share frames, and some of many chunks."""
    for number in range(120):
        path = root / f"{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.randrange(40_000)))
    for number, size in enumerate([300_000, 2_500_000, 6_000_000, 12_000_000]):
        (root / f"large-{number}").write_bytes(dice.randbytes(size))


@contextlib.contextmanager
def _disk(work: Path) -> Iterator[Path | None]:
    """A disk that can be filled, of who may mount one."""
    if os.getuid() != 0:
        yield None
        return
    with small_ext4(work / "disk", _DISK) as disk:
        yield disk


@contextlib.contextmanager
def _store(work: Path) -> Iterator[faultyproxy.Proxy]:
    """A bucket of versitygw behind a proxy, and the environment that leads there."""
    data = work / "data"
    (data / "bucket").mkdir(parents=True)
    with peers.versitygw(data) as server, faultyproxy.proxying(server) as proxy:
        said = {"AWS_ENDPOINT_URL": proxy.url, "AWS_REGION": "us-east-1"}
        said |= {"AWS_ACCESS_KEY_ID": peers.KEYS[0], "AWS_SECRET_ACCESS_KEY": peers.KEYS[1]}
        before = dict(os.environ)
        os.environ.update(said)
        try:
            yield proxy
        finally:
            os.environ.clear()
            os.environ.update(before)


def main() -> int:
    parser = argparse.ArgumentParser(description="Mounts under fire.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    said = parser.parse_args()
    print(f"seed {said.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sapwood-soak-") as work:
        os.environ["SAPWOOD_CACHE"] = f"{work}/cache"
        os.environ["SAPWOOD_CHANGES"] = f"{work}/changes"
        try:
            did = campaign(Path(work), seconds=60 * said.minutes, seed=said.seed)
        except WrongError as wrong:
            print(f"wrong: {wrong}", file=sys.stderr)
            return 1
    for what, times in sorted(did.items()):
        print(f"{times:8} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
