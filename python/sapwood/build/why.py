"""Why a derivation is built again: which parts of its key are not what they were.

Not here: remembering them (`state`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sapwood.build.derivation import Derivation, Stored
from sapwood.build.sources import root_of
from sapwood.build.state import State
from sapwood.tree.index import Index

__all__ = ["Difference", "differences"]

_FILES = 100


@dataclass(frozen=True)
class Difference:
    """One part of a key that differs: `command`, `env CC`, `source src`, `dep lib`, …; `files` in it, if known.

    `input PLACE` was a source or a dep, and is none any more.
    """

    part: str
    before: str | None
    now: str | None
    files: tuple[bytes, ...] = ()


def differences(one: Derivation, before: Mapping[str, Any], now: Mapping[str, Any], state: State) -> list[Difference]:
    """Return what differs between the parts of two keys of a derivation."""
    found = []
    for part in ("command", "outputs", "timeout"):
        if before.get(part) != now.get(part):
            found.append(Difference(part, _text(before.get(part)), _text(now.get(part))))
    for part in ("env", "platform"):
        found += [Difference(f"{part} {name}", *values) for name, values in _differing(before, now, part)]
    sources, deps = dict(one.sources), dict(one.deps)
    for place, values in _differing(before, now, "inputs"):
        if place in deps:
            found.append(Difference(f"dep {deps[place]}", *values))
        elif place not in sources:
            # Nothing tells any more which of the two it was.
            found.append(Difference(f"input {place or '.'}", *values))
        else:
            source = sources[place]
            shown = source.address if isinstance(source, Stored) else source
            files = _files(one, source, state) if isinstance(source, str) else ()
            found.append(Difference(f"source {shown}", *values, files=files))
    return found


def _differing(
    before: Mapping[str, Any], now: Mapping[str, Any], part: str
) -> list[tuple[str, tuple[str | None, str | None]]]:
    a, b = before.get(part) or {}, now.get(part) or {}
    return [(name, (a.get(name), b.get(name))) for name in sorted({*a, *b}) if a.get(name) != b.get(name)]


def _text(value: object) -> str | None:
    if value is None:
        return None
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _files(one: Derivation, source: str, state: State) -> tuple[bytes, ...]:
    """Return which files of a source are not what they were in the last build, as far as its index still tells."""
    root, path = root_of(one.base, source)
    index = state.index(root)
    if not index.exists():
        return ()
    status = Index(root, index).status()
    changed = {*status.added, *status.changed, *status.removed}
    inside = [name for name in changed if not path or name == path or name.startswith(path + b"/")]
    return tuple(sorted(os.path.relpath(name, path) if path and name != path else name for name in inside)[:_FILES])
