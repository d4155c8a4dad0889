"""One file of 8 GiB, half of it incompressible: the rate of a push, beside zstd; what a change in its middle sends."""

from __future__ import annotations

from benchmarks.corpus import corpus
from benchmarks.edits import files
from benchmarks.large import change, large_file
from benchmarks.measure import Case, Figure, in_turns, memory, ratio, shown, sizes, stored_bytes
from benchmarks.sapwood import SAPWOOD, anew, clear, place, require_equal, require_free, with_cache

_SIZE = 8 << 30
_RUN = 32 << 20
_CHANGED = 1_000_000
COMMANDS = (
    "`sapwood push DIR STORE#main` of a directory with that file (by turns 32 MiB of the corpus's text and of random"
    " bytes) : `zstd -1 -T2 FILE -o FILE.zst && sync FILE.zst`; the push again after 1 MB in the middle was changed"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, store, cache, packed, pulled = map(place, ("large", "store", "cache", "packed", "pulled"))
    # The file, what was made of it, and what is pulled.
    require_free(3 * _SIZE)
    tree.mkdir()
    large = tree / "large"
    large_file(large, files(corpus()), _SIZE, _RUN)
    state = with_cache(cache)
    push = Case("push", [SAPWOOD, "push", tree, f"{store}#main"], lambda: anew(store, cache), state)
    compress = Case(
        "zstd",
        ["sh", "-ec", 'zstd -q -1 -T2 "$1" -o "$2"; sync "$2"', "sh", large, packed],
        lambda: anew(packed),
    )
    # A minute a round.
    compressed, pushed = in_turns([compress, push], min(rounds, 2))
    first, peer = stored_bytes(store), packed.stat().st_size
    packed.unlink()
    change(large, _SIZE // 2, _CHANGED)
    (pushed_again,) = in_turns([Case("push of the change", push.command, environment=state)], 1)
    added = stored_bytes(store) - first
    Case("pull", [SAPWOOD, "pull", f"{store}#main", pulled], environment=state).run()
    require_equal(pulled, tree)
    clear(tree, store, cache, pulled)
    return [
        # At least 0.8 of the rate.
        ratio("push of a file of 8 GiB : zstd -1 -T2", pushed, compressed, 1 / 0.8),
        sizes("its size : that of zstd's file", first, peer, None),
        memory("memory of the push", max(pushed.peak, pushed_again.peak), 256),
        Figure("bytes sent when 1 MB in the middle was changed", shown(added), "", added / 1e6, 6, "MB"),
        Figure("push of that", str(pushed_again), "", pushed_again.median, None, "s"),
    ]
