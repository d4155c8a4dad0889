"""docs/benchmarks.md, a section a claim, and some of its figures in README.md.

Promise: a section whose claim was not measured this time stays as it is, with its own date, commit and machine. The
page is its own record: it is read, the new sections are put in, and it is written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Figure

_ROOT = Path(__file__).resolve().parent.parent
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"
_HEAD = """# Figures

Written by `make bench`, which measures all but `ten-million`; `make bench CLAIMS="unchanged cold"` measures what is
named, and leaves the other sections as they are. Times are medians (and spans) of whole processes that took turns in
one run, on a warm page cache; a bound that is missed is set in bold.

A push is durable when it ends, and so are the peers that it is measured beside (benchmarks/peers.py). desync is not
among them: the Go module proxy refuses it to `go install`. casync stands for it, which made its format.

The corpus is Debian's linux-source-6.1, unpacked, its .gitignore files removed; the trees of a million files and more
are generated (benchmarks/generated.py).
"""


class Section(NamedTuple):
    """What is said of one claim: the first line of its module's docstring, what was run, on what, the figures."""

    what: str
    commands: str
    measured: str
    sides: tuple[str, str]
    figures: list[Figure]

    def __str__(self) -> str:
        lines = [self.what, "", f"Run: {self.commands}.", "", *table(self.figures, self.sides)]
        return "\n".join([*lines, "", f"Measured {self.measured}.", ""])


def write(measured: Mapping[str, Section], groups: Mapping[str, Iterable[str]], shown: Iterable[str]) -> None:
    """Put the sections of what was measured into the page, and the figures that are `shown` into README."""
    page = _ROOT / "docs" / "benchmarks.md"
    kept = re.findall(r"^### (\S+)\n\n(.*?)(?=^##|\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    sections = {**dict(kept), **{name: f"{section}\n" for name, section in measured.items()}}
    text = _HEAD
    for group, names in groups.items():
        text += f"\n## {group}\n"
        text += "".join(f"\n### {name}\n\n{sections[name].rstrip()}\n" for name in names if name in sections)
    page.write_text(text, encoding="utf-8")
    every = re.findall(r"^\| [^| ].*\n", text, re.MULTILINE)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in reversed(every)}
    missed = sum("**, missed |" in row for row in every)
    _show([rows[claim] for claim in shown if claim in rows], f"{len(every)} figures, of which {missed} miss")


def table(figures: list[Figure], sides: tuple[str, str]) -> list[str]:
    """Return the figures as rows of Markdown."""
    return [*_header(sides), *map(_row, figures)]


def _header(sides: tuple[str, str]) -> list[str]:
    return [f"| | {sides[0]} | {sides[1]} | | at most |", "|---|---:|---:|---:|---:|"]


def _row(figure: Figure) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    value = f"{figure.value:.0f}{unit}" if figure.unit and figure.unit != "s" else f"{figure.value:.2f}{unit}"
    verdict = value if figure.holds else f"**{value}**, missed"
    bound = "" if figure.bound is None else f"{figure.bound:g}{unit}"
    return f"| {figure.claim} | {figure.ours} | {figure.peer} | {verdict} | {bound} |"


def _show(rows: list[str], count: str) -> None:
    readme = _ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    if rest:
        lines = "".join(f"{line}\n" for line in _header(("sapwood", "peer"))) + "".join(rows)
        rest = f"\nAll {count} their bound: [docs/benchmarks.md](docs/benchmarks.md).\n"
        readme.write_text(before + _BEGIN + lines + rest + _END + after, encoding="utf-8")
