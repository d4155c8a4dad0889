"""Who may do what: bearer tokens and their roles.

Invariant: a call is let through only if its token has the role that its method needs; a token is compared as a hash, so
that nothing of it can be learned from how long that takes. Without a file of tokens everybody may do everything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from sapwood.errors import DeniedError, InvalidInputError, NotFoundError

__all__ = ["Access"]

# Each may what those before it may.
_ROLES = ("read", "upload", "write")
_CAS = "/build.bazel.remote.execution.v2.ContentAddressableStorage/"
_NEEDS = {
    f"{_CAS}BatchUpdateBlobs": "upload",
    f"{_CAS}SpliceBlob": "upload",
    "/google.bytestream.ByteStream/Write": "upload",
    "/google.bytestream.ByteStream/QueryWriteStatus": "upload",
    "/sapwood.v1.Deliveries/Deliver": "upload",
    "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult": "write",
}
_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+)\s*\Z")


class Access(grpc.ServerInterceptor):
    """Tokens by their hashes, each with a role; None: everybody may do everything."""

    def __init__(self, tokens: dict[str, str] | None) -> None:
        self._tokens = tokens

    @classmethod
    def read(cls, path: str | None) -> Access:
        """Read a file with a line `NAME ROLE TOKEN` for each token; `#` begins a comment.

        Raises:
            NotFoundError: `path-missing`.
            DeniedError: `path-denied`.
            InvalidInputError: `bad-tokens`.
        """
        if path is None:
            return cls(None)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise NotFoundError(f"{path} is missing", kind="path-missing", hint="--tokens FILE") from None
        except PermissionError:
            raise DeniedError(f"{path} may not be read", kind="path-denied", hint=f"ls -l {path}") from None
        tokens = dict[str, str]()
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("#", 1)[0].strip()
            if not line:
                continue
            found = _LINE.match(line)
            if found is None or found[2] not in _ROLES:
                raise InvalidInputError(
                    f"{path}, line {number}: no token",
                    kind="bad-tokens",
                    hint="NAME ROLE TOKEN, ROLE being read, upload or write; TOKEN may be sha256:<hex of it>",
                )
            token = found[3].removeprefix("sha256:") if found[3].startswith("sha256:") else _hash(found[3])
            if tokens.setdefault(token, found[2]) != found[2]:
                raise InvalidInputError(
                    f"{path}, line {number}: the token has another role before",
                    kind="bad-tokens",
                    hint="one role a token, which includes those below it",
                )
        if not tokens:
            raise InvalidInputError(
                f"{path}: no token, so nobody would be let in", kind="bad-tokens", hint="NAME ROLE TOKEN in a line"
            )
        return cls(tokens)

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self._tokens is None

    def may_update(self, context: grpc.ServicerContext) -> bool:
        """Say whether a call may store results of actions."""
        return self._may(_role(self._tokens, context.invocation_metadata()), "write")

    def _may(self, role: str | None, needed: str) -> bool:
        if self._tokens is None:
            return True
        return role is not None and _ROLES.index(role) >= _ROLES.index(needed)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Let a call through, or answer it with what it lacks."""
        handler = continuation(details)
        if self._tokens is None or handler is None:
            return handler
        role, needed = _role(self._tokens, details.invocation_metadata), _NEEDS.get(details.method, "read")
        if self._may(role, needed):
            return handler
        if role is None:
            return _refusing(handler, grpc.StatusCode.UNAUTHENTICATED, "a bearer token of this server is needed")
        text = f"the token has the role {role}, and {details.method.rpartition('/')[2]} needs {needed}"
        return _refusing(handler, grpc.StatusCode.PERMISSION_DENIED, text)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _role(tokens: dict[str, str] | None, metadata: Any) -> str | None:
    for key, value in metadata or ():
        if key == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
            return (tokens or {}).get(_hash(value[7:].strip()))
    return None


def _refusing(handler: Any, code: grpc.StatusCode, text: str) -> Any:
    def refuse(_: Any, context: grpc.ServicerContext) -> Any:
        context.abort(code, text)

    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
