"""The far side: keeps the contexts of builds in a store of its own, and lets builders run on them.

Promise: what had not arrived whole when the connection ended is not there. Not here: how builders run and end
(`builders`).
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import IO, TYPE_CHECKING

from sapwood import __version__
from sapwood.context.tidy import used
from sapwood.context.wire import MAGIC, VERSIONS, Head, Sending, read_message, told_error
from sapwood.errors import InternalError, InvalidInputError, SapwoodError
from sapwood.store.base import Version
from sapwood.store.keys import SNAPSHOTS

if TYPE_CHECKING:
    from sapwood.context.builders import Builders
    from sapwood.store.local import LocalObjects

__all__ = ["serve"]

_PUTS_AT_ONCE = 4


def serve(objects: LocalObjects, incoming: IO[bytes], outgoing: IO[bytes], builders: Builders) -> None:
    """Answer until the other side ends. Who gave the `builders` ends them then.

    Raises:
        CorruptError: `wire-corrupt`: what came was no message.
        InvalidInputError: `bad-usage`: nobody speaks to us.
    """
    sending = Sending(outgoing)
    low, high = _greeted(incoming)
    version = min(high, VERSIONS[1])
    is_common = version >= max(low, VERSIONS[0])
    sending.send({"version": version if is_common else None, "versions": list(VERSIONS), "program": __version__})
    if not is_common:
        return
    puts = _Puts(objects, sending)
    while (message := read_message(incoming)) is not None:
        head, body = message
        match head.get("do"):
            case "build":
                threading.Thread(target=_build, args=(objects, builders, sending, head)).start()
            case "put":
                puts.begin(head, body)
            case "mount":
                puts.settle()
                with contextlib.suppress(KeyError):
                    builders.mount(json.dumps(head["places"]).encode())
            case do:
                failed = puts.settle()
                # Nobody may have waited for the put; but a name is never written after what it names was not.
                _answer(objects, sending, head, body, failed if do == "swap" else None)


class _Puts:
    """Puts, done beside each other, for most of one is waiting for the disk; what comes behind them waits for all."""

    def __init__(self, objects: LocalObjects, sending: Sending) -> None:
        self._objects = objects
        self._sending = sending
        self._threads: list[threading.Thread] = []
        self._failed: SapwoodError | None = None

    def begin(self, head: Head, body: bytes) -> None:
        """Begin one, when few enough are under way."""
        if len(self._threads) == _PUTS_AT_ONCE or str(head.get("key")).startswith(SNAPSHOTS):
            # A snapshot names a file map, which is among those before it.
            self.settle()
        thread = threading.Thread(target=self._put, args=(head, body))
        thread.start()
        self._threads.append(thread)

    def settle(self) -> SapwoodError | None:
        """Wait for all; return why one has failed, if ever one has."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        return self._failed

    def _put(self, head: Head, body: bytes) -> None:
        self._failed = _answer(self._objects, self._sending, head, body, None) or self._failed


def _answer(
    objects: LocalObjects, sending: Sending, head: Head, body: bytes, failed: SapwoodError | None
) -> SapwoodError | None:
    """Do what is asked, unless something has `failed`, and answer; return why it could not be done."""
    try:
        if failed:
            raise failed
        reply, data = _done(objects, head, body)
    except Exception as error:  # noqa: BLE001 - the other side waits for an answer
        failed = _ours(error)
        reply, data = {"error": told_error(failed)}, b""
    _say(sending, {"id": head.get("id"), **reply}, data)
    return failed


def _greeted(incoming: IO[bytes]) -> tuple[int, int]:
    if incoming.read(len(MAGIC)) != MAGIC or (first := read_message(incoming)) is None:
        raise InvalidInputError(
            "context far: nobody speaks to it: it is started by `sapwood context build --on`", kind="bad-usage"
        )
    low, high = first[0]["versions"]
    return int(low), int(high)


def _ours(error: Exception) -> SapwoodError:
    return error if isinstance(error, SapwoodError) else InternalError(f"far side: {error!r}", kind="internal")


def _say(sending: Sending, head: Head, data: bytes = b"") -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody is there any more
        sending.send(head, data)


def _build(objects: LocalObjects, builders: Builders, sending: Sending, head: Head) -> None:
    number = head.get("id")
    reply: Head
    try:
        used(objects.url, {str(pinned).partition("@")[0] for _, pinned, _ in head["places"]})
        places, argv = json.dumps(head["places"]).encode(), json.dumps(head["argv"]).encode()
        reply = {"code": builders.run(places, argv, lambda fd, data: _say(sending, {"id": number, "stream": fd}, data))}
    except Exception as error:  # noqa: BLE001 - the other side waits for an answer
        reply = {"error": told_error(_ours(error))}
    _say(sending, {"id": number, **reply})


def _done(objects: LocalObjects, head: Head, body: bytes) -> tuple[Head, bytes]:
    do, key = head.get("do"), str(head.get("key"))
    match do:
        case "get":
            return {}, objects.get(key)
        case "get_ranges":
            return {}, b"".join(objects.get_ranges(key, [(int(at), int(size)) for at, size in head["ranges"]]))
        case "list":
            return {"keys": objects.list(key)}, b""
        case "listed":
            return {"listed": objects.listed(key)}, b""
        case "exists":
            return {"exists": objects.exists(key)}, b""
        case "read_versioned":
            data, version = objects.read_versioned(key)
            return {"version": version}, data
        case "put":
            objects.put(key, body)
            return {}, b""
        case "swap":
            expect = head.get("expect")
            return {"version": objects.swap(key, body, None if expect is None else Version(expect))}, b""
        case "delete":
            objects.delete(key)
            return {}, b""
    raise InvalidInputError(f"{do}: the far side knows no such request", kind="not-supported")
