"""The store of contexts: a context is what it was last, no more.

Invariant: a ref that moves keeps nothing of what it named before, so that collection finds it (`tidy`); who still
builds from that has the grace of the store for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapwood.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from sapwood.digests import SnapshotDigest
    from sapwood.store.ref import Ref, Removed

__all__ = ["Contexts"]


class Contexts(Store):
    """A store whose refs have no history; else as any."""

    def move_ref(
        self,
        name: str,
        snapshot: SnapshotDigest,
        expect: Ref | Removed | None,
        still: Callable[[], object] = lambda: None,
    ) -> Ref:
        """As `Store.tag_ref`."""
        return self.tag_ref(name, snapshot, expect, still)
