"""What layers became when they were made anew, kept by this machine: who converts them again need not.

Invariant: what is kept is known by the layer's digest and by all that decides about the bytes that come of it, and has
a digest of its own. It says what a blob is called, never that it is there. It is a cache: what is damaged, or too much,
costs time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import sapwood
from sapwood.archive.write import Choices
from sapwood.image.manifest import Described
from sapwood.image.rewriting import Replaced
from sapwood.store.tocs import KeptTexts

__all__ = ["Remade", "RemadeLayers"]

_SEAL = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Remade:
    """A layer that was made anew."""

    now: Replaced
    first: tuple[str, ...]
    """Of the files that are to be first those that it has."""
    places: tuple[str, ...]
    """Registries and repositories that it was written to, the last first."""


class RemadeLayers:
    """Those that were made with the same choices."""

    def __init__(self, cache_dir: Path, choices: Choices) -> None:
        self._kept = KeptTexts(cache_dir, "layers")
        said = [
            sapwood.__version__,
            choices.zstd,
            choices.level,
            choices.chunk_size,
            choices.min_chunk_size,
            choices.compatible_times,
            [name.hex() for name in choices.prioritize],
        ]
        self._choices = hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def read(self, digest: str) -> Remade | None:
        """Return what a layer became."""
        data = self._kept.look(self._name(digest))
        if data is None or hashlib.sha256(data[_SEAL:]).digest() != data[:_SEAL]:
            return None
        said = json.loads(data[_SEAL:])
        now = Replaced(Described(**said["now"]["blob"]), said["now"]["diff_id"])
        return Remade(now, tuple(said["first"]), tuple(said["places"]))

    def keep(self, digest: str, remade: Remade) -> None:
        """Keep what a layer became."""
        data = json.dumps(asdict(remade)).encode()
        self._kept.write(self._name(digest), hashlib.sha256(data).digest() + data)

    def note_place(self, digest: str, remade: Remade, place: str) -> None:
        """Note that it is at a place."""
        if place and remade.places[:1] != (place,):
            others = [one for one in remade.places if one != place]
            self.keep(digest, replace(remade, places=(place, *others)[:_PLACES]))

    def _name(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._choices}".encode()).hexdigest() + ".made"


# So many are remembered; who takes a blob over asks one after the other.
_PLACES = 3
