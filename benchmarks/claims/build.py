"""Building on this machine: what the sandbox costs, what a graph costs in which nothing changed, what outputs cost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, Times, at_most, in_turns, memory, ratio, sizes, stored_bytes
from benchmarks.sapwood import SAPWOOD, anew, clear, place, with_cache

COMMANDS = (
    "`sapwood build` of one derivation that greps all of the corpus, its builder's own time : the same command outside;"
    " `sapwood build` of 1,000 derivations with a file each : `sapwood hash` of the files; of one that makes 10,000"
    " files, without its builder's time and that of a build in which nothing changed : `sapwood push` of the files"
)
_GREP = "grep -r --include='*.[ch]' -c EXPORT_SYMBOL linux >found || true"
_SMALL = 1_000
_MANY = 10_000
_FILES = 10_000
_ONE = """
from sapwood.build import derivation
one = derivation("one", {command!r}, sources={{"linux": {tree!r}}}, outputs=["found"])
"""
_GRAPH = """
from sapwood.build import derivation
all = [
    derivation(f"d{{i}}", "cat a >out", sources={{"a": f"src/f{{i}}"}}, outputs=["out"]) for i in range({count})
]
"""
_TREE = """
from sapwood.build import derivation
one = derivation("one", "python3 make.py", sources=["make.py", "edit"], outputs=["out"])
"""
_MAKE = """
import os, random
drawn = random.Random(1)
for i in range(100):
    os.makedirs(f"out/{i}")
    for j in range(100):
        with open(f"out/{i}/{j}", "wb") as file:
            file.write(drawn.randbytes(drawn.randrange(16384)))
with open("out/0/0", "ab") as file:
    file.write(open("edit", "rb").read())
"""


@dataclass
class _Build:
    """A build; `seconds` says which of its times counts, by its document and the time that the command took."""

    name: str
    home: Path
    before: Callable[[], object]
    seconds: Callable[[dict[str, Any], float], float]

    def prepare(self) -> object:
        """See `measure.Timed`."""
        return self.before()

    def run(self) -> tuple[float, int]:
        """See `measure.Timed`."""
        said = self.home / "said.json"
        case = Case(
            self.name,
            [SAPWOOD, "build", "--json", "--jobs", "1", "--store", self.home / "store", self.home / "BUILD.py"],
            environment=with_cache(self.home / "cache"),
            says=said,
        )
        spent, peak = case.run()
        return self.seconds(json.loads(said.read_bytes()), spent), peak


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    return [*_sandbox(rounds), *_graph(rounds), *_outputs(rounds)]


def _sandbox(rounds: int) -> list[Figure]:
    tree, home = corpus(), place("build")
    home.mkdir()
    (home / "BUILD.py").write_text(_ONE.format(command=_GREP, tree=os.fspath(tree)))
    inside = _Build("grep, inside", home, lambda: clear(home / "store"), lambda said, _: _taken(said))
    inside.run()  # hashes the corpus
    outside = Case(
        "grep, outside", ["/bin/sh", "-c", f"cd {home}; ln -sfn {tree} linux; {_GREP.replace(' linux', ' linux/')}"]
    )
    a, b = in_turns([inside, outside], rounds)
    (home / "BUILD.py").write_text(_GRAPH.format(count=50))
    (home / "src").mkdir()
    for number in range(50):
        (home / "src" / f"f{number}").write_text(f"{number}\n")
    # What an action of next to nothing costs, its builder included.
    known = _Build("50 known", home, lambda: None, lambda _, spent: spent)
    small = _Build("50 actions", home, lambda: clear(home / "store"), lambda _, spent: spent)
    made, none = in_turns([small, known], rounds)
    clear(home)
    each = Times(tuple((one - none.median) / 50 for one in made.seconds))
    return [
        ratio("a builder on bound inputs : the same command outside", a, b, 1.1),
        at_most("an action that does nothing, all in all", each, None, 50),
    ]


def _taken(said: dict[str, Any]) -> float:
    return float(sum(target["seconds"] for target in said["targets"]))


def _graph(rounds: int) -> list[Figure]:
    rows = []
    for count in (_SMALL, _MANY):
        home = place("build")
        (home / "src").mkdir(parents=True)
        for number in range(count):
            (home / "src" / f"f{number}").write_text(f"{number}\n")
        (home / "BUILD.py").write_text(_GRAPH.format(count=count))
        cache = with_cache(home / "cache")
        # Results as builders would leave them: to run so many takes minutes and tells nothing of this.
        fill: list[str | Path] = ["python", "-m", "benchmarks.knownresults", home / "BUILD.py", home / "store"]
        subprocess.run([SAPWOOD.with_name("python"), *fill[1:]], env={**os.environ, **cache}, check=True)
        known = _Build(f"{count} known", home, lambda: None, lambda _, spent: spent)
        hashing = Case("hash", [SAPWOOD, "hash", home / "src"], environment=cache)
        hashing.run()
        built, hashed = in_turns([known, hashing], rounds)
        if count == _SMALL:
            beyond = Times(tuple(one - hashed.median for one in built.seconds))
            rows.append(
                at_most("1,000 derivations, nothing changed, beyond the hash of their sources", beyond, hashed, 1000)
            )
        else:
            rows.append(at_most("10,000 derivations, nothing changed", built, hashed, None))
            rows.append(memory("memory of it", built.peak, 500))
        clear(home)
    return rows


def _outputs(rounds: int) -> list[Figure]:
    home, pushed = place("build"), place("push")
    home.mkdir()
    (home / "BUILD.py").write_text(_TREE)
    (home / "make.py").write_text(_MAKE)
    (home / "edit").write_text("1")
    rest = _Build("nothing changed", home, lambda: None, lambda _, spent: spent)
    build = _Build(
        "10,000 files", home, lambda: anew(home / "store", home / "cache"), lambda said, spent: spent - _taken(said)
    )
    build.prepare()
    build.run()
    tree, store, cache = (pushed / name for name in ("tree", "store", "cache"))
    pushed.mkdir()
    subprocess.run(["python3", home / "make.py"], cwd=_made(tree, home), check=True)
    (tree / "edit").unlink()
    push = Case("push", [SAPWOOD, "push", tree, f"{store}#main"], lambda: anew(store, cache), with_cache(cache))
    built, put = in_turns([build, push], rounds)
    [none] = in_turns([rest], rounds)
    stored = Times(tuple(one - none.median for one in built.seconds))
    before = stored_bytes(home / "store")
    (home / "edit").write_text("22")
    rest.run()
    sent = stored_bytes(home / "store") - before
    clear(home, pushed)
    return [
        ratio("storing an output of 10,000 files : push of them", stored, put, 1.2),
        sizes("bytes stored when one of them changes : of all", sent, before, 0.01),
    ]


def _made(tree: Path, home: Path) -> Path:
    tree.mkdir()
    (tree / "edit").write_bytes((home / "edit").read_bytes())
    return tree
