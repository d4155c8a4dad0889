"""Images that are converted while registries die, lie and are busy: no image by its name that is not whole."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood.errors import CorruptError, DeniedError, SapwoodError, UnavailableError
from sapwood.image import ImageName, pieces
from sapwood.image.convert import Converted, convert_image
from sapwood.open import open_tree
from sapwood.store import attempts
from tests.faults.test_interrupted import check, interrupted, seconds
from tests.support.badserver import send
from tests.support.cli import Sapwood
from tests.support.fakeregistry import FakeRegistry, Handler, registry
from tests.support.fakeuploads import WritableRegistry, break_off
from tests.support.images import Image, Layer, digest, gzipped, stargz
from tests.support.requests import settle
from tests.support.smalldisk import fill, small_disk

LAYERS = [
    gzipped({"a": b"1", "large": os.urandom(700_000)}),
    stargz({"b": b"2", "kept": os.urandom(300_000)}),
    gzipped({"c": b"3", "other": os.urandom(200_000)}),
]
IMAGE = Image(*LAYERS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are small, what passes is tried again at once, and one layer comes after the other."""
    monkeypatch.setattr(pieces, "_PIECE", 200_000)
    monkeypatch.setattr("sapwood.image.convert._AT_ONCE", 1)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_OF_THE_BUSY_S", 0.001)


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    with registry() as made:
        made.add(IMAGE, "latest")
        yield made


@pytest.fixture
def target() -> Iterator[WritableRegistry]:
    with registry(WritableRegistry()) as made:
        assert isinstance(made, WritableRegistry)
        yield made


def of(fake: FakeRegistry) -> str:
    return f"oci://{fake.host}/some/name:latest"


def convert(source: FakeRegistry, target: object, cache_dir: Path | None = None) -> Converted:
    name = of(target) if isinstance(target, FakeRegistry) else str(target)
    return convert_image(ImageName.parse(of(source)), ImageName.parse(name), cache_dir=cache_dir)


def assert_whole(source: FakeRegistry, target: WritableRegistry) -> None:
    """See that every blob is what it is called, and the image, if there is one, the one that was converted."""
    target.settle()
    assert all(digest(data) == name for name, data in target.blobs.items())
    if "latest" in target.manifests:
        assert open_tree(of(target)).digest == open_tree(of(source)).digest


def broken(handler: Handler) -> None:
    """Take some of what comes, and break off."""
    break_off(handler, bytearray(), int(handler.headers.get("Content-Length", 0)) // 2)


def busy(handler: Handler) -> None:
    handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    send(handler, 429, Retry_After="0")


def failing(handler: Handler) -> None:
    handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    send(handler, 500)


def at(number: int, fault: Callable[[Handler], None]) -> Callable[[Handler], bool]:
    """Do that to the request of a number; they come several at once, and one alone is of that number."""
    numbers = itertools.count(1)

    def first(handler: Handler) -> bool:
        if next(numbers) != number:
            return False
        fault(handler)
        return True

    return first


@pytest.mark.parametrize("fault", [broken, busy, failing])
def test_whichever_request_to_the_target_goes_wrong_the_image_is_the_same(
    source: FakeRegistry, tmp_path: Path, fault: Callable[[Handler], None]
) -> None:
    with registry(WritableRegistry()) as plain:
        wanted = convert(source, plain, tmp_path / "cache").name.digest
        count = len(plain.asked)
    assert count > 15
    for number in range(1, count + 1):
        with registry(WritableRegistry()) as target:
            assert isinstance(target, WritableRegistry)

            target.first = at(number, fault)
            assert convert(source, target, tmp_path / f"cache{number}").name.digest == wanted
            assert_whole(source, target)


def test_a_target_that_dies_leaves_no_image_and_the_next_run_sends_what_it_lacks(
    source: FakeRegistry, target: WritableRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "ATTEMPTS", 2)
    last, others = 0, threading.enumerate()
    for dies_at in (1, 4, 8, 12, 16):
        begun = len(target.asked)

        def first(handler: Handler, at: int = begun + dies_at) -> bool:
            if len(target.asked) < at:
                return False
            broken(handler)
            return True

        target.first = first
        with pytest.raises(UnavailableError) as caught:
            convert(source, target)
        assert caught.value.kind == "store-unreachable"
        settle(others)
        assert target.manifests == {}
        assert_whole(source, target)
        assert len(target.blobs) >= last
        last = len(target.blobs)
    target.first = lambda _: False
    there = set(target.blobs)
    assert there
    done = convert(source, target)
    assert all((layer.came == "there") == (layer.blob.digest in there) for layer in done.images[0].layers)
    assert_whole(source, target)


def killed_at(target: WritableRegistry, number: int, command: list[str], environment: dict[str, str]) -> None:
    """Run a command, and kill it in the middle of its request of that number."""
    process: list[subprocess.Popen[bytes]] = []
    begun = threading.Event()

    def kill(handler: Handler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)) // 2)
        begun.wait(60)
        process[0].kill()
        handler.close_connection = True

    target.first = at(number, kill)
    process.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    begun.set()
    process[0].communicate(timeout=60)
    assert process[0].returncode == -9
    target.settle()


def test_killed_at_any_request_it_leaves_no_image_and_the_next_run_ends_the_work(
    source: FakeRegistry, tmp_path: Path
) -> None:
    run = Sapwood(tmp_path)
    for number in (2, 5, 9, 13):
        with registry(WritableRegistry()) as target:
            assert isinstance(target, WritableRegistry)
            killed_at(target, number, run.command("convert", of(source), of(target)), run.environment)
            assert target.manifests == {}
            assert_whole(source, target)
            there = set(target.blobs)
            said = run.good("convert", "--json", of(source), of(target)).document
            for layer in said["images"][0]["layers"]:
                assert (layer["came"] == "there") == (layer["digest"] in there)
            assert_whole(source, target)
            assert "latest" in target.manifests
        for kept in (run.cache / "layers").glob("*.made"):
            kept.unlink()


def test_interrupted_it_is_out_at_once(source: FakeRegistry, target: WritableRegistry, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    once = seconds(run, "convert", of(source), f"oci:{tmp_path}/other:1")
    for part in (0.3, 0.6, 0.9):
        for kept in (run.cache / "layers").glob("*.made"):
            kept.unlink()
        check(interrupted(run, once * part, "convert", of(source), of(target)), once)
        assert_whole(source, target)
    run.good("convert", of(source), of(target))
    assert_whole(source, target)


@pytest.mark.parametrize("number", [0, 1])
def test_a_layer_that_is_another_than_its_digest_says_is_never_passed_on(
    source: FakeRegistry, target: WritableRegistry, number: int
) -> None:
    data = bytearray(LAYERS[number].data)
    data[100] ^= 1
    source.blobs[LAYERS[number].digest] = bytes(data)
    with pytest.raises(CorruptError) as caught:
        convert(source, target)
    assert caught.value.kind == "image-corrupt"
    assert LAYERS[number].digest[:15] in str(caught.value)
    assert target.manifests == {}
    assert_whole(source, target)
    assert target.uploads == {}


def test_a_layer_that_is_no_tar_is_named(source: FakeRegistry, target: WritableRegistry) -> None:
    bad = Layer(b"no tar, whatever it is" * 1000, b"", "tar")
    source.add(Image(*LAYERS, bad), "latest")
    with pytest.raises(CorruptError) as caught:
        convert(source, target)
    assert caught.value.kind == "archive-corrupt"
    assert bad.digest in str(caught.value)
    assert (target.manifests, target.uploads) == ({}, {})


def test_tokens_that_end_in_the_middle_are_followed_by_others(source: FakeRegistry, target: WritableRegistry) -> None:
    source.scheme = target.scheme = "bearer"
    target.scopes = ["repository:some/name:pull,push"]

    def forgetful(fake: FakeRegistry) -> Callable[[Handler], bool]:
        def first(handler: Handler) -> bool:
            if len(fake.asked) % 5 == 0 and not handler.path.startswith("/token"):
                fake.tokens.clear()
            if handler.headers.get("Authorization", "").removeprefix("Bearer ") not in fake.tokens:
                handler.rfile.read(int(handler.headers.get("Content-Length", 0) or 0) * (handler.command == "PATCH"))
                if handler.command == "PATCH":
                    send(handler, 401, WWW_Authenticate=f'Bearer realm="http://{fake.host}/token"')
                    return True
            return False

        return first

    source.first, target.first = forgetful(source), forgetful(target)
    convert(source, target)
    source.first = target.first = lambda _: False
    target.scopes = ["repository:some/name:pull"]
    assert_whole(source, target)


def test_one_who_may_not_write_hears_of_it_before_a_layer_is_fetched(
    source: FakeRegistry, target: WritableRegistry
) -> None:
    target.first = lambda handler: (
        handler.command == "POST" and send(handler, 403, b'{"errors":[{"code":"DENIED"}]}') is None
    )
    with pytest.raises(DeniedError) as caught:
        convert(source, target)
    assert caught.value.kind == "store-denied"
    assert target.host in str(caught.value)
    assert source.blob_requests() == 0


def test_full_disks_are_said_and_a_full_cache_costs_nothing_but_time(
    source: FakeRegistry, target: WritableRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        fill(disk, leave=64 << 10)
        for name in ("cache", "layout"):
            (disk / name).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        for where, there in ((target, None), (f"oci:{disk}/layout:1", tmp_path)):
            monkeypatch.setattr(tempfile, "tempdir", str(there or disk))
            with pytest.raises(SapwoodError) as caught:
                convert(source, where)
            assert caught.value.kind == "disk-full"
            assert str(disk) in str(caught.value)
        assert target.manifests == {}
        fill(disk)
        convert(source, target, disk / "cache")
        assert_whole(source, target)
