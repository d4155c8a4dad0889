"""A graph as text for Graphviz."""

from __future__ import annotations

from collections.abc import Collection

from sapwood.build.graph import Graph

__all__ = ["dot"]


def dot(graph: Graph, cached: Collection[str] = ()) -> str:
    """Return a graph in DOT: an arrow from each derivation to what it needs; those in `cached` are filled."""
    lines = ["digraph build {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    targets = set(graph.targets)
    for one in graph:
        style = "rounded,filled" if one.name in cached else "rounded"
        width = 2 if one in targets else 1
        lines.append(f'  "{one.name}" [style="{style}", penwidth={width}];')
    for one in graph:
        for place, wanted in one.deps:
            label = wanted.path or ""
            lines.append(f'  "{one.name}" -> "{wanted.name}" [label="{_quoted(label)}", tooltip="{_quoted(place)}"];')
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
