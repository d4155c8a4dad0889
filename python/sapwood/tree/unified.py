"""What differs between two trees as text: what `patch -p1` and `git apply` take.

Promise: applied to the first tree, the text makes the second of it, but for what text cannot say: binary files,
devices, FIFOs and empty directories are named, on lines that `patch` passes over. The form is git's: a header
`diff --git`, modes, then hunks as of `diff -u`. A file that took the place of a directory, or a directory of a file, is
beyond `patch` (2.7.6); `git apply` knows what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from sapwood.tree.diff import differences
from sapwood.tree.leaf import Leaf
from sapwood.tree.tree import Item, Tree

__all__ = ["unified_diff"]

_ESCAPES = {ord("\n"): b"\\n", ord("\t"): b"\\t", ord("\r"): b"\\r", ord('"'): b'\\"', ord("\\"): b"\\\\"}


def unified_diff(a: Tree, b: Tree, *, context: int = 3) -> Iterator[bytes]:
    """Yield the lines, each with its end, that tell how to make `b` of `a`; cost and order as `Tree.diff`.

    Files of which both sides are text (no NUL) are read whole. Where a long text is made of few different lines, more
    of it may be shown as replaced than was.

    Raises:
        SapwoodError: what reading the trees raises.
    """
    for _, path, old, new in differences(a, b):
        old, new = old and old.resolved(), new and new.resolved()
        if isinstance(old, Leaf) and isinstance(new, Leaf) and old.kind == new.kind == "reg":
            yield from _changed(path, old, new, context)
        else:
            # Something of another kind is something else: it goes, and the other comes.
            yield from _gone_or_come(path, b"a/", old, context)
            yield from _gone_or_come(path, b"b/", new, context)


def _changed(path: bytes, old: Leaf, new: Leaf, context: int) -> Iterator[bytes]:
    yield _header(path)
    if old.executable != new.executable:
        yield b"old mode %s\n" % _mode(old)
        yield b"new mode %s\n" % _mode(new)
    if old.digest != new.digest:
        yield from _hunks(b"a/" + path, b"b/" + path, _text(old), _text(new), context)


def _gone_or_come(path: bytes, side: bytes, item: Item | None, context: int) -> Iterator[bytes]:
    if item is None or (isinstance(item, Tree) and item.items):
        return
    if isinstance(item, Tree) or item.kind not in ("reg", "symlink"):
        folder, _, name = (side + path).rpartition(b"/")
        yield b"Only in %s: %s (%s)\n" % (_quoted(folder), _quoted(name), item.kind.encode())
        return
    yield _header(path)
    yield (b"deleted" if side == b"a/" else b"new") + b" file mode %s\n" % _mode(item)
    if side == b"a/":
        if item.size == 0:
            # Git's names of no content and of nothing: without them patch asks whether it was to add the file.
            yield b"index e69de29..0000000\n"
        yield from _hunks(side + path, None, _text(item), b"", context)
    else:
        yield from _hunks(None, side + path, b"", _text(item), context)


def _header(path: bytes) -> bytes:
    return b"diff --git %s %s\n" % (_quoted(b"a/" + path), _quoted(b"b/" + path))


def _mode(leaf: Leaf) -> bytes:
    if leaf.kind == "symlink":
        return b"120000"
    return b"100755" if leaf.executable else b"100644"


def _text(leaf: Leaf) -> bytes | None:
    """The content as text; None if it is none."""
    if leaf.kind == "symlink":
        return leaf.target
    pieces = []
    for piece in leaf.read():
        if b"\0" in piece:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _hunks(a: bytes | None, b: bytes | None, old: bytes | None, new: bytes | None, context: int) -> Iterator[bytes]:
    names = [b"/dev/null" if name is None else _quoted(name) for name in (a, b)]
    if old is None or new is None:
        yield b"Binary files %s and %s differ\n" % tuple(names)
        return
    if old == new:  # an empty file that came or went
        return
    for mark, name in zip((b"---", b"+++"), names, strict=True):
        yield b"%s %s\n" % (mark, name)
    mine, theirs = _lines(old), _lines(new)
    for group in _groups(mine, theirs, context):
        _, first, _, start, _ = group[0]
        _, _, last, _, end = group[-1]
        yield b"@@ -%s +%s @@\n" % (_range(first, last), _range(start, end))
        for tag, i, j, k, m in group:
            if tag == "equal":
                yield from _marked(b" ", mine[i:j])
            else:
                yield from _marked(b"-", mine[i:j])
                yield from _marked(b"+", theirs[k:m])


Opcode = tuple[str, int, int, int, int]


def _groups(old: list[bytes], new: list[bytes], context: int) -> Iterator[list[Opcode]]:
    """The runs of differences with their context; what both begin and end with is not compared line by line again."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    tail = next((at for at in range(shorter - head) if old[-1 - at] != new[-1 - at]), shorter - head)
    start, spare = max(0, head - context), max(0, tail - context)
    matcher = SequenceMatcher(None, old[start : len(old) - spare], new[start : len(new) - spare])
    for group in matcher.get_grouped_opcodes(context):
        yield [(tag, i + start, j + start, k + start, m + start) for tag, i, j, k, m in group]


def _lines(text: bytes) -> list[bytes]:
    """Lines with their ends; only a newline ends one."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop().removesuffix(b"\n")
    return [*lines, last] if last else lines


def _range(start: int, end: int) -> bytes:
    """Line numbers as hunks have them: the first, counted from 1, and how many; before which one if none."""
    count = end - start
    if count == 1:
        return b"%d" % (start + 1)
    return b"%d,%d" % (start + 1 if count else start, count)


def _marked(mark: bytes, lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.endswith(b"\n"):
            yield mark + line
        else:
            yield mark + line + b"\n"
            yield b"\\ No newline at end of file\n"


def _quoted(name: bytes) -> bytes:
    """A name as git and patch read it: in quotes where a byte would end it, break the line or drive a terminal."""
    if not any(byte <= 0x20 or byte == 0x7F or byte in _ESCAPES for byte in name):
        return name
    return b'"%s"' % b"".join(_escaped(byte) for byte in name)


def _escaped(byte: int) -> bytes:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return b"\\%03o" % byte if byte < 0x20 or byte >= 0x7F else bytes([byte])
