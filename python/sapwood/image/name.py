"""Names of images: what people write to say which one they mean.

Invariant: a name that was read is spelt in one way, and no part of it can lead out of the place that it names. Not
here: what lies there (`registry`, `layout`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from sapwood.errors import InvalidInputError

__all__ = ["ImageName"]

_REMOTE = {"oci://": None, "oci+http://": True, "oci+https://": False}
_LOCAL = ("oci:", "oci-archive:", "docker-archive:")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_MOST_OF_A_PORT = 65535
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?")
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


@dataclass(frozen=True)
class ImageName:
    """Which image: `transport` is how it is reached, `place` a registry's host or a path of this machine."""

    transport: str
    place: str
    repository: str = ""
    tag: str | None = None
    digest: str | None = None
    platform: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read a name.

        Raises:
            InvalidInputError: `bad-address`.
        """
        said, question, query = text.partition("?")
        wanted = None
        if question:
            key, _, wanted = query.partition("=")
            if key != "platform" or not _PLATFORM.fullmatch(wanted):
                raise _bad(text, "what stands behind the ? is no platform", "?platform=linux/arm64")
        said, at, digest = said.rpartition("@") if "@sha256:" in said else (said, "", "")
        if at and not _DIGEST.fullmatch(digest):
            raise _bad(text, "the digest is not sha256: and 64 hex digits", None)
        for prefix in _REMOTE:
            if said.startswith(prefix):
                return cls._remote(text, prefix, said.removeprefix(prefix), digest or None, wanted)
        for prefix in _LOCAL:
            if said.startswith(prefix):
                path, _, tag = said.removeprefix(prefix).partition(":")
                if not path:
                    raise _bad(text, "it names no place", f"{prefix}PATH:TAG")
                return cls(prefix, os.path.abspath(path), "", tag or None, digest or None, wanted)
        raise _bad(text, "no image has such a name", "oci://HOST/REPOSITORY:TAG")

    @classmethod
    def _remote(cls, text: str, prefix: str, said: str, digest: str | None, wanted: str | None) -> ImageName:
        host, slash, rest = said.partition("/")
        repository, colon, tag = rest.partition(":")
        if "@" in host:  # a secret may stand there, and is not said again
            there = host.rpartition("@")[2]
            raise _bad(f"{prefix}…@{there}/{rest}", "a login is no part of a name", f"docker login {there}")
        is_host = _HOST.fullmatch(host)
        if not slash or not is_host or int(is_host[1] or 0) > _MOST_OF_A_PORT:
            raise _bad(text, "it names no registry and repository", f"{prefix}docker.io/library/{host or 'busybox'}")
        if host in ("docker.io", "index.docker.io"):
            host = "docker.io"
            repository = repository if "/" in repository else f"library/{repository}"
        if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
            raise _bad(text, "it names no repository", f"{prefix}{host}/name:tag, in lower case")
        if colon and not _TAG.fullmatch(tag):
            raise _bad(text, f"{tag!r} is no tag", f"{prefix}{host}/{repository}:latest")
        return cls(prefix, host, repository, tag or (None if digest else "latest"), digest, wanted)

    def __str__(self) -> str:
        name = f"{self.place}/{self.repository}" if self.is_remote else self.place
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.transport}{name}{tag}{digest}" + (f"?platform={self.platform}" if self.platform else "")

    @property
    def is_remote(self) -> bool:
        """In a registry, not on this machine."""
        return self.transport in _REMOTE

    @property
    def is_plain(self) -> bool:
        """Asked for over HTTP without TLS: where the name says so, and of this very machine."""
        said = _REMOTE[self.transport]
        return bool(_LOOPBACK.fullmatch(self.place)) if said is None else said

    @property
    def wanted_platform(self) -> tuple[str, str, str]:
        """Operating system, architecture and variant that are wanted: this machine's, unless it says others."""
        if self.platform:
            parts = self.platform.split("/")
            return parts[0], parts[1], parts[2] if len(parts) > 2 else ""
        machine = os.uname().machine
        return "linux", _ARCHITECTURES.get(machine, machine), "v7" if machine == "armv7l" else ""

    def pinned(self, digest: str) -> ImageName:
        """Return the name of what has this digest, whatever the tag says."""
        return replace(self, digest=digest)

    def of_platform(self, wanted: str | None) -> ImageName:
        """Return the name of the image for a platform, if one is given.

        Raises:
            InvalidInputError: `bad-address`: it is none.
        """
        if wanted is None:
            return self
        if not _PLATFORM.fullmatch(wanted):
            raise _bad(wanted, "it is no platform", "--platform linux/arm64")
        return replace(self, platform=wanted)


def _bad(text: str, found: str, hint: str | None) -> InvalidInputError:
    return InvalidInputError(f"{text}: {found}", kind="bad-address", hint=hint, address=text)
