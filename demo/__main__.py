"""The demo as a person sees it: two tables, and nothing left behind."""

from __future__ import annotations

import shutil
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
    outputs = {story.mounted.seen.output.strip(), story.pulled.seen.output.strip()}
    for output in outputs:
        console.print(f"the program said: {output}", highlight=False)
    left = [line for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines() if str(work) in line]
    if left:
        console.print(f"left mounted: {left}", style="red")
    # The edit shows, and both ways show the same.
    good = len(outputs) == 1 and "second edition" in outputs.pop()
    return 0 if good and not left else 1


def _pushes(first: dict[str, Any], second: dict[str, Any]) -> Table:
    table = Table(
        title=f"a Python environment: {first['files']:,} files, {exact(first['bytes'])}", title_justify="left"
    )
    table.add_column("push: directory -> store")
    for heading in ("files hashed", "bytes hashed", "chunks sent", "bytes sent", "as stored", "seconds"):
        table.add_column(heading, justify="right")
    for name, push in (("all of it", first), ("after one edit", second)):
        table.add_row(
            name,
            f"{push['filesHashed']:,}",
            human(push["bytesHashed"]),
            f"{push['chunksSent']:,}",
            human(push["chunkBytesSent"]),
            human(push["bytesStored"]),
            f"{push['seconds']:.2f}",
        )
    return table


def _trips(story: Story) -> Table:
    mounted, pulled, size = story.mounted, story.pulled, story.second["bytes"]
    title = f"elsewhere, with an empty cache, over {RTT_MS} ms and {MBIT} Mbit/s"
    table = Table(title=title, title_justify="left")
    table.add_column("store -> program")
    for heading in ("first output", "done", "over the link", "of the tree never read"):
        table.add_column(heading, justify="right")
    unread = size - story.stats["bytes_read"]
    never = f"{human(unread)}, {unread / size:.0%}"
    for name, trip, untouched in (
        ("run from the mount", mounted, never),
        ("pull all, then run", pulled, "but fetched"),
    ):
        seen = trip.seen
        table.add_row(name, seconds(seen.first_line_s), seconds(seen.done_s), exact(trip.bytes), untouched)
    table.add_section()
    table.add_row(
        "mount : pull",
        f"{mounted.seen.first_line_s / pulled.seen.first_line_s:.2f}",
        f"{mounted.seen.done_s / pulled.seen.done_s:.2f}",
        f"{mounted.bytes / pulled.bytes:.2f}",
        "",
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
