"""Progress of a long call: on stderr, on a terminal, and only once a second has passed.

rich is imported when the first bar is drawn, so short commands never pay for it; it honours NO_COLOR by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_PATIENCE_S = 1.0


class Progress(Protocol):
    """What the core reports; a total is 0 while it is unknown."""

    @property
    def files_done(self) -> int: ...
    @property
    def files_total(self) -> int: ...
    @property
    def bytes_done(self) -> int: ...
    @property
    def bytes_total(self) -> int: ...


@contextmanager
def progress(doing: str) -> Iterator[Callable[[Progress], None] | None]:
    """Give a callback for the time of one call, or None when nobody would see it; the bar is gone afterwards."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(doing)
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._began = time.monotonic()
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def update(self, now: Progress) -> None:
        if self._bars is None:
            if time.monotonic() - self._began < _PATIENCE_S:
                return
            self._open()
        if self._bars is not None and self._task is not None:
            self._bars.update(
                self._task, completed=now.bytes_done, total=now.bytes_total or None, files=f"{now.files_done:,} files"
            )
            # The core calls ten times a second: no thread of rich's is needed.
            self._bars.refresh()

    def _open(self) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        self._bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.DownloadColumn(),
            rich_progress.TextColumn("{task.fields[files]}"),
            rich_progress.TransferSpeedColumn(),
            rich_progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bars.add_task(self._doing, total=None, files="")
        self._bars.start()

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
