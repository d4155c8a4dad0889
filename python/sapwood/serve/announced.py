"""The wanted queue of a server: which blobs are announced, who reads them and waits, who was asked to deliver them.

Invariant: a reader that waits goes on when its blob is present, or when nobody is left who could bring it; a wanted
blob is asked of one client at a time, of the next when that one is lost or slow. What it promises: docs/announced.md.
Not here: what travels (`deliveries`), what a client has announced (`session`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import SimpleQueue

from sapwood.errors import ConflictError, InvalidInputError, SapwoodError, UnavailableError
from sapwood.reapi.blobs import Name
from sapwood.serve.blobs import Blobs
from sapwood.serve.session import Session, key_of

__all__ = ["Announced", "Reader"]

GRACE_S = 5.0
"""How long a client that was lost may take to come back."""
SLOW_S = 5.0
"""After how long without a wanted blob the next client is asked, too."""
SILENT_S = 60.0
_TICK_S = 0.5
_SESSIONS = 256
_ANNOUNCED = 4_000_000
_READERS = 4096
READERS_OF_ONE = 2048
# What all of them together wait for: a read of a batch waits for many.
_READ = 1_000_000
# Sessions that were cut off, and cannot come back.
_CUT = 1000


class Reader:
    """A call that waits, of the client `client`."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.outstanding: set[Name] = set()
        self.lost: dict[Name, SapwoodError] = {}
        self.woken = threading.Event()


@dataclass
class _Wanted:
    """A blob that is waited for: who could bring it, and those of them who were asked."""

    name: Name
    holders: list[Session]
    readers: list[Reader] = field(default_factory=list)
    asked: list[Session] = field(default_factory=list)
    asked_s: float = 0.0


class Announced:
    """All that is announced to a server. Safe to use from several threads."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._cut: OrderedDict[str, None] = OrderedDict()
        self._wanted: dict[Name, _Wanted] = {}
        self._readers: Counter[str] = Counter()
        # Of all readers the blobs that they wait for.
        self._reading = 0
        self._changed = threading.Condition(self._lock)
        self._is_closed = False
        self._ticking = threading.Thread(target=self._tick, daemon=True, name="sapwood-announced")
        self._ticking.start()

    @property
    def is_used(self) -> bool:
        """Whether any client has announced anything."""
        return bool(self._sessions)

    # --- Readers

    def wait(
        self,
        names: Sequence[Name],
        client: str,
        on_gone: Callable[[Callable[[], None]], bool],
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> dict[Name, SapwoodError] | None:
        """Wait until all of `names` that are announced are present; return those that will not come, and why.

        None if there was nothing to wait for.

        `on_gone` is given what to call when nobody reads any more, and says False if that is so already. The wait is
        in `waiting`.

        Raises:
            UnavailableError: `too-many-readers`.
        """
        if not self._sessions:
            return None
        missing = list(dict.fromkeys(self._blobs.missing(names)))
        held = [(name, holders) for name in missing if (holders := self._holders(name))]
        if not held:
            return None
        reader = Reader(client)
        self._begin(reader, held)
        try:
            # What has come meanwhile was told to nobody who waits.
            self.arrived({name for name, _ in held}.difference(self._blobs.missing([name for name, _ in held])))
            if on_gone(reader.woken.set) and not reader.woken.is_set():
                with waiting():
                    reader.woken.wait()
        finally:
            self._leave(reader)
        return reader.lost

    def _holders(self, name: Name) -> list[Session]:
        key = key_of(name)
        return [one for one in list(self._sessions.values()) if one.can_deliver(key, self._blobs)]

    def _begin(self, reader: Reader, held: Sequence[tuple[Name, list[Session]]]) -> None:
        with self._lock:
            is_many = self._readers.total() >= _READERS or self._reading + len(held) > _READ
            if is_many or self._readers[reader.client] >= READERS_OF_ONE:
                raise UnavailableError(
                    f"{self._readers[reader.client]} reads of {reader.client} wait for blobs that are announced",
                    kind="too-many-readers",
                    hint="wait for some of them",
                )
            self._readers[reader.client] += 1
            self._reading += len(held)
            reader.outstanding.update(name for name, _ in held)
            for name, holders in held:
                one = self._wanted.get(name)
                if one is None:
                    one = self._wanted[name] = _Wanted(name, [])
                one.readers.append(reader)
                one.holders += [session for session in holders if session not in one.holders and not session.is_lost]
                self._ask(one)
            self._changed.notify()

    def _leave(self, reader: Reader) -> None:
        with self._lock:
            if self._readers[reader.client] > 1:
                self._readers[reader.client] -= 1
            else:
                del self._readers[reader.client]
            for name in reader.outstanding:
                if one := self._wanted.get(name):
                    one.readers.remove(reader)
                    self._reading -= 1
                    if not one.readers:
                        self._settle(one, "unwanted")

    def arrived(self, names: Iterable[Name]) -> None:
        """Know that blobs are present now."""
        if not self._wanted:
            return
        found = [name for name in names if name in self._wanted]
        if found:
            with self._lock:
                for name in found:
                    if one := self._wanted.get(name):
                        self._settle(one, "arrived")

    def look(self) -> None:
        """Look what is present that was wanted, whoever brought it: another server on the same store, say."""
        names = list(self._wanted)
        self.arrived(set(names).difference(self._blobs.missing(names)))

    # --- Wanted blobs, under the lock

    def _ask(self, one: _Wanted) -> None:
        """Ask the next client, or know that there is none."""
        if any(session in one.asked for session in one.holders):
            return
        self._ask_next(one)

    def _ask_next(self, one: _Wanted) -> None:
        rest = [session for session in one.holders if session not in one.asked]
        # Who is away is asked when it comes back.
        session = next((session for session in rest if session.stream), None) or next(iter(rest), None)
        if session is not None:
            one.asked.append(session)
            one.asked_s = time.monotonic()
            session.ask(one.name)
        elif not one.holders:
            error = UnavailableError(
                f"blob {one.name[0][:12]}/{one.name[1]} will not come: no client is left that had announced it",
                kind="announcer-lost",
                hint="build again",
                blob=one.name,
            )
            for reader in one.readers:
                reader.lost[one.name] = error
            self._settle(one, "unwanted")

    def _settle(self, one: _Wanted, word: str) -> None:
        del self._wanted[one.name]
        self._reading -= len(one.readers)
        for reader in one.readers:
            reader.outstanding.discard(one.name)
            if not reader.outstanding:
                reader.woken.set()
        for session in one.asked:
            session.settle(one.name, word)

    def _forsake(self, session: Session, names: Iterable[Name]) -> None:
        """Let a client be asked for blobs no more."""
        for name in names:
            one = self._wanted.get(name)
            if one is None or session not in one.holders:
                continue
            one.holders.remove(session)
            if session in one.asked:
                one.asked.remove(session)
                session.asked.pop(name, None)
            self._ask(one)

    # --- Clients

    def enter(self, name: str) -> Session:
        """Return the session of a client that has come, or come back.

        Raises:
            InvalidInputError: `bad-session`, `wrong-delivery`: it was cut off.
            UnavailableError: `too-many-announced`.
        """
        if not 16 <= len(name) <= 128:
            raise InvalidInputError("a session without a name", kind="bad-session", hint="16 to 128 random characters")
        with self._lock:
            if name in self._cut:
                raise _wrong("this session was cut off")
            session = self._sessions.get(name)
            if session is None:
                if self._is_closed or len(self._sessions) >= _SESSIONS:
                    raise _too_many(f"{len(self._sessions)} clients announce blobs")
                session = self._sessions[name] = Session(name)
            session.enter()
            self._changed.notify()
        return session

    def find(self, name: str | None) -> Session | None:
        """Return the session of that name."""
        return self._sessions.get(name) if name else None

    def announce(self, session: Session, names: Sequence[Name], trees: Sequence[Name]) -> list[Name]:
        """Take what a client can deliver, and return which of `names` are missing.

        Raises:
            UnavailableError: `too-many-announced`.
        """
        session.add(names, trees)
        if sum(one.count for one in list(self._sessions.values())) > _ANNOUNCED:
            raise _too_many(f"{_ANNOUNCED} blobs are announced by all clients")
        # For those who wait it may be the next to be asked.
        for name in list(self._wanted):
            if session.can_deliver(key_of(name), self._blobs):
                with self._lock:
                    one = self._wanted.get(name)
                    if one and session not in one.holders and not session.is_lost:
                        one.holders.append(session)
        return self._blobs.missing(names)

    def withdraw(self, session: Session, names: Sequence[Name]) -> None:
        """Know that a client cannot deliver these."""
        session.remove(names)
        with self._lock:
            self._forsake(session, names)

    def leave(self, session: Session, stream: SimpleQueue[object]) -> None:
        """Know that a stream has broken; its client may come back for a while."""
        with self._lock:
            if session.stream is stream:
                session.stream, session.away_s = None, time.monotonic()
                self._changed.notify()
        stream.put(None)

    def end(self, session: Session, stream: object = None, error: SapwoodError | None = None) -> None:
        """Know that a client delivers no more, and then tell it so, or which `error` ended it."""
        with self._lock:
            if not session.is_lost and (stream is None or session.stream is stream):
                self._end(session, error)

    def cut(self, session: Session, error: SapwoodError) -> None:
        """End a session by an `error`, after which it cannot come back."""
        with self._lock:
            if not session.is_lost:
                self._cut[session.name] = None
                if len(self._cut) > _CUT:
                    self._cut.popitem(last=False)
                self._end(session, error)

    def _end(self, session: Session, error: SapwoodError | None) -> None:
        session.is_lost = True
        self._sessions.pop(session.name, None)
        self._forsake(session, [name for name, one in self._wanted.items() if session in one.holders])
        session.close(error)

    def close(self) -> None:
        """End all that wait, and all who announce: the server ends."""
        with self._lock:
            self._is_closed = True
            self._changed.notify()
        for session in list(self._sessions.values()):
            self.end(session)
        self._ticking.join()

    def _tick(self) -> None:
        """Look after those who are away or slow."""
        while True:
            with self._lock:
                if self._is_closed:
                    return
                is_quiet = not self._wanted and all(one.stream for one in self._sessions.values())
                self._changed.wait(None if is_quiet else _TICK_S)
                now_s = time.monotonic()
                for one in list(self._wanted.values()):
                    if now_s - one.asked_s >= SLOW_S and len(one.asked) < len(one.holders):
                        self._ask_next(one)
                lost = [one for one in self._sessions.values() if not one.stream and now_s - one.away_s >= GRACE_S]
                silent = [one for one in self._sessions.values() if one.silent_s(now_s) >= SILENT_S]
            for session in lost:
                self.end(session)
            for session in silent:
                self.cut(
                    session,
                    ConflictError(
                        f"nothing has come for {SILENT_S:.0f} s of what was wanted", kind="delivery-stalled",
                        hint="announce it again, by another session",
                    ),
                )  # fmt: skip


def _wrong(text: str) -> InvalidInputError:
    return InvalidInputError(f"{text}: it delivered something else than it announced", kind="wrong-delivery")


def _too_many(text: str) -> UnavailableError:
    return UnavailableError(
        f"{text}, as many as may be", kind="too-many-announced", hint="announce trees by their roots, or later"
    )
