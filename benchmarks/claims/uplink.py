"""A build whose sources are behind a slow uplink: begun before they have arrived, beside sending them first.

BuildGrid, `sapwood serve` and `sapwood worker` run on the far side of the link; the build reads 2 % of what it
declares.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.corpus import corpus
from benchmarks.link import linked
from benchmarks.measure import Case, Figure, Times, Word, at_most, in_turns, ratio
from benchmarks.sapwood import SAPWOOD, anew, clear, place, require_free, with_cache

COMMANDS = (
    "`sapwood build --executor … --cas …` of one derivation that greps a directory with 2 % of the corpus : the same"
    " with `--no-lazy`, which sends all of it first, and has it on the worker's disk before the command starts; both by"
    " 20 Mbit/s with a round trip of 40 ms to a server that has nothing. So with `make tinyconfig prepare`, out of"
    " tree, which reads 2 %, too, all over the tree. The first instruction: what `date` says in the builder, less the"
    " start of the command and what `sapwood build show` takes, which ends when the key is known. A part sent first:"
    " `linux/sound`, 42 MB of the 1.3 GB, by `sapwood build --no-lazy` : to `serve` by buildbox-casd's own client, its"
    " proxy, asked to capture the directory; all of it would take the proxy 32 times as long. On a warm CAS: `make"
    " tinyconfig prepare`, of what is there already : the same here"
)
_GREP = "grep -rc EXPORT_SYMBOL linux/sound/soc >found"
_PART = "sound"
_MAKE = "make -C linux O=/build/out tinyconfig prepare; mv out/.config found"
_READERS = (("grep", _GREP), ("make", _MAKE))
_RTT_MS = 40
_MBIT = 20
_BUILD = """
from sapwood.build import derivation
one = derivation(
    "one",
    "date +%s.%N >began; " + {command!r},
    sources={{"linux": {tree!r}}},
    outputs=["began", "found"],
    env={{"SALT": {salt!r}}},
)
"""


@dataclass
class _Build:
    """A build of an action that nobody knows, by a server that has nothing if `is_cold`; None: on this machine."""

    name: str
    home: Path
    words: list[Word]
    is_cold: bool | None
    command: str = _GREP
    part: str = ""
    began: list[float] = field(default_factory=list)

    def prepare(self) -> None:
        """See `measure.Timed`."""
        salt = os.urandom(8).hex()
        (self.home / "BUILD.py").write_text(
            _BUILD.format(command=self.command, tree=os.fspath(corpus() / self.part), salt=salt)
        )

    def run(self) -> tuple[float, int]:
        """See `measure.Timed`."""
        if self.is_cold is None:
            return self._build([])
        if not self.is_cold:
            return self._build(self.words)
        with far(self.home / "far") as (by_link, _):
            return self._build([*by_link, *self.words])

    def _build(self, words: list[Word]) -> tuple[float, int]:
        environment = with_cache(self.home / "cache")
        said = self.home / "said"
        anew(self.home / "store")
        command: list[Word] = [
            SAPWOOD,
            "build",
            "--quiet",
            "--store",
            self.home / "store",
            *words,
            self.home / "BUILD.py",
        ]
        started = time.time()
        spent = Case(self.name, command, environment=environment, says=said).run()
        address = said.read_text().strip()
        shown = subprocess.run(
            [SAPWOOD, "cat", address, "began"], env={**os.environ, **environment}, check=True, capture_output=True
        )
        self.began.append(float(shown.stdout) - started)
        return spent


@dataclass
class _Captured:
    """A directory that the proxy of buildbox-casd captures for a server that has nothing."""

    name: str
    home: Path

    def prepare(self) -> None:
        """See `measure.Timed`."""
        clear(self.home)
        (self.home / "serve").mkdir(parents=True)

    def run(self) -> tuple[float, int]:
        """See `measure.Timed`."""
        from tests.support.cli import Sapwood
        from tests.support.engines import serving
        from tests.support.executors import casd_proxy

        part = os.path.realpath(corpus() / _PART)
        some = [path.read_bytes() for path in sorted(Path(part).rglob("*.c"))[::100]]
        with (
            serving(Sapwood(self.home / "serve")) as served,
            _link(served.where) as cas,
            casd_proxy(cas.partition("://")[2], self.home) as client,
        ):
            capture: Any = client.channel.unary_unary("/build.buildgrid.LocalContentAddressableStorage/CaptureTree")
            began = time.perf_counter()
            capture(_field(1, "p") + _field(2, part), timeout=600)
            spent = time.perf_counter() - began
            with served.client() as there:
                if there.missing(some):
                    raise SystemExit(f"bench: {part} was captured, and is not at the server")
            served.process.kill()
        clear(self.home)
        return spent, 0


def _field(number: int, text: str) -> bytes:
    """Return a field of a CaptureTreeRequest of buildbox."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    require_free(6_000_000_000)
    home = place("uplink")
    home.mkdir()
    shown = Case(
        "key",
        [SAPWOOD, "build", "show", "--store", home / "store", home / "BUILD.py"],
        environment=with_cache(home / "cache"),
    )
    lazy, make = (_Build(f"lazy, cold: {what}", home, [], True, command) for what, command in _READERS)
    first, make_first = (
        _Build(f"all sent first: {what}", home, ["--no-lazy"], True, command) for what, command in _READERS
    )
    part = _Build("a part sent first", home, ["--no-lazy"], True, ": >found", _PART)
    lazy.prepare()
    shown.run()  # hashes the corpus
    [key] = in_turns([shown], rounds)
    begun, made = (in_turns([one], min(rounds, 3))[0] for one in (lazy, make))
    all_first, made_first = (in_turns([one], 1)[0] for one in (first, make_first))
    sent, captured = (in_turns([one], 1)[0] for one in (part, _Captured("by casd", home / "captured")))
    with far(home / "far") as (by_link, direct):
        full = _Build("to warm it", home, [*direct, "--no-lazy"], False, _MAKE)
        full.prepare()
        full.run()
        warm = _Build("warm", home, by_link, False, _MAKE)
        here = _Build("here", home, [], None, _MAKE)
        again, local = in_turns([warm, here], rounds)
    until = Times(tuple(began - key.median for began in lazy.began))
    clear(home)
    return [
        at_most("from the known key to the first instruction, cold", until, None, 1000),
        ratio("grep begun before the sources arrive : all sent first", begun, all_first, 0.1),
        ratio("make begun before the sources arrive : all sent first", made, made_first, None),
        ratio("a part sent first : by casd's own client", sent, captured, 1),
        ratio("on a warm CAS : here", again, local, 1.2),
    ]


@contextmanager
def far(home: Path) -> Iterator[tuple[list[Word], list[Word]]]:
    """Run all of the far side, which has nothing; the values are words to reach it by the link, and without."""
    from tests.support.buildgrid import buildgrid, worker
    from tests.support.cli import Sapwood
    from tests.support.engines import serving

    clear(home)
    for name in ("serve", "worker"):
        (home / name).mkdir(parents=True)
    serve, work = Sapwood(home / "serve"), Sapwood(home / "worker")
    with (
        serving(serve) as served,
        buildgrid(served.where) as grid,
        worker(work, grid.where, "--cas", f"grpc://{served.where}"),
        _link(grid.where) as executor,
        _link(served.where) as cas,
    ):
        direct: list[Word] = ["--executor", f"grpc://{grid.where}", "--cas", f"grpc://{served.where}"]
        yield ["--executor", executor, "--cas", cas], direct
        served.process.kill()  # it would pack all that was sent, for minutes
    clear(home)


@contextmanager
def _link(where: str) -> Iterator[str]:
    with linked(int(where.rpartition(":")[2]), rtt_ms=_RTT_MS, mbit=_MBIT) as link:
        yield f"grpc://127.0.0.1:{link.port}"
