"""The corpus pushed as a tar and given back, beside a push of its directory and a copy of the tar."""

from __future__ import annotations

import subprocess

from benchmarks.archives import corpus_tar
from benchmarks.corpus import corpus, say
from benchmarks.measure import Case, Figure, Word, in_turns, memory, ratio, sizes, stored_bytes
from benchmarks.sapwood import SAPWOOD, anew, clear, place, require_free, with_cache

COMMANDS = (
    "`sapwood push CORPUS.tar STORE#main`, and of CORPUS.tar.gz (gzip -6) : `sapwood push CORPUS STORE#main`, without"
    " any earlier state; `gzip -dc CORPUS.tar.gz`; `sapwood tar STORE#main -o BACK.tar` : `cp CORPUS.tar BACK.tar`"
    " `&& sync BACK.tar`"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, tar = corpus(), corpus_tar()
    require_free(4_000_000_000)
    store, cache, work = map(place, ("store", "cache", "work"))
    work.mkdir()
    packed, back = work / "corpus.tar.gz", work / "back.tar"
    say(f"compressing {tar}")
    with packed.open("wb") as out:
        subprocess.run(["gzip", "-6", "-c", tar], stdout=out, check=True)

    def push(name: str, what: Word) -> Case:
        return Case(name, [SAPWOOD, "push", what, f"{store}#main"], lambda: anew(store, cache), with_cache(cache))

    inflate = Case("gzip -dc", ["gzip", "-dc", packed])
    plain, compressed, directory, inflated = in_turns(
        [push("push of the tar", tar), push("of the tar.gz", packed), push("of the directory", tree), inflate], rounds
    )
    size = list[int]()
    for what in (tree, tar):
        case = push("for its size", what)
        case.prepare()
        case.run()
        size.append(stored_bytes(store))
    give = Case("tar", [SAPWOOD, "tar", f"{store}#main", "-o", back], lambda: anew(back), with_cache(cache))
    copy = Case("cp", ["sh", "-ec", 'cp "$1" "$2" && sync "$2"', "sh", tar, back], lambda: anew(back))
    given, copied = in_turns([give, copy], rounds)
    clear(store, cache, work)
    return [
        ratio("push of the tar : of its directory", plain, directory, None),
        ratio("push of the tar.gz : gzip -dc, one processor as ours", compressed, inflated, None),
        sizes("size of the store : by the directory", size[1], size[0], None),
        memory("memory of a push of the tar", max(plain.peak, compressed.peak), 256),
        ratio("the tar given back : cp", given, copied, None),
        memory("memory of giving it back", given.peak, 256),
    ]
