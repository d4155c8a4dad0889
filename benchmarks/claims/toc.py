"""An archive of a million files: packed, and opened, beside containerd's estargz library."""

from __future__ import annotations

from benchmarks.archives import ESTARGZ, need_estargz
from benchmarks.generated import MILLION, generated
from benchmarks.measure import Case, Figure, at_most, in_turns, memory, ratio, sizes
from benchmarks.sapwood import SAPWOOD, Reporting, clear, place, require_free, with_cache

COMMANDS = (
    "`sapwood pack TREE OUT.tar.gz`; `sapwood ls OUT.tar.gz`, which lists its root : `estargz.Open`, whole processes"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = generated("million", MILLION)
    need_estargz()
    require_free(1_000_000_000)
    cache, out = map(place, ("cache", "million.tar.gz"))
    pack = Reporting("pack", tree, out, cache=cache)
    (packed,) = in_turns([pack], 1)
    listing = Case("ls", [SAPWOOD, "ls", out], environment=with_cache(cache))
    peer = Case("estargz.Open", [ESTARGZ, "open", out, pack.said[0]["toc"]])
    opened, by_peer = in_turns([listing, peer], rounds)
    clear(cache, out)
    return [
        at_most("opening the archive of a million files", opened, by_peer, 1500),
        ratio("opening it : estargz.Open", opened, by_peer, None),
        memory("memory of opening it", opened.peak, 300),
        sizes("memory of opening it : estargz.Open", opened.peak, by_peer.peak, None),
        memory("memory of packing it", packed.peak, 200),
    ]
