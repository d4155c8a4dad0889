"""The process of one mount; started by the holder, not by people.

Invariant: all that it needs is imported before it reads what it is to serve, for that may not be known yet; what is
asked of a store ahead of that is asked before the rest is imported. Not here: serving as it is told to (`called`).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from sapwood.mount.early import Asking

_MOST_BYTES = 1 << 16


def main(arguments: list[str]) -> int:
    """Serve one mount until it ends, or take it away; `arguments` and stdin are what the holder gave."""
    what, *numbers = arguments
    # A holder that is older than we are says less.
    given = [*map(int, numbers), -1, -1][:4]
    connection, device, lifeline, ahead = (None if number < 0 else number for number in given)
    early = None if ahead is None else _asked(ahead)
    from sapwood.mount.called import called

    assert connection is not None
    return called(what, connection, device, lifeline, early)


def _asked(ahead: int) -> Asking | None:
    """Ask of a store what whoever began us is about to want; what is wrong with it is told to who wants it.

    Of an image nothing is asked, for its registry is asked by whoever began us.
    """
    address = os.fsdecode(os.pread(ahead, _MOST_BYTES, 0))
    os.close(ahead)
    from sapwood.errors import SapwoodError
    from sapwood.store.naming import names_image

    if names_image(address):
        # Whoever began us asks which image that is; meanwhile there is this to do.
        import sapwood.image.image
        import sapwood.image.profiles
        import sapwood.image.remembered
        import sapwood.image.remote  # noqa: F401

        return None
    from sapwood.mount.early import Asking

    try:
        return Asking.ahead(address)
    except SapwoodError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
