"""A tree without its store: what was fetched is mounted and read, by itself or `--offline`; the rest says why not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError
from sapwood.mount import Mount, mounts
from sapwood.mount.remembered import Remembered
from sapwood.store import Address
from tests.support.cli import Sapwood
from tests.support.faultyproxy import Proxy, proxying
from tests.support.mounting import mounted, pushed, shell
from tests.support.peers import free_port
from tests.support.webserver import serving

PATIENCE_S = 100


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "inner").mkdir(parents=True)
    (root / "small").write_bytes(os.urandom(1000))
    (root / "inner" / "beside").write_bytes(os.urandom(1000))
    # More than a reading of another file brings along.
    (root / "large").write_bytes(os.urandom(6_000_000))
    return root


@pytest.fixture
def web(tree: Path, tmp_path: Path) -> Iterator[Proxy]:
    """The store of `tree` behind a web server that counts what it is asked."""
    pushed(tree, tmp_path / "store")
    with serving(tmp_path / "store") as url, proxying(url) as proxy:
        yield proxy


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def mount_at(place: Path) -> Mount:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found


def fetch_all(address: str, place: Path, cache: Path) -> None:
    with mounted(address, place, cache):
        until(lambda: mount_at(place).lacking == 0)


def forget(web: Proxy) -> None:
    """Count from nothing, but not what a mount that has ended asked for and did not wait for any more."""
    web.settle()
    web.seen.clear()


def same(tree: Path, place: Path) -> bool:
    return shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"


def test_a_tree_that_was_fetched_is_mounted_offline_without_one_request(
    web: Proxy, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = f"{web.url}#main", tmp_path / "mount"
    fetch_all(address, tmp_path / "before", cache_dir)
    forget(web)
    with mounted(address, place, cache_dir, offline=True):
        assert same(tree, place)
        until(lambda: mount_at(place).lacking == 0)
        assert re.fullmatch(r"offline: mounted is snapshot sha256:[0-9a-f]{12}, which it named at [0-9TZ:-]+",
                            mount_at(place).away)  # fmt: skip
    assert web.seen == []


@pytest.mark.parametrize("tier", ["fuse", "native"])
def test_what_is_not_here_is_an_error_at_once_offline_and_no_request(
    web: Proxy, tree: Path, tmp_path: Path, cache_dir: Path, tier: str
) -> None:
    address, place = f"{web.url}#main", tmp_path / "mount"
    with mounted(address, tmp_path / "before", cache_dir, prefetch=False):
        # Of the native tier all pages must be here.
        assert shell(f"cat {tmp_path}/before/small > /dev/null; find {tmp_path}/before").returncode == 0
    forget(web)
    with mounted(address, place, cache_dir, offline=True, tier=tier) as started:
        assert shell(f"cmp {place}/small {tree}/small").returncode == 0
        assert "Input/output error" in shell(f"cat {place}/large").stderr
        assert "not in the cache, and the mount is offline" in started.log.read_text()
        until(lambda: "the mount is offline" in mount_at(place).problem)
        until(lambda: mount_at(place).lacking == 6_000_000)
    assert web.seen == []


def test_a_successor_of_an_offline_mount_asks_nothing_either(
    web: Proxy, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = f"{web.url}#main", tmp_path / "mount"
    fetch_all(address, tmp_path / "before", cache_dir)
    forget(web)
    with mounted(address, place, cache_dir, offline=True):
        before = mount_at(place)
        os.kill(before.server, signal.SIGKILL)
        assert same(tree, place)
        until(lambda: mount_at(place).server != before.server)
        assert mount_at(place).away == before.away
    assert web.seen == []


def test_a_store_that_is_away_is_said_and_what_it_named_last_is_mounted(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    pushed(tree, tmp_path / "store")
    place = tmp_path / "mount"
    # Nobody else listens there later.
    with serving(tmp_path / "store", free_port()) as url:
        fetch_all(f"{url}#main", tmp_path / "before", cache_dir)
    with mounted(f"{url}#main", place, cache_dir) as started:
        assert same(tree, place)
        away = mount_at(place).away
        assert url in away
        assert ": mounted is snapshot sha256:" in away
        assert away in started.log.read_text()


def test_what_was_mounted_while_the_store_was_away_is_fetched_when_it_is_back(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    from tests.faults.test_mount_away import Web

    pushed(tree, tmp_path / "store")
    web, place = Web(tmp_path / "store"), tmp_path / "mount"
    web.start()
    try:
        address = f"http://127.0.0.1:{web.port}#main"
        with mounted(address, tmp_path / "before", cache_dir, prefetch=False):
            assert shell(f"find {tmp_path}/before").returncode == 0
        web.stop()
        with mounted(address, place, cache_dir, deadline_s=1):
            assert "Input/output error" in shell(f"cat {place}/large").stderr
            web.start()
            # Nobody has to ask for it: what the background gave up it tries again.
            until(lambda: mount_at(place).lacking == 0)
            assert same(tree, place)
    finally:
        web.stop()


def test_a_native_mount_waits_for_its_store_when_its_server_dies_and_the_cache_has_lost_the_pages(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    from tests.faults.test_mount_away import Web

    pushed(tree, tmp_path / "store")
    web, place = Web(tmp_path / "store"), tmp_path / "mount"
    web.start()
    try:
        address = f"http://127.0.0.1:{web.port}#main"
        with mounted(address, place, cache_dir, prefetch=False, tier="native", deadline_s=12) as started:
            web.stop()
            shell(f"rm -r {cache_dir}/objects")
            os.kill(mount_at(place).server, signal.SIGKILL)
            until(lambda: "page 0 of the file map" in started.log.read_text())
            web.start()
            assert same(tree, place)
            assert started.process.poll() is None
    finally:
        web.stop()


@pytest.mark.parametrize("offline", [False, True])
def test_of_what_was_never_mounted_nothing_is_shown(tmp_path: Path, cache_dir: Path, offline: bool) -> None:
    with serving(tmp_path, free_port()) as url:
        pass
    with pytest.raises(SapwoodError) as refused, mounted(f"{url}#main", tmp_path / "mount", cache_dir, offline=offline):
        pass
    assert refused.value.kind == ("not-kept" if offline else "store-unreachable")


def test_a_store_that_is_gone_is_an_error_that_says_what_is_kept(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address = pushed(tree, tmp_path / "store")
    fetch_all(address, tmp_path / "before", cache_dir)
    shell(f"rm -r {tmp_path}/store")
    with pytest.raises(SapwoodError) as gone, mounted(address, tmp_path / "mount", cache_dir):
        pass
    assert "is kept here: --offline shows snapshot sha256:" in gone.value.__notes__[0]
    with mounted(address, tmp_path / "again", cache_dir, offline=True):
        assert same(tree, tmp_path / "again")


def test_damage_to_all_that_is_kept_is_found_and_never_shown(
    web: Proxy, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    address = f"{web.url}#main"
    fetch_all(address, tmp_path / "before", cache_dir)
    objects = [path for path in (cache_dir / "objects").rglob("*") if path.is_file()]
    # As a power failure leaves files: of the right size, and empty.
    largest = max(objects, key=lambda path: path.stat().st_size)
    size = largest.stat().st_size
    largest.chmod(0o644)
    os.truncate(largest, 0)
    os.truncate(largest, size)
    with mounted(address, tmp_path / "offline", cache_dir, offline=True):
        assert "Input/output error" in shell(f"cat {tmp_path}/offline/large").stderr
        assert shell(f"cmp {tmp_path}/offline/small {tree}/small").returncode == 0
    with mounted(address, tmp_path / "online", cache_dir):
        assert same(tree, tmp_path / "online")
    for number, path in enumerate(sorted((cache_dir / "trees").iterdir())):
        whole = path.read_bytes()
        for damaged in (whole[:-1], bytes(len(whole)), b""):
            path.write_bytes(damaged)
            assert Remembered(cache_dir, Address.parse(address)).find() is None or path.suffix == ".profile"
        path.write_bytes(whole)
        assert number < 4
    assert Remembered(cache_dir, Address.parse(address)).find() is not None


def test_an_offline_mount_of_a_ref_shows_what_it_named_when_it_was_mounted(tmp_path: Path, cache_dir: Path) -> None:
    tree, address = tmp_path / "tree", f"{tmp_path}/store#main"
    tree.mkdir()
    (tree / "file").write_bytes(b"first")
    store = open_store(f"{tmp_path}/store", create=True)
    first = store.push(tree, "main")
    fetch_all(address, tmp_path / "before", cache_dir)
    (tree / "file").write_bytes(b"second")
    store.push(tree, "main")
    with mounted(address, tmp_path / "mount", cache_dir, offline=True):
        assert shell(f"cat {tmp_path}/mount/file").stdout == "first"
        assert mount_at(tmp_path / "mount").snapshot == first.snapshot
    pinned = f"{address}@{first.snapshot}"
    with mounted(pinned, tmp_path / "pinned", cache_dir, offline=True):
        assert shell(f"cat {tmp_path}/pinned/file").stdout == "first"


def test_an_archive_on_a_server_is_refused_offline_and_one_here_is_not(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    from sapwood import pack

    pack.pack(tree, str(tmp_path / "tree.tar.gz"))
    with (
        serving(tmp_path) as url,
        pytest.raises(InvalidInputError, match="of which nothing can be shown offline"),
        mounted(f"{url}/tree.tar.gz", tmp_path / "mount", cache_dir, offline=True),
    ):
        pass
    with mounted(f"{tmp_path}/tree.tar.gz", tmp_path / "here", cache_dir, offline=True):
        assert same(tree, tmp_path / "here")


@pytest.mark.parametrize("remote", ["seek_index", "toc", "archive"])
def test_offline_neither_an_archive_nor_what_belongs_to_it_is_asked_of_a_server(
    web: Proxy, tmp_path: Path, cache_dir: Path, remote: str
) -> None:
    here, there = str(tmp_path / "tree.tar.gz"), f"{web.url}/tree.tar.gz"
    address, options = (there, {}) if remote == "archive" else (here, {remote: there})
    with (
        pytest.raises(InvalidInputError, match="on a server, of which nothing can be shown offline") as refused,
        mounted(address, tmp_path / "mount", cache_dir, offline=True, **options),
    ):
        pass
    assert refused.value.kind == "bad-usage"
    assert web.seen == []


def test_pages_that_are_not_here_offline_are_said_with_what_to_do(web: Proxy, tmp_path: Path, cache_dir: Path) -> None:
    address = f"{web.url}#main"
    with mounted(address, tmp_path / "before", cache_dir, prefetch=False):
        assert shell(f"find {tmp_path}/before").returncode == 0
    shell(f"rm -r {cache_dir}/objects")
    with (
        pytest.raises(NotFoundError) as refused,
        mounted(address, tmp_path / "mount", cache_dir, offline=True, tier="native"),
    ):
        pass
    assert "page 0 of the file map cannot be had: " in str(refused.value)
    assert "is missing" not in str(refused.value)
    assert refused.value.hint == "mount it once without --offline, with --wait"


def test_nothing_kept_is_said_with_what_to_do(tmp_path: Path, cache_dir: Path) -> None:
    with (
        pytest.raises(NotFoundError) as refused,
        mounted(f"{tmp_path}/store#main", tmp_path / "mount", cache_dir, offline=True),
    ):
        pass
    assert refused.value.kind == "not-kept"
    assert refused.value.hint == "mount it once without --offline"


def test_the_commands_bring_all_and_go_on_without_the_store(tree: Path, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    (tmp_path / "mnt").mkdir()
    sapwood.good("mount", "--wait", "main", "mnt")
    [mount] = [one for one in sapwood.good("mounts", "--json").document if one["path"] == f"{tmp_path}/mnt"]
    assert mount["bytesHere"] == mount["bytes"] == 6_002_000
    assert mount["asOf"] is None
    assert f"{tmp_path}/mnt  {sapwood.store}#main  (all of it is here)\n" in sapwood.good("mounts").out
    sapwood.good("umount", "mnt")
    (tmp_path / "store").rename(tmp_path / "away")
    said = sapwood.good("run", "--offline", "main", "--", "cmp", "{}/large", str(tree / "large"))
    assert re.fullmatch(r"sapwood: offline: mounted is snapshot sha256:\w{12}, which it named at .*Z\n", said.err)
    assert re.fullmatch(r"offline: mounted is .*", sapwood.good("mount", "--offline", "main", "mnt").err[9:].strip()
                        .splitlines()[0])  # fmt: skip
    [mount] = [one for one in sapwood.good("mounts", "--json").document if one["path"] == f"{tmp_path}/mnt"]
    assert mount["asOf"].endswith("Z")
    sapwood.good("umount", "mnt")


def test_waiting_for_all_of_a_tree_ends_when_it_cannot_come_or_a_signal_does(
    web: Proxy, tree: Path, tmp_path: Path
) -> None:
    sapwood = Sapwood(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    address = f"{web.url}#main"
    assert sapwood("mount", "--wait", "--no-prefetch", address, "one").code == 2
    try:
        said = sapwood("mount", "--wait", "--cache-size", "1M", address, "one")
        assert said.code == 6
        assert "not here, and will not come by themselves" in said.err
        again = f"sapwood umount {tmp_path}/one && sapwood mount --wait '{address}' {tmp_path}/one"
        assert said.err.endswith(f"hint: it is mounted; for all of it: {again}\n")
        sapwood.good("umount", "one")
        pack = max((tmp_path / "store" / "packs").iterdir(), key=lambda path: path.stat().st_size)
        pack.rename(tmp_path / "hidden")
        command = sapwood.command("mount", "--wait", address, "two")
        with subprocess.Popen(command, env={**sapwood.environment, "SAPWOOD_CACHE": str(tmp_path / "other")},
                              cwd=tmp_path, stderr=subprocess.PIPE, text=True) as waiting:  # fmt: skip
            assert waiting.stderr is not None
            assert "pack" in waiting.stderr.readline()
            # Ctrl-Z is no end, however long it lasts: here longer than from one look to the next.
            waiting.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, waiting.pid, os.WSTOPPED)
            time.sleep(0.6)
            waiting.send_signal(signal.SIGCONT)
            waiting.send_signal(signal.SIGINT)
            assert "stays mounted" in waiting.stderr.read()
            assert waiting.wait(PATIENCE_S) == 130
    finally:
        for name in ("one", "two"):
            sapwood("umount", "--lazy", name)
