"""Which image a name meant when it was last asked for: what is mounted offline, or while the registry is away.

Invariant: a name without a digest is asked for whenever that can be; what is kept here is a digest, so what is shown is
an image that the name once meant, whole or not at all. Not here: what is kept of images (`image`, `layers`).
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import NamedTuple

from sapwood.errors import NotFoundError, SapwoodError, UnavailableError
from sapwood.image.image import find_image
from sapwood.image.manifest import require_digest
from sapwood.image.name import ImageName
from sapwood.image.places import Place, open_place
from sapwood.store.tocs import KeptTexts
from sapwood.store.waiting import interruptible

__all__ = ["Meant", "meant"]

# Of a registry that is away, when it is known what was meant last.
_PATIENCE_S = 15.0


class Meant(NamedTuple):
    """A pinned name; `away` says why the registry was not asked, and is empty if it was; `asked` when it last was."""

    name: ImageName
    place: Place
    away: str = ""
    asked: int | None = None


def meant(name: ImageName, *, cache_dir: Path, offline: bool) -> Meant:
    """Return which image a name means now; with `offline`, or while its registry is away, which it meant last.

    Raises:
        NotFoundError: `not-kept`: offline, and it was never asked for.
        SapwoodError: as `open_image`; of a registry that does not answer, if nothing is known.
    """
    place = open_place(name, offline=offline)
    if not name.is_remote or name.digest:
        return Meant(name, place, "offline" if offline and name.is_remote else "")
    kept, file = KeptTexts(cache_dir), hashlib.sha256(str(name).encode()).hexdigest() + ".image"
    known = _known(name, place, kept, file)
    if offline:
        if known is None:
            raise NotFoundError(
                f"{name}: nothing of it is kept here, and no registry is asked offline",
                kind="not-kept",
                hint="mount it once without --offline",
            )
        return known._replace(away="offline")
    try:
        patience_s = None if known is None else _PATIENCE_S
        pinned = interruptible(lambda: find_image(name, place, cache_dir=cache_dir), patience_s)
    except (UnavailableError, TimeoutError) as error:
        if known is None:
            raise
        return known._replace(away=str(error) or f"{name}: no reply within {_PATIENCE_S:g} s")
    except SapwoodError as error:
        if known is not None:
            error.add_note(f"what it meant when it was last asked for is known here: --offline shows {known.name}")
        raise
    kept.write(file, json.dumps({"image": pinned.digest, "asked": int(time.time())}).encode())
    return Meant(pinned, place)


def _known(name: ImageName, place: Place, kept: KeptTexts, file: str) -> Meant | None:
    try:
        said = json.loads(kept.look(file) or b"null")
        return Meant(name.pinned(require_digest(said["image"], file)), place, asked=int(said["asked"]))
    except (SapwoodError, ValueError, TypeError, KeyError):
        return None
