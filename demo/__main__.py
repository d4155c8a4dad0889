"""The story: push, edit, push again; then elsewhere, over a slow link, run from a mount beside fetching it all first."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.link import Link, linked
from demo import environment
from demo.watch import Watched, watched
from sapwood.cli.show import exact, human, seconds
from tests.support.webserver import serving

BUILD = Path(__file__).resolve().parent.parent / "build" / "demo"
RTT_MS, MBIT = 20, 100
# The one beside the interpreter that runs this: what the virtual environment installed.
SAPWOOD = Path(sys.executable).with_name("sapwood")

console = Console()


class Trip(NamedTuple):
    """One way to the first output: what was seen, and the bytes that crossed the link on its account."""

    seen: Watched
    bytes: int


def main() -> int:
    """Tell it; returns 1 when something was left behind or came out wrong."""
    work = BUILD / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with console.status("making a Python environment with numpy and pandas (only the first time)"):
            tree = environment.made(BUILD)
        good = _tell(work, tree)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    left = [line for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines() if str(work) in line]
    if left:
        console.print(f"left mounted: {left}", style="red")
    return 0 if good and not left else 1


def _tell(work: Path, tree: Path) -> bool:
    store = work / "store"
    with console.status("pushing it"):
        first = _push(tree, store, work)
    environment.edit(tree)
    with console.status("editing one file and pushing again"):
        second = _push(tree, store, work)
    console.print(_pushes(first, second))

    cache = work / "cache-of-mount"
    with serving(store) as url, linked(int(url.rpartition(":")[2]), rtt_ms=RTT_MS, mbit=MBIT) as link:
        address = f"{link.url}#env"
        with console.status("running a program from the mount, with an empty cache, over the link"):
            mounted = _trip(link, lambda: _run(address, cache))
        with console.status("fetching the whole tree over the same link, then running the program"):
            pulled = _trip(link, lambda: _pull_and_run(address, work))
    console.print(_trips(mounted, pulled, second["bytes"], _fetched(f"{store}#env", cache)))
    for output in {mounted.seen.output, pulled.seen.output}:
        console.print(f"the program said: {output.strip()}", highlight=False)
    return mounted.seen.output == pulled.seen.output and "second edition" in mounted.seen.output


def _push(tree: Path, store: Path, work: Path) -> dict[str, Any]:
    command = [SAPWOOD, "push", "--json", tree, f"{store}#env"]
    pushed: dict[str, Any] = json.loads(watched(command, {"SAPWOOD_CACHE": str(work / "cache-of-push")}).output)
    return pushed


def _run(address: str, cache: Path) -> Watched:
    command = [SAPWOOD, "run", address, "--", "{}/bin/python", "{}/report.py"]
    return watched(command, {"SAPWOOD_CACHE": str(cache)})


def _pull_and_run(address: str, work: Path) -> Watched:
    copy = work / "copy"
    fetching = watched([SAPWOOD, "pull", address, copy], {"SAPWOOD_CACHE": str(work / "cache-of-pull")})
    running = watched([copy / "bin/python", copy / "report.py"], {})
    return Watched(running.output, fetching.done_s + running.first_line_s, fetching.done_s + running.done_s)


def _trip(link: Link, make: Callable[[], Watched]) -> Trip:
    before = link.counts()
    seen = make()
    after = link.counts()
    return Trip(seen, after["up"] + after["down"] - before["up"] - before["down"])


def _fetched(address: str, cache: Path) -> int:
    """Return the bytes of the tree's files that the mount's cache has by now."""
    listing = watched([SAPWOOD, "ls", "-R", "--json", address], {})
    fetched = 0
    for entry in json.loads(listing.output):
        if entry["type"] != "reg":
            continue
        name = entry["digest"].removeprefix("sha256:")
        if (cache / "objects" / name[:2] / name).exists():
            fetched += entry["size"]
        else:  # a large file of which some chunks came: what of the sparse file has blocks
            fetched += sum(
                part.stat().st_blocks * 512 for part in cache.glob(f"partial/{name}-*") if part.suffix != ".have"
            )
    return fetched


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


def _trips(mounted: Trip, pulled: Trip, size: int, fetched: int) -> Table:
    title = f"elsewhere, with an empty cache, over {RTT_MS} ms and {MBIT} Mbit/s"
    table = Table(title=title, title_justify="left")
    table.add_column("store -> program")
    for heading in ("first output", "done", "over the link", "of the tree never fetched"):
        table.add_column(heading, justify="right")
    never = f"{human(size - fetched)}, {1 - fetched / size:.0%}"
    for name, trip, untouched in (("run from the mount", mounted, never), ("pull all, then run", pulled, "nothing")):
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
