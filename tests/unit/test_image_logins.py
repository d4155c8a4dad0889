"""Who we are to a registry: tokens, names and secrets, as docker's and podman's tools keep them."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood.errors import DeniedError, InvalidInputError, UnavailableError
from sapwood.image import ImageName, open_image
from sapwood.image.credentials import Login, find_login
from tests.support.badserver import replying, send
from tests.support.fakeregistry import FakeRegistry, Handler, registry
from tests.support.images import Image, stargz

IMAGE = Image(stargz({"a": b"1", "large": os.urandom(3 << 20)}))


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where docker's file of logins is for this test; there is none yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with registry() as made:
        made.add(IMAGE, "latest")
        yield made


def opened(fake: FakeRegistry) -> int:
    """Read the image, and return how many entries it has."""
    image, _ = open_image(ImageName.parse(f"oci://{fake.host}/some/name"))
    [frame] = {chunk[0] for chunk in image.file_map.lookup(b"large").chunks[:1]}  # type: ignore[union-attr]
    image.read_ranges(frame.pack, [(frame.offset, frame.length)])  # type: ignore[arg-type]
    return image.file_map.entries


def auth(user: str, secret: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


def test_a_token_for_nobody_is_asked_for_once(fake: FakeRegistry) -> None:
    fake.scheme = "bearer"
    assert opened(fake) == 3
    assert sum(path.startswith("/token") for _, path, _ in fake.asked) == 1


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_login_of_docker_is_shown(fake: FakeRegistry, config: Path, scheme: str) -> None:
    fake.scheme, fake.login = scheme, ("me", "secret:with colon")
    with pytest.raises(DeniedError) as caught:
        opened(fake)
    assert (caught.value.kind, caught.value.hint) == (
        "store-denied",
        f"docker login {fake.host}, or podman login {fake.host}",
    )
    config.write_text(json.dumps({"auths": {fake.host: auth(*fake.login)}}))
    assert opened(fake) == 3
    config.write_text(json.dumps({"auths": {fake.host: auth("me", "wrong")}}))
    with pytest.raises(DeniedError) as caught:
        opened(fake)
    assert "wrong" not in str(caught.value)


def test_an_identity_token_is_exchanged(fake: FakeRegistry, config: Path) -> None:
    fake.scheme, fake.login, fake.identity = "bearer", ("nobody", "x"), "refresh me"
    config.write_text(json.dumps({"auths": {fake.host: {"identitytoken": "refresh me"}}}))
    assert opened(fake) == 3
    assert [method for method, path, _ in fake.asked if path == "/token"] == ["POST"]


def test_a_token_that_has_ended_is_followed_by_another(fake: FakeRegistry, config: Path) -> None:
    fake.scheme, fake.login = "bearer", ("me", "first")
    config.write_text(json.dumps({"auths": {fake.host: auth("me", "first")}}))
    image, _ = open_image(ImageName.parse(f"oci://{fake.host}/some/name"))
    fake.tokens.clear()
    # And whoever logged in anew meanwhile is heard.
    fake.login = ("me", "second")
    config.write_text(json.dumps({"auths": {fake.host: auth("me", "second")}}))
    for frame, *_ in image.file_map.lookup(b"large").chunks:  # type: ignore[union-attr]
        image.read_ranges(frame.pack, [(frame.offset, frame.length)])  # type: ignore[arg-type]


def test_helpers_are_asked_and_the_most_particular_entry_counts(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "bin" / "docker-credential-it"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\nread server\n"
        'case $server in none) echo "not found"; exit 1;; token) echo \'{"Username":"<token>","Secret":"t"}\';;'
        ' bad) echo no;; *) echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$server\\"}";; esac\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    said = {
        "credHelpers": {"one": "it", "none": "it", "token": "it", "bad": "it", "away": "nowhere", "odd": "../it"},
        "auths": {"many": auth("u", "all"), "many/a": auth("u", "a"), "many/a/b": auth("u", "ab"), "empty": {}},
    }
    config.write_text(json.dumps(said))
    assert find_login("one", "a") == Login("u", "one")
    assert find_login("token", "a") == Login(identity_token="t")
    assert find_login("none", "a") is None
    assert find_login("empty", "a") is None
    assert [find_login("many", name) for name in ("a/b/c", "a/c", "c")] == [
        Login("u", "ab"),
        Login("u", "a"),
        Login("u", "all"),
    ]
    for host in ("bad", "away", "odd"):
        with pytest.raises(DeniedError) as caught:
            find_login(host, "a")
        assert caught.value.kind == "credentials-unreadable"
    config.write_text(json.dumps({"credsStore": "it", "auths": {"https://index.docker.io/v1/": auth("hub", "x")}}))
    assert find_login("docker.io", "library/a") == Login("hub", "x")
    assert find_login("other", "a") == Login("u", "other")
    config.write_text(json.dumps({"credHelpers": {"https://index.docker.io/v1/": "it"}}))
    assert find_login("docker.io", "library/a") == Login("u", "https://index.docker.io/v1/")
    assert find_login("other", "a") is None


def test_podmans_file_comes_before_dockers_and_a_named_one_alone(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(json.dumps({"auths": {"host": auth("docker", "x"), "other": auth("docker", "x")}}))
    podman = tmp_path / "run" / "containers" / "auth.json"
    podman.parent.mkdir(parents=True)
    podman.write_text(json.dumps({"auths": {"host": auth("podman", "x")}}))
    assert find_login("host", "a") == Login("podman", "x")
    assert find_login("other", "a") == Login("docker", "x")
    named = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert find_login("host", "a") is None
    named.write_text("{")
    with pytest.raises(DeniedError, match="it is no JSON object"):
        find_login("host", "a")


def test_credentials_follow_no_redirect_to_another_server(fake: FakeRegistry, config: Path) -> None:
    fake.scheme, fake.login = "bearer", ("me", "secret")
    config.write_text(json.dumps({"auths": {fake.host: auth("me", "secret")}}))
    seen: list[str | None] = []

    def elsewhere(handler: Handler) -> None:
        seen.append(handler.headers.get("Authorization"))
        fake.give_blob(handler, handler.path.rpartition("/")[2])

    with replying(elsewhere) as url:

        def away(handler: Handler) -> bool:
            if "/blobs/" in handler.path and handler.headers.get("Authorization"):
                send(handler, 307, Location=f"{url}/{handler.path.rpartition('/')[2]}")
                return True
            return False

        fake.first = away
        assert opened(fake) == 3
        assert seen
        assert set(seen) == {None}
        assert fake.blob_requests() < len(seen) + 2, "the way to a blob is asked for once"


def test_a_redirect_within_the_registry_is_shown_who_we_are(fake: FakeRegistry, config: Path) -> None:
    fake.scheme, fake.login = "basic", ("me", "secret")
    config.write_text(json.dumps({"auths": {fake.host: auth("me", "secret")}}))

    def moved(handler: Handler) -> bool:
        if handler.path.startswith("/v2/some/name/blobs/"):
            send(handler, 307, Location=handler.path.replace("some/name", "moved/here"))
            return True
        return False

    fake.first = moved
    assert opened(fake) == 3


def test_a_redirect_in_a_circle_or_to_nowhere_is_an_error(fake: FakeRegistry) -> None:
    for location in ("/v2/some/name/manifests/latest", "gopher://host/x", "ftp:"):
        fake.first = lambda handler, location=location: send(handler, 302, Location=location) is None  # type: ignore[misc]
        with pytest.raises(InvalidInputError) as caught:
            opened(fake)
        assert caught.value.kind == "bad-redirect"


def test_secrets_are_not_sent_to_a_server_of_tokens_without_tls(fake: FakeRegistry) -> None:
    from sapwood.image.registry import Registry

    asked = Registry(ImageName.parse("oci+https://localhost:1/some/name"))
    with pytest.raises(DeniedError) as caught:
        asked._ask_for_token({"realm": f"http://{fake.host}/token"}, Login("me", "secret"))
    assert caught.value.kind == "realm-insecure"
    assert fake.asked == []
    with pytest.raises(InvalidInputError, match="without TLS") as refused:
        asked._followed("https://localhost:1/v2/", _moved(f"http://{fake.host}/blob"))
    assert refused.value.kind == "bad-redirect"


def test_a_registry_is_spoken_to_over_tls_and_believed_by_its_authority_alone(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "it.crt"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += [
        "-subj",
        "/CN=it",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with replying(fake.answer, tls=context) as url:
        host = f"localhost:{url.rpartition(':')[2]}"
        name = ImageName.parse(f"oci+https://{host}/some/name")
        with pytest.raises(UnavailableError, match="its certificate is not trusted") as caught:
            open_image(name)
        assert caught.value.kind == "store-unreachable"
        assert fake.asked == []
        folder = tmp_path / "config" / "containers" / "certs.d" / host
        folder.mkdir(parents=True)
        (folder / "it.crt").write_bytes(certificate.read_bytes())
        assert open_image(name)[0].file_map.entries == 3
        other = ImageName.parse(f"oci+https://127.0.0.1:{host.partition(':')[2]}/some/name")
        with pytest.raises(UnavailableError, match="its certificate is not trusted"):
            open_image(other)


def _moved(to: str):  # type: ignore[no-untyped-def]
    from email.message import Message

    from sapwood.image.wire import Reply

    headers = Message()
    headers["Location"] = to
    return Reply(307, headers, b"", False)  # type: ignore[arg-type]
