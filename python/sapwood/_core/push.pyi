"""A directory into packs, pages and a fence index."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, final

from sapwood.tree.options import Options

__all__ = ["Push"]

@final
class Push:
    """A push under way: `next` gives its packs, then `result` the rest. `close` it in any case."""

    def __new__(
        cls,
        root: str | PathLike[str],
        *,
        index: str | PathLike[str] | None,
        fragments: Sequence[bytes],
        pending: Sequence[bytes],
        options: Options,
    ) -> Push:
        """Begin. `fragments` are those of the store, `pending` those of packs that were sent but not yet named in it.

        Raises:
            CorruptError: `damaged` fragment.
            FormatError: `format-newer`.
        """
    def next(self, progress: Callable[[int, int, int, int], None] | None = None) -> tuple[str, bytes, bytes] | None:
        """Return the next pack as (name, bytes, fragment), or None when there are no more."""
    def result(self) -> dict[str, Any]:
        """Return what remains to be written; once.

        Raises:
            DeniedError: `path-denied`; `paths` are all that may not be read.
            UnavailableError: `file-changing`, `disk-full`, `io`.
            NotFoundError: `path-missing`.
            InvalidInputError: `not-a-directory`.
        """
    def close(self) -> None:
        """Stop and wait for the end."""
