"""Progress of a long call: on stderr, on a terminal, and only once a second has passed.

rich is imported when the first bar is drawn, so short commands never pay for it; it honours NO_COLOR by itself.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from sapwood.progress import Progress

_PATIENCE_S = 1.0


class progress:
    """Give a callback for the time of one call, or None when nobody would see it; the bar is gone afterwards.

    It shows bytes, and files beside; or, if the call counts only things, so many `of` them.
    """

    def __init__(self, doing: str, *, of: str | None = None) -> None:
        # Python has no stderr when it was closed.
        seen = sys.stderr is not None and sys.stderr.isatty()
        self._bar = _Bar(doing, of) if seen else None

    def __enter__(self) -> Callable[[Progress], None] | None:
        return self._bar.update if self._bar else None

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.close()


def opening() -> progress:
    """Give a callback for opening an address: layers of images may have to be read whole for that, once."""
    return progress("reading layers")


class _Bar:
    def __init__(self, doing: str, of: str | None) -> None:
        self._doing = doing
        self._of = of
        self._began = time.monotonic()
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def update(self, now: Progress) -> None:
        if self._bars is None:
            if time.monotonic() - self._began < _PATIENCE_S:
                return
            self._open()
        if self._bars is not None and self._task is not None:
            done, total, beside = now.bytes_done, now.bytes_total, f"{now.files_done:,} files"
            if self._of:
                done, total, beside = (
                    now.files_done,
                    now.files_total,
                    f"{now.files_done:,} of {now.files_total:,} {self._of}",
                )
            self._bars.update(self._task, completed=done, total=total or None, files=beside)
            # The core calls ten times a second: no thread of rich's is needed.
            self._bars.refresh()

    def _open(self) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        bytes_done = () if self._of else (rich_progress.DownloadColumn(),)
        speed = () if self._of else (rich_progress.TransferSpeedColumn(),)
        self._bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            *bytes_done,
            rich_progress.TextColumn("{task.fields[files]}"),
            *speed,
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
