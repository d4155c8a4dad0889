"""What was read of images: kept on this machine by the digest of their trees, and beside images for everybody.

Promise: every run that is traced is added to what earlier ones read, also when several end at once. What was recorded
elsewhere is a hint: it is bounded before it is read, and who cannot read it goes on without. Not here: what a profile
is (`profile`), who refers to whom (`referrers`). Rules: docs/profile.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sapwood import places
from sapwood.digests import TreeDigest
from sapwood.errors import CorruptError, SapwoodError
from sapwood.image.image import Found, Image
from sapwood.image.manifest import Described, require_digest
from sapwood.image.name import ImageName
from sapwood.image.referrers import attach, detach, referrers
from sapwood.image.upload import WritePlace, open_write_place
from sapwood.profile import MOST_PACKED, Profile
from sapwood.store import kept
from sapwood.store.tocs import KeptTexts

__all__ = [
    "ARTIFACT",
    "carry_profile",
    "fetch_profile",
    "keep_traced",
    "known_profile",
    "push_profile",
    "require_place",
    "traced_here",
]

ARTIFACT = "application/vnd.sapwood.profile.v1"
"""The type of the artifacts, and of what is in them, with `+gzip`."""

_FOLDER = "trees"
# What an artifact says of itself: its profile's digest and size, how many runs that is of, and which others are in it.
_BLOB, _SIZE, _RUNS, _MERGED = (f"sapwood.profile.{word}" for word in ("blob", "size", "runs", "merged"))
_CREATED = "org.opencontainers.image.created"
_NUMBER = re.compile(r"[0-9]{1,15}")
# Of those of others that nobody has merged; the rest is left for the next.
_MOST_MERGED = 16


# On this machine.


def traced_here(tree: TreeDigest, cache_dir: Path | None = None) -> Profile | None:
    """Return what runs on this machine read of a tree; None if none was traced, or what is kept cannot be read."""
    return _look(tree, "traced", cache_dir)


def keep_traced(run: Profile, cache_dir: Path | None = None) -> Profile:
    """Add what a run read to what others on this machine read of the same tree; return all that is known now.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    with _alone(run.tree, cache_dir) as folder:
        known = traced_here(run.tree, cache_dir)
        merged = run if known is None else known.merged(run)
        kept.write(folder.folder / _name(run.tree, "traced"), merged.encode())
        folder.make_room(_name(run.tree, "traced"))
        return merged


# Beside the image.


def known_profile(image: Image, tree: TreeDigest, cache_dir: Path | None = None) -> Profile | None:
    """Return what was read of an image, here or by those who recorded it beside the image; None if nothing was.

    Raises:
        SapwoodError: as `fetch_profile`, where nothing was read here.
    """
    here = traced_here(tree, cache_dir)
    try:
        there = fetch_profile(image.found, cache_dir)
    except SapwoodError:
        if here is None:
            raise
        return here
    return there if here is None else here if there is None else here.merged(there)


def fetch_profile(image: Found, cache_dir: Path | None = None) -> Profile | None:
    """Return the profile that lies beside an image, and keep it for when its registry is away; None if there is none.

    It takes a request, and one more where there is a profile; a third where the registry keeps no referrers.

    Raises:
        CorruptError: `image-corrupt`, `profile-corrupt`: it is not what is said of it.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: the registry, when nothing is kept here.
    """
    place = image.artifacts()
    if place is None:
        return None
    try:
        found = _unmerged(place, image.described.digest)
        profile = _read(place, found[0]) if found else None
    except SapwoodError:
        if (remembered := _look(image.described.digest, "attached", cache_dir)) is None:
            raise
        return remembered
    folder = KeptTexts(cache_dir or places.cache_dir(), _FOLDER)
    if profile is not None:
        folder.write(_name(image.described.digest, "attached"), profile.encode())
    else:
        folder.remove(_name(image.described.digest, "attached"))
    return profile


def require_place(name: ImageName) -> None:
    """Refuse an image beside which nothing can be written, before anything is run in it.

    Raises:
        InvalidInputError: `not-supported`: it lies in an archive.
        DeniedError, UnavailableError: it may not, or cannot, be written.
    """
    # What every artifact has. It is sent though it may be there: that it is says nothing of who may write.
    with open_write_place(name).upload() as upload:
        upload.write(b"{}")
        upload.finish()


def push_profile(image: Image, run: Profile, cache_dir: Path | None = None) -> Profile:
    """Add what a run read, and what was traced on this machine and not pushed, to what lies beside an image.

    Returns all that lies there now. Of two who do so at once neither is lost: the next merges both.

    Raises:
        ConflictError: `referrers-busy`.
        InvalidInputError: `image-refused`.
        SapwoodError: as `fetch_profile`.
    """
    place, subject = open_write_place(image.name), image.found.described
    with _alone(run.tree, cache_dir) as folder:
        here = traced_here(run.tree, cache_dir)
        whole = run if here is None else here.merged(run)
        merged = []
        for one in _unmerged(place, subject.digest)[:_MOST_MERGED]:
            # What is damaged, or of a newer format, stays as it is.
            with contextlib.suppress(SapwoodError):
                if _is_ours(place, one, subject.digest):
                    whole = _read(place, one).merged(whole)
                    merged.append(one.digest)
        _attach(place, subject, whole, merged)
        folder.remove(_name(run.tree, "traced"))
        folder.write(_name(subject.digest, "attached"), whole.encode())
    detach(place, subject.digest, merged)
    return whole


def carry_profile(source: WritePlace, digest: str, place: WritePlace, subject: Described) -> bool:
    """Let what lies beside one image lie beside another that was made of it, and say whether anything did.

    Raises:
        SapwoodError: as `fetch_profile` and `push_profile`.
    """
    found = [] if (source.url, digest) == (place.url, subject.digest) else _unmerged(source, digest)
    if found:
        _attach(place, subject, _read(source, found[0]))
    return bool(found)


def _attach(place: WritePlace, subject: Described, profile: Profile, merged: Sequence[str] = ()) -> None:
    data = profile.encode()
    blob = place.put(data)
    said = {_BLOB: blob.digest, _SIZE: str(blob.size), _RUNS: str(profile.runs), _CREATED: profile.recorded}
    said |= {_MERGED: " ".join(merged)} if merged else {}
    attach(place, subject, ARTIFACT, data, f"{ARTIFACT}+gzip", said)


def _unmerged(place: WritePlace, digest: str) -> list[Described]:
    """Return the artifacts that no other has in it, the one of most runs first."""
    found = {one.digest: one for one in referrers(place, digest, ARTIFACT)}
    merged = {name for one in found.values() for name in one.annotations.get(_MERGED, "").split()}
    return sorted((one for one in found.values() if one.digest not in merged), key=_rank)


def _rank(one: Described) -> tuple[int, str]:
    return -_number(one.annotations.get(_RUNS, "")), one.digest


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


def _read(place: WritePlace, one: Described) -> Profile:
    size = _number(one.annotations.get(_SIZE, ""))
    if not 0 < size <= MOST_PACKED:
        raise CorruptError(f"{place.url}: {one.digest[:19]} holds no profile that is read", kind="image-corrupt")
    blob = Described(require_digest(one.annotations.get(_BLOB), place.url), size)
    return Profile.decode(place.read(blob), f"{place.url}@{one.digest[:19]}")


def _is_ours(place: WritePlace, one: Described, subject: str) -> bool:
    """Say whether an artifact is what the list says: whatever that names would be removed."""
    try:
        said = json.loads(place.document(require_digest(one.digest, place.url)) or b"")
        return bool(said["artifactType"] == ARTIFACT and said["subject"]["digest"] == subject)
    except (ValueError, RecursionError, KeyError, TypeError):
        return False


def _look(digest: str, kind: str, cache_dir: Path | None) -> Profile | None:
    data = KeptTexts(cache_dir or places.cache_dir(), _FOLDER).look(_name(digest, kind))
    try:
        return None if data is None else Profile.decode(data, "the profile that is kept here")
    except SapwoodError:
        return None


@contextmanager
def _alone(tree: TreeDigest, cache_dir: Path | None) -> Iterator[KeptTexts]:
    """Be the only one that changes what is kept of a tree.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    folder = KeptTexts(cache_dir or places.cache_dir(), _FOLDER)
    guard = folder.folder / f".{_name(tree, 'traced')}.lock"
    try:
        folder.folder.mkdir(parents=True, exist_ok=True)
        locked = os.open(guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise kept.named(error, guard) from error
    try:
        fcntl.flock(locked, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(locked)


def _name(digest: str, kind: str) -> str:
    return f"{digest.removeprefix('sha256:')}.{kind}"
