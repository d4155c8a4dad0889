"""Who may call `sapwood serve`, how much at a time, and what it says to who may not, or starts it wrongly."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from sapwood.errors import ConflictError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc
from sapwood.serve import limits, packing
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.reapiclient import Client, digest_of

TOKENS = f"""
# who      role    token
ci         write   secret-of-ci
laptop     upload  sha256:{hashlib.sha256(b"secret-of-laptop").hexdigest()}
dashboard  read    secret-of-dashboard   # only looks
"""
CODE = grpc.StatusCode


def serving(home: Path, **options: Any) -> Server:
    store = open_store(str(home / "store"), create=True)
    return Server(store, Options(**{"listen": "127.0.0.1:0", **options}), home / "staging")


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return CODE.OK


def kind_of(refused: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    """The kind that the text of a refusal has in brackets."""
    return refused.value.details().partition(" (")[2].partition(")")[0]


def test_a_token_lets_its_role_do_what_it_may_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(TOKENS)
    with serving(tmp_path, tokens=str(tmp_path / "tokens")) as server:

        def codes(token: str | None) -> list[grpc.StatusCode]:
            with Client(f"127.0.0.1:{server.port}", token=token) as client:
                return [
                    code_of(lambda: client.missing([b"x"])),
                    code_of(lambda: client.read(b"")),
                    code_of(lambda: client.put(b"x")),
                    code_of(lambda: client.upload(b"a blob")),
                    code_of(lambda: client.set_result(b"action", reapi.ActionResult())),
                    code_of(lambda: client.result(b"action")),
                ]

        for stranger in (None, "", "guess", hashlib.sha256(b"secret-of-laptop").hexdigest()):
            assert codes(stranger) == [CODE.UNAUTHENTICATED] * 6
        denied = CODE.PERMISSION_DENIED
        assert codes("secret-of-dashboard") == [CODE.OK, CODE.OK, denied, denied, denied, CODE.NOT_FOUND]
        assert codes("secret-of-laptop") == [CODE.OK, CODE.OK, CODE.OK, CODE.OK, denied, CODE.NOT_FOUND]
        assert codes("secret-of-ci") == [CODE.OK] * 6
        for token, may in (("secret-of-ci", True), ("secret-of-laptop", False)):
            with Client(f"127.0.0.1:{server.port}", token=token) as client:
                offers = client.capabilities().cache_capabilities
                assert offers.action_cache_update_capabilities.update_enabled is may


def certificate(home: Path, name: str) -> tuple[str, str]:
    """Return the paths of a new certificate of localhost and its key."""
    files = str(home / f"{name}.crt"), str(home / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def test_tls_lets_in_who_trusts_the_certificate_and_nobody_else(tmp_path: Path) -> None:
    (ours, key), (others, _) = certificate(tmp_path, "ours"), certificate(tmp_path, "others")
    with serving(tmp_path, certificate=ours, key=key) as server:
        where = f"localhost:{server.port}"
        with Client(where, ca=Path(ours).read_bytes()) as client:
            client.upload(b"a blob")
            assert client.read(b"a blob") == b"a blob"
        for stranger in (Client(where, ca=Path(others).read_bytes()), Client(where)):
            with stranger as client:
                assert code_of(lambda client=client: client.missing([b"x"])) == CODE.UNAVAILABLE


def test_an_authority_of_clients_lets_in_who_has_a_certificate_of_it_and_nobody_else(tmp_path: Path) -> None:
    (ours, key), (theirs, their_key), (others, others_key) = (
        certificate(tmp_path, name) for name in ("ours", "theirs", "others")
    )
    ca = Path(ours).read_bytes()

    def code_with(server: Server, *own: str) -> grpc.StatusCode:
        mine = [Path(path).read_bytes() for path in own]
        credentials = grpc.ssl_channel_credentials(ca, *mine)
        alone = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{server.port}", credentials, alone) as to:
            services: Any = reapi_grpc
            request = reapi.GetCapabilitiesRequest()
            return code_of(lambda: services.CapabilitiesStub(to).GetCapabilities(request))

    with serving(tmp_path, certificate=ours, key=key, client_ca=theirs) as server:
        assert code_with(server, their_key, theirs) == CODE.OK
        assert code_with(server, others_key, others) == CODE.UNAVAILABLE
        assert code_with(server) == CODE.UNAVAILABLE


def test_who_has_as_many_streams_as_it_may_is_refused_the_next(tmp_path: Path) -> None:
    blob = bytes(range(256)) * 40_000
    with serving(tmp_path, calls=1) as server, Client(f"127.0.0.1:{server.port}") as client:
        client.upload(blob)
        digest = digest_of(blob)
        name = f"blobs/{digest.hash}/{digest.size_bytes}"
        # More than the connection takes without somebody who reads: the first stays open.
        first = client.stream.Read(bytestream.ReadRequest(resource_name=name))
        next(first)
        with pytest.raises(grpc.RpcError) as refused:
            client.read(blob)
        assert refused.value.code() == CODE.RESOURCE_EXHAUSTED
        assert kind_of(refused) == "too-many-calls"
        assert sum(len(one.data) for one in first) < len(blob)
        assert client.read(blob) == blob


def test_writes_wait_for_packs_and_are_refused_when_none_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PATIENCE_S", 0.0)
    with serving(tmp_path) as server, Client(f"127.0.0.1:{server.port}") as client:
        server._limits.unpacked = 1000
        blobs = [bytes([number]) * 900 for number in range(6)]
        client.put(blobs[0], blobs[1])
        client.put(blobs[2])  # what was there is packed first
        client.put(blobs[3])

        def refuse(*_: object) -> None:
            raise UnavailableError("the store does not answer", kind="store-unreachable")

        with monkeypatch.context() as down:
            down.setattr(packing.Packed, "pack", refuse)
            assert code_of(lambda: client.put(blobs[4])) == CODE.UNAVAILABLE
            assert code_of(lambda: client.upload(blobs[4])) == CODE.UNAVAILABLE
            assert client.read(blobs[3]) == blobs[3]
        client.put(blobs[5])
        assert client.missing(blobs) == [blobs[4]]
        # As when packing goes on for longer than anybody waits.
        server._limits.pack_now = lambda: None
        client.put(b"more" * 400)
        for call, kind in (
            (lambda: client.put(blobs[4]), "staging-full"),
            (
                lambda: client.cas.SplitBlob(reapi.SplitBlobRequest(blob_digest=digest_of(b"more" * 400))),
                "not-packed",
            ),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() in (CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE)
            assert kind_of(refused) == kind


@pytest.mark.parametrize(
    ("options", "kind", "error"),
    [
        ({"listen": "nowhere"}, "bad-listen", InvalidInputError),
        ({"listen": "127.0.0.1:99999"}, "bad-listen", InvalidInputError),
        ({"tokens": "no-such-file"}, "path-missing", NotFoundError),
        ({"tokens": "bad"}, "bad-tokens", InvalidInputError),
        ({"tokens": "none"}, "bad-tokens", InvalidInputError),
        ({"tokens": "two"}, "bad-tokens", InvalidInputError),
        ({"certificate": "bad"}, "bad-certificate", InvalidInputError),
        ({"certificate": "bad", "key": "bad"}, "bad-certificate", InvalidInputError),
        ({"certificate": "bad", "key": "no-such-file"}, "path-missing", NotFoundError),
        # Whoever asks for TLS, and be it by a variable that is not set, is not served without.
        ({"certificate": "", "key": ""}, "bad-certificate", InvalidInputError),
        ({"client_ca": "bad"}, "bad-certificate", InvalidInputError),
    ],
)
def test_a_server_that_cannot_be_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], kind: str, error: type[SapwoodError]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").write_text("ci admin secret\n")
    (tmp_path / "none").write_text("# ci read secret\n")
    (tmp_path / "two").write_text("ci read secret\nci write secret\n")
    with pytest.raises(error) as refused:
        serving(tmp_path, **options)
    assert refused.value.kind == kind


def test_a_port_and_a_staging_area_are_of_one_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with pytest.raises(ConflictError) as taken:
            serving(tmp_path)
        assert taken.value.kind == "staging-taken"
        with pytest.raises(UnavailableError) as refused:
            Server(
                open_store(str(tmp_path / "store")), Options(listen=f"127.0.0.1:{server.port}"), tmp_path / "elsewhere"
            )
        assert refused.value.kind == "cannot-listen"
