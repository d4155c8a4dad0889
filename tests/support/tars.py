"""Tars of every kind that is about: of one tree as each program writes it, and what no program writes on purpose."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.support.trees import LARGE, MIB, noise

Entry = tuple[str, bytes | str | None]
"""A name, and a content, None of a directory, or of a hard link the name of what it is to."""

_GNU = ("tar", "--xattrs", "--xattrs-include=*", "--sort=name")

PROGRAMS: dict[str, tuple[str, ...]] = {
    "gnu": ("tar", "--format=gnu", "--sort=name"),
    "oldgnu sparse": ("tar", "--format=oldgnu", "--sparse", "--sort=name"),
    "gnu sparse": ("tar", "--format=gnu", "--sparse", "--sort=name"),
    "pax": (*_GNU, "--format=pax"),
    "pax of everything": (*_GNU, "--format=pax", "--acls", "--selinux"),
    "pax sparse 0.0": (*_GNU, "--format=pax", "--sparse", "--sparse-version=0.0"),
    "pax sparse 0.1": (*_GNU, "--format=pax", "--sparse", "--sparse-version=0.1"),
    "pax sparse 1.0": (*_GNU, "--format=pax", "--sparse", "--sparse-version=1.0"),
    "pax with globals": (
        "tar",
        "--format=pax",
        "--pax-option=globexthdr.name=global,comment=said of all",
        "--sort=name",
    ),
    "one block at a time": ("tar", "-b1", "--format=gnu", "--sort=name"),
    "blocking factor 512": ("tar", "-b512", "--format=gnu", "--sort=name"),
    "bsdtar pax": ("bsdtar", "--format=pax"),
    "bsdtar gnutar": ("bsdtar", "--format=gnutar"),
}
"""Command lines that write any tree, but for the output and what to read."""


def written_by(program: str, tree: Path, out: Path) -> Path:
    """Write `tree` as a tar; what its format cannot say is left out."""
    done = subprocess.run([*PROGRAMS[program], "-cf", out, "."], cwd=tree, capture_output=True, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    return out


def a_tar(*entries: Entry) -> bytes:
    """A tar of these entries, in the form that Python writes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            data = b""
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.LNKTYPE, content
            else:
                info.size, data = len(content), content
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _global() -> bytes:
    """Two global headers, the second taking back what the first says, and files between."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a"}) as tar:
        tar.addfile(tarfile.TarInfo("before"))
    return out.getvalue()[:-1024].rstrip(b"\0").ljust(2048, b"\0") + a_tar(("after", b"content"))


_X, _Y, _BIG, _BIG2 = b"first content", b"second, and longer", noise(3 * LARGE, 1), noise(2 * LARGE + 5, 2)

ODD: dict[str, Callable[[], bytes]] = {
    "empty": lambda: a_tar(),
    "two blocks": lambda: bytes(1024),
    "one block": lambda: bytes(512),
    "without an end": lambda: a_tar(("a", _X), ("b", _Y)).rstrip(b"\0").ljust(2048, b"\0"),
    "one block at the end": lambda: a_tar(("a", _X))[: 1024 + 512],
    "zeros after the end": lambda: a_tar(("a", _X)) + bytes(3 * MIB),
    "garbage after the end": lambda: a_tar(("a", _X)) + noise(700_001, 3),
    "a tar after the end": lambda: a_tar(("a", _X)) + a_tar(("a", _Y)),
    "a name twice": lambda: a_tar(("a", _X), ("b", _Y), ("a", _Y)),
    "a name twice, once large": lambda: a_tar(("a", _BIG), ("b", _Y), ("a", _BIG2)),
    "a name thrice, empty last": lambda: a_tar(("a", _BIG), ("./a", _X), ("a", b"")),
    "a name twice with one content": lambda: a_tar(("a", _X), ("dir", None), ("./a", _X)),
    "a file that becomes a directory": lambda: a_tar(("a", _X), ("a", None), ("a/b", _Y)),
    "a file that becomes a link": lambda: a_tar(("a", _X), ("b", _Y), ("a", "b")),
    "a linked name given anew": lambda: a_tar(("a", _X), ("b", "a"), ("a", _Y), ("c", "b")),
    "a link before its file": lambda: a_tar(("z", "a"), ("a", _BIG), ("b", "z")),
    "names that are one": lambda: a_tar(("./a//b", _X), ("/c", _Y), ("d/./e/", None)),
    "no parents": lambda: a_tar(("deep/er/file", _X)),
    "global headers": _global,
    "long names": lambda: a_tar(("/".join(["n" * 250] * 12), _X), ("l" * 255, "/".join(["n" * 250] * 12))),
    "names that are no text": lambda: a_tar(("\udcff\udcfe", _X), ("caf\udce9", _Y)),
    "many small files": lambda: a_tar(*((f"dir/{number}", noise(number % 3000, number)) for number in range(3000))),
    "large files": lambda: a_tar(("a", _BIG), ("b", _BIG), ("c", noise(LARGE, 5)), ("d", noise(LARGE - 1, 6))),
}
"""Tars as bytes, by what is odd about them."""
