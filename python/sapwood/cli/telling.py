"""What a person sees of a build: lines on stderr, and on a terminal, once a second has passed, a table beneath them.

Invariant: the lines are the same with and without the table, which leaves nothing behind. rich is imported when the
table is drawn first, so builds in which nothing is to be done never pay for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sapwood.build.listener import Listener, Sent, Stage
from sapwood.cli import show

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from sapwood.build.builder import Made
    from sapwood.build.derivation import Derivation
    from sapwood.build.graph import Graph
    from sapwood.errors import SapwoodError

__all__ = ["Board", "Talking", "telling"]

_TAIL_BYTES = 16 << 10
_PATIENCE_S = 1.0
_ROWS = 16
# What is shown first where there is no room for all.
_ORDER = (Stage.RUNNING, Stage.INPUT, Stage.SENDING, Stage.STORING, Stage.QUEUED, Stage.HASHING, Stage.LOOKING)


@contextmanager
def telling(graph: Graph, *, quiet: bool, silent: bool) -> Iterator[Listener]:
    """Give who tells of a build of `graph`.

    It leaves out what builders say if `quiet`, and tells only of failures, and of what may become one, if `silent`.
    """
    seen = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if silent or not seen:
        yield Talking(quiet=quiet, silent=silent)
        return
    board = Board({one.name: [need.name for need in graph.needs(one)] for one in graph}, quiet=quiet)
    timer = threading.Timer(_PATIENCE_S, board.open)
    timer.daemon = True
    timer.start()
    try:
        yield board
    finally:
        timer.cancel()
        board.close()


class Talking(Listener):
    """Says on stderr what happens, and line by line what builders say."""

    def __init__(self, *, quiet: bool, silent: bool) -> None:
        self._quiet = quiet or silent
        self._silent = silent
        self._lock = threading.RLock()
        self._rest: dict[str, bytes] = {}

    def begun(self, one: Derivation) -> None:
        """See `Listener`."""
        if not self._silent:
            with self._lock:
                self._tell(f"builds  {one.name}")

    def said(self, one: Derivation, data: bytes) -> None:
        """See `Listener`."""
        with self._lock:
            if self._quiet:
                self._rest[one.name] = (self._rest.get(one.name, b"") + data)[-_TAIL_BYTES:]
                return
            *lines, self._rest[one.name] = (self._rest.get(one.name, b"") + data).split(b"\n")
            if len(self._rest[one.name]) > _TAIL_BYTES:
                lines.append(self._rest.pop(one.name))
            for line in lines:
                self._tell(f"{one.name}> {show.quoted(line)}")

    def told(self, words: str) -> None:
        """See `Listener`."""
        # It comes from threads that a build cannot do without, Ctrl-C neither: they do not end with who reads stderr.
        with self._lock, suppress(OSError):
            self._tell(words)

    def made(self, one: Derivation, made: Made) -> None:
        """See `Listener`."""
        if made.is_hit:
            return
        with self._lock:
            if self._quiet:
                self._rest.pop(one.name, None)
            else:
                self._end(one)
            if not self._silent:
                self._tell(f"built   {one.name} in {show.seconds(made.result.seconds)}")

    def checked(self, one: Derivation) -> None:
        """See `Listener`."""
        if not self._silent:
            with self._lock:
                self._end(one)
                self._tell(f"checked {one.name}")

    def failed(self, one: Derivation, _: SapwoodError, left: Path | None, /) -> None:
        """See `Listener`."""
        with self._lock:
            self._end(one)
            self._tell(f"failed  {one.name}" + (f"; its directory: {left}" if left else ""))

    def _end(self, one: Derivation) -> None:
        for line in self._rest.pop(one.name, b"").splitlines():
            self._tell(f"{one.name}> {show.quoted(line)}")

    def _tell(self, words: str) -> None:
        show.talk(words)


class Board(Talking):
    """Says the same, and beneath it shows what is going on now, from `open` to `close`."""

    def __init__(self, needs: dict[str, list[str]], *, quiet: bool) -> None:
        super().__init__(quiet=quiet, silent=False)
        # Of what follows. rich draws under a lock of its own, and prints under it, too: so nothing is said under this.
        self._state = threading.Lock()
        # What each needs, in the order in which they can be built, and which of them are made.
        self._needs = needs
        self._made: set[str] = set()
        self._hits = 0
        self._built = 0
        # What each is at, what it waits for there, and since when.
        self._at: dict[str, tuple[Stage, str, float]] = {}
        self._sent: Sent | None = None
        self._live: Live | None = None
        self._is_closed = False

    def stage(self, one: Derivation, stage: Stage, what: str = "", /) -> None:
        """See `Listener`."""
        with self._state:
            self._at[one.name] = (stage, what, time.monotonic())

    def sent(self, so_far: Sent) -> None:
        """See `Listener`."""
        with self._state:
            self._sent = so_far

    def made(self, one: Derivation, made: Made) -> None:
        """See `Listener`."""
        with self._state:
            self._at.pop(one.name, None)
            self._made.add(one.name)
            self._hits += made.is_hit
            self._built += not made.is_hit
        super().made(one, made)

    def checked(self, one: Derivation) -> None:
        """See `Listener`."""
        with self._state:
            self._at.pop(one.name, None)
        super().checked(one)

    def failed(self, one: Derivation, error: SapwoodError, left: Path | None, /) -> None:
        """See `Listener`."""
        with self._state:
            self._at.pop(one.name, None)
        super().failed(one, error, left)

    def open(self) -> None:
        """Show the table from now on."""
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        with self._lock:
            if self._is_closed:
                return
            self._live = Live(
                console=console,
                get_renderable=lambda: self.table(console),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def close(self) -> None:
        """Take the table away."""
        with self._lock:
            self._is_closed = True
            if self._live is not None:
                self._live.stop()
                self._live = None

    def table(self, console: Console) -> Table:
        """Return what is going on, as far as there is room for it."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, console.width // 2))
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right")
        now = time.monotonic()
        with self._state:
            found = sorted(self._at.items(), key=lambda each: (_ORDER.index(each[1][0]), each[1][2]))
            words = self._summary()
            room = max(1, min(_ROWS, console.height - 4))
            waiting = self._waiting(room - len(found))
        for name, (stage, what, since) in found[:room]:
            table.add_row(Text(name), Text(f"{stage.value} {what}".strip()), show.seconds(now - since))
        if len(found) > room:
            table.add_row(Text(f"and {len(found) - room:,} more"), Text(), Text())
        for name, needs in waiting:
            more = f" and {len(needs) - 1:,} more" if needs[1:] else ""
            table.add_row(Text(name), Text(f"needs {needs[0]}{more}"), Text())
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(Text(words, no_wrap=True, overflow="ellipsis"))
        return whole

    def _waiting(self, room: int) -> list[tuple[str, list[str]]]:
        """Return some that have not begun, and what of what they need is not made yet."""
        found: list[tuple[str, list[str]]] = []
        for name, needs in self._needs.items():
            if len(found) >= room:
                break
            if name not in self._made and name not in self._at and (still := [x for x in needs if x not in self._made]):
                found.append((name, still))
        return found

    def _summary(self) -> str:
        total, done = len(self._needs), self._hits + self._built
        words = f"{done:,} of {total:,}: {self._built:,} built, {self._hits:,} known"
        words += f"; {len(self._at):,} going on, {max(0, total - done - len(self._at)):,} wait for others"
        if self._sent is not None:
            sent, needed, there = (show.human(each) for each in (self._sent.sent, self._sent.needed, self._sent.total))
            words += f"; sent {sent}, of {needed} asked for, of {there}"
        return words

    def _tell(self, words: str) -> None:
        if self._live is None:
            show.talk(words)
            return
        from rich.text import Text

        self._live.console.print(Text(words), soft_wrap=True)
