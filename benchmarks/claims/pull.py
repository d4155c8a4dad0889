"""Pulling a whole tree: from a local store beside restic, casync, tar; over a slow link; into what is there already."""

from __future__ import annotations

from pathlib import Path

from benchmarks import peers, servers
from benchmarks.corpus import corpus
from benchmarks.link import linked
from benchmarks.measure import Case, Figure, Times, in_turns, memory, ratio, shown, stored_bytes
from benchmarks.sapwood import SAPWOOD, aside, clear, place, require_equal, require_free, with_cache

_RTT_MS, _MBIT = 20, 100
# The corpus in blocks of 4 KiB, with its directories.
_ON_DISK = 1_600_000_000
COMMANDS = (
    "`sapwood pull STORE#main DIR` into a new directory, without any earlier state : `restic restore`,"
    " `casync extract`, `zstd -d | tar -x` of the corpus; into one that is right already : `sapwood hash DIR`; from"
    f" nginx over {_RTT_MS} ms and {_MBIT} Mbit/s : what crosses the link at its rate"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    return [*_local(min(rounds, 3)), *_over_the_link(min(rounds, 2))]


def _local(rounds: int) -> list[Figure]:
    tree = corpus()
    # The trees that are made; they go at the end.
    require_free((2 * rounds + 8) * _ON_DISK)
    store, cache, pulled, restored = map(place, ("store", "cache", "pulled", "restored"))
    state = with_cache(cache)
    Case("push", [SAPWOOD, "push", tree, f"{store}#main"], environment=state).run()
    pull = Case("pull", [SAPWOOD, "pull", f"{store}#main", pulled], lambda: _begin(pulled, cache), state)
    restic, *others = peers.restic(), peers.casync(), peers.tar_zstd()
    for peer in (restic, *others):
        case = peer.store_anew(tree)
        case.prepare()
        case.run()
    fetched, restic_times = in_turns([pull, restic.restore(restored)], rounds)
    require_equal(restored, tree)
    again, *other_times = in_turns([pull, *(peer.restore(restored) for peer in others)], min(rounds, 2))
    require_equal(pulled, tree)
    # Now it has what a pull leaves, in the directory and in the cache.
    same, hashed = in_turns(
        [
            Case("pull, nothing to do", [SAPWOOD, "pull", f"{store}#main", pulled], environment=state),
            Case("hash", [SAPWOOD, "hash", pulled], environment=state),
        ],
        2 * rounds,
    )
    require_equal(pulled, tree)
    clear(store, cache, pulled, restored)
    for peer in (restic, *others):
        peer.clear()
    bounds = {"casync": 0.5}
    return [
        ratio("pull into a new directory : restic", fetched, restic_times, 0.5),
        *(
            ratio(f"pull into a new directory : {peer.name}", again, times, bounds.get(peer.name))
            for peer, times in zip(others, other_times, strict=True)
        ),
        memory("memory of a pull", max(fetched.peak, again.peak), 256),
        ratio("pull into what is right already : hash", same, hashed, 2),
    ]


def _over_the_link(rounds: int) -> list[Figure]:
    tree = corpus()
    require_free(rounds * _ON_DISK)
    store, cache, pulled, work = map(place, ("store", "cache", "pulled", "nginx"))
    state = with_cache(cache)
    Case("push", [SAPWOOD, "push", tree, f"{store}#main"], environment=state).run()
    with servers.web(store, work) as port, linked(port, rtt_ms=_RTT_MS, mbit=_MBIT) as link:
        address = f"{link.url}#main"
        pull = Case("pull", [SAPWOOD, "pull", address, pulled], lambda: _begin(pulled, cache), state)
        before = link.counts()["down"]
        (times,) = in_turns([pull], rounds)
        crossed = (link.counts()["down"] - before) / rounds
    require_equal(pulled, tree)
    packs = stored_bytes(store / "packs")
    clear(store, cache, pulled, work)
    line = Times((crossed * 8 / (_MBIT * 1e6),))
    return [
        # At least 0.9 of the rate.
        ratio("pull over the link : the same bytes at its rate", times, line, 1 / 0.9),
        Figure("bytes that crossed : all packs", shown(crossed), shown(packs), crossed / packs, 1),
    ]


def _begin(pulled: Path, cache: Path) -> None:
    clear(cache)
    aside(pulled)
