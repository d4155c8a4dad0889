"""docs/benchmarks.md, and the same table in README.md."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Figure

_ROOT = Path(__file__).resolve().parent.parent
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def write(figures: list[Figure], commands: list[str], machine: list[str]) -> None:
    """Write both."""
    rows = table(figures)
    page = [
        "# Figures",
        "",
        "Written by `make bench`. Times are medians (and spans) of whole processes that took turns in one run.",
        "",
        *machine,
        "",
        *rows,
        "",
        "What was run:",
        "",
        *(f"- {command}" for command in commands),
        "",
    ]
    (_ROOT / "docs" / "benchmarks.md").write_text("\n".join(page), encoding="utf-8")
    readme = _ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    if rest:
        readme.write_text(before + _BEGIN + "\n".join(rows) + "\n" + _END + after, encoding="utf-8")


def table(figures: list[Figure]) -> list[str]:
    """Return the rows as Markdown."""
    rows = ["| | sapwood | peer | | at most |", "|---|---:|---:|---:|---:|"]
    for figure in figures:
        unit = f" {figure.unit}" if figure.unit else ""
        value = f"{figure.value:.0f}" if figure.unit in ("MB", "ms") else f"{figure.value:.2f}"
        verdict = f"{value}{unit}" if figure.holds else f"**{value}{unit}**, missed"
        rows.append(f"| {figure.claim} | {figure.ours} | {figure.peer} | {verdict} | {figure.bound:g}{unit} |")
    return rows
