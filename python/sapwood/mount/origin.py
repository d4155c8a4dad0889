"""Where the frames of a mount come from: a store, an archive, a store that is opened later, or nowhere.

Invariant: a store that is away costs nobody more than its own try. Not here: retries of a mount (`fetching`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from sapwood.digests import PackName
from sapwood.errors import CorruptError, NotFoundError, SapwoodError, UnavailableError
from sapwood.store.address import Address

__all__ = ["Origin", "later", "within"]

_Result = TypeVar("_Result")


class Origin(Protocol):
    """Where frames come from; for each method's promise see `Store` and `Archive`."""

    @property
    def url(self) -> str: ...
    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]], /) -> list[bytes]: ...
    def read_moved(self, pack: PackName, offset: int, length: int, /, *, again: bool = False) -> bytes | None: ...
    def reconnect(self) -> None: ...


def later(address: Address, cache_dir: Path, *, offline: bool) -> Origin:
    """Return the store of an address unopened: opened by who first wants something of it, or, `offline`, never."""
    return _Late(_never if offline else lambda: address.open(cache_dir=cache_dir)[0], address.store_url)


def within(patience_s: float | None, call: Callable[[], _Result]) -> _Result:
    """Return what `call` does, or raises; it goes on behind an error of ours when it takes too long.

    Raises:
        UnavailableError: `store-unreachable`: it was not done after `patience_s`.
    """
    if patience_s is None:
        return call()
    results: list[_Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience_s)
    if errors:
        raise errors[0]
    if not results:
        raise UnavailableError(f"it was not read within {patience_s:g} s", kind="store-unreachable")
    return results[0]


def _never() -> NoReturn:
    raise NotFoundError("it is not in the cache, and the mount is offline", kind="not-kept")


class _Late:
    """A store that is opened when something is first wanted of it; what failed is tried again by who comes later."""

    def __init__(self, open_it: Callable[[], Origin], url: str) -> None:
        self.url = url
        self._open_it = open_it
        self._origin: Origin | None = None
        self._tried = 0
        self._error: SapwoodError | None = None
        self._lock = threading.Lock()

    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]], /) -> list[bytes]:
        return self._opened().read_ranges(pack, ranges)

    def read_moved(self, pack: PackName, offset: int, length: int, /, *, again: bool = False) -> bytes | None:
        return self._opened().read_moved(pack, offset, length, again=again)

    def reconnect(self) -> None:
        if self._origin:
            self._origin.reconnect()

    def _opened(self) -> Origin:
        if self._origin:
            return self._origin
        tried = self._tried
        with self._lock:
            # Who waited for another one's try shares its end: one after the other they would wait for ever longer.
            if self._origin is None and tried != self._tried and self._error:
                raise self._error
            if self._origin is None:
                try:
                    self._origin = self._open_it()
                except CorruptError as error:
                    # It was whole when it was mounted: more likely the way is to blame, and then it passes.
                    self._error = UnavailableError(str(error), kind="store-unreachable")
                    raise self._error from error
                except SapwoodError as error:
                    self._error = error
                    raise
                finally:
                    self._tried += 1
            return self._origin
