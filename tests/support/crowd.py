"""One of many processes that work on one store at the same time: a pusher, a reader, one who forgets, a collector.

Promise: each line it prints is a JSON object that says what was done and came to an end; it ends with 1 after a line
that says WRONG. What others did first, and what took too long, is nothing wrong. Not here: who starts and kills these,
and what is concluded from their lines (`tests.soak`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from sapwood import open_store
from sapwood.errors import ConflictError, NotFoundError, SapwoodError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store.snapshot import Snapshot
from sapwood.tree.index import Index
from sapwood.upkeep.forget import forget_ref, remove, tag
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.trees import noise

REFS = ("main", "next", "a", "a/b", "a/b/c")
TAGS = ("tag-0", "tag-1", "tag-2")
PIECES = [(f"piece-{number}", 1000 * 5 ** (number % 5)) for number in range(16)]
"""Files of which trees are made: their names and sizes. The content depends on the size only."""


class WrongError(Exception):
    """A promise was broken."""


class Worker:
    """One process, with a home of its own: its tree, and its cache, which outlives it."""

    def __init__(self, url: str, home: Path, seed: int) -> None:
        self.url = url
        self.home = home
        self.dice = random.Random(seed)
        home.mkdir(parents=True, exist_ok=True)
        os.environ["SAPWOOD_CACHE"] = str(home / "cache")

    def store(self) -> OpenStore:
        return open_store(self.url)

    def push(self) -> dict[str, Any]:
        """Change one or two files of a tree and push it; often as a machine new to the store."""
        tree = self.home / "tree"
        tree.mkdir(exist_ok=True)
        for name, size in self.dice.sample(PIECES, self.dice.choice([1, 2])):
            if (tree / name).exists():
                (tree / name).unlink()
            else:
                (tree / name).write_bytes(noise(size, size))
        if self.dice.random() < 0.3:
            (tree / "own").write_bytes(noise(self.dice.choice([5000, 400_000]), self.dice.randrange(1 << 30)))
        if self.dice.random() < 0.3:
            shutil.rmtree(self.home / "cache", ignore_errors=True)
        ref = self.dice.choice([REFS[int(self.home.name) % len(REFS)]] * 5 + [*REFS])
        store = self.store()
        pushed = store.push(tree, ref)
        if pushed.unchanged:
            return {"did": "pushed nothing"}
        parent = store.read_snapshot(pushed.snapshot).parent
        return {"did": "pushed", "ref": ref, "snapshot": pushed.snapshot, "parent": parent}

    def read(self) -> dict[str, Any]:
        """Pull what a ref names and see that it is the tree that the snapshot says; it may be forgotten meanwhile."""
        ref = self.dice.choice(2 * REFS + TAGS)
        store = self.store()
        snapshot = None
        try:
            snapshot = store.read_snapshot(store.read_ref(ref).snapshot)
            self._compare(store, ref, snapshot)
        except NotFoundError as error:
            if error.kind != "ref-missing" and (snapshot is None or self._is_in_history(store, ref, snapshot)):
                raise WrongError(f"{ref}: {error}") from error
            return {"did": "found nothing to read", "kind": error.kind}
        return {"did": "read"}

    def change(self) -> dict[str, Any]:
        """Forget, tag or remove."""
        ref = self.dice.choice(REFS)
        store = self.store()
        what = self.dice.choices(["forget", "tag", "untag", "remove"], [6, 2, 2, 1])[0]
        try:
            if what == "forget":
                forget_ref(store, ref, Rules(last=self.dice.choice([1, 1, 3])))
                return {"did": "forgot"}
            if what == "tag":
                history = list(store.history(store.read_ref(ref)))
                tag(store, self.dice.choice(history), self.dice.choice(TAGS), of=ref)
                return {"did": "tagged"}
            name = ref if what == "remove" else self.dice.choice(TAGS)
            return {"did": "removed", "ref": name, "snapshot": remove(store, name).snapshot}
        except NotFoundError as error:
            return {"did": f"found nothing to {what}", "kind": error.kind}

    def collect(self) -> dict[str, Any]:
        """Collect; that something is missing is a loss."""
        try:
            done = collect(self.store())
        except NotFoundError as error:
            raise WrongError(f"a collector: {error}") from error
        return {"did": "collected", "deleted": done.deleted, "moved": done.moved}

    def check(self, ref: str) -> int:
        """Read all of a ref's history; return how many snapshots."""
        store = self.store()
        try:
            history = list(store.history(store.read_ref(ref)))
            for snapshot in history:
                self._compare(store, ref, snapshot)
        except NotFoundError as error:
            raise WrongError(f"{ref}: {error}") from error
        return len(history)

    def _compare(self, store: OpenStore, ref: str, snapshot: Snapshot) -> None:
        to = self.home / "pulled"
        shutil.rmtree(to, ignore_errors=True)
        store.pull(f"{ref}@{snapshot.digest}", to)
        found = Index(to, self.home / "pulled.index").hash().digest
        if found != snapshot.tree:
            raise WrongError(f"{ref}: {snapshot.digest} reads as {found}, not {snapshot.tree}")

    def _is_in_history(self, store: OpenStore, ref: str, snapshot: Snapshot) -> bool:
        try:
            return any(found.digest == snapshot.digest for found in store.history(store.read_ref(ref)))
        except NotFoundError as error:
            if error.kind == "ref-missing":
                return False
            raise WrongError(f"{ref}: {error}") from error

    def work(self, role: str, until: float) -> int:
        """Do it until the time has come."""
        while time.time() < until:
            time.sleep(self.dice.random())  # else they would only wait for the processor
            try:
                said = getattr(self, role)()
            except (ConflictError, UnavailableError) as error:
                said = {"did": f"gave up to {role}", "kind": error.kind}
            except (WrongError, SapwoodError) as error:
                said = {"did": "WRONG", "why": f"{role}: {error!r}"}
            print(json.dumps(said), flush=True)
            if said["did"] == "WRONG":
                return 1
        return 0


if __name__ == "__main__":
    _, role, url, home, seed, until = sys.argv
    sys.exit(Worker(url, Path(home), int(seed)).work(role, float(until)))
