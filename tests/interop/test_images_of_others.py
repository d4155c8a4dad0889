"""Images that others made and serve: what is read of them is what they themselves unpack."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood.open import open_tree
from tests.interop.conftest import Programs
from tests.support import peers
from tests.support.cli import Sapwood
from tests.support.images import Image, Layer, chunked, gzipped, plain, stargz, tar_of
from tests.support.mounting import mounted, shell
from tests.support.trees import look


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running registry."""
    with peers.registry(tmp_path_factory.mktemp("registry")) as at:
        yield at


def ran(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def skopeo(source: str, destination: str, *options: str) -> None:
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    ran("skopeo", "--insecure-policy", "copy", "--quiet", *plain, *options, source, destination)


def layers() -> list[Layer]:
    return [
        plain({"etc": None, "etc/a": b"one", "etc/b": b"gone", "d": None, "d/x": b"1", "large": os.urandom(3 << 20)}),
        gzipped({"etc/.wh.b": b"", "d/.wh..wh..opq": b"", "d": None, "d/y": b"2", "link": "-> etc/a"}),
        stargz({"bin": None, "bin/tool": b"tool", "bin/again": "= bin/tool"}),
    ]


def test_what_skopeo_put_into_a_registry_is_read_in_each_of_its_forms(host: str, tmp_path: Path) -> None:
    made = Image(*layers()).layout(tmp_path / "made")
    wanted = open_tree(f"oci:{made}").digest
    skopeo(f"oci:{made}:latest", f"docker://{host}/forms/oci:1", "--format", "oci")
    skopeo(f"oci:{made}:latest", f"docker://{host}/forms/docker:1", "--format", "v2s2")
    skopeo(f"oci:{made}:latest", f"oci-archive:{tmp_path}/oci.tar:one")
    skopeo(f"oci:{made}:latest", f"docker-archive:{tmp_path}/docker.tar:some/name:one")
    for name in (
        f"oci://{host}/forms/oci:1",
        f"oci://{host}/forms/docker:1",
        f"oci-archive:{tmp_path}/oci.tar:one",
        f"docker-archive:{tmp_path}/docker.tar",
    ):
        assert open_tree(name).digest == wanted


def test_a_registry_that_is_mounted_gives_what_skopeo_put_there(host: str, cache_dir: Path, tmp_path: Path) -> None:
    large = os.urandom(20 << 20)
    for number, form in enumerate((stargz, chunked, gzipped)):
        made = Image(form({"large": large, "small": b"small"})).layout(tmp_path / str(number))
        skopeo(f"oci:{made}:latest", f"docker://{host}/mounted:{number}")
        with mounted(f"oci://{host}/mounted:{number}", tmp_path / f"mount{number}", cache_dir):
            assert shell(f"cat {tmp_path}/mount{number}/small").stdout == "small"
            (tmp_path / "large").write_bytes(large)
            assert shell(f"cmp {tmp_path}/large {tmp_path}/mount{number}/large").returncode == 0


def test_what_buildah_built_is_what_it_unpacks(host: str, tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "files" / "deep").mkdir(parents=True)
    (context / "files" / "deep" / "kept").write_text("kept")
    (context / "files" / "gone").write_text("gone")
    (context / "files" / "script").write_text("#!/bin/sh\n")
    (context / "files" / "script").chmod(0o4755)
    os.link(context / "files" / "script", context / "files" / "hard")
    (context / "files" / "link").symlink_to("deep/kept")
    os.chown(context / "files" / "deep", 1234, 567) if os.geteuid() == 0 else None
    (context / "other").mkdir()
    (context / "other" / "kept").write_text("another")
    (context / "Containerfile").write_text("FROM scratch\nCOPY files /files\nCOPY other /files/deep\nCOPY other /new\n")
    storage = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    ran("buildah", *storage, "bud", "--quiet", "--layers", "--isolation", "chroot", "-t", "built", context)
    container = ran("buildah", *storage, "from", "built")
    root = Path(ran("buildah", *storage, "mount", container))
    # As a program of it would: what is not there any more is taken away by a layer of its own.
    (root / "files" / "gone").unlink()
    (root / "files" / "deep" / "kept").unlink()
    (root / "new" / "kept").unlink()
    (root / "new").rmdir()
    (root / "new").write_text("a file now")
    ran("buildah", *storage, "commit", "--quiet", container, "changed")
    for number, compression in enumerate(("gzip", "zstd")):
        name = f"{host}/buildah:{number}"
        how = ["--quiet", "--tls-verify=false", "--compression-format", compression]
        ran("buildah", *storage, "push", *how, "changed", f"docker://{name}")
        pulled = tmp_path / f"pulled{number}"
        said = Sapwood(tmp_path)("pull", f"oci://{name}", pulled)
        assert said.code == 0, said.err
        found, wanted = look(pulled), look(root)
        # Its root's own time is when it was last written to.
        assert set(found) == set(wanted)
        for path in set(found) - {b".", b""}:
            assert (found[path].mode, found[path].owner, found[path].content, found[path].names) == (
                wanted[path].mode,
                wanted[path].owner,
                wanted[path].content,
                wanted[path].names,
            ), path


def test_a_toc_that_buildah_wrote_is_believed(host: str, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "file").write_bytes(os.urandom(1 << 20))
    (tmp_path / "context" / "Containerfile").write_text("FROM scratch\nCOPY file /file\n")
    storage = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    ran("buildah", *storage, "bud", "--quiet", "--isolation", "chroot", "-t", "built", tmp_path / "context")
    name = f"{host}/chunked:1"
    how = ["--quiet", "--tls-verify=false", "--compression-format", "zstd:chunked"]
    ran("buildah", *storage, "push", *how, "built", f"docker://{name}")
    run = Sapwood(tmp_path)
    run.good("pull", f"oci://{name}", "pulled")
    assert (tmp_path / "pulled" / "file").read_bytes() == (tmp_path / "context" / "file").read_bytes()
    # Else the layer had been read whole, for an index.
    assert [kept.suffix for kept in (run.cache / "layers").glob("*.[ti]*")] == [".toc"]


def test_layers_of_containerds_library_are_read_by_their_tocs(host: str, programs: Programs, tmp_path: Path) -> None:
    tar = tmp_path / "in.tar"
    large = os.urandom(5 << 20)
    tar.write_bytes(tar_of({"usr": None, "usr/large": large, "usr/small": b"small", "link": "-> usr/small"}))
    toc = programs("estargz", "build", tar, tmp_path / "out.tar.gz").strip()
    data = (tmp_path / "out.tar.gz").read_bytes()
    layer = Layer(data, gzip.decompress(data), "gzip", {"containerd.io/snapshot/stargz/toc.digest": toc})
    made = Image(layer)
    skopeo(f"oci:{made.layout(tmp_path / 'image')}:latest", f"docker://{host}/stargz:1", "--preserve-digests")
    tree = open_tree(f"oci://{host}/stargz:1")
    assert b"".join(tree.read_blob(b"usr/large")) == large
    assert tree.digest == open_tree(f"oci:{Image(plain(tar.read_bytes())).layout(tmp_path / 'plain')}").digest
