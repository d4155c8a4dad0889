"""The tar of the corpus, and an image of it, made into stargz archives, beside containerd's library; and verified."""

from __future__ import annotations

from pathlib import Path

from benchmarks import image
from benchmarks.archives import ESTARGZ, corpus_tar, need_estargz
from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, Word, in_turns, memory, ratio, shown, sizes
from benchmarks.sapwood import SAPWOOD, Reporting, anew, clear, place, require_free, with_cache

COMMANDS = (
    "`sapwood convert CORPUS.tar OUT.tar.gz`, with `--level 1`, with `--zstd` : `estargz.Build` of it (level 9, all"
    " cores), into a file; `sapwood verify OUT.tar.gz` : every file read through `estargz.Reader`, chunks held against"
    " their digests and files against theirs; `sapwood convert OUT.tar.gz AGAIN.tar.gz`; `sapwood convert oci:DIR"
    " oci:OUT` of an image whose one layer is the corpus by gzip : `estargz.Build` of that layer, into a file"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tar = corpus_tar()
    need_estargz()
    require_free(2_000_000_000)
    cache, work = map(place, ("cache", "work"))
    work.mkdir()

    def out(name: str) -> Path:
        return work / name

    def convert(to: str, *options: str) -> Case:
        command: list[Word] = [SAPWOOD, "convert", *options, tar, out(to)]
        return Case(f"convert {' '.join(options)}", command, lambda: anew(out(to)), with_cache(cache))

    fast = convert("fast.tar.gz", "--level", "1")
    frames = convert("out.tar.zst", "--zstd")
    built = Case("estargz.Build", [ESTARGZ, "build", tar, out("peer.tar.gz")], lambda: anew(out("peer.tar.gz")))
    # The peer takes more than a minute.
    ours, quick, peer, zstd = in_turns([convert("out.tar.gz"), fast, built, frames], min(rounds, 3))
    told = Reporting("convert", out("out.tar.gz"), out("again.tar.gz"), cache=cache)
    (again,) = in_turns([told], min(rounds, 3))
    digest = told.said[0]["toc"]
    verify = Case("verify", [SAPWOOD, "verify", out("out.tar.gz")], environment=with_cache(cache))
    read = Case("estargz.Reader", [ESTARGZ, "read", out("out.tar.gz"), digest], says=out("read.txt"))
    verified, read_by_peer = in_turns([verify, read], rounds)
    layout, layer = image.alone(corpus())
    # What became of the layer is remembered in the cache.
    converting: list[Word] = [SAPWOOD, "convert", f"oci:{layout}:latest", f"oci:{out('image')}:latest"]
    of_image = Case("convert of an image", converting, lambda: anew(cache, out("image")), with_cache(cache))
    of_layer = Case(
        "estargz.Build of a layer", [ESTARGZ, "build", layer, out("layer.tar.gz")], lambda: anew(out("layer.tar.gz"))
    )
    image_made, layer_made = in_turns([of_image, of_layer], min(rounds, 3))
    layer_size = sum(blob.stat().st_size for blob in (out("image") / "blobs" / "sha256").iterdir())
    peer_layer_size = out("layer.tar.gz").stat().st_size
    size = {name: out(name).stat().st_size for name in ("out.tar.gz", "fast.tar.gz", "peer.tar.gz", "out.tar.zst")}
    clear(cache, work)
    peak = max(times.peak for times in (ours, quick, zstd, again, image_made))
    return [
        ratio("convert of a tar : estargz.Build", ours, peer, 0.12),
        sizes("size of the archive : of its", size["out.tar.gz"], size["peer.tar.gz"], 1.05),
        ratio("convert --level 1 : estargz.Build", quick, peer, 0.06),
        sizes("size of that archive : of its", size["fast.tar.gz"], size["peer.tar.gz"], 1.15),
        ratio("convert --zstd : estargz.Build", zstd, peer, None),
        sizes("size of that archive : of its", size["out.tar.zst"], size["peer.tar.gz"], None),
        ratio("convert of what is stargz already : of the tar", again, ours, None),
        ratio("convert of an image of one layer : estargz.Build of it", image_made, layer_made, 0.15),
        sizes("size of that image : of its layer", layer_size, peer_layer_size, 1.05),
        memory("memory of convert", peak, 200),
        ratio("all of it read and verified : estargz.Reader", verified, read_by_peer, 0.3),
        Figure("memory of verify", shown(verified.peak), shown(read_by_peer.peak), verified.peak / 1e6, None, "MB"),
    ]
