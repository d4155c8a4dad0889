"""One layer on its way from one place to another: as it is, or made anew.

Promise: what is read is proved by the digest that names it before anything of it is believed, or has a name there.
Memory is that of some pieces. A layer that is made anew is kept in a nameless file meanwhile, for it is read twice;
what comes of it goes out as it is made, and is made again if the other side forgot what it had. Not here: which layers,
and what documents say of them (`convert`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from sapwood.archive.write import Written
from sapwood.destination import writing
from sapwood.errors import CorruptError, UnavailableError
from sapwood.image.manifest import Described
from sapwood.image.streaming import Streamable
from sapwood.image.upload import UPLOADS, WritePlace
from sapwood.store.beside import Ranges
from sapwood.store.waiting import meanwhile

__all__ = ["OnBytes", "OnMade", "copy_layer", "fetch_layer", "send_archive"]

# Bytes that are read at once; a larger blob of a registry comes by one request.
_PIECE = 8 << 20
_PIPE = 1 << 20

OnBytes = Callable[[int], None]
"""Told of so many bytes more; what it raises ends the work."""
OnMade = Callable[[Described, Written], object]
"""Told what was made, before it is there by its name."""


def copy_layer(ranges: Ranges, blob: Described, place: WritePlace, step: OnBytes) -> None:
    """Write a blob as it lies to another place.

    Raises:
        CorruptError: `image-corrupt`: it does not hash to its name.
        SapwoodError: as `Ranges`, `Upload`.
    """
    for time in range(UPLOADS):
        try:
            with place.upload() as upload:
                for piece in _pieces(ranges, blob):
                    upload.write(piece)
                    step(len(piece))
                upload.finish(blob.digest)
                return
        except UnavailableError as error:
            _require_time(error, time)


def fetch_layer(ranges: Ranges, blob: Described, file: IO[bytes], step: OnBytes) -> None:
    """Copy a blob into `file`.

    Raises:
        CorruptError: `image-corrupt`: it does not hash to its name, or is empty.
        UnavailableError: `disk-full`, `io`.
        SapwoodError: as `Ranges`.
    """
    hashing = hashlib.sha256()
    for piece in _pieces(ranges, blob):
        hashing.update(piece)
        with writing(file.name):
            file.write(piece)
        step(len(piece))
    with writing(file.name):
        file.flush()
    if (found := f"sha256:{hashing.hexdigest()}") != blob.digest or not blob.size:
        raise CorruptError(
            f"{ranges.url}: its bytes hash to {found[:19]}, not {blob.digest[:19]}", kind="image-corrupt"
        )


def send_archive(
    place: WritePlace, make: Callable[[int], Written], keep: OnMade | None = None
) -> tuple[Described, Written]:
    """Write what `make` writes to a descriptor as a blob; it is called again if that is lost on the way.

    `keep` is told what it is before it is there: who is killed then finds that it is.

    Raises:
        SapwoodError: as `Upload`, and what `make` raises.
    """
    for time in range(UPLOADS):
        try:
            return _send_archive(place, make, keep)
        except UnavailableError as error:
            _require_time(error, time)
    raise AssertionError


def _send_archive(place: WritePlace, make: Callable[[int], Written], keep: OnMade | None) -> tuple[Described, Written]:
    with place.upload() as upload:
        reading, into = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # so much is not everybody's
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE)
        made = meanwhile(partial(_made, make, into))
        try:
            while piece := os.read(reading, _PIPE):
                upload.write(piece)
        except BaseException:
            # It meets a closed pipe; what it reads is not to be taken away from under it.
            os.close(reading)
            with contextlib.suppress(BaseException):
                made()
            raise
        os.close(reading)
        # The end of the pipe is that of the archive only if its writer says so.
        written = made()
        if keep is not None:
            keep(upload.so_far(), written)
        return upload.finish(), written


def _made(make: Callable[[int], Written], into: int) -> Written:
    try:
        return make(into)
    finally:
        os.close(into)


def _pieces(ranges: Ranges, blob: Described) -> Iterator[bytes]:
    if not isinstance(ranges, Streamable) or blob.size <= _PIECE:
        yield from _in_order(ranges, blob)
        return
    streamed = ranges.streamed()
    try:
        yield from _in_order(streamed, blob)
    finally:
        streamed.end()


def _in_order(ranges: Ranges, blob: Described) -> Iterator[bytes]:
    for at in range(0, blob.size, _PIECE):
        yield ranges.read([(at, min(_PIECE, blob.size - at))])[0]
    ranges.check()


def _require_time(error: UnavailableError, time: int) -> None:
    """Raise unless it is to be begun anew."""
    if error.kind != "upload-lost" or time == UPLOADS - 1:
        raise error
