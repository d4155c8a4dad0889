"""Where an image lies: what gives its documents and blobs, alike for registries and for this machine.

Invariant: what is given out is unproved, and no longer than was asked for. Not here: what documents say (`manifest`).
Sources: OCI image-layout 1.1; docker's `save` format, versions 1.0 to 1.2.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Protocol

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.image.manifest import MOST_OF_A_MANIFEST, Described, require_digest
from sapwood.image.name import ImageName
from sapwood.image.slices import Slice
from sapwood.store.beside import Ranges
from sapwood.store.naming import begins_as
from sapwood.store.requests import Requests

if TYPE_CHECKING:
    from sapwood.image.registry import Registry

__all__ = ["Place", "open_place"]

# Of an archive of images; each is a blob, or says something of one.
_MOST_MEMBERS = 100_000
_MOST_HOPS = 4


class Place(Protocol):
    """Documents are bytes; which manifest is meant, by its digest, is part of the name or found by `find`."""

    url: str
    registry: Registry | None
    """None on this machine."""

    def find(self, name: ImageName) -> tuple[bytes, str | None]:
        """Return the manifest or index that a name without digest means, and its digest, if that is known before."""
        ...

    def document(self, blob: Described) -> bytes:
        """Return a manifest or an index that another document names, unproved."""
        ...

    def blob(self, blob: Described) -> Ranges: ...
    def reconnect(self) -> None: ...
    @property
    def requests(self) -> Requests: ...


def open_place(name: ImageName, *, offline: bool = False) -> Place:
    """Return where an image lies; nothing is asked of a registry yet, and `offline` nothing ever.

    Raises:
        NotFoundError: `image-missing`: there is nothing.
        InvalidInputError: `not-supported`: it is compressed; `bad-address`: it is no layout, no archive.
        CorruptError: `image-corrupt`.
        UnavailableError, DeniedError: it cannot be read.
    """
    if name.is_remote:
        # Of this machine's images nothing of HTTP need be imported.
        from sapwood.image.remote import open_remote

        return open_remote(name, offline=offline)
    if name.transport == "oci:":
        return _Layout(_Folder(name.place))
    files = _Members(name.place)
    if files.has("oci-layout") or files.has("index.json"):
        return _Layout(files)
    return _Saved(files)


class _Files(Protocol):
    """Files by their names in a directory or an archive."""

    path: str

    def open(self, name: str) -> Slice:
        """Raise FileNotFoundError if there is no such file."""
        ...


class _Folder:
    def __init__(self, path: str) -> None:
        self.path = path
        if not os.path.isdir(path):
            if os.path.exists(path):
                raise InvalidInputError(
                    f"{path}: no OCI layout, which is a directory", kind="bad-address", hint=f"oci-archive:{path}"
                )
            raise _not_there(path)

    def open(self, name: str) -> Slice:
        path = os.path.join(self.path, name)
        # What is no regular file may never end; what is linked to may be anything of this machine.
        if not os.path.isfile(path) or os.path.islink(path):
            raise FileNotFoundError(path)
        return Slice(path)


class _Members:
    """The members of a tar, which is read where it lies."""

    def __init__(self, path: str) -> None:
        self.path = path
        whole = _opened(path)
        [first] = whole.read([(0, min(512, whole.size))])
        if (kind := begins_as(first)) != "tar":
            unpack = {"gzip": "gzip -dk", "zstd": "zstd -dk", "xz": "xz -dk", "bzip2": "bzip2 -dk"}.get(kind or "")
            raise InvalidInputError(
                f"{path}: {f'it is compressed with {kind}' if unpack else 'no tar'}, and cannot be entered anywhere",
                kind="not-supported",
                hint=f"{unpack} {path}" if unpack else None,
            )
        import tarfile

        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for number, member in enumerate(tar):
                    if number == _MOST_MEMBERS:
                        raise _corrupt(path, f"it has more than {_MOST_MEMBERS} members")
                    name = os.path.normpath(member.name).lstrip("/")
                    if member.isreg() and not member.issparse():
                        self._members[name] = (member.offset_data, member.size)
                    elif member.issym():
                        self._links[name] = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
                    elif member.islnk():
                        self._links[name] = os.path.normpath(member.linkname)
        except tarfile.TarError as error:
            raise _corrupt(path, f"it cannot be read as a tar: {error}") from error
        except OSError as error:
            raise UnavailableError(f"cannot read {path}: {error.strerror}", kind="io") from error

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> Slice:
        for _ in range(_MOST_HOPS):
            if name not in self._links:
                break
            name = self._links[name]
        if name not in self._members:
            raise FileNotFoundError(name)
        return Slice(self.path, *self._members[name])


class _Layout:
    """An OCI image layout."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self.url = files.path
        self.registry: Registry | None = None
        self.requests = Requests()

    def find(self, name: ImageName) -> tuple[bytes, str | None]:
        try:
            self._files.open("index.json")
        except FileNotFoundError:
            raise NotFoundError(
                f"{self.url} is no image layout: it has no index.json",
                kind="image-missing",
                hint="sapwood convert, skopeo copy and buildah push write layouts",
                address=self.url,
            ) from None
        index = _json(_document(self._files, "index.json"), self.url)
        entries = index.get("manifests")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise _corrupt(self.url, "its index.json names no manifests")
        tags = [_tag(entry) for entry in entries]
        # What refers to an image is none.
        is_meant = [
            tag == name.tag if name.tag else "artifactType" not in entry
            for entry, tag in zip(entries, tags, strict=True)
        ]
        # One that stands there with a name and without is one image.
        found = list(
            {str(entry.get("digest")): entry for entry, is_it in zip(entries, is_meant, strict=True) if is_it}.values()
        )
        if len(found) != 1:
            raise _no_such(name, self.url, len(found), {tag for tag in tags if tag})
        digest, size = require_digest(found[0].get("digest"), self.url), found[0].get("size")
        return self.document(Described(digest, size if isinstance(size, int) else 0)), digest

    def document(self, blob: Described) -> bytes:
        return _document(self._files, _blob_name(blob.digest))

    def blob(self, blob: Described) -> Ranges:
        return _sized(self._files, _blob_name(blob.digest), blob)

    def reconnect(self) -> None:
        """Do nothing: there are no connections."""


class _Saved:
    """What `docker save` wrote before it wrote layouts, and podman writes: its layers are plain tars."""

    def __init__(self, files: _Files) -> None:
        self._files = files
        self.url = files.path
        self.registry: Registry | None = None
        self.requests = Requests()
        self._names: dict[str, str] = {}

    def find(self, name: ImageName) -> tuple[bytes, str | None]:
        said = self._images()
        found = [image for image in said if name.tag is None or any(_is(tag, name.tag) for tag in _tags(image))]
        if len(found) != 1:
            raise _no_such(name, self.url, len(found), {tag for image in said for tag in _tags(image)})
        return self._manifest(found[0]), None

    def document(self, blob: Described) -> bytes:
        for image in self._images():
            data = self._manifest(image)
            if blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}":
                return data
        raise NotFoundError(f"{self.url}: no image {blob.digest}", kind="image-missing")

    def _images(self) -> list[dict[str, Any]]:
        return _json_list(_document(self._files, "manifest.json"), self.url)

    def _manifest(self, image: dict[str, Any]) -> bytes:
        """Return a manifest that says what is said of an image."""
        config, layers = image.get("Config"), image.get("Layers")
        if not isinstance(config, str) or not isinstance(layers, list):
            raise _corrupt(self.url, "its manifest.json names no layers")
        text = _document(self._files, config)
        rootfs = _json(text, self.url).get("rootfs")
        diffs = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(diffs, list) or len(diffs) != len(layers):
            raise _corrupt(self.url, "its configuration does not say what its layers are")
        described = []
        for layer, diff in zip(layers, diffs, strict=True):
            digest = require_digest(diff, self.url)
            if not isinstance(layer, str):
                raise _corrupt(self.url, "a layer without a name")
            self._names[digest] = layer
            size = _found(self._files, layer).size
            kind = "application/vnd.oci.image.layer.v1.tar"
            described.append({"mediaType": kind, "digest": digest, "size": size})
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        self._names[digest] = config
        kind = "application/vnd.oci.image.config.v1+json"
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": kind, "digest": digest, "size": len(text)},
            "layers": described,
        }
        return json.dumps(manifest).encode()

    def blob(self, blob: Described) -> Ranges:
        if blob.digest not in self._names:  # its manifest is known from another time
            for image in self._images():
                self._manifest(image)
        name = self._names.get(blob.digest)
        if name is None:
            raise NotFoundError(f"{self.url}: no blob {blob.digest}", kind="object-missing")
        return _sized(self._files, name, blob)

    def reconnect(self) -> None:
        """Do nothing: there are no connections."""


def _opened(path: str) -> Slice:
    try:
        return Slice(path)
    except NotFoundError:
        raise _not_there(path) from None


def _not_there(path: str) -> NotFoundError:
    return NotFoundError(
        f"{path} is not there", kind="image-missing", hint="of a registry: oci://HOST/REPOSITORY:TAG", address=path
    )


def _no_such(name: ImageName, url: str, found: int, tags: set[str]) -> NotFoundError:
    which = f"no image {name.tag}" if name.tag else f"{found} images, and which was not said"
    there = sorted(tags)[:20]
    return NotFoundError(
        f"{url}: {which}" + (f"; there are: {', '.join(there)}" if there else ""),
        kind="image-missing",
        hint=f"{name.transport}{url}:{there[0]}" if there else None,
    )


def _found(files: _Files, name: str) -> Slice:
    try:
        return files.open(name)
    except FileNotFoundError:
        raise CorruptError(f"{files.path}: {name} is missing in it", kind="image-corrupt") from None


def _document(files: _Files, name: str) -> bytes:
    """Return a file that says something; it is not large."""
    found = _found(files, name)
    if found.size > MOST_OF_A_MANIFEST:
        raise _corrupt(files.path, f"{name} has {found.size} bytes")
    return found.read([(0, found.size)])[0]


def _sized(files: _Files, name: str, blob: Described) -> Slice:
    found = _found(files, name)
    if found.size != blob.size:
        raise _corrupt(files.path, f"{name} has {found.size} bytes, and its manifest says {blob.size}")
    return found


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _tag(entry: dict[str, Any]) -> str:
    said = entry.get("annotations")
    tag = said.get("org.opencontainers.image.ref.name") if isinstance(said, dict) else None
    return tag if isinstance(tag, str) else ""


def _tags(image: dict[str, Any]) -> list[str]:
    said = image.get("RepoTags")
    return [tag for tag in said if isinstance(tag, str)] if isinstance(said, list) else []


def _is(tag: str, wanted: str) -> bool:
    """Say whether a tag with its repository is the one that was said, with or without."""
    return wanted in (tag, tag.rpartition(":")[2], tag.rpartition("/")[2])


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _corrupt(where, "a document that is no JSON object")
    return said


def _json_list(data: bytes, where: str) -> list[dict[str, Any]]:
    said = _json(b'{"it":' + data + b"}", where)["it"]
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise _corrupt(where, "a document that is no list")
    return said


def _corrupt(where: str, found: str) -> CorruptError:
    return CorruptError(f"{where}: {found}", kind="image-corrupt", address=where)
