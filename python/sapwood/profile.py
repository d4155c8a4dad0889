"""Profiles: which parts of a tree were read, in what order, and by whom, so that they can come before they are wanted.

Invariant: a profile is a hint and proves nothing; what is missing, damaged, or of a newer format costs time, never
bytes. Runs may be merged in any order with the same result. Bytes and places: docs/profile.md.
Not here: recording (`mount`), following (the core), what is never read (`coverage`).
"""

from __future__ import annotations

import builtins
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from sapwood.digests import TreeDigest, parse_digest
from sapwood.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.store.keys import ref_profile_key, tree_profile_key
from sapwood.store.record import Record, encode
from sapwood.store.store import Store
from sapwood.store.waiting import each

__all__ = ["MAGIC", "MOST_PACKED", "Part", "Profile", "find_profile", "keep_profile", "read_profile", "write_profile"]

MAGIC = b"\x1f\x8b"
"""What a profile begins with, as no list of names does."""

# The earliest parts are kept; a part is a line of some 60 bytes.
_MOST_PARTS = 200_000
_MOST_PROGRAMS = 10_000
_MOST_BYTES = 32 << 20
# Deflate adds less than that to what cannot be compressed.
MOST_PACKED = _MOST_BYTES + (1 << 20)
"""Bytes of a profile, as it lies."""
_LONGEST_LINE = 1 << 20
# Numbers of programs that are told apart in sets of readers; whoever read what comes behind is nobody.
_MOST_READERS = 100_000
# Ranges of one part, and of all that are read; a part that has more of them, or comes behind, was read whole as far as
# anybody knows.
_MOST_RANGES = 256
_MOST_RANGES_OF_ALL = 500_000
# Files that were only looked up, and bytes of their paths; they stand in the first line, by directory.
_MOST_LOOKED_UP = 100_000
_MOST_LOOKED_UP_BYTES = 8 << 20
# Read and parsed at a time, so that a damaged one takes little memory and other threads have their turns.
_STEP = 64 << 10
_PIECE = 256 << 10
_TRIES = 8
_REMEDY = "delete it, and trace again"
# How a gzip member begins: RFC 1952.
_GZIP = b"\x1f\x8b"
_PLACE = attrgetter("rank", "path", "offset")


class Part(NamedTuple):
    """A chunk of a file that was read: its `offset` there, its place in the order of first reading, in how many runs.

    `bytes` of it were asked for in the run that asked for most; `readers` are names of processes. `ranges` is what any
    run asked for: (from, to), counted from `offset`, in order, with something between them; none where nobody noted it.
    """

    path: builtins.bytes
    offset: int
    rank: int
    runs: int
    bytes: int
    readers: frozenset[builtins.bytes]
    ranges: tuple[tuple[int, int], ...] = ()

    def places(self) -> list[tuple[int, int]]:
        """Return what was asked for: (from, to) in the file; where nobody noted it, the first byte."""
        return [(self.offset + begin, self.offset + end) for begin, end in self.ranges or ((0, 1),)]


@dataclass(frozen=True)
class Profile:
    """What `runs` read of trees like `tree`, that of the last one, at `recorded`; sorted by rank, path and offset."""

    tree: TreeDigest
    runs: int
    recorded: str
    parts: tuple[Part, ...]
    looked_up: frozenset[bytes] = frozenset()
    """Files that some run looked up, and none read."""

    @classmethod
    def of_run(
        cls,
        tree: TreeDigest,
        recorded: str,
        read: Iterable[tuple[bytes, int, list[tuple[int, int]], list[bytes]]],
        looked_up: Iterable[bytes] = (),
    ) -> Profile:
        """Return the profile of one run, from what a mount traced."""
        parts = [
            Part(path, offset, rank, 1, sum(end - begin for begin, end in ranges), frozenset(readers), tuple(ranges))
            for rank, (path, offset, ranges, readers) in enumerate(read)
        ]
        return cls(tree, 1, recorded, _cut(parts), frozenset(looked_up).difference(part.path for part in parts))

    def merged(self, other: Profile) -> Profile:
        """Return what all runs of both read: at its earliest place, in so many runs together."""
        known = {(part.path, part.offset): part for part in self.parts}
        for part in other.parts:
            was = known.get((part.path, part.offset))
            if was is not None:
                part = Part(
                    part.path,
                    part.offset,
                    min(was.rank, part.rank),
                    was.runs + part.runs,
                    max(was.bytes, part.bytes),
                    was.readers | part.readers,
                    _united([*was.ranges, *part.ranges]),
                )
            known[part.path, part.offset] = part
        recorded, tree = max((self.recorded, self.tree), (other.recorded, other.tree))
        looked_up = (self.looked_up | other.looked_up).difference(path for path, _ in known)
        return Profile(tree, self.runs + other.runs, recorded, _cut(known.values()), looked_up)

    def in_order(self) -> list[Part]:
        """Return what to bring, first what at least half of the runs read."""
        often = [part for part in self.parts if part.runs * 2 >= self.runs]
        seldom = [part for part in self.parts if part.runs * 2 < self.runs]
        return often + seldom

    def paths(self) -> list[bytes]:
        """Return the files that were read, each once, in the order of `in_order`."""
        return list(dict.fromkeys(part.path for part in self.in_order()))

    def encode(self) -> bytes:
        """Return the profile's bytes, without the last parts and names where it would be larger than any may be."""
        programs = sorted({reader for part in self.parts for reader in part.readers})[:_MOST_PROGRAMS]
        numbers = {program: number for number, program in enumerate(programs)}
        fields: dict[str, object] = {"tree": self.tree, "runs": self.runs, "recorded": self.recorded}
        fields["programs"] = list(map(_text, programs))
        if folders := _by_folder(self.looked_up, _LONGEST_LINE - len(encode(fields)) - len(',"lookedUp":{}')):
            fields["lookedUp"] = folders
        header = encode(fields)
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        packed = [packer.compress(header + b"\n")]
        left = _MOST_BYTES - len(header) - 1
        for part in self.parts:
            readers = sorted(numbers[reader] for reader in part.readers if reader in numbers)
            row = [_text(part.path), part.offset, part.rank, part.runs, part.bytes, readers]
            if part.ranges:
                row.append([number for range_ in part.ranges for number in range_])
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
            left -= len(line) + 1
            if left < 0:
                break
            packed.append(packer.compress(line + b"\n"))
        return b"".join([*packed, packer.flush()])

    @classmethod
    def decode(cls, data: bytes, where: str) -> Profile:
        """Read the profile that lies at `where`.

        Raises:
            CorruptError: `profile-corrupt`.
            FormatError: `format-newer`.
        """
        pieces = _pieces(data, where)
        first, _, rest = next(pieces, b"").partition(b"\n")
        header = Record(first, where, kind="profile-corrupt", remedy=_REMEDY, where=where)
        try:
            tree = parse_digest(TreeDigest, header.text("tree"))
            rows = _Rows([_raw(name) for name in header.texts("programs")])
            looked_up = _in_folders(header.lists("lookedUp") if header.has("lookedUp") else {})
            rows.parse(rest)
            for piece in pieces:
                rows.parse(piece)
        except (ValueError, TypeError, LookupError, RecursionError, InvalidInputError) as error:
            raise header.damaged(f"a line is none: {error}") from None
        return cls(tree, max(header.number("runs"), 1), header.text("recorded"), _cut(rows.parts), looked_up)


def find_profile(store: Store, ref: str, tree: TreeDigest) -> Profile | None:
    """Return what was recorded of `tree`, else what was of the trees that the ref named before; None if nothing was.

    Raises:
        CorruptError: `profile-corrupt`.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    found = each(store.read_object, [tree_profile_key(tree), ref_profile_key(ref)])
    for key, seen in zip((tree_profile_key(tree), ref_profile_key(ref)), found, strict=True):
        if seen is not None:
            return Profile.decode(seen[0], f"{store.url}: {key}")
    return None


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Return the profile in a file.

    Raises:
        NotFoundError: `path-missing`.
        CorruptError: `profile-corrupt`.
        FormatError: `format-newer`.
        UnavailableError: `io`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_PACKED + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{os.fspath(path)} is missing", kind="path-missing") from None
    except OSError as error:
        raise UnavailableError(f"cannot read {os.fspath(path)}: {error.strerror}", kind="io") from error
    if not data.startswith(_GZIP):
        hint = "sapwood trace --out FILE writes one"
        raise CorruptError(f"{os.fspath(path)} is no profile", kind="profile-corrupt", hint=hint)
    return Profile.decode(data, os.fspath(path))


def write_profile(path: str | os.PathLike[str], profile: Profile) -> None:
    """Let a file be this profile; what was there is replaced at once.

    Raises:
        UnavailableError: `io`.
    """
    new = f"{os.fspath(path)}.{os.getpid()}.new"
    try:
        Path(new).write_bytes(profile.encode())
        os.replace(new, path)
    except OSError as error:
        raise UnavailableError(f"cannot write {os.fspath(path)}: {error.strerror}", kind="io") from error
    finally:
        Path(new).unlink(missing_ok=True)


def keep_profile(store: Store, ref: str, run: Profile) -> Profile:
    """Add what a run read to what the store knows of its tree and of the ref; return what it knows of the tree now.

    Raises:
        CorruptError, FormatError, UnavailableError, DeniedError: as `find_profile`.
        InvalidInputError: `read-only-store`.
        ConflictError: `object-changed`: many others record at once.
    """
    kept = _add(store, tree_profile_key(run.tree), run, find_profile(store, ref, run.tree))
    _add(store, ref_profile_key(ref), run, None)
    return kept


def _add(store: Store, key: str, run: Profile, first: Profile | None) -> Profile:
    """Merge `run` into the profile at `key`, or, where there is none, into `first`."""
    for left in reversed(range(_TRIES)):
        seen = store.read_object(key)
        known = first if seen is None else Profile.decode(seen[0], f"{store.url}: {key}")
        merged = run if known is None else known.merged(run)
        try:
            store.swap_object(key, merged.encode(), None if seen is None else seen[1])
        except ConflictError:
            if not left:
                raise
        else:
            return merged
    raise AssertionError("the last try returns or raises")


def _cut(parts: Iterable[Part]) -> tuple[Part, ...]:
    ordered = sorted(parts, key=_PLACE)
    return tuple(ordered[:_MOST_PARTS])


def _pieces(data: bytes, where: str) -> Iterator[bytes]:
    """Return the text in pieces of whole lines; what is not sound is found at the end at the latest.

    Raises:
        CorruptError: `profile-corrupt`.
    """
    unpacker = zlib.decompressobj(31)
    left = _MOST_BYTES
    kept = b""
    packed = memoryview(data)
    for at in range(0, len(packed), _STEP):
        step: builtins.bytes | memoryview = packed[at : at + _STEP]
        while step and not unpacker.eof:
            try:
                text = unpacker.decompress(step, _PIECE)
            except zlib.error as error:
                raise _corrupt(where, str(error)) from None
            step = unpacker.unconsumed_tail
            left -= len(text)
            lines, newline, rest = text.rpartition(b"\n")
            if newline:
                yield kept + lines
                kept = b""
            kept += rest
            if left < 0 or len(kept) > _LONGEST_LINE:
                raise _corrupt(where, "it is too large" if left < 0 else "a line is too long")
        if unpacker.eof and (unpacker.unused_data or at + _STEP < len(packed)):
            raise _corrupt(where, "something is behind it")
    if not unpacker.eof:
        raise _corrupt(where, "it is cut off")
    if kept:
        yield kept


def _corrupt(where: str, found: str) -> CorruptError:
    return CorruptError(f"{where} is damaged: {found}", kind="profile-corrupt", hint=_REMEDY, where=where)


class _Rows:
    """The parts of a profile whose lines come in pieces; the first `_MOST_PARTS`, the rest is not looked at."""

    def __init__(self, programs: list[builtins.bytes]) -> None:
        self.parts: list[Part] = []
        self._programs = dict(enumerate(programs))
        self._readers: dict[tuple[int, ...], frozenset[builtins.bytes]] = {}
        self._left = _MOST_READERS
        self._ranges_left = _MOST_RANGES_OF_ALL

    def parse(self, lines: builtins.bytes) -> None:
        """Take whole lines, without the last newline.

        Raises:
            ValueError, TypeError, LookupError, RecursionError: a line is no part.
        """
        room = _MOST_PARTS - len(self.parts)
        if room and lines:
            # One call for all, which takes a third of the time that one a line does.
            self._add(json.loads(b"[%b]" % lines.replace(b"\n", b","))[:room])

    def _add(self, rows: list[object]) -> None:
        was, path = None, b""
        for row in rows:
            if not isinstance(row, list) or len(row) < 6:
                raise ValueError("it has fewer than six values")
            text, offset, rank, runs, count, readers = row[:6]
            numbers = (offset, rank, runs, count)
            if type(text) is not str or not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
                raise ValueError("a path or a number is none")
            if text != was:
                was, path = text, _raw(text)
            ranges = self._ranges(row[6]) if len(row) > 6 else ()
            self.parts.append(Part(path, offset, rank, runs, count, self._who(tuple(readers)), ranges))

    def _ranges(self, numbers: object) -> tuple[tuple[int, int], ...]:
        if not isinstance(numbers, list) or len(numbers) % 2:
            raise ValueError("its ranges are none")
        if len(numbers) > 2 * min(_MOST_RANGES, self._ranges_left):
            return ()
        if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
            raise ValueError("a range is none")
        self._ranges_left -= len(numbers) // 2
        return _united(zip(numbers[::2], numbers[1::2], strict=True))

    def _who(self, readers: tuple[int, ...]) -> frozenset[builtins.bytes]:
        known = self._readers.get(readers)
        if known is None:
            known = frozenset(self._programs[reader] for reader in readers)
            self._left -= len(readers) + 1
            if self._left < 0:
                return frozenset()
            self._readers[readers] = known
        return known


def _united(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return these ranges in order, with something between them; of too many, those with least between them as one."""
    united = list[tuple[int, int]]()
    for begin, end in sorted(ranges):
        if united and begin <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        elif begin < end:
            united.append((begin, end))
    while len(united) > _MOST_RANGES:
        at = min(range(len(united) - 1), key=lambda at: united[at + 1][0] - united[at][1])
        united[at : at + 2] = [(united[at][0], united[at + 1][1])]
    return tuple(united)


def _by_folder(paths: Iterable[bytes], room: int) -> dict[str, list[str]]:
    """Return the first paths, in order, as names by directory, as many as JSON of `room` bytes and a reader take."""
    folders: dict[str, list[str]] = {}
    left = _MOST_LOOKED_UP_BYTES
    for path in sorted(paths)[:_MOST_LOOKED_UP]:
        folder, _, name = map(_text, path.rpartition(b"/"))
        # With what stands between it and the next.
        room -= _length(name) + 1 + (0 if folder in folders else _length(folder) + len(":[],"))
        left -= len(path)
        if room < 0 or left < 0:
            break
        folders.setdefault(folder, []).append(name)
    return folders


def _length(text: str) -> int:
    """Return how many bytes a string takes in JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _in_folders(folders: dict[str, list[str]]) -> frozenset[bytes]:
    """Return the first paths of what `_by_folder` returned.

    Raises:
        UnicodeEncodeError: a name is none.
    """
    paths = set[bytes]()
    left = _MOST_LOOKED_UP_BYTES
    for folder, names in folders.items():
        above = _raw(folder) + b"/" if folder else b""
        for name in names:
            path = above + _raw(name)
            left -= len(path)
            if left < 0 or len(paths) == _MOST_LOOKED_UP:
                return frozenset(paths)
            paths.add(path)
    return frozenset(paths)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
