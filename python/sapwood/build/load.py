"""Build files: Python that declares derivations.

Promise: a file is run once, as a module of its own; what its globals hold, also in lists, tuples and dicts, is what it
exports. What it raises is shown with file and line.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from sapwood.build.derivation import Derivation
from sapwood.build.graph import Graph
from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError

__all__ = ["BUILD_FILE", "load", "load_graph", "split_target"]

BUILD_FILE = "BUILD.py"


def split_target(text: str) -> tuple[Path, str | None]:
    """Return file and name of `FILE[:TARGET]`; of a directory it is the `BUILD.py` in it."""
    file, colon, name = text.rpartition(":")
    if not colon or os.path.exists(text):
        file, name = text, ""
    path = Path(file or ".")
    return (path / BUILD_FILE if path.is_dir() else path), name or None


def load_graph(text: str) -> Graph:
    """Return what `FILE[:TARGET]` says is to be built: all that the file exports, or one of it.

    Raises:
        NotFoundError: `build-file-missing`, `target-missing`.
        InvalidInputError: `bad-build-file`, and as `Graph`.
    """
    file, name = split_target(text)
    exported = load(file)
    if name is None:
        return Graph(exported)
    whole = Graph([], exported)
    return Graph([whole.find(name)], exported)


def load(file: Path) -> list[Derivation]:
    """Run a build file and return what it exports, in the order of its globals.

    Raises:
        NotFoundError: `build-file-missing`.
        InvalidInputError: `bad-build-file`: it cannot be run, or exports nothing.
    """
    if not file.is_file():
        raise NotFoundError(
            f"{file}: no such build file",
            kind="build-file-missing",
            hint="sapwood build FILE, or the directory of a BUILD.py",
        )
    file = file.absolute()
    spec = importlib.util.spec_from_loader(f"sapwood_build_file_{file.stem}", loader=None, origin=str(file))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(file)
    sys.path.insert(0, str(file.parent))
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except SapwoodError as error:
        error.add_note(_where(error, file))
        raise
    except (Exception, SystemExit) as error:  # a build file that ends itself ends no command
        raise InvalidInputError(
            f"{_where(error, file)}: {type(error).__name__}: {error}", kind="bad-build-file", hint="mend the build file"
        ) from error
    finally:
        sys.path.remove(str(file.parent))
    found = list(dict.fromkeys(one for value in list(module.__dict__.values()) for one in _exported(value)))
    if not found:
        raise InvalidInputError(
            f"{file} declares no derivation", kind="bad-build-file", hint="from sapwood.build import derivation"
        )
    return found


def _exported(value: object) -> Iterator[Derivation]:
    if isinstance(value, Derivation):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (one for one in value if isinstance(one, Derivation))
    elif isinstance(value, dict):
        yield from (one for one in value.values() if isinstance(one, Derivation))


def _where(error: BaseException, file: Path) -> str:
    """Return file and line of the build file that an error came from."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{error.filename}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)
