"""Give each derivation of a build file a result in a store, as if it had been built: one output, the same for all.

python -m benchmarks.knownresults BUILD_FILE STORE
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sapwood import places
from sapwood.build import derivation
from sapwood.build.builder import Builder
from sapwood.build.graph import Graph
from sapwood.build.load import load_graph
from sapwood.build.results import Result
from sapwood.build.state import State
from sapwood.open import open_store


def main(file: str, url: str) -> None:
    """Build one, and let all have its result."""
    store = open_store(url, create=True)
    home = places.cache_dir() / "builds"
    graph = load_graph(file)
    with tempfile.TemporaryDirectory() as base:
        one = derivation("one", "echo >out", outputs=["out"], base=base)
        built = Builder(Graph([one]), [store], home, State(home, Path(base, "BUILD.py"))).build()
    result = built.made["one"].stored
    builder = Builder(graph, [store], home, State(home, Path(file)))
    known: dict[str, Result] = {}
    for each in graph:
        action, _ = builder.action(each, known)
        known[each.name] = replace(result, action=action.digest)
        builder.results.keep(known[each.name])


if __name__ == "__main__":
    main(*sys.argv[1:])
