"""Derivations: what a build file says.

Invariant: a derivation is a value that never changes and names no place of this machine but its sources, which are
relative to the build file; all that is wrong with it alone is said when it is made. Two are one only if they are the
same object. Not here: what is wrong between derivations (`graph`), its key (`action`).
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sapwood.errors import InvalidInputError

__all__ = ["Derivation", "Output", "Stored", "derivation", "output", "stored"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.ref)\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class Stored:
    """A source that is a tree in a store; `address` as the command line takes it."""

    address: str


@dataclass(frozen=True, eq=False, repr=False)
class Output:
    """What a derivation makes at `path`; None: a directory of all that it makes.

    `of` is the derivation, or its name, for one that is declared later.
    """

    of: Derivation | str
    path: str | None = None

    @property
    def name(self) -> str:
        """Whose output it is."""
        return self.of if isinstance(self.of, str) else self.of.name

    def __repr__(self) -> str:
        return f"<Output {self}>"

    def __str__(self) -> str:
        return self.name if self.path is None else f"{self.name}:{self.path}"


@dataclass(frozen=True, eq=False, repr=False)
class Derivation:
    """Made by `derivation`. Pairs are sorted; places and outputs are relative to where the command runs.

    `timeout_s` seconds, `memory` bytes and `disk` bytes are what the builder may use; None: as much as it likes, of the
    disk as much as is usual (`sapwood.build.limits`).
    """

    name: str
    command: tuple[str, ...]
    sources: tuple[tuple[str, str | Stored], ...]
    deps: tuple[tuple[str, Output], ...]
    env: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    platform: tuple[tuple[str, str], ...]
    network: bool
    lazy: bool
    timeout_s: float | None
    memory: int | None
    disk: int | None
    base: Path = field(compare=False)
    """The directory that sources are relative to; no part of what is built."""

    def __repr__(self) -> str:
        return f"<Derivation {self.name}>"

    def output(self, path: str) -> Output:
        """Return the output at `path`, for `deps` of another.

        Raises:
            InvalidInputError: `bad-derivation`: it makes none there.
        """
        if path not in self.outputs:
            raise _bad(self.name, f"it has no output {path!r}", f"its outputs: {', '.join(self.outputs) or 'none'}")
        return Output(self, path)


def derivation(
    name: str,
    command: str | Sequence[str],
    *,
    sources: Iterable[str] | Mapping[str, str | Stored] = (),
    deps: Iterable[Derivation] | Mapping[str, Derivation | Output | str] = (),
    env: Mapping[str, str] | None = None,
    outputs: Iterable[str] = (),
    platform: Mapping[str, str] | None = None,
    network: bool = False,
    lazy: bool = True,
    timeout_s: float | None = None,
    memory: int | None = None,
    disk: int | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Derivation:
    """Declare what `command` makes of its inputs; docs/build.md says what it sees.

    `command` is a line for `/bin/sh -euc`, or a program and its arguments. `sources` are paths relative to `base`
    (default: the directory of the calling file), or place -> path, or place -> `stored(ADDRESS)`; a place is where the
    command finds it. `deps` are derivations, each at the place of its name, or place -> derivation, output, or
    `"NAME"`, `"NAME:PATH"` of one declared later. `outputs` are paths that the command makes. `platform` says what a
    worker must have. With `network` the builder may use it. `lazy=False`: all inputs are on disk before it starts.
    `timeout_s` seconds, `memory` bytes, `disk` bytes written: more ends it.

    Raises:
        InvalidInputError: `bad-derivation`: that can never be built.
    """
    if not _NAME.match(name):
        raise _bad(name, "no name", "letters, digits, and . _ - behind the first, up to 100")
    argv = ("/bin/sh", "-euc", command) if isinstance(command, str) else tuple(command)
    if not argv or not all(argv) or "\0" in "".join(argv):
        raise _bad(name, "no command", 'a line for the shell, or ["program", "argument"]')
    made = Derivation(
        name=name,
        command=argv,
        sources=_sources(name, sources),
        deps=_deps(name, deps),
        env=_pairs(name, "env", env or {}, _VARIABLE),
        outputs=tuple(sorted({_place(name, "output", path) for path in _listed(name, "outputs", outputs)})),
        platform=_pairs(name, "platform", platform or {}, None),
        network=bool(network),
        lazy=bool(lazy),
        timeout_s=None if timeout_s is None else float(timeout_s),
        memory=None if memory is None else int(memory),
        disk=None if disk is None else int(disk),
        base=Path(base) if base is not None else _calling_directory(),
    )
    _check_places(made)
    sizes = [size for size in (made.memory, made.disk) if size is not None]
    if not (made.timeout_s is None or 0 < made.timeout_s < 1e9) or any(size <= 0 for size in sizes):
        raise _bad(name, "a limit that nothing can keep", "timeout_s, memory and disk are more than 0, or left out")
    return made


def output(name: str, path: str | None = None) -> Output:
    """Return an output of a derivation that is declared later, or elsewhere, by its name."""
    return Output(name, path)


def stored(address: str) -> Stored:
    """Return the tree at `address` as a source; it is looked up when something is built, and pinned always the same."""
    return Stored(address)


def _bad(name: object, what: str, hint: str | None = None) -> InvalidInputError:
    return InvalidInputError(f"derivation {name}: {what}", kind="bad-derivation", hint=hint, derivation=name)


def _listed(name: str, what: str, given: Iterable[str]) -> Iterable[str]:
    if isinstance(given, str):
        # Letter by letter it would mean something else.
        raise _bad(name, f"{what} is one string", f"{what}=[{given!r}]")
    return given


def _place(name: str, what: str, path: object, *, root: bool = False) -> str:
    """Return a path of the input root, as it is spelled in keys."""
    if not isinstance(path, str) or path.startswith("/") or "\0" in path:
        raise _bad(name, f"{what} {path!r} is no relative path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _bad(name, f"{what} {path!r} leaves the place where it is built")
    if not parts and not root:
        raise _bad(name, f"{what} {path!r} names nothing", f"name a file or directory as {what}")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _bad(name, f"{what} {path!r} is not UTF-8") from None
    return "/".join(parts)


def _sources(name: str, given: Iterable[str] | Mapping[str, str | Stored]) -> tuple[tuple[str, str | Stored], ...]:
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [(path, path) for path in _listed(name, "sources", given)]
    found: dict[str, str | Stored] = {}
    for place, path in pairs:
        if not isinstance(path, Stored):
            if not isinstance(path, str) or not path or "\0" in path:
                raise _bad(name, f"source {path!r} is no path")
            path = os.path.normpath(path)
        found[_place(name, "source", place, root=True)] = path
    return tuple(sorted(found.items()))


def _deps(
    name: str, given: Iterable[Derivation] | Mapping[str, Derivation | Output | str]
) -> tuple[tuple[str, Output], ...]:
    if isinstance(given, (str, Derivation, Output)):
        raise _bad(name, "deps is one thing", "deps=[…], or deps={place: …}")
    pairs: list[tuple[str, object]] = (
        list(given.items()) if isinstance(given, Mapping) else [(getattr(of, "name", ""), of) for of in given]
    )
    found: dict[str, Output] = {}
    for place, of in pairs:
        if isinstance(of, str):
            whose, _, path = of.partition(":")
            of = Output(whose, path or None)
        elif isinstance(of, Derivation):
            of = Output(of)
        if not isinstance(of, Output):
            raise _bad(name, f"dep {of!r} is no derivation and no output")
        found[_place(name, "dep", place)] = of
    return tuple(sorted(found.items()))


def _pairs(name: str, what: str, given: Mapping[str, str], form: re.Pattern[str] | None) -> tuple[tuple[str, str], ...]:
    for key, value in given.items():
        if not key or "=" in key or (form and not form.match(key)):
            raise _bad(name, f"{what} {key!r} is no name")
        if "\0" in value:
            raise _bad(name, f"{what} {key}={value!r} is no text")
    return tuple(sorted(given.items()))


def _check_places(made: Derivation) -> None:
    inputs = [place for place, _ in made.sources] + [place for place, _ in made.deps]
    for place in sorted(set(inputs)):
        if inputs.count(place) > 1:
            raise _bad(made.name, f"a source and a dep are both at {place or '.'}")
        for made_there in made.outputs:
            if place and (place == made_there or place.startswith(made_there + "/")):
                raise _bad(made.name, f"output {made_there} would hold the input {place}", "inputs are read-only")
    declared = set(made.outputs)
    for below in made.outputs:
        # What lies between the two when sorted may be neither's: a, a-b, a/b.
        ways = itertools.accumulate(below.split("/")[:-1], lambda way, name: f"{way}/{name}")
        above = next((way for way in ways if way in declared), None)
        if above is not None:
            raise _bad(made.name, f"output {below} lies in output {above}", f"name {above} alone")


def _calling_directory() -> Path:
    """Return the directory of the file that calls `derivation`."""
    file = sys._getframe(2).f_globals.get("__file__")
    return Path(file).parent if isinstance(file, str) else Path()
