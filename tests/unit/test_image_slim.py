"""Slim images: what was read of an image, and what people keep, runs as the image did; nothing else is there."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from sapwood.errors import DeniedError, InvalidInputError, NotFoundError
from sapwood.image import ImageName, open_image, read_config
from sapwood.image.profiles import keep_traced
from sapwood.oci.slim import plan, require_place, slim
from sapwood.open import open_tree
from sapwood.profile import Profile
from sapwood.tree.tree import Tree
from tests.support.badserver import send
from tests.support.cli import Sapwood
from tests.support.fakeregistry import registry
from tests.support.fakeuploads import WritableRegistry
from tests.support.images import Image, gzipped, stargz
from tests.support.programs import busybox, python

SPARE = os.urandom(70_000)
CERTIFICATE = b"c" * 5000


def owned(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.uid, info.gid, info.mode = 1000, 1001, 0o640
    return info


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of two layers, with links, and a package of which nothing is ever read."""
    files = {
        "app": None, "app/main": b"echo here; cat /app/used /app/again\n", "app/used": (owned("app/used"), b"used\n"),
        "app/again": "= app/used", "app/link": "-> used", "app/empty": b"",
        "app/spare": SPARE, "app/zspare": "= app/spare",
        "etc": None, "etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "etc/group": b"root:x:0:\n", "etc/ssl": None,
        "etc/ssl/a.pem": CERTIFICATE, "etc/ssl/b.txt": b"b", "srv": None, "tmp": None,
        "var": None, "var/lib": None, "var/lib/dpkg": None, "var/lib/dpkg/info": None,
        "var/lib/dpkg/info/spare.list": b"/app/spare\n/app/zspare\n",
    }  # fmt: skip
    said = {"Entrypoint": ["/bin/sh"], "Cmd": ["/app/main"], "Env": ["PATH=/bin", "A=b"], "WorkingDir": "/srv"}
    history = [
        {"created_by": "COPY busybox /bin"},
        {"created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "COPY app"},
    ]
    image = Image(stargz(busybox("sh", "cat", "ls")), gzipped(files), history=history, **said)
    return f"oci:{image.layout(tmp_path_factory.mktemp('image') / 'layout')}"


@pytest.fixture(scope="module")
def run(address: str, tmp_path_factory: pytest.TempPathFactory) -> Sapwood:
    """A sapwood that has seen the image run."""
    run = Sapwood(tmp_path_factory.mktemp("home"))
    assert run.good("trace", address).err.startswith("read:")
    return run


def paths(tree: Tree) -> set[bytes]:
    return {path for path, _ in tree.list()}


def test_a_slim_image_runs_as_the_image_did_and_has_nothing_that_nobody_read(
    run: Sapwood, address: str, tmp_path: Path
) -> None:
    out = f"oci:{tmp_path}/slim:small"
    said = run.good("slim", address, out)
    made = said.out.strip()
    assert made.startswith(f"{out}@sha256:")
    assert run.good("run", out).out == run.good("run", address).out == "here\nused\nused\n"
    before, after = open_tree(address), open_tree(out)
    gone = paths(before) - paths(after)
    # Names of one file go together; what takes no room stays, and what who starts a container reads.
    assert gone == {
        b"app/spare", b"app/zspare", b"etc/ssl/a.pem", b"etc/ssl/b.txt", b"var/lib/dpkg/info/spare.list",
    }  # fmt: skip
    assert paths(after) < paths(before)
    for name in (b"app/used", b"app/again", b"app/link", b"srv", b"bin/busybox"):
        old, new = before.lookup(name), after.lookup(name)
        told = ("mode", "uid", "gid", "mtime_ns", "size")
        assert [getattr(old.resolved(), key) for key in told] == [getattr(new.resolved(), key) for key in told]


def test_what_is_said_of_the_image_stays_but_for_its_layers(run: Sapwood, address: str, tmp_path: Path) -> None:
    out = ImageName.parse(f"oci:{tmp_path}/slim:latest")
    run.good("slim", address, str(out))
    _, was = read_config(ImageName.parse(address), cache_dir=tmp_path)
    _, now = read_config(out, cache_dir=tmp_path)
    assert {key: value for key, value in was.items() if key not in ("rootfs", "history")} == {
        key: value for key, value in now.items() if key not in ("rootfs", "history")
    }
    assert [step["created_by"] for step in now["history"][:3]] == [step["created_by"] for step in was["history"]]
    assert [step.get("empty_layer", False) for step in now["history"]] == [True, True, True, False]
    image, _ = open_image(out, cache_dir=tmp_path)
    [layer] = image.found.manifest.layers
    # Its TOC is vouched for, so nothing is read whole; what was read comes first.
    assert "containerd.io/snapshot/stargz/toc.digest" in layer.annotations
    with tarfile.open(tmp_path / "slim" / "blobs" / layer.digest.replace(":", "/")) as tar:
        names = [member.name for member in tar]
    assert names.index("bin/busybox") < names.index(".prefetch.landmark") < names.index("app/empty")


def test_the_same_image_and_profile_give_the_same_image(run: Sapwood, address: str, tmp_path: Path) -> None:
    made = [run.good("slim", address, f"oci:{tmp_path}/{name}").out.rpartition("@")[2] for name in ("one", "two")]
    assert made[0] == made[1]


def test_what_matches_is_kept_and_a_pattern_that_matches_nothing_is_said(run: Sapwood, address: str) -> None:
    words = ["--keep", "/etc/ssl", "--keep", "!**/*.txt", "--keep", "**/zspare", "--keep", "no/such", "--json"]
    said = run.good("slim", "--dry-run", "--drop-list", *words, address).document
    # A file has all its names, or none.
    assert said["leftOut"] == ["etc/ssl/b.txt", "var/lib/dpkg/info/spare.list"]
    assert said["unmatched"] == ["no/such"]
    assert "--keep no/such matches nothing" in run.good("slim", "--dry-run", "--keep", "no/such", address).err


def test_what_would_be_left_out_is_told_by_layer_and_package_and_nothing_written(
    run: Sapwood, address: str, tmp_path: Path
) -> None:
    said = run.good("slim", "--dry-run", "--json", address, f"oci:{tmp_path}/slim").document
    assert not (tmp_path / "slim").exists()
    listed = len(b"/app/spare\n/app/zspare\n")
    assert said["bytesLeftOut"] == len(SPARE) + len(CERTIFICATE) + 1 + listed
    assert [layer["bytesLeftOut"] for layer in said["layers"]] == [0, said["bytesLeftOut"]]
    packages = {package["name"]: package["bytesLeftOut"] for package in said["packages"]}
    assert packages == {"deb:spare": len(SPARE), None: said["bytesLeftOut"] - len(SPARE)}
    assert (said["out"], said["sizeOut"], said["runnable"], said["runs"]) == (None, None, True, 1)
    shown = run.good("slim", "--dry-run", "--drop-list", address)
    assert shown.out.splitlines()[0] == "app/spare"
    assert "deb:spare" in shown.err


def test_without_a_profile_or_by_that_of_another_image_nothing_is_made(address: str, tmp_path: Path) -> None:
    source = ImageName.parse(address)
    with pytest.raises(NotFoundError) as missing:
        plan(source, cache_dir=tmp_path)
    assert (missing.value.kind, missing.value.hint) == ("profile-missing", f"sapwood trace {source} -- CMD")
    _, tree = open_image(source, cache_dir=tmp_path)
    read = [(name, 0, [(0, 1)], [b"x"]) for name in (b"usr/bin/other", b"bin/busybox", b"etc/other")]
    with pytest.raises(InvalidInputError) as foreign:
        plan(source, Profile.of_run(tree.tree, "2026-01-01T00:00:00Z", read), cache_dir=tmp_path)
    assert foreign.value.kind == "profile-foreign"
    with pytest.raises(NotFoundError):
        plan(source, Profile.of_run(tree.tree, "2026-01-01T00:00:00Z", []), cache_dir=tmp_path)


def test_an_image_traced_with_another_command_is_said_not_to_run_its_own(address: str, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    _, tree = open_image(ImageName.parse(address), cache_dir=run.cache)
    read = [(b"app/again", 0, [(0, 5)], [b"x"]), (b"gone", 0, [(0, 5)], [b"x"]), (b"app/main", 0, [(0, 5)], [b"x"])]
    keep_traced(Profile.of_run(tree.tree, "2026-01-01T00:00:00Z", read), run.cache)
    said = run.good("slim", "--dry-run", address)
    assert "what the image itself runs was never read" in said.err
    assert "gone:     1 file that the profile names" in said.err
    assert "never read" not in run.good("slim", "--dry-run", "--keep", "bin", address).err


def test_what_was_only_looked_up_stays_and_what_was_only_listed_does_not(address: str, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    # The shell lists for the star, and asks for what it is to test.
    asks = "echo /app/* /etc/ssl/*; [ -e /etc/ssl/b.txt ] && [ -s /app/again ]"
    assert "/etc/ssl/a.pem" in run.good("trace", address, "--", "-c", asks).out
    said = run.good("slim", "--dry-run", "--drop-list", "--json", address).document
    # A file has all its names, or none.
    assert said["leftOut"] == [
        "app/main", "app/spare", "app/zspare", "etc/ssl/a.pem", "var/lib/dpkg/info/spare.list",
    ]  # fmt: skip
    told = run.good("coverage", "--json", "--drop-list", address).document["neverRead"]
    assert {"etc/ssl/b.txt", "app/used"} <= set(told), "looked up is not read"


def test_python_finds_in_a_slim_image_what_it_only_looks_up(tmp_path: Path) -> None:
    # Its library by `os.py`, and whether bytecode is up to date by the source's time and size.
    program, entries = python(tmp_path, "json", "colorsys")
    image = Image(stargz(entries), Entrypoint=[program, "-I", "-S", "-c", "import json; print(json.dumps(1))"])
    address, out = f"oci:{image.layout(tmp_path / 'image')}", f"oci:{tmp_path}/slim:1"
    run = Sapwood(tmp_path)
    run.good("trace", address)
    run.good("slim", address, out)
    assert run.good("run", out).out == "1\n"
    gone = {os.path.basename(path) for path in paths(open_tree(address)) - paths(open_tree(out))}
    assert b"colorsys.py" in gone
    assert gone.isdisjoint([b"os.py", b"decoder.py"])
    source = os.fsencode(json.decoder.__file__[1:])
    [seen] = [seen for seen in plan(ImageName.parse(address), cache_dir=run.cache).files if seen.path == source]
    assert (seen.read, seen.runs) == (0, 1)


def test_where_nothing_can_be_written_nothing_is_made(run: Sapwood, address: str, tmp_path: Path) -> None:
    refused = {
        f"oci:{tmp_path}/slim@sha256:{'0' * 64}": ("bad-address", "what is written has the digest"),
        f"docker-archive:{tmp_path}/slim.tar": ("not-supported", "written to registries and to OCI layouts"),
    }
    for out, (kind, message) in refused.items():
        with pytest.raises(InvalidInputError, match=message) as caught:
            require_place(ImageName.parse(out))
        assert caught.value.kind == kind
    assert "hint: sapwood slim" in run("slim", address).err
    assert run("slim", f"oci:{tmp_path}/none", f"oci:{tmp_path}/out").code == 3
    assert not (tmp_path / "out").exists()
    assert "--keep, line 1" in run("slim", "--dry-run", "--keep", "a[", address).err
    with registry(WritableRegistry()) as fake:
        fake.first = lambda handler: handler.command == "POST" and send(handler, 403) is None
        planned = plan(ImageName.parse(address), cache_dir=run.cache)
        with pytest.raises(DeniedError):
            slim(planned, ImageName.parse(f"oci://{fake.host}/some/name:slim"))
        assert "slim" not in fake.manifests
        assert not fake.blobs


def test_an_image_does_not_lose_its_name_to_the_slim_one(run: Sapwood, address: str, tmp_path: Path) -> None:
    shutil.copytree(address.removeprefix("oci:"), tmp_path / "image")
    it = f"oci:{tmp_path}/image"
    for out in (it, f"{it}:latest"):
        said = run("slim", it, out)
        assert (said.code, "that is the image itself" in said.err) == (2, True), said.err
        assert f"hint: sapwood slim {it} {it}:latest-slim\n" in said.err
    pinned = run.good("slim", "--json", it, f"{it}:latest-slim").document["image"]
    assert run.good("slim", "--json", pinned, it).document["out"].startswith(f"{it}@")


def test_a_slim_image_goes_to_a_registry_and_is_mounted_from_there(run: Sapwood, address: str) -> None:
    with registry(WritableRegistry()) as fake:
        assert isinstance(fake, WritableRegistry)
        out = f"oci://{fake.host}/some/name:slim"
        made = run.good("slim", "--json", address, out).document
        assert made["out"] == f"{out}@{json.dumps(made['out']).rpartition('@')[2][:-1]}"
        assert made["sizeOut"] < made["size"]
        assert run.good("run", out, "--", "/app/main").out == "here\nused\nused\n"
