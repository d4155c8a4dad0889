"""Programs for images: busybox and Python of this machine, with the libraries that they need."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

__all__ = ["busybox", "executable", "python"]


def busybox(*names: str) -> dict[str, Any]:
    """Return the entries of a layer in which busybox has these names in `bin`."""
    entries = _below_folders({path: executable(path) for path in ["/bin/busybox", *_libraries("/bin/busybox")]})
    return entries | {f"bin/{name}": "-> busybox" for name in names}


def python(scratch: Path, *modules: str) -> tuple[str, dict[str, Any]]:
    """Return where Python lies, and a layer's entries in which it finds these modules, as bytecode and sources."""
    program = os.path.realpath(sys.executable)
    tell = "import json, sys; print(json.dumps([getattr(m, '__file__', None) for m in [*sys.modules.values()]]))"
    words = [program, "-I", "-S", "-c", f"import {', '.join(modules)}; {tell}"]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    files: dict[str, Any] = {path: executable(path) for path in [program, *_libraries(program)]}
    for path in {os.__file__, *filter(None, told)}:
        files[path] = info, _ = executable(path)
        if path.endswith(".py"):
            info.mtime = int(Path(path).stat().st_mtime)
            code = py_compile.compile(path, str(scratch / "code"), doraise=True)
            assert code is not None
            files[importlib.util.cache_from_source(path)] = Path(code).read_bytes()
    return program, _below_folders(files)


def _libraries(path: str) -> list[str]:
    linked = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return sorted({word for word in linked.split() if word.startswith("/")})


def _below_folders(files: dict[str, Any]) -> dict[str, Any]:
    """Return these entries, each behind the directories above it."""
    entries: dict[str, Any] = {}
    for path, entry in files.items():
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            entries.setdefault("/".join(parts[:depth]), None)
        entries["/".join(parts)] = entry
    return entries


def executable(path: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry that is a file of this machine, to be executed."""
    info = tarfile.TarInfo(path.strip("/"))
    info.mode = 0o755
    return info, Path(path).read_bytes()
