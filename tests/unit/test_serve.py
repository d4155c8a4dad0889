"""`sapwood serve` as clients see it: blobs and results come back as they were sent, wherever they lie by then."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sapwood._core.serve import Expand, compress
from sapwood.push import push_upon
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.reapiclient import Client, digest_of, some

MIB = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(
        open_store(str(tmp_path / "store"), create=True), Options(listen="127.0.0.1:0", keep=0), tmp_path / "staging"
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.port}") as client:
        yield client


def refusal(refused: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    """The status, and the kind at the end of its text."""
    text = refused.value.details()
    return refused.value.code(), text[text.rindex("(") + 1 : text.rindex(")")] if "(" in text else text


@pytest.mark.parametrize("packed", [False, True], ids=["staged", "packed"])
@pytest.mark.parametrize("size", [0, 1, 4096, MIB, MIB + 1, 2 * MIB, 5 * MIB + 7])
def test_a_blob_comes_back_whole_and_in_parts(server: Server, client: Client, size: int, packed: bool) -> None:
    blob, other = some(size), some(size + 1, 1)
    assert client.missing([blob, other]) == ([blob, other] if size else [other])
    client.upload(blob)
    assert client.missing([blob, other]) == [other]
    if packed:
        server.pack()
    assert client.missing([blob, other]) == [other]
    assert client.read(blob) == blob
    assert client.read(blob, size // 3, 1000) == blob[size // 3 : size // 3 + 1000]
    assert client.read(blob, size) == b""
    assert client.read(blob, 0, 1 << 62) == blob
    expand = Expand()
    expand.feed(client.read(blob, size // 2, form="compressed-blobs/zstd"))
    assert expand.take(size + 1) == blob[size // 2 :]


def test_a_batch_comes_back_from_the_log_and_from_packs(server: Server, client: Client) -> None:
    blobs = [some(size, 3) for size in range(1, 400)]
    client.put(*blobs)
    assert client.get(*blobs) == [(0, blob, reapi.Compressor.IDENTITY) for blob in blobs]
    server.pack()
    assert client.get(*blobs) == [(0, blob, reapi.Compressor.IDENTITY) for blob in blobs]
    more = [some(size, 4) for size in range(1, 40)]
    client.put(*more, *blobs)
    server.pack()
    assert client.get(*blobs, *more) == [(0, blob, reapi.Compressor.IDENTITY) for blob in [*blobs, *more]]


def test_what_shrinks_goes_compressed_to_who_takes_that(client: Client) -> None:
    blob = b"all the same " * 1000
    assert client.update(
        [{"digest": digest_of(blob), "data": compress(blob), "compressor": reapi.Compressor.ZSTD}]
    ) == [0]
    [(code, data, compressor)] = client.get(blob, zstd=True)
    expand = Expand()
    expand.feed(data)
    assert (code, compressor, expand.take(20_000)) == (0, reapi.Compressor.ZSTD, blob)


def test_wrong_blobs_of_a_batch_are_refused_each_by_itself_and_nothing_of_them_stays(client: Client) -> None:
    good, bad, short, bomb = some(10), some(20), some(30), b"\0" * MIB
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    codes = client.update(
        [
            {"digest": digest_of(bad), "data": some(20, 9)},
            {"digest": digest_of(short), "data": short[:-1]},
            {"digest": reapi.Digest(hash="no", size_bytes=1), "data": b"x"},
            {"digest": reapi.Digest(hash=digest_of(good).hash.upper(), size_bytes=10), "data": good},
            {"digest": digest_of(bomb[:100]), "data": compress(bomb), "compressor": reapi.Compressor.ZSTD},
            {"digest": digest_of(bomb), "data": b"no zstd", "compressor": reapi.Compressor.ZSTD},
            {"digest": digest_of(bomb), "data": bomb, "compressor": reapi.Compressor.DEFLATE},
            {"digest": digest_of(good), "data": good},
        ]
    )
    assert codes[:5] == [invalid] * 5
    assert codes[5] != 0
    assert codes[6:] == [invalid, 0]
    assert client.missing([good, bad, short, bomb, bomb[:100]]) == [bad, short, bomb, bomb[:100]]


def test_a_batch_that_is_too_large_is_refused_with_the_limit(client: Client) -> None:
    blobs = [some(MIB, seed) for seed in range(4)]
    with pytest.raises(grpc.RpcError) as refused:
        client.get(*blobs)
    assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "batch-too-large")
    assert str(client.capabilities().cache_capabilities.max_batch_total_size_bytes) in refused.value.details()


def test_what_is_not_here_is_not_found(client: Client) -> None:
    blob = some(100)
    assert client.get(blob)[0][0] == grpc.StatusCode.NOT_FOUND.value[0]
    with pytest.raises(grpc.RpcError) as refused:
        client.read(blob)
    assert refusal(refused) == (grpc.StatusCode.NOT_FOUND, "blob-missing")
    with pytest.raises(grpc.RpcError) as refused:
        client.result(b"action")
    assert refusal(refused) == (grpc.StatusCode.NOT_FOUND, "result-missing")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "bad-resource"),
        ("blobs/x", "bad-resource"),
        ("blobs/" + "0" * 64 + "/1/more", "bad-resource"),
        ("uploads/u/blobs/" + "0" * 64 + "/1", "bad-resource"),
        ("blobs/" + "g" * 64 + "/1", "bad-digest"),
        ("blobs/" + "0" * 64 + "/-1", "bad-digest"),
        ("blobs/" + "0" * 64 + "/" + "9" * 30, "bad-digest"),
        ("compressed-blobs/deflate/" + "0" * 64 + "/1", "bad-compressor"),
        ("another/blobs/" + "0" * 64 + "/1", "instance-missing"),
        ("../../blobs/" + "0" * 64 + "/1", "instance-missing"),
    ],
)
def test_what_names_no_blob_is_refused(client: Client, name: str, kind: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        client.read_named(name)
    assert refusal(refused)[1] == kind


def test_a_read_outside_of_a_blob_is_refused(client: Client) -> None:
    blob = some(100)
    client.put(blob)
    for offset in (101, -1):
        with pytest.raises(grpc.RpcError) as refused:
            client.read(blob, offset)
        assert refusal(refused) == (grpc.StatusCode.OUT_OF_RANGE, "out-of-range")
    with pytest.raises(grpc.RpcError) as refused:
        client.read(blob, 0, -1)
    assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "bad-limit")
    with pytest.raises(grpc.RpcError) as refused:
        client.read(blob, 0, 5, form="compressed-blobs/zstd")
    assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "bad-limit")


@pytest.mark.parametrize("size", [5000, 3 * MIB])
def test_a_write_that_stopped_goes_on_where_it_was(client: Client, size: int) -> None:
    blob = some(size)
    name = client.upload_name(blob)
    with pytest.raises(grpc.RpcError) as refused:
        client.status(name)
    assert refusal(refused) == (grpc.StatusCode.NOT_FOUND, "write-missing")
    assert client.write(name, [blob[:1000]], finish=False) == 1000
    assert client.status(name) == (1000, False)
    with pytest.raises(grpc.RpcError) as refused:
        client.write(name, [blob[2000:]], offset=2000)
    assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "bad-offset")
    assert client.write(name, [blob[1000:]], offset=1000) == size
    assert client.status(name) == (size, True)
    assert client.read(blob) == blob


def test_a_write_that_begins_anew_forgets_what_came(client: Client) -> None:
    blob = some(3 * MIB)
    name = client.upload_name(blob)
    client.write(name, [b"something else"], finish=False)
    assert client.write(name, [blob[:MIB], blob[MIB:]]) == len(blob)
    assert client.read(blob) == blob


def test_of_a_write_only_the_bytes_of_its_blob_are_held(server: Server) -> None:
    blob = some(32)
    first = bytestream.WriteRequest(resource_name=f"uploads/one/blobs/{digest_of(blob).hash}/{len(blob)}")
    # Field 99, which no WriteRequest has, of 2 MiB.
    beside = bytes.fromhex("9a06 80808001") + bytes(2 * MIB)

    def requests() -> Iterator[bytes]:
        yield first.SerializeToString()
        for at in range(len(blob)):
            piece = bytestream.WriteRequest(write_offset=at, data=blob[at : at + 1], finish_write=at == len(blob) - 1)
            yield piece.SerializeToString() + beside

    tracemalloc.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            write = channel.stream_unary("/google.bytestream.ByteStream/Write")
            written = bytestream.WriteResponse.FromString(write(requests()))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written.committed_size == len(blob)
    assert most < 32 * MIB


def test_a_write_of_what_is_here_ends_at_once(client: Client) -> None:
    blob = some(2 * MIB)
    client.upload(blob)
    assert client.write(client.upload_name(blob, "two"), [b"not even the right bytes"], finish=False) == len(blob)
    compressed = client.upload_name(blob, "three", "compressed-blobs/zstd")
    assert client.write(compressed, [b"nor these"], finish=False) == -1


def test_a_compressed_write_is_stored_plain(server: Server, client: Client) -> None:
    blob = b"a line that comes again\n" * 100_000
    stored = compress(blob[:MIB]) + compress(blob[MIB:])
    name = client.upload_name(blob, form="compressed-blobs/zstd")
    assert client.write(name, [stored[:100], stored[100:]]) == len(stored)
    server.pack()
    assert client.read(blob) == blob


@pytest.mark.parametrize("form", ["blobs", "compressed-blobs/zstd"])
@pytest.mark.parametrize("size", [100, 2 * MIB])
def test_a_write_of_something_else_is_refused_and_nothing_stays(
    server: Server, client: Client, size: int, form: str, tmp_path: Path
) -> None:
    blob, wrong = some(size), some(size, 5)
    zip_or_not = compress if "/" in form else bytes
    for number, data in enumerate(
        [zip_or_not(wrong), zip_or_not(blob)[:-1], zip_or_not(blob + b"x"), b"x" * (size + 1)]
    ):
        with pytest.raises(grpc.RpcError) as refused:
            client.write(client.upload_name(blob, str(number), form), [data[: size // 2], data[size // 2 :]])
        assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "blob-mismatch")
    assert client.missing([blob, wrong]) == [blob, wrong]
    assert list((tmp_path / "staging" / "parts").iterdir()) == []


def has_begun(client: Client, name: str, size: int) -> bool:
    """Whether so much of a write has come."""
    try:
        return client.status(name)[0] == size
    except grpc.RpcError:
        return False


def test_only_one_stream_at_a_time_writes_a_resource(client: Client) -> None:
    import queue

    from sapwood.reapi.protocol import bytestream_pb2 as bytestream

    blob = some(100)
    name, sent = client.upload_name(blob), queue.SimpleQueue[bytestream.WriteRequest | None]()
    sent.put(bytestream.WriteRequest(resource_name=name, data=blob[:10]))
    first = client.stream.Write.future(iter(sent.get, None))
    while not has_begun(client, name, 10):
        pass
    with pytest.raises(grpc.RpcError) as refused:
        client.write(name, [blob[10:]], offset=10)
    assert refusal(refused) == (grpc.StatusCode.ABORTED, "write-taken")
    sent.put(bytestream.WriteRequest(write_offset=10, data=blob[10:], finish_write=True))
    sent.put(None)
    assert first.result().committed_size == 100


def test_a_write_that_contradicts_itself_is_refused(client: Client) -> None:
    from sapwood.reapi.protocol import bytestream_pb2 as bytestream

    blob = some(100)
    name = client.upload_name(blob)
    first = bytestream.WriteRequest(resource_name=name, data=blob, finish_write=True)
    for requests in (
        [],
        [first, bytestream.WriteRequest(write_offset=100)],
        [
            bytestream.WriteRequest(resource_name=name, data=blob[:10]),
            bytestream.WriteRequest(resource_name=client.upload_name(blob, "two"), write_offset=10),
        ],
    ):
        with pytest.raises(grpc.RpcError) as refused:
            client.stream.Write(iter(requests))
        assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "bad-write")


def test_a_large_blob_splits_into_chunks_that_can_be_read_and_spliced(server: Server, client: Client) -> None:
    blob, small = some(9 * MIB), some(1000)
    client.upload(blob)
    client.put(small)
    split = client.cas.SplitBlob(reapi.SplitBlobRequest(blob_digest=digest_of(blob)))
    assert split.chunking_function == reapi.ChunkingFunction.FAST_CDC_2020
    names = [f"blobs/{one.hash}/{one.size_bytes}" for one in split.chunk_digests]
    assert len(names) > 4
    assert b"".join(map(client.read_named, names)) == blob
    assert list(client.cas.SplitBlob(reapi.SplitBlobRequest(blob_digest=digest_of(small))).chunk_digests) == [
        digest_of(small)
    ]
    twice = [*split.chunk_digests, *split.chunk_digests]
    request = reapi.SpliceBlobRequest(blob_digest=digest_of(blob + blob), chunk_digests=twice)
    assert client.cas.SpliceBlob(request).blob_digest == digest_of(blob + blob)
    assert client.read(blob + blob) == blob + blob
    request = reapi.SpliceBlobRequest(blob_digest=digest_of(blob + small + small), chunk_digests=twice)
    with pytest.raises(grpc.RpcError) as refused:
        client.cas.SpliceBlob(request)
    assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "blob-mismatch")
    lacking = reapi.SpliceBlobRequest(blob_digest=digest_of(some(7)), chunk_digests=[digest_of(some(7, 8))])
    with pytest.raises(grpc.RpcError) as refused:
        client.cas.SpliceBlob(lacking)
    assert refusal(refused) == (grpc.StatusCode.NOT_FOUND, "blob-missing")


def test_a_tree_is_listed_once_each_directory_in_pages(client: Client) -> None:
    leaf = reapi.Directory(files=[reapi.FileNode(name="f", digest=digest_of(b"f"))]).SerializeToString()
    middles = [
        reapi.Directory(
            directories=[reapi.DirectoryNode(name=f"d{number}", digest=digest_of(leaf))]
        ).SerializeToString()
        for number in range(5)
    ]
    root = reapi.Directory(
        directories=[
            *(reapi.DirectoryNode(name=f"m{n}", digest=digest_of(middle)) for n, middle in enumerate(middles)),
            reapi.DirectoryNode(name="z", digest=digest_of(b"nobody has it")),
        ]
    ).SerializeToString()
    client.put(leaf, root, *middles)
    request = reapi.GetTreeRequest(root_digest=digest_of(root), page_size=3)
    pages = list(client.cas.GetTree(request))
    assert [len(page.directories) for page in pages] == [3, 3, 1]
    found = [one.SerializeToString() for page in pages for one in page.directories]
    assert found == [root, *middles, leaf]
    request.page_token = pages[0].next_page_token
    assert [one.SerializeToString() for page in client.cas.GetTree(request) for one in page.directories] == found[3:]
    client.put(b"\xffno message")
    for bad, kind in (
        (reapi.GetTreeRequest(root_digest=digest_of(b"\xffno message")), "bad-message"),
        (reapi.GetTreeRequest(root_digest=digest_of(root), page_token="x"), "bad-page-token"),
        (reapi.GetTreeRequest(root_digest=digest_of(b"gone")), "blob-missing"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            list(client.cas.GetTree(bad))
        assert refusal(refused)[1] == kind


def test_a_result_is_kept_as_sent_replaced_and_only_given_while_its_blobs_are_here(
    server: Server, client: Client
) -> None:
    output, tree_file, file = some(50), some(60), some(70)
    folder = reapi.Directory(files=[reapi.FileNode(name="f", digest=digest_of(file))]).SerializeToString()
    root = reapi.Directory(
        directories=[
            reapi.DirectoryNode(name="d", digest=digest_of(folder)),
            reapi.DirectoryNode(name="empty", digest=digest_of(b"")),
        ]
    ).SerializeToString()
    tree = reapi.Tree(
        root=reapi.Directory(files=[reapi.FileNode(name="f", digest=digest_of(tree_file))])
    ).SerializeToString()
    result = reapi.ActionResult(
        exit_code=3,
        stdout_raw=b"said",
        output_files=[reapi.OutputFile(path="out", digest=digest_of(output), is_executable=True)],
        output_directories=[
            reapi.OutputDirectory(path="dir", tree_digest=digest_of(tree)),
            reapi.OutputDirectory(path="more", root_directory_digest=digest_of(root)),
        ],
    )
    client.set_result(b"action", result)
    for blob in (output, tree, tree_file, root, folder, file):
        with pytest.raises(grpc.RpcError) as refused:
            client.result(b"action")
        assert refusal(refused) == (grpc.StatusCode.NOT_FOUND, "result-missing")
        client.put(blob)
    assert client.result(b"action") == result
    for bad in ({"root_directory_digest": digest_of(output)}, {"tree_digest": reapi.Digest(hash="x")}):
        client.set_result(b"bad", reapi.ActionResult(output_directories=[reapi.OutputDirectory(path="d", **bad)]))
        with pytest.raises(grpc.RpcError, match="result-missing"):
            client.result(b"bad")
    server.pack()
    assert client.result(b"action") == result
    for code in (4, 5):
        client.set_result(b"action", reapi.ActionResult(exit_code=code))
        assert client.result(b"action").exit_code == code
        server.pack()
        assert client.result(b"action").exit_code == code


def test_a_ref_that_is_full_is_followed_by_the_next(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sapwood.serve.packing._ENTRIES", 20)
    blobs = [some(size, 6) for size in range(1, 61)]

    def push_meanwhile(*words: Any) -> Any:
        assert client.missing(blobs) == blobs[at + 15 :]
        return push_upon(*words)

    monkeypatch.setattr("sapwood.serve.packing.push_upon", push_meanwhile)
    for at in range(0, 60, 15):
        client.put(*blobs[at : at + 15])
        server.pack()
        assert client.missing(blobs) == blobs[at + 15 :]
    assert len(open_store(str(tmp_path / "store")).refs()) == 2
    assert [data for _, data, _ in client.get(*blobs)] == blobs


def test_the_server_says_what_it_offers(client: Client) -> None:
    offers = client.capabilities()
    assert (offers.low_api_version.major, offers.low_api_version.minor) == (2, 0)
    assert (offers.high_api_version.major, offers.high_api_version.minor) == (2, 12)
    cache = offers.cache_capabilities
    assert list(cache.digest_functions) == [reapi.DigestFunction.SHA256]
    assert cache.action_cache_update_capabilities.update_enabled
    assert cache.split_blob_support
    assert list(cache.supported_compressors) == [reapi.Compressor.ZSTD]


def test_another_instance_or_digest_function_is_refused(client: Client) -> None:
    request = reapi.FindMissingBlobsRequest(digest_function=reapi.DigestFunction.BLAKE3)
    with pytest.raises(grpc.RpcError) as refused:
        client.cas.FindMissingBlobs(request)
    assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "bad-digest-function")
    client.instance = "another"
    for call in (client.capabilities, lambda: client.missing([b"x"]), lambda: client.result(b"x")):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refusal(refused) == (grpc.StatusCode.NOT_FOUND, "instance-missing")


def test_a_named_instance_is_served_by_its_name(tmp_path: Path) -> None:
    options = Options(listen="127.0.0.1:0", instance="team/one")
    with (
        Server(open_store(str(tmp_path / "store"), create=True), options, tmp_path / "staging") as server,
        Client(f"127.0.0.1:{server.port}", instance="team/one") as client,
    ):
        blob = some(MIB + 1)
        client.upload(blob)
        assert client.read(blob) == blob
        assert client.missing([blob]) == []


def test_what_is_no_digest_is_refused_rather_than_missing(client: Client) -> None:
    for digest in (reapi.Digest(hash="x", size_bytes=1), reapi.Digest(hash="0" * 64, size_bytes=-1)):
        with pytest.raises(grpc.RpcError) as refused:
            client.cas.FindMissingBlobs(reapi.FindMissingBlobsRequest(blob_digests=[digest]))
        assert refusal(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "bad-digest")


def test_what_a_pack_has_lost_is_data_loss_never_other_bytes(server: Server, client: Client, tmp_path: Path) -> None:
    blobs = [some(size, 10) for size in (1000, 5 * MIB)]
    for blob in blobs:
        client.upload(blob)
    server.pack()
    for pack in (tmp_path / "store" / "packs").iterdir():
        pack.chmod(0o600)
        data = bytearray(pack.read_bytes())
        for at in range(200, len(data) // 2, 499):
            data[at] ^= 1
        pack.write_bytes(data)
    for blob in blobs:
        with pytest.raises(grpc.RpcError) as refused:
            client.read(blob)
        assert refused.value.code() == grpc.StatusCode.DATA_LOSS
        assert "sapwood repair" in refused.value.details()
    [(code, data, _)] = client.get(blobs[0])
    assert (code, data) == (grpc.StatusCode.DATA_LOSS.value[0], b"")
