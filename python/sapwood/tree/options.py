"""How to look at a working directory.

Promise: what decides which entries a tree has (`key`) also decides where its index is kept by default, so that trees of
different options never share one.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Options"]


class Options:
    """Immutable.

    `skip_unreadable`: leave out, and name, what may not be read, instead of failing. `one_file_system`: a directory of
    another file system than the root's is taken to be empty. `trust_ctime`: False for network file systems on which a
    changed file may keep its ctime, or an unchanged one not; then size and mtime alone must tell. `exclude`: patterns
    as in a `.sapwoodignore` file at the root, over all of which they win. `gitignore`: `.gitignore` files count as
    `.sapwoodignore` files do, and `.git` is left out. `threads`: as many as there are processors.
    What is no pattern is an InvalidInputError that names it when a directory is looked at; docs/selection.md.
    """

    __slots__ = ("exclude", "gitignore", "one_file_system", "skip_unreadable", "threads", "trust_ctime")

    def __init__(
        self,
        *,
        skip_unreadable: bool = False,
        one_file_system: bool = False,
        trust_ctime: bool = True,
        exclude: Iterable[str | bytes] = (),
        gitignore: bool = False,
    ) -> None:
        self.skip_unreadable = skip_unreadable
        self.one_file_system = one_file_system
        self.trust_ctime = trust_ctime
        if isinstance(exclude, (str, bytes)):
            from sapwood.errors import InvalidInputError

            # Letter by letter it would leave out more than was meant.
            raise InvalidInputError(f"exclude is one pattern, {exclude!r}: give a list of them", kind="invalid")
        self.exclude = tuple(os.fsencode(pattern) for pattern in exclude)
        self.gitignore = gitignore
        self.threads = os.cpu_count() or 1

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in self.__slots__ if name != "threads"}
        return f"Options({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def require_directory(self, what: str) -> None:
        """Raise if any of them was given, of `what`, which is no directory: they would change nothing.

        Raises:
            InvalidInputError: `bad-usage`.
        """
        if self.key or self.skip_unreadable or not self.trust_ctime:
            from sapwood.errors import InvalidInputError

            raise InvalidInputError(
                f"{what} is no directory: these options say how to look at one",
                kind="bad-usage",
                hint="leave out --exclude, --gitignore, --one-file-system and the like",
            )

    @property
    def key(self) -> bytes:
        """What the tree's entries depend on; empty when nothing is left out."""
        said = [b"one file system"] if self.one_file_system else []
        if self.gitignore:
            said.append(b"gitignore")
        return b"\0".join([*said, *(b"exclude " + pattern for pattern in self.exclude)])
