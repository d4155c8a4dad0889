"""The demo as a person sees it: two tables, and nothing left behind."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo import environment
from demo.story import MBIT, RTT_MS, Story, told
from sapwood.cli.show import exact, human, seconds

_BUILD = Path(__file__).resolve().parent.parent / "build" / "demo"


def main() -> int:
    """Return 1 when something came out wrong or was left behind."""
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = _BUILD / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with console.status("making a Python environment with numpy and pandas (only the first time)"):
            tree = environment.made(_BUILD)
        story = told(work, tree, console.status)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    console.print(_pushes(story.first, story.second))
    console.print(_trips(story))
    outputs = {
        said.seen.output.strip() for job in story.jobs.values() for said in (job.mounted, job.profiled, job.pulled)
    }
    for output in sorted(outputs):
        console.print(f"a program said: {output}", highlight=False, soft_wrap=True)
    left = [line for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines() if str(work) in line]
    if left:
        console.print(f"left mounted: {left}", style="red")
    # The edit shows, and both ways show the same.
    good = len(outputs) == len(story.jobs) and any("second edition" in output for output in outputs)
    return 0 if good and not left else 1


def _pushes(first: dict[str, Any], second: dict[str, Any]) -> Table:
    title = f"\nA Python environment of {first['files']:,} files, {exact(first['bytes'])}"
    table = Table("directory\n-> store", title=title, title_justify="left")
    for heading in ("files\nhashed", "bytes\nhashed", "chunks\nsent", "bytes\nsent", "as\nstored", "\ntime"):
        table.add_column(heading, justify="right")
    for name, push in (("first push", first), ("after one edit", second)):
        table.add_row(
            name,
            f"{push['filesHashed']:,}",
            human(push["bytesHashed"]),
            f"{push['chunksSent']:,}",
            human(push["chunkBytesSent"]),
            human(push["bytesStored"]),
            seconds(push["seconds"]),
        )
    return table


def _trips(story: Story) -> Table:
    size = story.second["bytes"]
    title = f"\nElsewhere, with an empty cache, over a link of {RTT_MS} ms and {MBIT} Mbit/s"
    table = Table("store\n-> program", title=title, title_justify="left")
    for heading in ("first\noutput", "\ndone", "over\nthe link", "of the tree\nnever read"):
        table.add_column(heading, justify="right")
    for name, job in story.jobs.items():
        unread = size - job.stats["bytes_read"]
        never = f"{human(unread)}, {unread / size:.0%}"
        for way, trip, untouched in (
            (f"{name}: run from a mount", job.mounted, never),
            (f"{name}: after a trace", job.profiled, never),
            (f"{name}: pull, then run", job.pulled, "fetched all the same"),
        ):
            table.add_row(way, seconds(trip.seen.first_line_s), seconds(trip.seen.done_s), human(trip.bytes), untouched)
        table.add_row(
            f"{name}: after a trace : pull",
            f"{job.profiled.seen.first_line_s / job.pulled.seen.first_line_s:.2f}",
            f"{job.profiled.seen.done_s / job.pulled.seen.done_s:.2f}",
            f"{job.profiled.bytes / job.pulled.bytes:.2f}",
            end_section=True,
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
