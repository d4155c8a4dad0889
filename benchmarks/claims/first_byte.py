"""One file of an archive on a web server 20 ms away: round trips and bytes until it is here, by the server's log."""

from __future__ import annotations

from pathlib import Path

from benchmarks import servers
from benchmarks.archives import corpus_tar
from benchmarks.link import linked
from benchmarks.measure import Case, Figure, Word, at_most, in_turns, shown
from benchmarks.sapwood import SAPWOOD, Reporting, clear, place, with_cache
from sapwood.store.archive import open_archive

_RTT_MS = 20
# So fast that only round trips are felt.
_MBIT = 10_000
_FILE = "kernel/fork.c"
_SLACK = 128_000
COMMANDS = (
    f"`sapwood cat http://…/OUT.tar.gz {_FILE}`, OUT.tar.gz made of the corpus, from nginx, {_RTT_MS} ms away where"
    " times are told. A round trip is a request or a connection that is made; bytes are those of replies, with headers"
)


def figures(rounds: int) -> list[Figure]:
    """Measure; what crosses once, for it does not vary."""
    cache, root, work = map(place, ("cache", "served", "nginx"))
    root.mkdir()
    out = root / "out.tar.gz"
    Reporting("convert", corpus_tar(), out, cache=cache).run()
    footer = out.read_bytes()[-51:]
    toc = out.stat().st_size - 51 - int(footer[16:32], 16)
    frames = _frames(out)
    with servers.web(root, work) as port, linked(port, rtt_ms=_RTT_MS, mbit=_MBIT) as far:

        def cat(url: str, *, cold: bool) -> Case:
            command: list[Word] = [SAPWOOD, "cat", f"{url}/{out.name}", _FILE]
            return Case("cat", command, lambda: clear(cache) if cold else None, with_cache(cache))

        near = f"http://127.0.0.1:{port}"
        crossed = list[tuple[int, int]]()
        for cold in (True, False):
            case, before = cat(near, cold=cold), len(servers.sent(work))
            case.prepare()
            case.run()
            crossed.append(_crossed(servers.sent(work)[before:]))
        (cold_time,) = in_turns([cat(far.url, cold=True)], rounds)
        (warm_time,) = in_turns([cat(far.url, cold=False)], rounds)
    clear(cache, root, work)
    (cold_trips, cold_bytes), (warm_trips, warm_bytes) = crossed
    return [
        Figure("round trips until one file is here", str(cold_trips), "", cold_trips, 4, "trips"),
        _bytes("bytes that cross : TOC, the file's frames and 128 KB", cold_bytes, toc + frames + _SLACK),
        Figure("round trips when the TOC is kept", str(warm_trips), "", warm_trips, 3, "trips"),
        _bytes("bytes that cross then : the file's frames and 128 KB", warm_bytes, frames + _SLACK),
        at_most(f"{_RTT_MS} ms away", cold_time, None, None),
        at_most(f"{_RTT_MS} ms away, when the TOC is kept", warm_time, None, None),
    ]


def _frames(archive: Path) -> int:
    """Return how many bytes the frames of the file take in the archive."""
    entry = open_archive(str(archive))[0].file_map.lookup(_FILE.encode())
    assert entry is not None
    return sum(frame.length for frame, *_ in entry.chunks)


def _crossed(sent: list[tuple[int, int]]) -> tuple[int, int]:
    """Return round trips, those in which connections are made too, and bytes."""
    return len(sent) + len({connection for _, connection in sent}), sum(size for size, _ in sent)


def _bytes(claim: str, crossed: int, bound: int) -> Figure:
    return Figure(claim, shown(crossed), shown(bound), crossed / bound, 1)
