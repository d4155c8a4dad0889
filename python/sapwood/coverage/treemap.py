"""A coverage as a picture: nested rectangles, as large as the bytes, as dark as what was never read of them.

Promise: one HTML file that loads nothing and runs nothing; names in it, whatever they are, are text. Areas too small to
be seen are drawn with their directory. Layout: squarified treemaps (Bruls, Huizing, van Wijk, 2000).
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from sapwood.coverage.measure import Area, Coverage

__all__ = ["treemap"]

_WIDTH, _HEIGHT = 1400.0, 900.0
# Below this an area is no picture but dust: in square pixels.
_LEAST = 24.0
_HEAD = 15.0
# So much of a name tells something, in characters.
_TELLING = 8
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px sans-serif; margin: 1em; background: #fff; color: #222 }}
svg {{ width: 100%; height: auto; font: 11px sans-serif }}
rect {{ stroke: #fff; stroke-width: 1 }}
text {{ pointer-events: none }}
.key span {{ display: inline-block; width: 2em; height: 1em; vertical-align: middle; margin: 0 .3em 0 1em }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
<p class="key"><span style="background:{read}"></span>read<span style="background:{half}"></span>half of its bytes
<span style="background:{never}"></span>never read. Point at an area to see its name.</p>
<svg viewBox="0 0 {width:.0f} {height:.0f}" xmlns="http://www.w3.org/2000/svg">
{body}
</svg></body></html>
"""


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def treemap(coverage: Coverage, title: str) -> str:
    """Return the page."""
    root = coverage.root()
    runs = "1 recorded run" if coverage.runs == 1 else f"{coverage.runs:,} recorded runs"
    summary = (
        f"{root.files:,} files, {root.bytes:,} bytes; over {runs} {root.bytes_read:,} bytes of"
        f" {root.files_read:,} files were read, and {root.bytes_never:,} bytes are in files that never were."
    )
    return _PAGE.format(
        title=escape(title),
        summary=escape(summary),
        read=_colour(1.0),
        half=_colour(0.5),
        never=_colour(0.0),
        width=_WIDTH,
        height=_HEIGHT,
        body="\n".join(_drawn(root, b"", _Box(0, 0, _WIDTH, _HEIGHT))),
    )


def _drawn(area: Area, path: bytes, box: _Box) -> Iterator[str]:
    """Yield the rectangle of an area and those in it; explicitly stacked, as trees may be deep."""
    todo = [(area, path, box)]
    while todo:
        area, path, box = todo.pop()
        share = area.bytes_read / area.bytes if area.bytes else 0.0
        shown = path.decode("utf-8", "replace") or "/"
        tip = f"{shown}: {area.bytes_read:,} of {area.bytes:,} bytes read, {area.files_read:,} of {area.files:,} files"
        yield (
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
            f' fill="{_colour(share)}"><title>{_safe(tip)}</title></rect>'
        )
        name = _fitting(shown.rpartition("/")[2] or shown, box.width)
        if box.height >= _HEAD and name:
            yield f'<text x="{box.x + 3:.1f}" y="{box.y + 11:.1f}">{_safe(name)}</text>'
        inner = _Box(box.x + 2, box.y + _HEAD, box.width - 4, box.height - _HEAD - 2)
        if area.areas and inner.width > 4 and inner.height > 4:
            parts = sorted(area.areas.values(), key=lambda part: (-part.bytes, part.name))
            for part, place in _squarified([part for part in parts if part.bytes], area.bytes, inner):
                if place.width * place.height >= _LEAST:
                    todo.append((part, path + b"/" + part.name if path else part.name, place))


def _squarified(parts: list[Area], total: int, box: _Box) -> Iterator[tuple[Area, _Box]]:
    """Yield each part with its box: rows along the shorter side, as square as they get; the largest come first."""
    scale = box.width * box.height / total
    at = 0
    while at < len(parts):
        side = min(box.width, box.height)
        if side <= 0 or parts[at].bytes * scale < _LEAST:
            return
        end, size = at, 0.0
        worst = float("inf")
        while end < len(parts):
            more = size + parts[end].bytes * scale
            ratio = max(side**2 * parts[at].bytes * scale / more**2, more**2 / (side**2 * parts[end].bytes * scale))
            if ratio > worst:
                break
            worst, size, end = ratio, more, end + 1
        thick = size / side
        along = 0.0
        for part in parts[at:end]:
            length = part.bytes * scale / thick
            if box.width >= box.height:
                yield part, _Box(box.x, box.y + along, thick, length)
            else:
                yield part, _Box(box.x + along, box.y, length, thick)
            along += length
        if box.width >= box.height:
            box = _Box(box.x + thick, box.y, box.width - thick, box.height)
        else:
            box = _Box(box.x, box.y + thick, box.width, box.height - thick)
        at = end


def _fitting(name: str, width: float) -> str:
    """Return as much of a name as stands in an area of that width; nothing if that says nothing."""
    room = int((width - 6) / 7)
    if len(name) <= room:
        return name
    return name[: room - 1] + "…" if room >= _TELLING else ""


def _colour(share: float) -> str:
    """From grey, never read, to green."""
    never, read = (176, 176, 184), (108, 190, 110)
    return "#" + "".join(f"{round(a + (b - a) * min(share, 1.0)):02x}" for a, b in zip(never, read, strict=True))


def _safe(text: str) -> str:
    return escape("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text))
