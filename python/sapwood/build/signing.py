"""Signatures of results: made by an SSH key, believed if by one of a list.

Invariant: what is believed is exactly the bytes that were signed, for the action they were signed for; nothing is read
from a result before that. Bytes: docs/build.md, "Signatures". Not here: what results say (`results`).
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING

from google.protobuf import any_pb2, message, wrappers_pb2

from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.reapi.protocol import remote_execution_pb2 as reapi

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["Signer", "Trusted"]

_SIGNATURE = "type.googleapis.com/sapwood.Signature"
_MAGIC = b"SSHSIG"
_NAMESPACE = b"sapwood-result"
_HASH = b"sha512"
_KIND = b"ssh-ed25519"
_MAKE_ONE = "ssh-keygen -t ed25519 -N '' -f builder"


class Signer:
    """Signs by the private key in `file`.

    Raises:
        InvalidInputError: `bad-key`.
        UnavailableError: `cryptography-missing`.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self._key = _private(file)
        self._blob = _blob(self._key.public_key())

    def sign(self, action: str, body: bytes) -> bytes:
        """Return a result and its signature: `body` is what was made by the action of that digest."""
        signature = _string(_KIND) + _string(self._key.sign(_signed(action, body)))
        envelope = _string(self._blob) + _string(_NAMESPACE) + _string(b"") + _string(_HASH) + _string(signature)
        return body + _trailer(_MAGIC + struct.pack(">I", 1) + envelope)


class Trusted:
    """Believes what the keys listed in `file` have signed.

    Raises:
        InvalidInputError: `bad-key`.
        UnavailableError: `cryptography-missing`.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self._keys = {_blob(key): key for key in _listed(file)}

    def body(self, action: str, data: bytes) -> bytes | None:
        """Return what a result of the action of that digest says, if a trusted key says so; else None."""
        from cryptography.exceptions import InvalidSignature

        signature = _signature(data)
        body = data[: -len(_trailer(signature))] if signature else b""
        if not signature or body + _trailer(signature) != data:
            return None
        try:
            blob, signed = _open(signature)
            self._keys[blob].verify(signed, _signed(action, body))
        except (KeyError, ValueError, struct.error, InvalidSignature):
            return None
        return body


def _signed(action: str, body: bytes) -> bytes:
    """Return what is signed for a body, as OpenSSH wraps it."""
    said = hashlib.sha512(action.encode() + b"\n" + body).digest()
    return _MAGIC + _string(_NAMESPACE) + _string(b"") + _string(_HASH) + _string(said)


def _trailer(signature: bytes) -> bytes:
    one = any_pb2.Any(
        type_url=_SIGNATURE,
        value=wrappers_pb2.BytesValue(value=signature).SerializeToString(deterministic=True),
    )
    metadata = reapi.ExecutedActionMetadata(auxiliary_metadata=[one])
    return reapi.ActionResult(execution_metadata=metadata).SerializeToString(deterministic=True)


def _signature(data: bytes) -> bytes | None:
    """Return the signature that a result ends with."""
    try:
        *_, last = reapi.ActionResult.FromString(data).execution_metadata.auxiliary_metadata
        return wrappers_pb2.BytesValue.FromString(last.value).value if last.type_url == _SIGNATURE else None
    except (message.DecodeError, ValueError):
        return None


def _open(signature: bytes) -> tuple[bytes, bytes]:
    """Return whose signature it is, and the signature itself.

    Raises:
        ValueError, struct.error: it is none, or not for results.
    """
    if not signature.startswith(_MAGIC + struct.pack(">I", 1)):
        raise ValueError("no signature of OpenSSH")
    blob, namespace, _, hashed, inner = _strings(signature[len(_MAGIC) + 4 :])
    kind, signed = _strings(inner)
    if (namespace, hashed, kind) != (_NAMESPACE, _HASH, _KIND):
        raise ValueError("a signature of something else")
    return blob, signed


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (size,) = struct.unpack_from(">I", data)
        if len(data) < 4 + size:
            raise ValueError("it ends too early")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def _blob(key: Ed25519PublicKey) -> bytes:
    return _string(_KIND) + _string(key.public_bytes_raw())


def _private(file: str | os.PathLike[str]) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    data = _read(file)
    try:
        key = load_ssh_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad(f"{os.fspath(file)}: {error}") from error
    except TypeError as error:
        raise _bad(f"{os.fspath(file)}: it has a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad(f"{os.fspath(file)}: no Ed25519 key")
    return key


def _listed(file: str | os.PathLike[str]) -> list[Ed25519PublicKey]:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    keys = []
    for number, line in enumerate(_read(file).splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            key = load_ssh_public_key(line.strip())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _bad(f"{os.fspath(file)}, line {number}: no public key of SSH") from error
        if not isinstance(key, Ed25519PublicKey):
            raise _bad(f"{os.fspath(file)}, line {number}: no Ed25519 key")
        keys.append(key)
    if not keys:
        raise _bad(f"{os.fspath(file)}: there is no key in it")
    return keys


def _read(file: str | os.PathLike[str]) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise _bad(f"{os.fspath(file)}: {error.strerror}") from error


def _bad(what: str) -> InvalidInputError:
    return InvalidInputError(what, kind="bad-key", hint=_MAKE_ONE)


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "cryptography is not installed", kind="cryptography-missing", hint="pip install 'sapwood[build]'"
        ) from error
