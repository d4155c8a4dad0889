"""A seek index of a plain .tar.gz of the corpus, beside what lists it; and one file read by it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from benchmarks.archives import corpus_tar
from benchmarks.corpus import say
from benchmarks.measure import Case, Figure, in_turns, memory, ratio, shown
from benchmarks.sapwood import SAPWOOD, anew, clear, place, require_free, with_cache
from sapwood.archive import FileMap
from sapwood.store.archive import open_archive

_FILE = "./kernel/fork.c"
COMMANDS = (
    "`sapwood index CORPUS.tar.gz` (of gzip -6) : `gzip -dc CORPUS.tar.gz | tar t`;"
    f" `sapwood cat CORPUS.tar.gz {_FILE[2:]}` : `tar -xzOf CORPUS.tar.gz {_FILE}`"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tar = corpus_tar()
    require_free(1_000_000_000)
    cache, work = map(place, ("cache", "work"))
    work.mkdir()
    packed, kept = work / "corpus.tar.gz", work / "corpus.tar.gz.sapwood"
    say(f"compressing {tar}")
    with packed.open("wb") as out:
        subprocess.run(["gzip", "-6", "-c", tar], stdout=out, check=True)
    index = Case("index", [SAPWOOD, "index", packed], lambda: anew(kept, cache), with_cache(cache))
    listing = Case("gzip | tar t", ["sh", "-ec", 'gzip -dc "$1" | tar t', "sh", packed])
    indexed, listed = in_turns([index, listing], rounds)
    cat = Case("cat", [SAPWOOD, "cat", packed, _FILE[2:]], environment=with_cache(cache))
    extract = Case("tar -xzO", ["tar", "-xzOf", packed, _FILE])
    read, extracted = in_turns([cat, extract], rounds)
    size = kept.stat().st_size
    furthest = max(_decompressed(open_archive(str(packed))[0].file_map, b""))
    clear(cache, work)
    return [
        ratio("index of a plain .tar.gz : gzip -dc and tar t", indexed, listed, 1),
        Figure("size of the index", shown(size), "", size / 1e6, None, "MB"),
        memory("memory of index", indexed.peak, 200),
        ratio("one file of it : tar -xzO", read, extracted, None),
        Figure("most that is decompressed for a piece of any file", shown(furthest), "", furthest / 2**20, 4, "MiB"),
    ]


def _decompressed(file_map: FileMap, directory: bytes) -> Iterator[int]:
    """Yield for each chunk below a directory how many bytes are decompressed to read it."""
    for entry in file_map.list(directory):
        if entry.kind == "dir":
            yield from _decompressed(file_map, entry.path)
        yield from (inner + size for _, inner, _, size in entry.chunks)
