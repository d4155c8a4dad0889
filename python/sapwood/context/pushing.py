"""Pushing a context: the directory, the contexts that have names, and a Dockerfile from elsewhere.

Promise: the ref of the context itself moves last, so whoever sees it move finds the others. Each tree has an index of
its own, whatever its rules were the last time: a rule that changes costs a listing, no reading.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sapwood import places
from sapwood.context.ignore import Rules
from sapwood.context.outside import DOCKERFILE, IGNORED
from sapwood.context.selection import exclusions
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.push import Pushed, push, require_directory
from sapwood.store.ref import check_ref_name
from sapwood.tree.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sapwood.progress import OnProgress
    from sapwood.store import Store

__all__ = ["Context", "PushedContext", "check_context", "push_context"]

# No rule file that anybody keeps is larger.
_LARGEST = 1024 * 1024


@dataclass(frozen=True)
class Context:
    """What a build is given: a directory, which Dockerfile (by default that in it), and more directories by name."""

    root: str
    dockerfile: str | None = None
    named: Mapping[str, str] | None = None

    @property
    def place(self) -> str:
        """Where the Dockerfile is, if there is one."""
        return self.dockerfile or os.path.join(self.root, DOCKERFILE)

    @property
    def inside(self) -> str | None:
        """The Dockerfile's path in the context, None of one that lies elsewhere, or is a link to elsewhere."""
        return self._within(os.path.realpath(self.place))

    def needed(self, file: str) -> list[str]:
        """Return what has to be in the context so that a builder finds a file in it: itself, and what it links to."""
        folder, name = os.path.split(file)
        every = {self._within(os.path.join(os.path.realpath(folder), name)), self._within(os.path.realpath(file))}
        return sorted(path for path in every if path and os.path.lexists(os.path.join(self.root, path)))

    def _within(self, path: str) -> str | None:
        """Return the path in the context of a path without links to it, None if it lies elsewhere."""
        within = os.path.relpath(path, os.path.realpath(self.root))
        return None if within.startswith("../") else within

    def rules(self) -> tuple[Rules, str | None]:
        """Return the rules of the directory, and the file they stand in; errors as `Rules.parse`."""
        for name in (self.place + IGNORED, os.path.join(self.root, IGNORED)):
            if (text := _read(name)) is not None:
                return Rules.parse(text, name), name
        return Rules(), None


@dataclass(frozen=True)
class PushedContext:
    """What each push did: of the context itself, of a Dockerfile from elsewhere, and of what has a name."""

    context: Pushed
    dockerfile: Pushed | None
    named: dict[str, Pushed]


def check_context(context: Context) -> None:
    """Raise what `push_context` would raise of a context that is not there, or has names that none has."""
    for name, folder in (context.named or {}).items():
        check_ref_name(f"context/{name}")
        _require_directory(folder)
    _require_directory(context.root)
    if context.dockerfile is not None and not os.path.isfile(context.dockerfile):
        raise NotFoundError(f"{context.dockerfile}: no such Dockerfile", kind="path-missing")


def push_context(
    store: Store, context: Context, ref: str, *, level: int | None = None, progress: OnProgress | None = None
) -> PushedContext:
    """Push a context to `ref`, a named one to `ref/context/NAME`, a Dockerfile from elsewhere to `ref/dockerfile`.

    `level` is as of `sapwood.push.push`.

    Raises:
        NotFoundError: `path-missing`: the directory, a named one, or the Dockerfile that was named.
        InvalidInputError: `bad-dockerignore`, `bad-ref-name`, `not-a-directory`.
        SapwoodError: as `sapwood.push.push`.
    """
    check_ref_name(ref)
    check_context(context)
    rules, ruled_by = context.rules()
    # The builder looks for the same rules, and would else find others.
    for path in (*context.needed(context.place), *(context.needed(ruled_by) if ruled_by else ())):
        rules = rules.bringing_back(path)
    named = {
        name: _push(store, folder, _rules_of(folder), f"{ref}/context/{name}", level, progress)
        for name, folder in sorted((context.named or {}).items())
    }
    is_outside = context.inside is None and os.path.isfile(context.place)
    # In a tree a link is not followed, and may lead out of it.
    is_beside = ruled_by is not None and (ruled_by == context.place + IGNORED or os.path.islink(ruled_by))
    own = ruled_by if is_beside else None
    outside = _push_alone(store, context.place, own, f"{ref}/dockerfile") if is_outside else None
    return PushedContext(_push(store, context.root, rules, ref, level, progress), outside, named)


def _require_directory(folder: str) -> None:
    try:
        require_directory(folder)
    except NotFoundError as error:  # for a push it could have been a tar, too
        raise NotFoundError(f"{folder}: no such directory", kind="path-missing") from error


def _rules_of(folder: str) -> Rules:
    name = os.path.join(folder, IGNORED)
    text = _read(name)
    return Rules() if text is None else Rules.parse(text, name)


def _push(store: Store, root: str, rules: Rules, ref: str, level: int | None, progress: OnProgress | None) -> Pushed:
    options = Options(exclude=exclusions(root, rules))
    return push(store, root, ref, index=_index_of(root), options=options, level=level, progress=progress)


def _index_of(root: str) -> str:
    """Return where the state of a context is kept: one place, whatever its rules say today."""
    name = hashlib.sha256(b"context " + os.fsencode(os.path.realpath(root))).hexdigest()
    os.makedirs(places.index_dir(), exist_ok=True)
    return os.path.join(places.index_dir(), f"{name}.index")


def _push_alone(store: Store, file: str, rules: str | None, ref: str) -> Pushed:
    """Push a tree that has nothing but a file, called Dockerfile, and rules beside it, and what is as old."""
    with tempfile.TemporaryDirectory(prefix="sapwood-context-") as scratch:
        folder = os.path.join(scratch, "dockerfile")
        os.mkdir(folder, 0o755)
        if rules is not None:
            shutil.copy2(rules, os.path.join(folder, DOCKERFILE + IGNORED))
        shutil.copy2(file, os.path.join(folder, DOCKERFILE))
        shutil.copystat(os.path.join(folder, DOCKERFILE), folder)
        os.chmod(folder, 0o755)
        return push(store, folder, ref, index=os.path.join(scratch, "index"))


def _read(name: str) -> str | None:
    """Return a rule file, None where there is none."""
    try:
        with open(name, "rb") as file:
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInputError(f"{name}: {error.strerror}", kind="bad-dockerignore") from error
    if len(data) > _LARGEST:
        raise InvalidInputError(f"{name}: more than {_LARGEST} bytes", kind="bad-dockerignore")
    return data.decode("utf-8", "surrogateescape")
