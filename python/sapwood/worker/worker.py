"""A worker: sessions with a scheduler, and a place to work for each action.

Invariant: at its end nothing of it runs or is mounted; what it could not finish is given back. What a killed one left
on disk is cleared away by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sapwood.build.action import NETWORK
from sapwood.build.limits import DISK
from sapwood.build.scratch import remove
from sapwood.errors import UnavailableError
from sapwood.reapi.cas import Cas
from sapwood.reapi.channel import Peer
from sapwood.worker.action import Runner
from sapwood.worker.pins import let_go
from sapwood.worker.session import Ending, Session

__all__ = ["Options", "Worker"]

_MACHINES = {"x86_64": "x86-64", "aarch64": "aarch64"}


@dataclass(frozen=True)
class Options:
    """What a worker does: how many actions at a time, and what it says of itself to schedulers.

    `lazy`: may inputs arrive while a command runs? `disk`: how many bytes may one write?
    """

    instance: str = ""
    jobs: int = 1
    lazy: bool = True
    disk: int = DISK
    properties: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """Works for the scheduler at `scheduler`, with the blobs of `cas`, until `end`. A context.

    `say` hears, from any thread, what happens.

    Raises:
        UnavailableError: `sandbox-missing`: there is no bubblewrap.
    """

    def __init__(
        self, scheduler: Peer, cas: Peer, options: Options, room: Path, cache_dir: Path, say: Callable[[str], None]
    ) -> None:
        if shutil.which("bwrap") is None:
            raise UnavailableError(
                "there is no bwrap, in which builders run", kind="sandbox-missing", hint="apt-get install bubblewrap"
            )
        self._over = threading.Event()
        self._room = _Room(room, cache_dir)
        (cache_dir / "tmp").mkdir(parents=True, exist_ok=True)
        properties = {"OSFamily": "linux", "ISA": _MACHINES.get(platform.machine(), platform.machine())}
        properties.update(options.properties)
        runner = Runner(
            Cas(cas, options.instance, self._over),
            self._room.place,
            cache_dir,
            network=properties.get(NETWORK) == "true",
            lazy=options.lazy,
            disk=options.disk,
        )
        self._ending = Ending()
        name = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._sessions = [
            Session(
                scheduler,
                options.instance,
                f"{name}-{number}",
                properties,
                runner.run,
                self._ending,
                say,
            )
            for number in range(options.jobs)
        ]

    def __enter__(self) -> Worker:
        for session in self._sessions:
            session.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        for session in self._sessions:
            session.join()
        self._over.set()
        self._room.close()

    def finish(self) -> None:
        """Take nothing new; what runs has 30 s."""
        self._ending.finishing.set()
        self._wake()

    def is_finished(self, timeout_s: float) -> bool:
        """Wait so long at most until nothing runs any more, and say whether it is so."""
        return all(session.join(timeout_s if number == 0 else 0) for number, session in enumerate(self._sessions))

    def give_back(self) -> None:
        """End what runs: somebody else will do it."""
        self._ending.finishing.set()
        self._ending.giving_back.set()
        self._wake()

    def _wake(self) -> None:
        for session in self._sessions:
            session.wake()


class _Room:
    """A directory below `above` that is ours as long as we live; those of others who do not any more are removed.

    So are their pins in the cache.
    """

    def __init__(self, above: Path, cache_dir: Path) -> None:
        above.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in above.iterdir():
            with contextlib.suppress(OSError), open(other / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                let_go(cache_dir, other.name)
                remove(other)
        self._top = above / uuid.uuid4().hex
        # Under another name until it is locked: nobody takes it for one that was left.
        begun = above.with_name(f"{above.name}-{self._top.name}")
        begun.mkdir(mode=0o700)
        self._lock = open(begun / "lock", "wb")  # noqa: SIM115 - as long as we live
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(begun, self._top)
        self.place = self._top / "actions"
        self.place.mkdir()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            remove(self._top)
        self._lock.close()
