"""From the staging area into the store: what was staged becomes files of a tree that a ref of the store names.

Invariant: a batch leaves the staging area only when a ref names it. The tree of a ref has `blobs/<move>/<hash>` and
`actions/<move>/<hash>`, `<move>` counting the packings, so that each adds a page or two and changes none.
Bytes: docs/format.md, "Blobs of a server". Not here: when to pack (`server`), how a push goes (`push`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from sapwood._core.filemap import FileMap
from sapwood._core.push import holdings_of
from sapwood._core.serve import Held, lay_out
from sapwood.errors import NotFoundError
from sapwood.fetch import load_map
from sapwood.push import push_upon
from sapwood.serve.log import disk_error
from sapwood.serve.staging import Batch
from sapwood.store.ref import Ref
from sapwood.store.store import Store

__all__ = ["Generation", "Packed"]

# A push looks at every entry of its tree: a ref takes so many, then the next begins.
_ENTRIES = 30_000
# Each packing leaves a snapshot behind; so many may the history of a ref have.
_HISTORY = 16
_MEMORY = "/dev/shm"
_LITTLE = 128 << 20
REFS = "cas/"


@dataclass
class Generation:
    """A ref, what it names, and what that holds."""

    ref: str
    file_map: FileMap | None = None
    holdings: bytes = b""
    moves: int = 0
    state: str | None = None


@dataclass
class Packed:
    """What servers have packed into a store so far, as known here. Changed by one thread at a time."""

    store: Store
    server: str
    generations: dict[str, Generation] = field(default_factory=dict)
    actions: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Of each action the digest of its result, which is a blob."""
    held: tuple[Held, ...] = ()
    _taking: str = ""

    @property
    def _prefix(self) -> str:
        return f"sapwood-{self.server}-"

    def clear(self) -> None:
        """Remove from memory what a server of this staging area was laying out when it was killed."""
        for left in Path(_MEMORY).glob(f"{self._prefix}*"):
            shutil.rmtree(left, ignore_errors=True)

    def load(self) -> None:
        """Read what all servers have packed, of what was read before only what changed; forget what was removed.

        Raises:
            SapwoodError: as `load_map` and `Store.refs`.
        """
        there = {ref.name: ref for ref in self.store.refs() if ref.name.startswith(REFS)}
        known = {name: one.state for name, one in self.generations.items() if one.state is not None}
        if self.held and known == {name: ref.snapshot for name, ref in there.items()}:
            return
        for name in known.keys() - there.keys():
            del self.generations[name]
        for name, ref in there.items():
            if known.get(name) != ref.snapshot:
                self.generations[name] = self._read(ref)
        self._hold()

    def _read(self, ref: Ref) -> Generation:
        snapshot = self.store.read_snapshot(ref.snapshot)
        file_map = load_map(self.store, snapshot, pages=True)
        self._note_actions(file_map, b"actions")
        moves = max((int(entry.name) for top in (b"blobs", b"actions") for entry in file_map.list(top)), default=0)
        return Generation(ref.name, file_map, holdings_of(file_map), moves, ref.snapshot)

    def _note_actions(self, file_map: FileMap, top: bytes) -> None:
        for folder in file_map.list(top):
            for entry in file_map.list(folder.path):
                if entry.digest is not None:
                    self.actions[entry.name.decode()] = entry.digest.removeprefix("sha256:"), entry.size

    def _hold(self, changed: Generation | None = None) -> None:
        """Make `held` anew: of the generation that takes more, and, where that became another, of all others."""
        ref = changed.ref if changed else ""
        others = self.held[:1]
        if changed is None or not others or ref != self._taking:
            rest = [one.holdings for one in self.generations.values() if one is not changed and one.holdings]
            others = (Held(rest),)
        # At once, for calls look at it meanwhile.
        self.held = (*others, Held([changed.holdings])) if changed else others
        self._taking = ref

    def has(self, name: str, size: int) -> bool:
        """Say whether a pack holds a blob."""
        return not self.missing([(name, size)])

    def missing(self, blobs: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return those of (hex digits, size) that no pack holds."""
        for held in self.held:
            if not blobs:
                break
            blobs = held.missing(blobs)
        return blobs

    def pack(self, batch: Batch) -> None:
        """Put what was staged into the store, and let a ref name it.

        Raises:
            UnavailableError: `disk-full`, `io`: it cannot be laid out as files.
            SapwoodError: as `push`; the batch is still to be packed.
        """
        for part in (Batch(logs=batch.logs), Batch(larges=batch.larges)):
            if part:
                try:
                    self._pack(part)
                except OSError as error:
                    raise disk_error(error, error.filename) from error

    def _pack(self, batch: Batch) -> None:
        generation = self._current()
        move = f"{generation.moves + 1:06d}"
        folder = _layout_folder(batch)
        with tempfile.TemporaryDirectory(dir=folder, prefix=self._prefix) as root:
            found = self._lay_out(batch, root, move)
            if not os.listdir(root):
                return
            base = generation.file_map
            expected = _entries(root) + (base.entries - _shared(root, base) if base else 1)
            pushed = push_upon(self.store, root, generation.ref, base, expected)
        snapshot = self.store.read_snapshot(pushed.snapshot)
        generation.file_map = load_map(self.store, snapshot, pages=True)
        generation.holdings = holdings_of(generation.file_map)
        generation.moves += 1
        generation.state = pushed.snapshot
        self._hold(generation)
        self.actions.update(found)
        if generation.moves % _HISTORY == 0:
            with contextlib.suppress(NotFoundError):
                self.store.cut_ref(self.store.read_ref(generation.ref), [])

    def _current(self) -> Generation:
        """Return the generation that takes more, which is this server's own."""
        mine = sorted(name for name in self.generations if name.startswith(f"{REFS}{self.server}/"))
        if mine:
            last = self.generations[mine[-1]]
            if last.file_map is None or last.file_map.entries < _ENTRIES:
                return last
        number = int(mine[-1].rpartition("/")[2]) + 1 if mine else 1
        generation = Generation(f"{REFS}{self.server}/{number:06d}")
        self.generations[generation.ref] = generation
        return generation

    def _lay_out(self, batch: Batch, root: str, move: str) -> dict[str, tuple[str, int]]:
        """Lay a batch out as files, and return the results of actions that were in it."""
        actions = dict[str, tuple[str, int]]()
        blobs, results = (os.path.join(root, top, move) for top in ("blobs", "actions"))
        for log in batch.logs:
            for action, result, size in lay_out(log.path, self.held, blobs, results):
                actions[action] = result, size
        for large in batch.larges:
            if not self.has(large.name, large.size):
                os.makedirs(blobs, exist_ok=True)
                os.link(large.path, os.path.join(blobs, large.name))
        return actions


def _layout_folder(batch: Batch) -> str:
    """Return where a batch is to be laid out as files, which it is for a moment only.

    What little logs hold goes to memory: making a file there takes a fiftieth of what it takes on ext4. Large blobs are
    linked, which can be done in their own file system only.
    """
    size = sum(log.end for log in batch.logs)
    if batch.logs and size <= _LITTLE:
        with contextlib.suppress(OSError):
            room = os.statvfs(_MEMORY)
            if os.access(_MEMORY, os.W_OK) and room.f_bavail * room.f_frsize > 8 * size:
                return _MEMORY
    return os.fspath((batch.logs[0].path if batch.logs else batch.larges[0].path).parent.parent / "parts")


def _entries(root: str) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(root))


def _shared(root: str, base: FileMap) -> int:
    """Return how many directories a tree has that the base has, too."""
    return sum(base.lookup(os.fsencode(top)) is not None for top in os.listdir(root))
