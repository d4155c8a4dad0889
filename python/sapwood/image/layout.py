"""OCI layouts that are written: a directory of blobs by their digests, and one list of what is in it.

Promise: a blob has its name only when all of it is there, on the disk, and hashes to it; the list is replaced as a
whole, by one writer at a time, and keeps what it does not replace. Not here: layouts that are read (`places`). Source:
OCI image-layout 1.1.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from sapwood.destination import writing
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.image.manifest import Described
from sapwood.nameless import give_name, open_nameless
from sapwood.store.requests import Requests

__all__ = ["Layout", "LayoutUpload", "require_hash"]

_NAME = "org.opencontainers.image.ref.name"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MOST_OF_A_LIST = 64 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Layout:
    """As `upload.WritePlace`. Safe to use from several threads, and processes."""

    def __init__(self, path: str) -> None:
        self.url = path
        self.repository = self.host = ""
        self.requests = Requests()
        self._root = Path(path)
        self._blobs = self._root / "blobs" / "sha256"
        if self._root.exists() and not self._root.is_dir():
            raise InvalidInputError(f"{path}: no OCI layout, which is a directory", kind="bad-address")
        if self._root.is_dir() and not (self._root / "oci-layout").exists() and any(self._root.iterdir()):
            raise InvalidInputError(
                f"{path}: there is something in it, and it is no OCI layout",
                kind="not-empty",
                hint="name a new directory, or a layout",
            )
        with writing(path):
            self._blobs.mkdir(parents=True, exist_ok=True)
        if not (self._root / "oci-layout").exists():
            self._replace(self._root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    def has(self, blob: Described) -> bool:
        self.requests.count("head")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return self._at(blob.digest).stat().st_size == blob.size
        return False

    def take(self, blob: Described, repository: str) -> bool:  # noqa: ARG002 - a registry's
        return False

    def upload(self) -> LayoutUpload:
        self.requests.count("put")
        return LayoutUpload(self._root, self._blobs)

    def put(self, data: bytes) -> Described:
        described = Described(_digest(data), len(data))
        if not self.has(described):
            with self.upload() as upload:
                upload.write(data)
                upload.finish()
        return described

    def read(self, blob: Described) -> bytes:
        # Before all of a large one is taken into memory.
        data = self._file(blob.digest) if self.has(blob) else None
        if data is None:
            raise NotFoundError(f"{self.url}: no blob {blob.digest}", kind="object-missing")
        return data

    def document(self, reference: str) -> bytes | None:
        if reference.startswith("sha256:"):
            return self._file(reference)
        for entry in self._list():
            if _tag(entry) == reference:
                return self._file(str(entry.get("digest")))
        return None

    def put_document(
        self, data: bytes, media_type: str, *, tag: str | None = None, is_root: bool = False
    ) -> tuple[Described, str]:
        described = self.put(data)
        said = json.loads(data)
        entry: dict[str, Any] = {"mediaType": media_type, "digest": described.digest, "size": described.size}
        if isinstance(kind := said.get("artifactType"), str):
            entry["artifactType"] = kind
        if tag is not None:
            entry["annotations"] = {_NAME: tag}
        if is_root or tag is not None:
            self._enter(entry)
        return Described(described.digest, described.size, media_type), ""

    def referrers(self, digest: str) -> bytes | None:
        found = []
        for entry in self._list():
            data = self._file(str(entry.get("digest"))) if "artifactType" in entry else None
            said = _object(data)
            subject = said.get("subject")
            if isinstance(subject, dict) and subject.get("digest") == digest:
                annotations = said.get("annotations")
                found.append(entry | ({"annotations": annotations} if annotations else {}))
        return json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": found}).encode()

    def remove_document(self, digest: str) -> None:
        with self._listing():
            kept = [one for one in self._list() if one.get("digest") != digest]
            self._write_list(kept)

    def _enter(self, entry: dict[str, Any]) -> None:
        """Name a document in the list, instead of what had its tag; one without any is named once."""
        with self._listing():
            kept = [one for one in self._list() if not _is_replaced(one, entry)]
            self._write_list([*kept, entry])

    def _write_list(self, entries: list[dict[str, Any]]) -> None:
        said = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}
        self._replace(self._root / "index.json", json.dumps(said).encode())

    @contextmanager
    def _listing(self) -> Iterator[None]:
        """Be the only one that changes the list."""
        with writing(self.url):
            handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _list(self) -> list[dict[str, Any]]:
        self.requests.count("get")
        path = self._root / "index.json"
        try:
            with path.open("rb") as file:
                said = json.loads(file.read(_MOST_OF_A_LIST))
        except FileNotFoundError:
            return []
        except (ValueError, RecursionError):
            said = None
        entries = said.get("manifests") if isinstance(said, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise CorruptError(f"{self.url}: its index.json names no manifests", kind="image-corrupt")
        return entries

    def _file(self, digest: str) -> bytes | None:
        self.requests.count("get")
        path = self._at(digest)
        if not _DIGEST.fullmatch(digest) or path.is_symlink() or not path.is_file():
            return None
        data = path.read_bytes()
        if (found := _digest(data)) != digest:
            raise CorruptError(f"{self.url}: {digest[:19]} hashes to {found[:19]}", kind="image-corrupt")
        return data

    def _at(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _replace(self, path: Path, data: bytes) -> None:
        with writing(path):
            _write(path, data)


class LayoutUpload:
    """As `upload.Upload`."""

    def __init__(self, root: Path, blobs: Path) -> None:
        self._blobs = blobs
        # Beside the blobs, so that readers of the layout meet only names that are digests.
        self._path = root / f".{secrets.token_hex(8)}.tmp"
        self._hash = hashlib.sha256()
        self._size = 0
        with writing(self._path):
            # Of who is killed meanwhile nothing is left, where the file system knows files without names.
            nameless = open_nameless(root, os.O_WRONLY, 0o666)
            self._is_named = nameless is None
            self._file = FileIO(self._path, "xb") if nameless is None else FileIO(nameless, "wb")

    def __enter__(self) -> LayoutUpload:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._size += len(data)
        left = memoryview(data)
        with writing(self._path):
            while left:
                left = left[self._file.write(left) :]

    def so_far(self) -> Described:
        return Described(f"sha256:{self._hash.hexdigest()}", self._size)

    def finish(self, expected: str | None = None) -> Described:
        digest = self._hash.hexdigest()
        require_hash(str(self._blobs), f"sha256:{digest}", expected)
        with writing(self._path):
            os.fsync(self._file.fileno())
            if not self._is_named:
                give_name(self._file.fileno(), self._path)
            os.replace(self._path, self._blobs / digest)
            _sync(self._blobs)
        return self.so_far()


def require_hash(where: str, digest: str, expected: str | None) -> None:
    """Raise unless what was to be written is what was expected.

    Raises:
        CorruptError: `image-corrupt`.
    """
    if expected is not None and expected != digest:
        raise CorruptError(
            f"{where}: what was to be {expected[:19]} hashes to {digest[:19]}, and is not written", kind="image-corrupt"
        )


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_replaced(one: dict[str, Any], new: dict[str, Any]) -> bool:
    if tag := _tag(new):
        return _tag(one) == tag
    # An image without a name is the one; artifacts are told apart by their digests.
    is_artifact = "artifactType" in new
    return not _tag(one) and ("artifactType" in one) == is_artifact and (not is_artifact or one == new)


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        said = json.loads(data or b"")
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {}


def _tag(entry: dict[str, Any]) -> str:
    said = entry.get("annotations")
    tag = said.get(_NAME) if isinstance(said, dict) else None
    return tag if isinstance(tag, str) else ""


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
