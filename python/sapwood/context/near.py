"""The near side: the store of another machine, over a connection to the sapwood that it has.

Promise: whatever ends the connection ends every call that waits for it, with a word on what happened. Not here: how
builds look to people (`cli`).
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Self

from sapwood.context.wire import MAGIC, VERSIONS, Head, Sending, error_of, read_message
from sapwood.errors import CorruptError, FormatError, NotFoundError, SapwoodError, UnavailableError
from sapwood.store.base import Listed, Version
from sapwood.store.local import version_of
from sapwood.store.requests import Requests, Verb

__all__ = ["Far", "FarObjects"]

# An object of at most so many bytes is not waited for.
_LITTLE = 1024 * 1024
_Stream = Callable[[int, bytes], object]


class _Call:
    def __init__(self, stream: _Stream | None) -> None:
        self.stream = stream
        self.settled = threading.Event()
        self.reply: tuple[Head, bytes] | SapwoodError | OSError | None = None


class Far:
    """A connection, by what `reach` returned for a command that starts `sapwood context far` elsewhere.

    A context, whose end ends that. `name` is what messages call it. Safe to use from several threads.
    """

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.name = name
        self._process = process
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._guard = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self._lost: SapwoodError | None = None
        self._has_answered = False
        self._stdout = self._process.stdout
        self._sending = Sending(self._process.stdin)
        threading.Thread(target=self._listen, daemon=True, name="sapwood-far").start()
        # No answer is waited for: the first message that comes is it.
        self._send({"versions": list(VERSIONS)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._lose(UnavailableError(f"{self.name}: the connection was closed", kind="far-lost"))
        if kind is not None:
            # It may not even be there yet, or take long to pass on what nobody wants any more.
            self._process.terminate()
        # The end of its input is what the other side ends by; the way there goes with it.
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, head: Head, body: bytes | memoryview = b"", *, stream: _Stream | None = None) -> tuple[Head, bytes]:
        """Send a request and return the reply to it; `stream` takes what comes before that.

        Raises:
            OSError: `stream` did.
            UnavailableError: `far-lost`, `far-unreachable`.
            NotFoundError: `far-without-sapwood`.
            FormatError: `far-version`.
            CorruptError: `wire-corrupt`.
            SapwoodError: whatever the other side raised.
        """
        return self.begin(head, body, stream=stream)()

    def tell(self, head: Head) -> None:
        """Send what has no reply."""
        self._send(head)

    def begin(
        self, head: Head, body: bytes | memoryview = b"", *, stream: _Stream | None = None
    ) -> Callable[[], tuple[Head, bytes]]:
        """Send a request and return what waits for the reply; requests are done in the order in which they are sent.

        What is returned raises as `ask`.
        """
        call, number = _Call(stream), next(self._numbers)
        with self._guard:
            if self._lost:
                raise self._lost
            self._calls[number] = call
        self._send({**head, "id": number}, body)

        def reply() -> tuple[Head, bytes]:
            call.settled.wait()
            assert call.reply is not None
            if not isinstance(call.reply, tuple):
                raise call.reply
            return call.reply

        return reply

    def _send(self, head: Head, body: bytes | memoryview = b"") -> None:
        with contextlib.suppress(OSError, ValueError):  # whoever listens finds out why, and says so
            self._sending.send(head, body)

    def _listen(self) -> None:
        try:
            self._greeted()
            while (message := read_message(self._stdout)) is not None:
                self._take(*message)
            lost = self._ended()
        except SapwoodError as error:
            lost = error
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it was
            lost = CorruptError(f"{self.name}: a message that makes no sense: {error!r}", kind="wire-corrupt")
        self._lose(lost)

    def _greeted(self) -> None:
        magic = self._stdout.read(len(MAGIC))
        if magic and magic != MAGIC:
            raise CorruptError(
                f"{self.name}: what answers is no sapwood: it says {magic!r}",
                kind="wire-corrupt",
                hint="let no start-up file of the shell there write to stdout",
            )
        if (first := read_message(self._stdout)) is None:
            raise self._ended()
        self._has_answered = True
        if first[0].get("version") not in range(VERSIONS[0], VERSIONS[1] + 1):
            theirs = first[0].get("versions")
            raise FormatError(
                f"{self.name}: sapwood {first[0].get('program')} there speaks versions {theirs} of builds elsewhere,"
                f" this one {list(VERSIONS)}",
                kind="far-version",
                hint="upgrade the older one",
            )

    def _take(self, head: Head, body: bytes) -> None:
        with self._guard:
            call = self._calls.get(head.get("id", 0))
            if call is None:
                return
            if "stream" not in head:
                del self._calls[head["id"]]
        if "stream" not in head:
            call.reply = error_of(head["error"]) if "error" in head else (head, body)
            call.settled.set()
        elif call.stream is not None and not call.settled.is_set():
            try:
                call.stream(int(head["stream"]), body)
            except OSError as error:  # nobody reads any more what is printed
                call.reply = error
                call.settled.set()

    def _ended(self) -> SapwoodError:
        code = self._process.wait()
        if code == 127:
            return NotFoundError(
                f"{self.name} has no sapwood",
                kind="far-without-sapwood",
                hint="install it there, where the shell of an ssh command finds it",
            )
        if code == 255 and not self._has_answered:
            return UnavailableError(
                f"{self.name}: ssh gets no connection", kind="far-unreachable", hint=f"ssh {self.name} true"
            )
        if code not in (0, 255) and not self._has_answered:
            return UnavailableError(
                f"{self.name}: the sapwood there could not begin, or is too old, and ended with code {code}",
                kind="far-lost",
                hint=f"ssh {self.name} sapwood --version",
            )
        return UnavailableError(
            f"{self.name}: the connection ended, with code {code}",
            kind="far-lost",
            hint="run it again: what has arrived is not sent again",
        )

    def _lose(self, why: SapwoodError) -> None:
        with self._guard:
            self._lost = self._lost or why
            calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.reply = call.reply or self._lost
            call.settled.set()


class FarObjects:
    """The objects of the store of contexts of another machine; see `store.base.CollectObjects`.

    A little object may not be there yet when `put` returns; but it is, and durable, when a later `swap` does, which
    fails if it is not. `supposed` are objects by key, taken to be as they were seen last, once: what is swapped upon
    that is refused if they are not. `will_swap` is called with the key and the bytes before each swap.
    """

    def __init__(
        self,
        far: Far,
        supposed: dict[str, bytes] | None = None,
        will_swap: Callable[[str, bytes], object] = lambda _, __: None,
    ) -> None:
        self.requests = Requests()
        self._far = far
        self._supposed = supposed or {}
        self._will_swap = will_swap
        self._puts: builtins.list[Callable[[], object]] = []

    @property
    def url(self) -> str:
        return f"{self._far.name}/contexts"

    def get(self, key: str) -> bytes:
        return self._ask("get", "get", key)[1]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.get_ranges(key, [(offset, length)])[0]

    def get_ranges(self, key: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        body = self._ask("get", "get_ranges", key, ranges=ranges)[1]
        ends = list(itertools.accumulate((length for _, length in ranges), initial=0))
        return [body[begin:end] for begin, end in itertools.pairwise(ends)]

    def reconnect(self) -> None:
        """Do nothing: there is the one connection."""

    def list(self, prefix: str) -> list[str]:
        return [str(key) for key in self._ask("list", "list", prefix)[0]["keys"]]

    def listed(self, prefix: str) -> builtins.list[Listed]:
        return [Listed(*one) for one in self._ask("list", "listed", prefix)[0]["listed"]]

    def exists(self, key: str) -> bool:
        return bool(self._ask("head", "exists", key)[0]["exists"])

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        if (supposed := self._supposed.pop(key, None)) is not None:
            return supposed, version_of(supposed)
        head, body = self._ask("get", "read_versioned", key)
        return body, Version(head["version"])

    def put(self, key: str, data: bytes | memoryview) -> None:
        self.requests.count("put")
        reply = self._far.begin({"do": "put", "key": key}, data)
        if len(data) <= _LITTLE:
            self._puts.append(reply)
        else:
            reply()

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        self._will_swap(key, data)
        version = Version(self._ask("put", "swap", key, data, expect=expect)[0]["version"])
        puts, self._puts = self._puts, []
        for reply in puts:
            reply()
        return version

    def delete(self, key: str) -> None:
        self._ask("delete", "delete", key)

    def limit_writes(self, grace_s: float) -> None:
        """Nothing to do: what the other side has not got when the connection ends is never done."""

    def is_empty(self) -> bool:
        """Say no: the other side has made it a store."""
        return False

    def _ask(self, verb: Verb, do: str, key: str, body: bytes | memoryview = b"", **more: Any) -> tuple[Head, bytes]:
        self.requests.count(verb)
        return self._far.ask({"do": do, "key": key, **more}, body)
