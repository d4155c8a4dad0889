"""Along a profile: what was recorded of a tree is fetched first, behind what somebody waits for.

Invariant: a mount never waits for a profile, nor ends for want of one, but of a file that people named. What the store
said last is kept on this machine, for successors and for a store that is away. Not here: what a profile is (`profile`).
"""

from __future__ import annotations

import threading
from pathlib import Path

from sapwood._core.mount import Server
from sapwood.digests import TreeDigest
from sapwood.errors import SapwoodError
from sapwood.mount.remembered import Remembered
from sapwood.mount.saying import say
from sapwood.profile import Profile, find_profile, read_profile
from sapwood.store.address import Address
from sapwood.store.archive import Archive
from sapwood.store.naming import may_name_archive, names_image
from sapwood.store.store import Store

TYPE_CHECKING = False  # as typing has it: of a store nothing of images is imported
if TYPE_CHECKING:
    from sapwood.image.image import Found

__all__ = ["Following"]


class Following:
    """What was recorded of the tree at an address, on its way while the mount is made."""

    def __init__(self, address: str, cache_dir: Path, file: str | None, *, takes_over: bool) -> None:
        """Read the profile `file`, if that is given; errors as `read_profile`, but not of a server that takes over."""
        self._found: Profile | None = None
        self._first: Profile | None = None
        self._named = file is not None
        self._asking: threading.Thread | None = None
        self._knows = False
        self._remembered = None if may_name_archive(address) else Remembered(cache_dir, Address.parse(address))
        self._address = address
        self._cache_dir = cache_dir
        if file is not None:
            try:
                self._found = read_profile(file)
            except SapwoodError as error:
                if not takes_over:
                    raise
                _without(error)

    def ask(self, store: Store | Archive, tree: TreeDigest) -> None:
        """Begin to read what the store has of `tree`, unless a file was named."""
        if isinstance(store, Store) and not self._named:
            self._asking = threading.Thread(target=self._ask, args=(store, tree), daemon=True)
            self._asking.start()
        elif names_image(self._address) and not self._named:
            from sapwood.image.profiles import traced_here

            # What is known here need not wait for what others know.
            self._first = traced_here(tree, self._cache_dir)

    def _ask(self, store: Store, tree: TreeDigest) -> None:
        try:
            self._found = find_profile(store, Address.parse(self._address).ref, tree)
        except SapwoodError as error:
            _without(error)
            return
        self._knows = True

    def ask_beside(self, image: Found) -> None:
        """Begin to read what lies beside an image, unless a file was named."""
        if not self._named:
            self._asking = threading.Thread(target=self._ask_beside, args=(image,), daemon=True)
            self._asking.start()

    def _ask_beside(self, image: Found) -> None:
        from sapwood.image.profiles import fetch_profile

        try:
            self._found = fetch_profile(image, self._cache_dir)
        except SapwoodError as error:
            _without(error)

    def begin(self, server: Server, tree: TreeDigest) -> None:
        """Let the server want what was recorded, as soon as that is here; returns at once."""
        threading.Thread(target=self._follow, args=(server, tree), daemon=True).start()

    def _follow(self, server: Server, tree: TreeDigest) -> None:
        if self._first is not None:
            _let_follow(server, self._first)
        if self._asking is not None:
            self._asking.join()
        if not self._named and not self._knows and self._remembered is not None:
            self._found = self._remembered.profile(tree)
        if self._found is None:
            return
        _let_follow(server, self._found)
        # Behind what it is for.
        if self._knows and self._remembered is not None:
            self._remembered.keep_profile(tree, self._found)


def _let_follow(server: Server, profile: Profile) -> None:
    server.follow([(part.path, *place) for part in profile.in_order() for place in part.places()])


def _without(error: SapwoodError) -> None:
    say(f"without a profile: {error}")
