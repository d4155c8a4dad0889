"""Running a program from an image that nobody has yet, over a slow link: by us, podman, and a snapshotter."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import environment, image, servers
from benchmarks.corpus import BUILD
from benchmarks.link import Link, linked
from benchmarks.measure import Case, Figure, at_most, ratio, shown
from benchmarks.sapwood import SAPWOOD, clear, place, require_free, with_cache
from benchmarks.trips import Way, in_turns
from demo.watch import Watched, watched
from tests.support import peers, snapshotter
from tests.support.podman import LIMITS, Podman

_LINK = (20, 100)
_ON_DISK = 620_000_000
_CACHE, _UNTARRED = BUILD / "work" / "cache", BUILD / "work" / "untarred"
_TAR = "v-19.tar.zst"
COMMANDS = (
    "`sapwood run oci://HOST/…`, with empty caches : `curl …/v.tar.zst | zstd -d | tar -x && DIR/bin/python"
    " DIR/workload.py`; the image, a base layer and tree V by gzip, as docker builds them, was converted by `sapwood"
    " convert` (eStargz; or `--zstd --level 19`). With a profile: after one `sapwood trace --push`; laid out: converted"
    " `--prioritize` what that read. podman: `podman run` of the image as it was built, to the end of the program;"
    " snapshotter: the stargz-snapshotter's file system over the converted layers, an overlay of them, and `chroot`"
)
# Ends with its mounts, which are in a namespace of its own; what the snapshotter then still fetches dies with it.
_SNAPSHOTTER = """
coproc layers { exec setpriv --pdeathsig KILL "$1" mount "$2" "$3" 2>"$3/log"; }
read -r _ <&"${layers[0]}"
mkdir "$3/upper" "$3/work" "$3/whole"
mount -t overlay -o "lowerdir=$3/1:$3/0,upperdir=$3/upper,workdir=$3/work" overlay "$3/whole"
mount --rbind /proc "$3/whole/proc"
mount --rbind /dev "$3/whole/dev"
chroot "$3/whole" "${@:4}"
# Not the last command: in place of that one the shell itself would be gone, and with it what the layers live by.
exit
"""


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    rounds = min(rounds, 3)
    tree = environment.made()
    layout = image.made(tree)
    program = snapshotter.built()
    require_free((4 * rounds + 6) * _ON_DISK)
    with _far(tree, layout) as (registry, web), tempfile.TemporaryDirectory(prefix="bench") as podmans:
        plain, traced, laid_out, zstd, zstd_traced, podman, theirs, theirs_laid_out, untar = ways = [
            Way("run", lambda link: _run(link, "plain:stargz")),
            Way("run with a profile", lambda link: _run(link, "traced:stargz")),
            Way("run with a profile, laid out", lambda link: _run(link, "first:stargz")),
            Way("run zstd:chunked", lambda link: _run(link, "plain:zstd")),
            Way("run zstd:chunked with a profile", lambda link: _run(link, "traced:zstd")),
            Way("podman", lambda link: _podman(link, Path(podmans))),
            Way("snapshotter", lambda link: _snapshotter(link, program, "plain:stargz")),
            Way("snapshotter, laid out", lambda link: _snapshotter(link, program, "first:stargz")),
            Way("tar.zst -19", _untar),
        ]
        _in_turns(ways, registry, web, rounds)
    return [
        at_most("image, first line, without a profile", plain.first_line, untar.first_line, 600),
        ratio("image, done, without a profile : tar.zst -19", plain.done, untar.done, 0.8),
        at_most("image, first line, with a profile", traced.first_line, untar.first_line, 600),
        ratio("image, done, with a profile : tar.zst -19", traced.done, untar.done, 0.5),
        at_most("image, first line, with a profile, laid out", laid_out.first_line, untar.first_line, 600),
        ratio("image, done, with a profile, laid out : tar.zst -19", laid_out.done, untar.done, 0.5),
        at_most("image, first line, zstd:chunked, without a profile", zstd.first_line, untar.first_line, 600),
        ratio("image, done, zstd:chunked, without a profile : tar.zst -19", zstd.done, untar.done, 0.8),
        at_most("image, first line, zstd:chunked, with a profile", zstd_traced.first_line, untar.first_line, 600),
        ratio("image, done, zstd:chunked, with a profile : tar.zst -19", zstd_traced.done, untar.done, 0.5),
        *(
            row
            for ours, peer in ((plain, podman), (plain, theirs), (laid_out, theirs_laid_out))
            for row in (
                at_most(f"image, first line, {ours.name} : {peer.name}", ours.first_line, peer.first_line, None),
                ratio(f"image, done, {ours.name} : {peer.name}", ours.done, peer.done, None),
                Figure(
                    f"image, bytes that crossed, {ours.name} : {peer.name}",
                    shown(ours.bytes), shown(peer.bytes), ours.bytes / peer.bytes, None,
                ),
            )
        ),
    ]  # fmt: skip


@contextmanager
def _far(tree: Path, layout: Path) -> Iterator[tuple[int, int]]:
    """Serve the image in its forms, and the tree as an archive: the ports of a registry and a web server."""
    work, root, web_work = map(place, ("registry", "served", "nginx"))
    for folder in (work, root):
        folder.mkdir(parents=True)
    os.link(environment.packed(tree, 19), root / _TAR)
    try:
        with peers.registry(work) as host, servers.web(root, web_work) as web:
            profile = work / "profile"
            near = f"oci://{host}"
            commands: list[list[str | Path]] = [
                ["trace", "--out", profile, f"oci:{layout}"],
                ["convert", f"oci:{layout}", f"{near}/plain:stargz"],
                ["convert", f"{near}/plain:stargz", f"{near}/traced:stargz"],
                ["convert", "--prioritize", profile, f"oci:{layout}", f"{near}/first:stargz"],
                ["convert", "--zstd", "--level", "19", f"oci:{layout}", f"{near}/plain:zstd"],
                ["convert", "--zstd", f"{near}/plain:zstd", f"{near}/traced:zstd"],
                ["trace", "--push", f"{near}/traced:stargz"],
                ["trace", "--push", f"{near}/first:stargz"],
                ["trace", "--push", f"{near}/traced:zstd"],
            ]
            for words in commands:
                Case(str(words[0]), [SAPWOOD, *words], environment=with_cache(_CACHE)).run()
            copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests"]
            subprocess.run([*copy, f"oci:{layout}:latest", f"docker://{host}/built:1"], check=True)
            clear(_CACHE)
            yield int(host.rpartition(":")[2]), web
    finally:
        clear(work, root, web_work, _CACHE)


def _in_turns(ways: Sequence[Way], registry: int, web: int, rounds: int) -> None:
    rtt_ms, mbit = _LINK
    with linked(registry, rtt_ms=rtt_ms, mbit=mbit) as images, linked(web, rtt_ms=rtt_ms, mbit=mbit) as archives:
        in_turns(ways, images, archives, rounds, (_UNTARRED, _CACHE))


def _run(link: Link, name: str) -> Watched:
    return watched([SAPWOOD, "run", f"oci://127.0.0.1:{link.port}/{name}"], with_cache(_CACHE))


def _podman(link: Link, place: Path) -> Watched:
    # Its containers are attached to by sockets, whose paths must be short.
    podman = Podman(Path(tempfile.mkdtemp(dir=place)) / "p")
    name = f"127.0.0.1:{link.port}/built:1"
    run = podman.command("run", "--quiet", "--rm", "--network", "none", "--tls-verify=false", *LIMITS, name)
    try:
        return watched(run, podman.environment)
    finally:
        podman.end()


def _snapshotter(link: Link, program: Path, name: str) -> Watched:
    _UNTARRED.mkdir(parents=True)
    script = ["unshare", "--mount", "--propagation", "private", "bash", "-e", "-c", _SNAPSHOTTER, "bash", str(program)]
    words = environment.workload(image.PLACE)
    assert words[0] == "env"
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    command = [word for word in words[1:] if "=" not in word]
    return watched([*script, f"127.0.0.1:{link.port}/{name}", str(_UNTARRED), *command], variables)


def _untar(link: Link) -> Watched:
    _UNTARRED.mkdir(parents=True)
    script = f'curl -sSf {link.url}/{_TAR} | zstd -q -d | tar -x -C "$1"; "${{@:2}}"'
    words = ["bash", "-o", "errexit", "-o", "pipefail", "-c", script, "bash", str(_UNTARRED)]
    return watched([*words, *environment.workload(_UNTARRED)], {})
