"""From our errors to what gRPC says, and from what clients name to digests.

Invariant: whatever goes wrong in a call, the client gets a status whose text says what and, where there is a remedy,
which; a bug of ours does not end the server. Digests that pass `name_of` are 64 hex digits and a size.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, NoReturn, TypeVar

import grpc

from sapwood.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    UnavailableError,
)
from sapwood.reapi.blobs import Name
from sapwood.reapi.protocol import remote_execution_pb2 as reapi

__all__ = [
    "Resource",
    "answering",
    "bad_digest",
    "name_of",
    "parse_resource",
    "require_instance",
    "require_named",
    "status_of",
    "streaming",
]

_LOG = logging.getLogger("sapwood.serve")
_Code = grpc.StatusCode
_KINDS = {
    "disk-full": _Code.RESOURCE_EXHAUSTED,
    "staging-full": _Code.RESOURCE_EXHAUSTED,
    "batch-too-large": _Code.INVALID_ARGUMENT,
    "out-of-range": _Code.OUT_OF_RANGE,
    "too-many-calls": _Code.RESOURCE_EXHAUSTED,
    "too-many-announced": _Code.RESOURCE_EXHAUSTED,
    "too-many-readers": _Code.RESOURCE_EXHAUSTED,
    "not-packed": _Code.UNAVAILABLE,
}
_CLASSES: tuple[tuple[type[SapwoodError], grpc.StatusCode], ...] = (
    (InvalidInputError, _Code.INVALID_ARGUMENT),
    (NotFoundError, _Code.NOT_FOUND),
    (ConflictError, _Code.ABORTED),
    (CorruptError, _Code.DATA_LOSS),
    (UnavailableError, _Code.UNAVAILABLE),
    (DeniedError, _Code.PERMISSION_DENIED),
)
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_SHA256 = (reapi.DigestFunction.UNKNOWN, reapi.DigestFunction.SHA256)
# Of a clock's width; what is more can be no blob.
_LARGEST = 1 << 50

Method = TypeVar("Method", bound=Callable[..., Any])


def status_of(error: SapwoodError) -> tuple[grpc.StatusCode, str]:
    """Return status and text of an error."""
    code = _KINDS.get(error.kind) or next((code for kind, code in _CLASSES if isinstance(error, kind)), _Code.INTERNAL)
    return code, f"{error} ({error.kind})" + (f"; hint: {error.hint}" if error.hint else "")


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    if not context.is_active():  # nobody listens any more
        context.abort(_Code.CANCELLED, "the client went away")
    if isinstance(error, SapwoodError):
        context.abort(*status_of(error))
    _LOG.error("a call ended by a bug of sapwood", exc_info=error)
    context.abort(_Code.INTERNAL, f"a bug of sapwood: {type(error).__name__}: {error}")


def answering(method: Method) -> Method:
    """Let a unary method end in a status when it raises."""

    @wraps(method)
    def call(self: object, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except Exception as error:
            if _is_abort(context):
                raise
            _abort(context, error)

    return call  # type: ignore[return-value]


def streaming(method: Method) -> Method:
    """Let a method that yields its answers end in a status when it raises."""

    @wraps(method)
    def call(self: object, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from method(self, request, context)
        except Exception as error:
            if _is_abort(context):
                raise
            _abort(context, error)

    return call  # type: ignore[return-value]


def _is_abort(context: grpc.ServicerContext) -> bool:
    return context.code() is not None  # type: ignore[attr-defined]


def name_of(digest: reapi.Digest) -> Name:
    """Return a digest that a client sent, as a name.

    Raises:
        InvalidInputError: `bad-digest`.
    """
    name, size = digest.hash, digest.size_bytes
    if not _HEX.match(name) or not 0 <= size < _LARGEST:
        raise bad_digest(name, size)
    return name, size


def bad_digest(name: str, size: int | str) -> InvalidInputError:
    """Return what to raise when a client names a blob by what is no digest."""
    return InvalidInputError(
        f"{name[:80]}/{str(size)[:20]}: no digest",
        kind="bad-digest",
        hint="64 lower-case hex digits of SHA-256, and the size",
    )


def require_instance(served: str, request: Any) -> None:
    """Raise unless a request is for what is served, and by digests of SHA-256.

    Raises:
        NotFoundError: `instance-missing`.
        InvalidInputError: `bad-digest-function`.
    """
    require_named(served, request.instance_name)
    if request.digest_function not in _SHA256:
        known = reapi.DigestFunction.Value.Name(request.digest_function) if request.digest_function < 11 else "?"
        raise InvalidInputError(f"digests are SHA256 here, not {known}", kind="bad-digest-function")


def require_named(served: str, named: str) -> None:
    """Raise unless the instance that is named is what is served.

    Raises:
        NotFoundError: `instance-missing`.
    """
    if named != served:
        raise NotFoundError(
            f"there is no instance {named[:80]!r} here, only {served!r}",
            kind="instance-missing",
            hint=f"--remote_instance_name={served}",
        )


@dataclass(frozen=True)
class Resource:
    """What a ByteStream names: a blob, perhaps compressed, and of an upload what makes it another than others."""

    blob: Name
    is_zstd: bool
    upload: str | None


def parse_resource(served: str, text: str, *, is_upload: bool) -> Resource:
    """Parse `[INSTANCE/][uploads/ID/](blobs|compressed-blobs/zstd)/HASH/SIZE[/...]`.

    Raises:
        InvalidInputError: `bad-resource`, `bad-digest`, `bad-compressor`.
        NotFoundError: `instance-missing`.
    """
    parts = text.split("/") if len(text) < 4096 else []
    # No part of an instance's name is one of these words.
    at = next((at for at, part in enumerate(parts) if part in ("uploads", "blobs", "compressed-blobs")), None)
    bad = InvalidInputError(
        f"{text[:160]!r}: no resource",
        kind="bad-resource",
        hint=f"[INSTANCE/]{'uploads/UUID/' if is_upload else ''}blobs/HASH/SIZE",
    )
    if at is None or (parts[at] == "uploads") != is_upload:
        raise bad
    require_named(served, "/".join(parts[:at]))
    upload = parts[at + 1] if is_upload and at + 1 < len(parts) else None
    rest = parts[at + 2 :] if is_upload else parts[at:]
    is_zstd = rest[:1] == ["compressed-blobs"]
    if is_zstd and rest[1:2] != ["zstd"]:
        raise InvalidInputError(f"{text[:160]!r}: a compressor that is none here", kind="bad-compressor", hint="zstd")
    names = rest[2:] if is_zstd else rest[1:]
    if rest[:1] not in (["blobs"], ["compressed-blobs"]) or len(names) < 2 or (len(names) > 2 and not is_upload):
        raise bad
    name, size = names[:2]
    if not _HEX.match(name) or not re.fullmatch(r"[0-9]{1,15}", size, re.ASCII):
        raise bad_digest(name, size)
    return Resource((name, int(size)), is_zstd, upload)
