"""Signed results: believed if a listed key has signed them, checked beside OpenSSH's own program."""

import base64
import sys
from pathlib import Path

import pytest
from google.protobuf import any_pb2, wrappers_pb2

from sapwood.build import derivation
from sapwood.build.signing import Signer, Trusted
from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from tests.support.building import Heard, Place
from tests.support.cli import Sapwood
from tests.support.sshkeys import keygen, make_key

SIGNATURE = "type.googleapis.com/sapwood.Signature"
ACTION = "sha256:" + "ab" * 32


@pytest.fixture(scope="session")
def keys(tmp_path_factory) -> Path:
    """A directory of keys: `ours`, `theirs`, which nobody trusts, and some that cannot be used."""
    home = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_key(home / name)
    make_key(home / "secret", "-t", "ed25519", "-N", "a passphrase")
    make_key(home / "curve", "-t", "ecdsa", "-N", "")
    (home / "trusted").write_text("# whom we believe\n\n" + (home / "ours.pub").read_text())
    return home


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.sources.mkdir()
    return place


def one(place: Place):
    return derivation("one", "echo made >out", outputs=["out"], base=place.sources)


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return body and signature of a result, as docs/build.md says where they are."""
    last = reapi.ActionResult.FromString(data).execution_metadata.auxiliary_metadata[-1]
    assert last.type_url == SIGNATURE
    trailer = reapi.ActionResult()
    trailer.execution_metadata.auxiliary_metadata.append(last)
    end = trailer.SerializeToString(deterministic=True)
    assert data.endswith(end)
    return data[: -len(end)], wrappers_pb2.BytesValue.FromString(last.value).value


def armoured(signature: bytes) -> str:
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.encodebytes(signature).decode()}-----END SSH SIGNATURE-----\n"


def test_what_a_listed_key_signed_is_known_and_all_else_is_made_anew(place, keys):
    trusted = Trusted(keys / "trusted")
    assert not place.build(one(place)).made["one"].is_hit
    # Unsigned, then by somebody else: as if there were none. Who asks for no signature takes what there is.
    for signer, found in ((Signer(keys / "theirs"), False), (Signer(keys / "ours"), False), (None, True)):
        builder = place.builder(one(place), signer=signer, trusted=trusted)
        assert builder.build().made["one"].is_hit is found
        assert len(builder.results.distrusted) == (0 if found else 1)
        assert place.build(one(place)).made["one"].is_hit
    assert [result is not None for *_, result in place.builder(one(place), trusted=trusted).survey()] == [True]


def test_a_poisoned_result_is_not_used_and_is_healed(place, keys):
    """One who may write to the store, but has no key of the list, changes what the signed result says."""
    signer, trusted = Signer(keys / "ours"), Trusted(keys / "trusted")
    place.build(one(place), signer=signer)
    evil = derivation("evil", "echo poison >out", outputs=["out"], base=place.sources)
    place.build(evil, signer=signer)
    store = place.store()
    action = next(action for action, *_ in [place.builder(one(place)).action(one(place), {})]).digest
    name = action.removeprefix("sha256:")
    signed, version = store.read_action(name)
    other, _ = store.read_action(place.builder(evil).action(evil, {})[0].digest.removeprefix("sha256:"))
    body, signature = split(signed)
    other_body, _ = split(other)

    def with_signature(data: bytes) -> bytes:
        value = wrappers_pb2.BytesValue(value=signature).SerializeToString()
        added = reapi.ActionResult()
        added.execution_metadata.auxiliary_metadata.append(any_pb2.Any(type_url=SIGNATURE, value=value))
        return data + added.SerializeToString()

    assert with_signature(body) == signed
    more = reapi.ActionResult(exit_code=0, stdout_raw=b"more").SerializeToString()
    poisoned = (
        other,  # signed, but for another action
        with_signature(other_body),
        signed + more,
        more + signed,
        body,
        signed[:-1],
        b"\xff",
    )
    for data in poisoned:
        version = store.swap_action(name, data, version)
        heard = Heard()
        builder = place.builder(one(place), signer=signer, trusted=trusted, listener=heard)
        built = builder.build()
        assert (heard.names, len(builder.results.distrusted)) == (["one"], 1)
        assert place.read(built, "one", b"out") == b"made\n"
        found, version = store.read_action(name)
        assert trusted.body(action, found) is not None


def test_openssh_itself_checks_what_is_signed_and_signs_what_is_believed(keys, tmp_path):
    body = reapi.ActionResult(stdout_raw=b"said").SerializeToString()
    data = Signer(keys / "ours").sign(ACTION, body)
    said, signature = split(data)
    assert said == body
    (tmp_path / "sig").write_text(armoured(signature))
    (tmp_path / "allowed").write_text("ours@home " + (keys / "ours.pub").read_text())
    message = ACTION.encode() + b"\n" + body
    keygen(
        "-Y", "verify", "-f", tmp_path / "allowed", "-I", "ours@home", "-n", "sapwood-result", "-s", tmp_path / "sig",
        input=message,
    )  # fmt: skip
    (tmp_path / "message").write_bytes(message)
    keygen("-Y", "sign", "-f", keys / "ours", "-n", "sapwood-result", tmp_path / "message")
    theirs = "".join((tmp_path / "message.sig").read_text().splitlines()[1:-1])
    assert base64.b64decode(theirs) == signature
    trusted = Trusted(keys / "trusted")
    assert trusted.body(ACTION, data) == body
    assert trusted.body("sha256:" + "cd" * 32, data) is None
    # Signed by the same key for another purpose.
    keygen("-Y", "sign", "-f", keys / "ours", "-n", "file", tmp_path / "message", input=b"y\n")
    other = base64.b64decode("".join((tmp_path / "message.sig").read_text().splitlines()[1:-1]))
    assert trusted.body(ACTION, data.replace(signature, other)) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("secret", "passphrase"),
        ("curve", "no Ed25519 key"),
        ("trusted", "trusted: "),
        ("nowhere", "No such file"),
    ],
)
def test_a_key_that_cannot_sign_is_said_so(keys, name, said):
    with pytest.raises(InvalidInputError, match=said) as error:
        Signer(keys / name)
    assert error.value.kind == "bad-key"
    assert str(error.value).count(str(keys / name)) == 1


def test_a_list_that_names_no_keys_is_refused_with_the_line(keys, tmp_path):
    listed = tmp_path / "listed"
    for text, said in (
        ("# nobody\n", "no key in it"),
        ((keys / "ours.pub").read_text() + "ssh-ed25519 AAAA\n", "line 2"),
        ((keys / "curve.pub").read_text(), "line 1: no Ed25519 key"),
    ):
        listed.write_text(text)
        with pytest.raises(InvalidInputError, match=said) as error:
            Trusted(listed)
        assert error.value.kind == "bad-key"


def test_without_the_library_it_says_what_to_install(keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UnavailableError) as error:
        Trusted(keys / "trusted")
    assert error.value.kind == "cryptography-missing"


def test_the_command_signs_and_believes_and_says_what_was_not_used(keys, tmp_path, monkeypatch):
    run = Sapwood(tmp_path)
    (tmp_path / "BUILD.py").write_text(
        "from sapwood.build import derivation\none = derivation('one', 'echo 1 >out', outputs=['out'])\n"
    )
    run.good("build", ".")
    monkeypatch.setenv("SAPWOOD_TRUSTED", str(keys / "trusted"))
    assert "not known" in run.good("build", "show", ".").out
    said = run.good("build", "--sign", keys / "ours", ".")
    assert said.err.splitlines()[-1] == "1 result that no trusted key has signed: not used"
    again = run.good("build", "--json", ".").document
    assert (again["hits"], again["untrusted"]) == (1, 0)
    assert (
        run("build", "--trusted", tmp_path / "nowhere", ".").err.splitlines()[0].endswith("No such file or directory")
    )
    # As of a variable that is not set: no list, and not everybody.
    monkeypatch.delenv("SAPWOOD_TRUSTED")
    assert run("build", "--trusted", "", ".").code == 2
