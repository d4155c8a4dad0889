"""Builds of derivations as a test writes them, each with a store, a cache and a directory of sources of its own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from sapwood.build.builder import Builder, Built
from sapwood.build.derivation import Derivation
from sapwood.build.graph import Graph
from sapwood.build.listener import Listener
from sapwood.build.state import State
from sapwood.open import OpenStore, open_store


@dataclass
class Place:
    """Where a test builds: `sources` is the base of its derivations."""

    home: Path

    @property
    def sources(self) -> Path:
        return self.home / "sources"

    @property
    def cache(self) -> Path:
        return self.home / "builds"

    def store(self) -> OpenStore:
        """Return the store that results are kept in."""
        return open_store(str(self.home / "results"), create=True)

    def builder(self, *targets: Derivation, **options: object) -> Builder:
        """Return a builder of `targets`; `options` are those of `Builder`."""
        stores = options.pop("stores", None) or [self.store()]
        state = State(self.cache, self.sources / "BUILD.py")
        return Builder(Graph(targets), stores, self.cache, state, **{"jobs": 2, **options})

    def build(self, *targets: Derivation, **options: object) -> Built:
        """Build `targets`."""
        return self.builder(*targets, **options).build()

    def read(self, built: Built, name: str, path: bytes) -> bytes:
        """Return what a file of an output holds, as the store has it."""
        result = built.made[name].result
        return b"".join(self.store().tree(f"{result.ref}@{result.snapshot}").read_blob(path))


class Heard(Listener):
    """Notes what was built, and what builders said."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.words = b""

    def begun(self, one: Derivation) -> None:
        self.names.append(one.name)

    def said(self, one: Derivation, data: bytes) -> None:
        self.words += data


def nap() -> str:
    """Return a command that nobody waits for, told from every other on this machine."""
    return f"sleep 1000.{secrets.randbelow(10**9):09}"


def who_takes(command: str) -> list[int]:
    """Return the processes on this machine that run a `nap`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cmdline").read_bytes() == command.replace(" ", "\0").encode() + b"\0":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
