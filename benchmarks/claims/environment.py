"""Running a program from a tree that nobody has yet: an interpreter with its libraries, over slow links."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import environment, servers
from benchmarks.corpus import BUILD
from benchmarks.link import Link, linked
from benchmarks.measure import Case, Figure, Times, at_most, ratio, shown
from benchmarks.sapwood import SAPWOOD, clear, place, require_free, with_cache
from benchmarks.trips import Way, in_turns
from demo.watch import Watched, watched

# The link that is held to bounds, then those that are only shown: round trip and rate.
_LINK = (20, 100)
_OTHERS = ((100, 20), (1, 1000))
_ON_DISK = 520_000_000
_CACHE, _UNTARRED = BUILD / "work" / "cache", BUILD / "work" / "untarred"
_READ_ALL = ["sh", "-c", 'tar -cf - -C "$SAPWOOD_ROOT" . | cat >/dev/null']
COMMANDS = (
    "`sapwood run s3://…#v -- {}/bin/python {}/workload.py` : `curl …/v.tar.zst | zstd -d | tar -x && DIR/bin/python"
    " DIR/workload.py`, with empty caches; the program says a line, imports pandas and scikit-learn and fits a model."
    " Pushed with `--level 19`, as the tar is compressed; or by default. With a profile: after one `sapwood trace`"
    " of it; laid out: and `sapwood optimize`. Reading everything: `tar -c` of the mount"
)


class Far(NamedTuple):
    """What lies at the far end: ports of an S3 server and of a web server."""

    s3: int
    web: int


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    rounds = min(rounds, 3)
    tree = environment.made()
    require_free((5 * rounds + 9) * _ON_DISK)
    with _far(tree) as far:
        cold, profiled, laid_out, all_read, untar, untar_fast, quick, quickly_read = ways = _ways()
        _in_turns(ways, far, _LINK, rounds)
        others = {link: _ways() for link in _OTHERS}
        for link, (other_cold, other_profiled, other_laid_out, _, other_untar, *_) in others.items():
            _in_turns([other_cold, other_profiled, other_laid_out, other_untar], far, link, 1)
    rate = _LINK[1] * 1e6 / 8
    carried = Times(tuple(trip.bytes / rate for trip in cold.trips))
    return [
        at_most("first line, without a profile", cold.first_line, untar.first_line, 600),
        ratio("done, without a profile : tar.zst -19", cold.done, untar.done, 0.8),
        at_most("first line, with a profile", profiled.first_line, untar.first_line, 600),
        ratio("done, with a profile : tar.zst -19", profiled.done, untar.done, 0.5),
        at_most("first line, with a profile, laid out", laid_out.first_line, untar.first_line, 600),
        ratio("done, with a profile, laid out : tar.zst -19", laid_out.done, untar.done, 0.5),
        ratio("everything read through the mount : tar.zst -3 unpacked", all_read.done, untar_fast.done, 1.1),
        ratio("the same, pushed by default : tar.zst -3 unpacked", quickly_read.done, untar_fast.done, 1.1),
        # At least 0.9 of the rate.
        ratio("link in use, without a profile : the same bytes at its rate", _spent(cold), carried, 1 / 0.9),
        _bytes("bytes that crossed, without a profile : tar.zst -19", cold, untar),
        _bytes("bytes that crossed, with a profile : tar.zst -19", profiled, untar),
        _bytes("bytes that crossed, with a profile, laid out : tar.zst -19", laid_out, untar),
        ratio("done, without a profile, pushed by default : tar.zst -3, no program", quick.done, untar_fast.done, None),
        *(row for link, ways in others.items() for row in _rows(link, ways)),
    ]


def _rows(link: tuple[float, float], ways: Sequence[Way]) -> list[Figure]:
    plain, traced, laid_out, _, tar, *_ = ways
    over = "{} ms and {} Mbit/s".format(*link)
    return [
        at_most(f"first line over {over}", plain.first_line, tar.first_line, None),
        ratio(f"done over {over}, without a profile : tar.zst -19", plain.done, tar.done, None),
        ratio(f"done over {over}, with a profile : tar.zst -19", traced.done, tar.done, None),
        ratio(f"done over {over}, with a profile, laid out : tar.zst -19", laid_out.done, tar.done, None),
    ]


def _spent(way: Way) -> Times:
    return Times(tuple(trip.spent_s for trip in way.trips))


def _bytes(claim: str, ours: Way, peer: Way) -> Figure:
    return Figure(claim, shown(ours.bytes), shown(peer.bytes), ours.bytes / peer.bytes, None)


@contextmanager
def _far(tree: Path) -> Iterator[Far]:
    """Serve the tree in stores, two of which know a profile, and as archives."""
    work, root, web_work = map(place, ("s3", "served", "nginx"))
    root.mkdir()
    for level in (19, 3):
        os.link(environment.packed(tree, level), root / _archive(level))
    try:
        with servers.s3(work) as s3, servers.web(root, web_work) as web:
            near = _at(f"http://127.0.0.1:{s3}")
            for words in (
                ["push", tree, _address("quick")],
                ["push", "--level", "19", tree, _address("plain")],
                ["cp", _address("plain"), _address("traced")],
                ["trace", _address("traced"), "--", *environment.workload("{}")],
                ["cp", _address("traced"), _address("laid-out")],
                ["trace", _address("laid-out"), "--", *environment.workload("{}")],
                ["optimize", _address("laid-out")],
            ):
                Case(str(words[0]), [SAPWOOD, *words], environment=near).run()
            clear(_CACHE)
            yield Far(s3, web)
    finally:
        clear(work, root, web_work, _CACHE)


def _ways() -> list[Way]:
    workload = environment.workload("{}")
    return [
        Way("run", lambda link: _run(link, "plain", workload)),
        Way("run with a profile", lambda link: _run(link, "traced", workload)),
        Way("run with a profile, laid out", lambda link: _run(link, "laid-out", workload)),
        Way("read all", lambda link: _run(link, "plain", _READ_ALL)),
        Way("tar.zst -19", lambda link: _untar(link, 19, environment.workload(_UNTARRED))),
        Way("tar.zst -3, no program", lambda link: _untar(link, 3, ["true"])),
        Way("run, pushed by default", lambda link: _run(link, "quick", workload)),
        Way("read all, pushed by default", lambda link: _run(link, "quick", _READ_ALL)),
    ]


def _in_turns(ways: Sequence[Way], far: Far, link: tuple[float, float], rounds: int) -> None:
    rtt_ms, mbit = link
    with linked(far.s3, rtt_ms=rtt_ms, mbit=mbit) as s3, linked(far.web, rtt_ms=rtt_ms, mbit=mbit) as web:
        in_turns(ways, s3, web, rounds, (_UNTARRED, _CACHE))


def _run(link: Link, store: str, command: Sequence[str]) -> Watched:
    return watched([SAPWOOD, "run", _address(store), "--", *command], _at(link.url))


def _untar(link: Link, level: int, command: Sequence[str]) -> Watched:
    _UNTARRED.mkdir(parents=True)
    script = f"curl -sSf {link.url}/{_archive(level)} | zstd -q -d | tar -x -C {shlex.quote(str(_UNTARRED))}; "
    script += shlex.join(command)
    return watched(["bash", "-o", "errexit", "-o", "pipefail", "-c", script], {})


def _at(url: str) -> dict[str, str]:
    return {**servers.CREDENTIALS, **with_cache(_CACHE), "AWS_ENDPOINT_URL": url}


def _address(store: str) -> str:
    return f"s3://{servers.BUCKET}/{store}#v"


def _archive(level: int) -> str:
    return f"v-{level}.tar.zst"
