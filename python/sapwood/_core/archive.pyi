"""Archives out of tars and directories."""

from collections.abc import Callable
from os import PathLike
from typing import Any

from sapwood.archive.write import Choices
from sapwood.tree.options import Options

__all__ = ["convert", "pack"]

def convert(
    input: int,
    name: str | PathLike[str],
    output: int,
    path: str | PathLike[str],
    *,
    choices: Choices,
    temporary: str | PathLike[str],
    is_layer: bool = False,
    progress: Callable[[int, int, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the tar in the file `input`, called `name`, which is read twice, as an archive to `output`, called `path`.

    Both are descriptors, and stay open. A large TOC is kept in the directory `temporary` meanwhile. One that `is_layer`
    of an image may have hard links to what layers below it have.

    Raises:
        CorruptError: `damaged`: it is no tar, or cannot be unpacked.
        InvalidInputError: `invalid` choices, or an entry that no tar can say.
        UnavailableError: `io`, `disk-full`.
    """

def pack(
    root: str | PathLike[str],
    output: int,
    path: str | PathLike[str],
    *,
    replaced: str | PathLike[str] | None = None,
    options: Options,
    choices: Choices,
    temporary: str | PathLike[str],
    progress: Callable[[int, int, int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the directory `root` as an archive to the descriptor `output`; as `convert`.

    What `output` goes to is left out, and the file with the real path `replaced`, whose name the archive will have.

    Raises:
        DeniedError: `path-denied`.
        UnavailableError: `file-changing`.
    """
