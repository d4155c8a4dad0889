"""Manifests, indexes and configurations of images: what is believed of them.

Invariant: what a document says is taken only in the form that it must have, and in bounds; a digest is one of
SHA-256. Not here: where documents come from, and that they are the right ones (`documents`). Sources: OCI image-spec
1.1; docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.image.name import ImageName

__all__ = [
    "MOST_LAYERS",
    "MOST_OF_A_MANIFEST",
    "Described",
    "Manifest",
    "choose",
    "described",
    "parse",
    "require_digest",
]

MOST_LAYERS = 1000
"""Of one image. Docker takes 127."""
MOST_OF_A_MANIFEST = 4 << 20
"""Bytes; registries take no larger ones."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = 1 << 50
_LAYERS = (
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True)
class Described:
    """A blob, as what names it says. Sizes in bytes."""

    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """An image: its configuration, and its layers, the lowest first."""

    config: Described
    layers: tuple[Described, ...]
    media_type: str = "application/vnd.oci.image.manifest.v1+json"


def require_digest(text: object, where: str) -> str:
    """Return a digest.

    Raises:
        InvalidInputError: `not-supported`: it is of another hash.
        CorruptError: `image-corrupt`: it is none.
    """
    if isinstance(text, str) and _DIGEST.fullmatch(text):
        return text
    if isinstance(text, str) and re.fullmatch(r"[a-z0-9+._-]{1,32}:[0-9a-zA-Z=_-]{1,256}", text):
        raise InvalidInputError(f"{where}: a digest by {text.partition(':')[0]}, not SHA-256", kind="not-supported")
    raise _corrupt(where, "a digest that is none")


def parse(data: bytes, where: str) -> Manifest | list[dict[str, Any]]:
    """Read a manifest, or the entries of an index.

    Raises:
        CorruptError: `image-corrupt`.
        InvalidInputError: `not-supported`: a manifest of another kind.
    """
    said = _object(data, where)
    kind = said.get("mediaType", "")
    if said.get("schemaVersion") == 1:
        raise InvalidInputError(
            f"{where}: its manifest is of docker's first schema, which has no digests of its layers as they lie",
            kind="not-supported",
            hint="push it again, by any docker since 1.10",
        )
    if isinstance(said.get("manifests"), list) and ("layers" not in said or kind in _INDEXES):
        return [_an_object(entry, where) for entry in said["manifests"]]
    layers = said.get("layers")
    if not isinstance(layers, list):
        raise _corrupt(where, "its manifest names no layers")
    if len(layers) > MOST_LAYERS:
        raise _corrupt(where, f"it has {len(layers)} layers, more than {MOST_LAYERS}")
    config = described(said.get("config"), where)
    described_layers = tuple(_layer(layer, where) for layer in layers)
    return (
        Manifest(config, described_layers, kind)
        if isinstance(kind, str) and kind
        else Manifest(config, described_layers)
    )


def choose(entries: list[dict[str, Any]], name: ImageName) -> Described:
    """Return the manifest in an index that is for the platform that is wanted.

    Raises:
        NotFoundError: `platform-missing`: there is none; the message says which there are.
        CorruptError: `image-corrupt`.
    """
    system, architecture, variant = name.wanted_platform
    best: tuple[int, Described] | None = None
    known = []
    for entry in entries:
        said = entry.get("platform")
        said = said if isinstance(said, dict) else {}
        found = (said.get("os"), said.get("architecture"), said.get("variant") or "")
        if found[0] == "unknown" or not all(isinstance(word, str) for word in found):
            continue  # what is not to be run: attestations
        known.append("/".join(str(word) for word in found if word))
        # Without a variant any will do, the one that says none first; an older arm runs on a newer one.
        fits = not variant or not found[2] or found[2] == variant
        if found[:2] == (system, architecture) and fits:
            rank = 0 if found[2] == variant else 1
            if best is None or rank < best[0]:
                best = (rank, described(entry, str(name)))
    if best is not None:
        return best[1]
    plain = [entry for entry in entries if "platform" not in entry]
    if len(plain) == len(entries) == 1:
        return described(plain[0], str(name))
    wanted = "/".join(word for word in (system, architecture, variant) if word)
    raise NotFoundError(
        f"{name}: nothing for {wanted}; it is there for: {', '.join(sorted(set(known))[:20]) or 'nothing'}",
        kind="platform-missing",
        hint=f"--platform {known[0]}" if known else None,
        address=str(name),
    )


def _layer(said: object, where: str) -> Described:
    layer = described(said, where)
    if layer.media_type.endswith("+encrypted"):
        raise InvalidInputError(f"{where}: its layers are encrypted", kind="not-supported")
    if not layer.media_type.startswith(_LAYERS):
        raise InvalidInputError(
            f"{where}: no image: it holds {layer.media_type or 'what has no type'}", kind="not-supported"
        )
    return layer


def described(said: object, where: str) -> Described:
    """Return what a document says of a blob.

    Raises:
        CorruptError: `image-corrupt`.
        InvalidInputError: `not-supported`: its digest is of another hash.
    """
    entry = _an_object(said, where)
    size, kind = entry.get("size"), entry.get("mediaType", "")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _LARGEST:
        raise _corrupt(where, "a size that cannot be")
    known = entry.get("annotations")
    annotations = {
        key: value for key, value in (known if isinstance(known, dict) else {}).items() if isinstance(value, str)
    }
    return Described(
        require_digest(entry.get("digest"), where), size, kind if isinstance(kind, str) else "", annotations
    )


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        return _an_object(json.loads(data), where)
    except (ValueError, RecursionError):
        raise _corrupt(where, "a document that is no JSON") from None


def _an_object(said: object, where: str) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise _corrupt(where, "a document of another form")
    return said


def _corrupt(where: str, found: str) -> CorruptError:
    return CorruptError(f"{where}: {found}", kind="image-corrupt", hint="push the image again", address=where)
