"""Many processes on one store: pushers, readers, one who forgets, and collectors, some of them killed, for a while.

Promise: it fails, and says why, if a finished push was lost, anything was read that is not what was pushed, a collector
found the store damaged, the history of a ref is not one line, or at the end anything is left that should not be.

    python -m tests.soak --minutes 10 --pushers 16 [PLACE]

PLACE is `local` (a new directory), `versitygw` (a new server), or the URL of an empty store, reached by the usual
environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sapwood import open_store
from sapwood.errors import UnavailableError
from sapwood.open import OpenStore
from sapwood.upkeep.gc import collect
from sapwood.upkeep.verify import verify
from tests.support import peers
from tests.support.crowd import Worker, WrongError

_REPOSITORY = Path(__file__).resolve().parents[1]
_KILL_EVERY_S = 2
Line = dict[str, Any]
_Result = TypeVar("_Result")


@dataclass
class _Running:
    """A worker and its log, which its successor goes on with."""

    role: str
    number: int
    process: subprocess.Popen[bytes]

    def check(self, log: Path) -> None:
        """Raise if it ended in another way than it should."""
        if self.process.poll():
            raise WrongError(f"{self.role} {self.number}: {log.read_text()[-2000:] or self.process.returncode}")


@dataclass(frozen=True)
class Crowd:
    """How many processes of each kind; who changes refs is one more."""

    pushers: int
    readers: int = 2
    collectors: int = 1

    def roles(self) -> list[str]:
        return ["push"] * self.pushers + ["read"] * self.readers + ["collect"] * self.collectors + ["change"]


def campaign(url: str, crowd: Crowd, *, seconds: float, grace_s: int) -> Counter[str]:
    """Let all work on a new store at `url`, killing one of them now and then; return how often what was done.

    Raises:
        WrongError: something was lost, wrong, no line, or left.
    """
    OpenStore.open(url, create=True, grace_s=grace_s)
    with tempfile.TemporaryDirectory() as home:
        killed = _let_work(url, Path(home), crowd, time.time() + seconds)
        said = [
            json.loads(line)
            for log in Path(home).glob("log-*")
            for line in log.read_text().splitlines()
            if line.startswith("{") and line.endswith("}")
        ]
        did = Counter(line["did"] + (f": {line['kind']}" if "kind" in line else "") for line in said)
        did["were killed"] = killed
        for what in ("deleted", "moved"):
            did[f"{what} by collections"] = sum(line.get(what, 0) for line in said)
        checker = Worker(url, Path(home) / "checker", len(crowd.roles()))
        finals = {ref.name: ref.snapshot for ref in checker.store().refs()}
        require_lines(said, set(finals.values()), unknown=killed + _unheard(did))
        did["snapshots read at the end"] = sum(_patiently(partial(checker.check, ref)) for ref in finals)
        did["objects left"] = _clean_up(url)
        did["snapshots read after that"] = sum(_patiently(partial(checker.check, ref)) for ref in finals)
    return did


def _let_work(url: str, home: Path, crowd: Crowd, until: float) -> int:
    """Start all and wait for their end; return how many were killed on the way."""
    dice = random.Random(len(crowd.roles()))
    killed = 0

    def start(role: str, number: int) -> _Running:
        command = [sys.executable, "-m", "tests.support.crowd", role, url, str(home / str(number))]
        with (home / f"log-{number}").open("a") as log:
            process = subprocess.Popen(
                [*command, str(number + 1000 * killed), str(until)],
                cwd=_REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return _Running(role, number, process)

    running = [start(role, number) for number, role in enumerate(crowd.roles())]
    try:
        while time.time() < until - _KILL_EVERY_S:
            time.sleep(_KILL_EVERY_S)  # the rhythm of the campaign
            for one in running:
                one.check(home / f"log-{one.number}")
            victim = dice.choice(running)
            victim.process.kill()
            victim.process.wait()
            killed += 1
            running[victim.number] = start(victim.role, victim.number)
        for one in running:
            one.process.wait(120)
            one.check(home / f"log-{one.number}")
    finally:
        for one in running:
            one.process.kill()
            one.process.wait()
    return killed


def _unheard(did: Counter[str]) -> int:
    """Return how many pushes ended without knowing whether they moved the ref."""
    known = ("ref-moved", "pack-condemned", "push-too-slow")
    return sum(times for what, times in did.items() if what.startswith("gave up to push") and not what.endswith(known))


def require_lines(said: list[Line], finals: set[str], *, unknown: int) -> None:
    """See that no two finished pushes followed the same snapshot, and that each was followed, removed, or is there.

    `unknown` pushes may have moved their ref without telling.
    """
    pushed = [line for line in said if line["did"] == "pushed"]
    for (ref, parent), times in Counter((line["ref"], line["parent"]) for line in pushed if line["parent"]).items():
        if times > 1:
            raise WrongError(f"{ref}: {times} pushes follow {parent}")
    followed = {line["parent"] for line in pushed}
    removed = {line["snapshot"] for line in said if line["did"] == "removed"}
    lost = {line["snapshot"] for line in pushed} - followed - removed - finals
    if len(lost) > unknown:
        raise WrongError(f"pushes that nobody followed, and no ref names: {sorted(lost)}")


def _patiently(call: Callable[[], _Result]) -> _Result:
    """Do it again while the place does not answer in time: with a grace of seconds that is soon."""
    for _ in range(20):
        with contextlib.suppress(UnavailableError):
            return call()
    return call()


def _clean_up(url: str) -> int:
    """Collect until there is nothing to do; return how many objects there are then."""
    store = open_store(url)
    while (done := _patiently(lambda: collect(store, grace_s=0))).deleted or done.moved:
        pass
    found = _patiently(lambda: verify(store, read_data=100))
    if found.damages:
        raise WrongError("\n".join(str(damage) for damage in found.damages))
    if found.packs > len({pack for ref in store.refs() for one in store.history(ref) for pack in one.packs}):
        raise WrongError(f"{found.packs} packs are left, more than the snapshots name")
    return len(store._objects.list(""))


@contextlib.contextmanager
def _place(name: str) -> Iterator[str]:
    if name not in ("local", "versitygw"):
        yield name
        return
    with tempfile.TemporaryDirectory() as home:
        data = Path(home) / "data"
        if name == "local":
            yield str(data)
            return
        (data / "bucket").mkdir(parents=True)
        with peers.versitygw(data) as url:
            os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
            os.environ |= {"AWS_ACCESS_KEY_ID": peers.KEYS[0], "AWS_SECRET_ACCESS_KEY": peers.KEYS[1]}
            yield "s3://bucket/store"


def main() -> int:
    parser = argparse.ArgumentParser(description="Many processes on one store, with a collector among them.")
    parser.add_argument("place", metavar="PLACE", nargs="?", default="local", help="local, versitygw, or a URL")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--pushers", type=int, default=16)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--collectors", type=int, default=1)
    parser.add_argument("--grace", type=int, default=20, help="seconds")
    said = parser.parse_args()
    crowd = Crowd(said.pushers, said.readers, said.collectors)
    try:
        with _place(said.place) as url:
            did = campaign(url, crowd, seconds=60 * said.minutes, grace_s=said.grace)
    except WrongError as wrong:
        print(f"wrong: {wrong}", file=sys.stderr)
        return 1
    for what, times in sorted(did.items()):
        print(f"{times:8} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
