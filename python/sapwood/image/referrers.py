"""Artifacts beside images: what refers to a manifest by its `subject`, such as a profile of what is read of it.

Promise: what is attached is found by its subject's digest, where the registry keeps no account of that, by the tag
`sha256-HEX`, which is an index of it; what is given out is proved by its digest. That tag is read and written back:
two who attach to one image at the same moment may lose one of both entries, which is attached again then (no registry
offers better); each looks whether its own is there before it ends. Sources: OCI distribution-spec 1.1, "Listing
Referrers" and "Referrers Tag Schema"; image-spec 1.1, "Guidelines for Artifact Usage".

    subject = Described(digest, size, media_type)             # of the image's manifest, or index
    attached = attach(place, subject, ARTIFACT_TYPE, data, MEDIA_TYPE, {"name": "…"})
    for one in referrers(place, digest, ARTIFACT_TYPE):       # the last that was attached is the last
        data = read(place, one)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sapwood.errors import ConflictError, CorruptError
from sapwood.image.manifest import Described
from sapwood.image.upload import WritePlace

__all__ = ["attach", "detach", "read", "referrers"]

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_TIMES = 5
_MOST = 64 << 20


def attach(
    place: WritePlace,
    subject: Described,
    artifact_type: str,
    data: bytes,
    media_type: str,
    annotations: Mapping[str, str] | None = None,
) -> Described:
    """Let `data` refer to `subject`, and return what describes its manifest.

    The same data with the same annotations is the same artifact, and attached once.

    Raises:
        ConflictError: `referrers-busy`: others write the list of what refers to it, again and again.
        SapwoodError: as `WritePlace`.
    """
    empty, blob = place.put(b"{}"), place.put(data)
    said: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "artifactType": artifact_type,
        "config": {"mediaType": _EMPTY, "digest": empty.digest, "size": empty.size},
        "layers": [{"mediaType": media_type, "digest": blob.digest, "size": blob.size}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
    }
    if annotations:
        said["annotations"] = dict(sorted(annotations.items()))
    manifest = json.dumps(said, separators=(",", ":")).encode()
    described, noted = place.put_document(manifest, _MANIFEST, is_root=True)
    if noted != subject.digest and place.referrers(subject.digest) is None:
        entry = {
            "mediaType": _MANIFEST,
            "digest": described.digest,
            "size": described.size,
            "artifactType": artifact_type,
        } | ({"annotations": said["annotations"]} if annotations else {})
        _enter(place, _tag(subject.digest), entry)
    return Described(described.digest, described.size, artifact_type, dict(annotations or {}))


def referrers(place: WritePlace, digest: str, artifact_type: str | None = None) -> list[Described]:
    """Return what refers to a manifest or index, of one type if one is given; `media_type` is the artifact's type.

    Raises:
        CorruptError: `image-corrupt`.
        SapwoodError: as `WritePlace`.
    """
    data = place.referrers(digest)
    if data is None:
        data = place.document(_tag(digest))
    found = []
    for entry in _entries(place, data):
        kind, name, size = entry.get("artifactType"), entry.get("digest"), entry.get("size")
        said = entry.get("annotations")
        if isinstance(kind, str) and isinstance(name, str) and isinstance(size, int) and artifact_type in (None, kind):
            notes = said if isinstance(said, dict) else {}
            found.append(Described(name, size, kind, {k: v for k, v in notes.items() if isinstance(v, str)}))
    return found


def detach(place: WritePlace, digest: str, gone: Iterable[str]) -> None:
    """Let artifacts, by their digests, refer to `digest` no longer, where that can be done.

    Raises:
        SapwoodError: as `attach`.
    """
    names = set(gone)
    if names and place.referrers(digest) is None:
        there = _entries(place, place.document(_tag(digest)))
        kept = [one for one in there if one.get("digest") not in names]
        if len(kept) < len(there):
            _write(place, _tag(digest), kept)
    for name in sorted(names):
        place.remove_document(name)


def read(place: WritePlace, attached: Described) -> bytes:
    """Return what an artifact holds, proved.

    Raises:
        CorruptError: `image-corrupt`: it is not what its digest says, or no artifact of ours.
        NotFoundError: `object-missing`.
    """
    data = place.document(attached.digest)
    try:
        [layer] = json.loads(data or b"")["layers"]
        blob = Described(str(layer["digest"]), int(layer["size"]))
    except (ValueError, RecursionError, KeyError, TypeError):
        blob = None
    if blob is None or not 0 <= blob.size <= _MOST:
        raise CorruptError(f"{place.url}: {attached.digest[:19]} is no artifact that is read", kind="image-corrupt")
    return place.read(blob)


def _enter(place: WritePlace, tag: str, entry: dict[str, Any]) -> None:
    for _ in range(_TIMES):
        there = _entries(place, place.document(tag))
        if any(one.get("digest") == entry["digest"] for one in there):
            return
        _write(place, tag, [*there, entry])
    raise ConflictError(
        f"{place.url}: others write the list {tag[:20]} of what refers to the image at the same time",
        kind="referrers-busy",
        hint="run it again",
    )


def _write(place: WritePlace, tag: str, entries: list[dict[str, Any]]) -> None:
    said = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}
    place.put_document(json.dumps(said, separators=(",", ":")).encode(), _INDEX, tag=tag)


def _entries(place: WritePlace, data: bytes | None) -> list[dict[str, Any]]:
    if data is None:
        return []
    try:
        found = json.loads(data)["manifests"]
    except (ValueError, RecursionError, KeyError, TypeError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise CorruptError(f"{place.url}: what should say who refers to an image does not", kind="image-corrupt")
    return found


def _tag(digest: str) -> str:
    return digest.replace(":", "-")
