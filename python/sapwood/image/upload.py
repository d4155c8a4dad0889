"""Where images are written to: blobs first, then the documents that name them, in a registry or an OCI layout.

Promise: a blob has its name only when all of it is there and hashes to it; nothing that is there is sent again. What
breaks off is taken up where the other side has it (`pieces`); where that is not known any more, its writer is told to
begin anew (`upload-lost`). Not here: what documents say, artifacts and who refers to whom (`referrers`), layouts
(`layout`). Source: OCI distribution-spec 1.1, "Push".

    place = open_write_place(ImageName.parse("oci://HOST/REPO:TAG"), beside=["other/repo"])
    if not place.has(blob) and not place.take(blob, "other/repo"):
        place.put(data)                        # or, of any size:
        with place.upload() as upload:
            upload.write(piece); ...
            described = upload.finish()        # digest and size
    place.put_document(manifest, media_type, tag="TAG")
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from time import sleep
from types import TracebackType
from typing import Protocol
from urllib.parse import quote

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.image.layout import Layout
from sapwood.image.manifest import MOST_OF_A_MANIFEST, Described
from sapwood.image.name import ImageName
from sapwood.image.pieces import RemoteUpload, require_same
from sapwood.image.registry import Registry
from sapwood.image.wire import Reply
from sapwood.store.requests import Requests

__all__ = ["UPLOADS", "Upload", "WritePlace", "beside", "open_write_place", "persist_upload", "require_unpinned"]

UPLOADS = 3
"""Times that a blob is begun anew when the other side forgets what it had."""


# A registry may not find, for a moment, a blob that another uploads once more: docker-registry 2.8 rewrites its link.
_PAUSES_S = (0.1, 0.4)


class Upload(Protocol):
    """A blob that is being written; leaving the context without `finish` gives it up."""

    def __enter__(self) -> Upload:
        """Begin.

        Raises:
            UnavailableError, DeniedError: as `write`.
        """
        ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None: ...

    def write(self, data: bytes | memoryview) -> None:
        """Send what comes next.

        Raises:
            UnavailableError: `upload-lost`: begin anew; `store-unreachable`; `io`, `disk-full`.
            DeniedError: `store-denied`, `path-denied`; `credentials-unreadable`.
        """
        ...

    def so_far(self) -> Described:
        """Return the digest and the size of what was written by now; nothing is there by that name yet."""
        ...

    def finish(self, expected: str | None = None) -> Described:
        """Return the digest and the size of what was written, once it is there by that name.

        Raises:
            UnavailableError, DeniedError: as `write`.
            CorruptError: `image-corrupt`: it does not hash to what was `expected`, and is not kept; or the registry
                says that it has something else.
        """
        ...


class WritePlace(Protocol):
    """Safe to use from several threads."""

    url: str
    repository: str
    """Of a registry, else empty: blobs are taken over from others of the same `host`."""
    host: str

    @property
    def requests(self) -> Requests: ...

    def has(self, blob: Described) -> bool:
        """Say whether it is there, as long as it should be."""
        ...

    def take(self, blob: Described, repository: str) -> bool:
        """Take a blob over from another repository of the same registry, and say whether that was done."""
        ...

    def upload(self) -> Upload: ...

    def put(self, data: bytes) -> Described:
        """Write a small blob, unless it is there."""
        ...

    def read(self, blob: Described) -> bytes:
        """Return a small blob that is there, proved.

        Raises:
            NotFoundError: `object-missing`.
            CorruptError: `image-corrupt`.
        """
        ...

    def document(self, reference: str) -> bytes | None:
        """Return the manifest or index of a tag or a digest, None if there is none; one of a digest is proved."""
        ...

    def put_document(
        self, data: bytes, media_type: str, *, tag: str | None = None, is_root: bool = False
    ) -> tuple[Described, str]:
        """Write a manifest or an index by its digest, and by a tag if one is given.

        A layout lists what has a tag, or `is_root`. Returned is what describes it, and whose `subject` the registry
        says that it noted ("" if it said nothing).

        Raises:
            InvalidInputError: `image-refused`: it is not taken.
        """
        ...

    def referrers(self, digest: str) -> bytes | None:
        """Return the index of what refers to a digest, where the place itself knows."""
        ...

    def remove_document(self, digest: str) -> None:
        """Let a manifest be there no longer, where that can be done: not every registry lets anybody."""
        ...


def require_unpinned(name: ImageName) -> None:
    """Refuse a name that says what it is that will be written.

    Raises:
        InvalidInputError: `bad-address`: it is pinned, or for a platform.
    """
    if name.digest or name.platform:
        raise InvalidInputError(
            f"{name}: what is written has the digest and the platforms that it has",
            kind="bad-address",
            hint=f"{name.transport}{name.place}…:TAG",
        )


def open_write_place(name: ImageName, *, beside: Sequence[str] = ()) -> WritePlace:
    """Return where an image is to be written; repositories `beside` it are those that blobs are taken over from.

    Raises:
        InvalidInputError: `not-supported`: archives are not written.
        UnavailableError, DeniedError: a directory that cannot be written.
    """
    if name.is_remote:
        return _Remote(Registry(name, writes=True, beside=beside))
    if name.transport != "oci:":
        raise InvalidInputError(
            f"{name}: images are written to registries and to OCI layouts",
            kind="not-supported",
            hint=f"write oci:DIR, then skopeo copy oci:DIR {name}",
        )
    return Layout(name.place)


def beside(name: ImageName, registry: Registry | None) -> WritePlace | None:
    """Return where what refers to an image lies, to be read as the image is; None where nothing can."""
    if registry is not None:
        return _Remote(registry)
    return Layout(name.place) if name.transport == "oci:" else None


def persist_upload(place: WritePlace, pieces: Callable[[], Iterable[bytes]]) -> Described:
    """Write what `pieces` gives, called again for each time that it must be sent from its beginning.

    Raises:
        SapwoodError: as `Upload`.
    """
    for time in range(UPLOADS):
        try:
            with place.upload() as upload:
                for piece in pieces():
                    upload.write(piece)
                return upload.finish()
        except UnavailableError as error:
            if error.kind != "upload-lost" or time == UPLOADS - 1:
                raise
    raise AssertionError


class _Remote:
    """A repository of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.url, self.repository, self.host = registry.url, registry.repository, registry.host
        self.requests = registry.requests

    def has(self, blob: Described) -> bool:
        reply = self._try("HEAD", f"blobs/{blob.digest}", good=(200, 404))
        return reply.status == 200 and reply.headers.get("Content-Length", str(blob.size)) == str(blob.size)

    def take(self, blob: Described, repository: str) -> bool:
        if repository == self.repository:
            return False
        where = f"blobs/uploads/?mount={quote(blob.digest)}&from={quote(repository)}"
        # One who may not read there is told so, or is told to upload.
        reply = self._try("POST", where, good=(201, 202, 401, 403, 404, 405))
        if reply.status == 202:
            with contextlib.suppress(SapwoodError):
                self._registry.send("DELETE", self._registry.location(reply, where), good=(204, 404))
        return reply.status == 201

    def upload(self) -> Upload:
        return RemoteUpload(self._registry)

    def put(self, data: bytes) -> Described:
        described = Described(_digest(data), len(data))
        return described if self.has(described) else persist_upload(self, lambda: [data])

    def read(self, blob: Described) -> bytes:
        [data] = self._registry.ranges(blob.digest, blob.size, [(0, blob.size)])
        return _proved(self.url, blob.digest, data)

    def document(self, reference: str) -> bytes | None:
        try:
            data = self._registry.manifest(reference)
        except NotFoundError:
            return None
        return _proved(self.url, reference, data) if reference.startswith("sha256:") else data

    def put_document(
        self,
        data: bytes,
        media_type: str,
        *,
        tag: str | None = None,
        is_root: bool = False,  # noqa: ARG002 - a layout's
    ) -> tuple[Described, str]:
        digest = _digest(data)
        if len(data) > MOST_OF_A_MANIFEST:
            raise InvalidInputError(
                f"{self.url}: a manifest of {len(data)} bytes, and none may have more than {MOST_OF_A_MANIFEST}",
                kind="image-refused",
            )
        headers = {"Content-Type": media_type}
        reply = self._put_manifest(f"manifests/{tag or digest}", headers, data)
        if reply.status in (400, 413):
            raise InvalidInputError(
                f"{self.url}: the registry does not take the manifest {digest[:19]} ({_said(reply)})",
                kind="image-refused",
            )
        require_same(self.url, reply, digest)
        return Described(digest, len(data), media_type), reply.headers.get("OCI-Subject", "")

    def _put_manifest(self, where: str, headers: dict[str, str], data: bytes) -> Reply:
        pauses = iter(_PAUSES_S)
        while True:
            reply = self._try("PUT", where, headers, data, good=(200, 201, 202, 400, 413))
            pause_s = next(pauses, None)
            if pause_s is None or reply.status != 400 or b"BLOB_UNKNOWN" not in reply.body:
                return reply
            sleep(pause_s)

    def referrers(self, digest: str) -> bytes | None:
        reply = self._try("GET", f"referrers/{digest}", good=(200, 400, 404, 405), most=MOST_OF_A_MANIFEST)
        return reply.body if reply.status == 200 and not reply.is_cut else None

    def remove_document(self, digest: str) -> None:
        with contextlib.suppress(SapwoodError):
            self._registry.send("DELETE", f"manifests/{digest}", good=(200, 202, 204, 404, 405))

    def _try(
        self,
        method: str,
        where: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        good: tuple[int, ...],
        most: int = 4096,
    ) -> Reply:
        return self._registry.keep_trying(
            lambda: self._registry.send(method, where, headers, body, good=good, most=most)
        )


def _proved(url: str, digest: str, data: bytes) -> bytes:
    if (found := _digest(data)) != digest:
        raise CorruptError(f"{url}: {digest[:19]} hashes to {found[:19]}", kind="image-corrupt")
    return data


def _said(reply: Reply) -> str:
    return f"{reply.status} {reply.body[:200].decode('utf-8', 'replace')}".strip()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
