"""One file of an archive on a web server 20 ms away: round trips and bytes until it is here."""

from __future__ import annotations

from benchmarks import servers
from benchmarks.archives import corpus_tar
from benchmarks.link import linked
from benchmarks.measure import Case, Figure, Times, Word, in_turns, shown
from benchmarks.sapwood import SAPWOOD, Reporting, clear, place, with_cache

_RTT_MS = 20
# So fast that only round trips are felt.
_MBIT = 10_000
_FILE = "kernel/fork.c"
COMMANDS = (
    f"`sapwood cat http://…/OUT.tar.gz {_FILE}`, OUT.tar.gz made of the corpus, from nginx over {_RTT_MS} ms :"
    " the same over 0 ms, in round trips; bytes that cross : the TOC and 128 KB"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    cache, root, work = map(place, ("cache", "served", "nginx"))
    root.mkdir()
    out = root / "out.tar.gz"
    Reporting("convert", corpus_tar(), out, cache=cache).run()
    footer = out.read_bytes()[-51:]
    toc = out.stat().st_size - 51 - int(footer[16:32], 16)
    with (
        servers.web(root, work) as port,
        linked(port, rtt_ms=_RTT_MS, mbit=_MBIT) as far,
        linked(port, rtt_ms=0, mbit=_MBIT) as near,
    ):

        def cat(url: str, *, cold: bool) -> Case:
            command: list[Word] = [SAPWOOD, "cat", f"{url}/{out.name}", _FILE]
            return Case("cat", command, lambda: clear(cache) if cold else None, with_cache(cache))

        before = far.counts()["down"]
        far_cold, near_cold = in_turns([cat(far.url, cold=True), cat(near.url, cold=True)], rounds)
        cold = (far.counts()["down"] - before) / rounds
        for url in (far.url, near.url):
            cat(url, cold=False).run()
        before = far.counts()["down"]
        far_warm, near_warm = in_turns([cat(far.url, cold=False), cat(near.url, cold=False)], rounds)
        warm = (far.counts()["down"] - before) / rounds
    clear(cache, root, work)
    return [
        _trips("what 20 ms add until one file is here, in round trips", far_cold, near_cold, 4),
        Figure("bytes that cross : TOC and 128 KB", shown(cold), shown(toc), cold / (toc + 128_000), 1),
        _trips("what they add when the TOC is kept", far_warm, near_warm, 3),
        Figure("bytes that cross then", shown(warm), "", warm / 1e3, 128, "KB"),
    ]


def _trips(claim: str, far: Times, near: Times, bound: float) -> Figure:
    trips = (far.median - near.median) * 1000 / _RTT_MS
    return Figure(claim, str(far), str(near), trips, bound + 0.5)
