"""`sapwood serve` as the cache of build engines that others wrote: what one build stored the next one finds."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.store import open_store
from sapwood.upkeep.verify import verify
from tests.support.bazel import Bazel
from tests.support.cli import Sapwood
from tests.support.engines import BUILDBOX, GRPCURL, MOON, called, serving, store_tree
from tests.support.executors import casd_proxy
from tests.support.reapiclient import digest_of


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.mark.timeout(300)
def test_bazel_finds_what_it_built_also_in_another_server_on_the_same_store(run: Sapwood) -> None:
    bazel = Bazel(run.home)
    with serving(run) as served:
        assert bazel.build(f"--remote_cache=grpc://{served.where}") == (bazel.actions, 0)
        built = {name: bazel.output(name) for name in ("upper.txt", "large.bin", "tool.sh", "used.txt")}
        assert built["large.bin"] == b"HELLO\n" * 200_000
    with serving(run, "--staging", "another") as served:
        assert bazel.build(f"--remote_cache=grpc://{served.where}") == (0, bazel.actions)
        assert {name: bazel.output(name) for name in built} == built
    assert verify(open_store(str(run.store))).damages == ()


@pytest.mark.timeout(300)
def test_bazel_stores_with_a_token_that_may_and_reads_with_one_that_may_not(run: Sapwood) -> None:
    # Debian's Bazel itself cannot do TLS: its Java has no ALPN.
    bazel = Bazel(run.home)
    (run.home / "tokens").write_text("ci write of-ci\nlaptop read of-laptop\n")
    with serving(run, "--tokens", "tokens") as served:
        cache = f"--remote_cache=grpc://{served.where}"
        reader = [cache, "--remote_header=authorization=Bearer of-laptop", "--remote_upload_local_results=false"]
        assert bazel.build(*reader) == (bazel.actions, 0)
        assert bazel.build(cache, "--remote_header=authorization=Bearer of-ci") == (bazel.actions, 0)
        assert bazel.build(*reader) == (0, bazel.actions)


def test_moon_finds_what_it_built_and_sent_compressed(run: Sapwood) -> None:
    work = run.home / "work"
    (work / "app" / "src").mkdir(parents=True)
    (work / ".moon").mkdir()
    (work / "app" / "src" / "in.txt").write_text("hello\n")
    (work / "app" / "make.sh").write_text(
        "mkdir out; tr a-z A-Z < src/in.txt > out/up; head -c 5000000 /dev/zero > out/large\n"
    )
    (work / "app" / "moon.yml").write_text(
        "language: 'bash'\ntasks:\n  build:\n    command: 'bash make.sh'\n"
        "    inputs: ['src/**/*', 'make.sh']\n    outputs: ['out']\n"
    )
    with serving(run, "--instance", "moon-outputs") as served:
        (work / ".moon" / "workspace.yml").write_text(
            "projects: ['app']\nvcs:\n  client: 'git'\n"
            f"remote:\n  host: 'grpc://{served.where}'\n  cache:\n    compression: 'zstd'\n"
        )
        for words in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"]):
            called("git", *words, cwd=work)

        def build() -> str:
            for made in (work / ".moon" / "cache", work / "app" / "out"):
                called("rm", "-rf", made, cwd=work)
            return called(MOON, "run", "app:build", cwd=work, environment={"HOME": str(run.home), "CI": ""})

        assert "cached" not in build()
        assert "cached from remote" in build()
        assert (work / "app" / "out" / "up").read_text() == "HELLO\n"
        assert (work / "app" / "out" / "large").read_bytes() == bytes(5_000_000)


def test_buildbox_fuse_shows_a_tree_out_of_it(run: Sapwood) -> None:
    large = random.Random(1).randbytes(5_000_000)
    place = run.home / "place"
    for folder in (place, run.home / "local"):
        folder.mkdir()
    with serving(run) as served:
        with served.client() as client:
            root = store_tree(client, {"a": b"hello\n", "d/large": large, "d/b": b""})
        words = [
            BUILDBOX / "buildbox-fuse", f"--local={run.home / 'local'}", f"--remote=http://{served.where}",
            f"--input-digest-value={root.hash}/{root.size_bytes}", place,
        ]  # fmt: skip
        with subprocess.Popen(words, stderr=subprocess.PIPE) as fuse:
            try:
                while not place.is_mount():
                    assert fuse.poll() is None
                assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*")) == [
                    "a", "d", "d/b", "d/large",
                ]  # fmt: skip
                assert (place / "a").read_bytes() == b"hello\n"
                assert (place / "d" / "large").read_bytes() == large
            finally:
                subprocess.run(["fusermount3", "-u", place], check=False)
                fuse.wait(60)


def test_buildbox_casd_splits_and_splices_what_goes_through_it(run: Sapwood) -> None:
    sent, fetched = random.Random(2).randbytes(7_000_000), random.Random(3).randbytes(9_000_000)
    with serving(run) as served, served.client() as ours, casd_proxy(served.where, run.home) as client:
        client.upload(sent)
        client.put(b"small")
        assert ours.missing([sent, b"small"]) == []
        # It sent chunks, and asked for them to be put together: the first of them is a blob of its own.
        split = ours.cas.SplitBlob(reapi.SplitBlobRequest(blob_digest=digest_of(sent)))
        assert len(split.chunk_digests) > 4
        assert ours.read(sent) == sent
        ours.upload(fetched)
        assert client.read(fetched) == fetched
        client.set_result(b"action", reapi.ActionResult(exit_code=7))
        assert ours.result(b"action").exit_code == 7


def test_grpcurl_asks_by_tls_what_it_offers_and_is_told_what_is_wrong(run: Sapwood) -> None:
    files, todo = FileDescriptorSet(), [reapi.DESCRIPTOR]
    while todo:
        described = todo.pop()
        if described.name not in {one.name for one in files.file}:
            described.CopyToProto(files.file.add())
            todo += described.dependencies
    (run.home / "api.protoset").write_bytes(files.SerializeToString())
    service = "build.bazel.remote.execution.v2"
    called(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=IP:127.0.0.1", "-out", "cert.pem", "-keyout", "key.pem", cwd=run.home,
    )  # fmt: skip
    (run.home / "tokens").write_text("me read mine\n")
    with serving(run, "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--tokens", "tokens") as served:

        def ask(method: str, message: object, token: str = "mine") -> subprocess.CompletedProcess[str]:
            words = [
                GRPCURL, "-cacert", "cert.pem", "-H", f"authorization: Bearer {token}", "-protoset", "api.protoset",
                "-d", json.dumps(message), served.where, f"{service}.{method}",
            ]  # fmt: skip
            return subprocess.run(words, cwd=run.home, capture_output=True, text=True, timeout=60)

        offers = json.loads(ask("Capabilities/GetCapabilities", {}).stdout)
        assert offers["low_api_version"] == {"major": 2}
        assert offers["cache_capabilities"]["digest_functions"] == ["SHA256"]
        digest = {"hash": digest_of(b"x").hash, "size_bytes": "1"}
        missing = ask("ContentAddressableStorage/FindMissingBlobs", {"blob_digests": [digest]})
        assert json.loads(missing.stdout) == {"missing_blob_digests": [digest]}
        refused = ask("Capabilities/GetCapabilities", {"instance_name": "another"})
        assert refused.returncode == 64 + 5  # NOT_FOUND
        assert "instance-missing" in refused.stderr
        stranger = ask("Capabilities/GetCapabilities", {}, token="guessed")
        assert stranger.returncode == 64 + 16  # UNAUTHENTICATED
