"""A context and a Dockerfile from elsewhere as one tar, as docker's own client sends the two.

Promise: the same trees give the same bytes; a builder finds the Dockerfile as `NAME`, and the rules that counted as
`.dockerignore`, which keep from COPY what the context has not. Nothing else of the context is another. Not here:
pushing them (`pushing`), the form of a tree's tar (`tarstream`).
"""

from __future__ import annotations

import tarfile
from typing import IO, TYPE_CHECKING

from sapwood.tarstream import Told, write_tar

if TYPE_CHECKING:
    from sapwood.progress import OnProgress
    from sapwood.store import Store
    from sapwood.store.snapshot import Snapshot
    from sapwood.tree import Tree

__all__ = ["DOCKERFILE", "IGNORED", "NAME", "write_with_dockerfile"]

NAME = ".dockerfile.sapwood"
DOCKERFILE = "Dockerfile"
"""What the Dockerfile is called in the tree that it is pushed as; rules of its own lie beside it, if there are any."""
IGNORED = ".dockerignore"


def write_with_dockerfile(
    store: Store, snapshot: Snapshot, context: Tree, dockerfile: Tree, out: IO[bytes], *, progress: OnProgress | None
) -> Told:
    """Write the tar of the tree `context`, which is that of `snapshot`, with the Dockerfile of the other tree.

    Raises:
        NotFoundError: `path-missing`: the other tree has no Dockerfile.
        SapwoodError: as `tarstream.write_tar`.
    """
    said = b"".join(dockerfile.read_blob(DOCKERFILE.encode()))
    rules = _read(dockerfile, DOCKERFILE + IGNORED)
    if rules is None:
        rules = _read(context, IGNORED)
    hidden = [NAME] if context.find(IGNORED.encode()) is not None else [IGNORED, NAME]
    lines = (rules or b"") + "".join(f"\n{name}" for name in hidden).encode() + b"\n"
    before = _member(NAME, said) + _member(IGNORED, lines)
    leaves_out = [NAME.encode(), IGNORED.encode()]
    return write_tar(store, snapshot, out, before=before, leaves_out=leaves_out, progress=progress)


def _read(tree: Tree, name: str) -> bytes | None:
    return None if tree.find(name.encode()) is None else b"".join(tree.read_blob(name.encode()))


def _member(name: str, data: bytes) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
