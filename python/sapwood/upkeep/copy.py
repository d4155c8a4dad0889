"""Copy: a tree from store to store, sending only what the other one lacks.

Promise: to the other store a copy is a push (docs/store.md): durable when it returns, killed it leaves the store as it
was, and the next one goes on from there. Every chunk is proved on its way, and frames go as they are where all of what
they hold is missing. Not here: which refs (`cli`), what a frame becomes (the core).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sapwood import __version__
from sapwood._core.copy import Copy
from sapwood._core.filemap import Frame
from sapwood.basis import find_basis, seen_or_confirmed
from sapwood.digests import PackName, SnapshotDigest, TreeDigest
from sapwood.fetch import Pages, fetch_all, load_map, located
from sapwood.progress import OnProgress, Progress
from sapwood.push import commit, outline_words
from sapwood.store.lease import clock_s
from sapwood.store.ref import Ref, check_ref_name
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.store.waiting import interruptible
from sapwood.upload import Uploads

__all__ = ["Again", "Copied", "copy"]

# Pages that wait for one before them are in memory: at most so many.
_PAGES = 128
# More bytes than there are.
_ALL = 1 << 62


@dataclass
class Again:
    """What of a chunk is to be laid out again: `ranges` (from, to), in order, and the frame that it lies in now."""

    frame: Frame
    ranges: list[tuple[int, int]]


@dataclass(frozen=True)
class Copied:
    """What a copy did. Sizes in bytes: `chunk_bytes_sent` before compression, `bytes_stored` of all objects written."""

    tree: TreeDigest
    snapshot: SnapshotDigest
    """In the other store."""
    ref: str
    entries: int
    bytes: int
    chunks_sent: int
    """Of blobs."""
    chunk_bytes_sent: int
    packs_sent: int
    bytes_fetched: int
    bytes_stored: int
    seconds: float
    unchanged: bool
    """The ref named this very tree already; nothing was written."""


def copy(
    source: Store,
    snapshot: Snapshot,
    target: Store,
    ref: str,
    *,
    onto: Ref | None = None,
    anew: Mapping[str, Again] | None = None,
    progress: OnProgress | None = None,
) -> Copied:
    """Let `ref` of the store `target` name a copy of `snapshot` of the store `source`.

    The copy says who made the tree, when and of what, as `snapshot` does; its parent is what `ref` named before. The
    history of `snapshot` is not copied. `onto` is the only state from which the ref may move, by default that which it
    has now. What `anew` says of chunks, by digest, is sent though the target has it, together, well compressed, and
    about in this order.

    Raises:
        NotFoundError: `map-missing`, `pack-missing`; CorruptError: `damaged`, `chunk-corrupt`, `object-short`: in the
            source, and named. The target's ref is as it was.
        InvalidInputError: `bad-ref-name`; `read-only-store`.
        ConflictError: `ref-moved` by somebody else meanwhile, or `pack-condemned`; copy again.
        UnavailableError: `push-too-slow` for the grace of the target; `disk-full`; or a store does not answer.
        CorruptError: `ref-corrupt`, `fragment-corrupt`, `record-corrupt`, of the target.
        FormatError: `format-newer`; nothing was written.
    """
    started = time.monotonic()
    since_s = clock_s()
    before = onto or target.ref_state(check_ref_name(ref))
    seen = seen_or_confirmed(target, before)
    nonce = secrets.token_hex(8)
    with target.term(nonce, since_s) as term:
        basis = find_basis(target, before, seen, lambda: None)
        file_map = load_map(source, snapshot, pages=False)
        words = {
            "created": snapshot.created,
            "user": snapshot.user,
            "host": snapshot.host,
            "source": snapshot.source,
            "parent": before.snapshot if before else None,
            "program": f"sapwood {__version__}",
        }
        run = Copy(file_map)
        uploads = Uploads(target, term)
        way = _Way(source, run, uploads, progress, [again.frame for again in (anew or {}).values()])
        try:
            # Those of split metadata, too, which are the same in every store.
            pages = file_map.stored_pages()
            way.fetch(file_map.pages(), run.look)
            lacking = run.lacking(basis.holdings)
            if basis.warm and lacking:
                basis = basis.looked_up(target)
            fragments, owed = basis.fragments(target, lacking)
            with located(target.url):
                way.total = run.begin(
                    push=nonce,
                    holdings=basis.holdings,
                    fragments=[*fragments, *owed.values()],
                    pending=list(basis.pending.values()),
                    usable=basis.usable,
                    anew=[(digest, again.ranges) for digest, again in (anew or {}).items()],
                )
            with uploads:
                way.fetch_frames()
                way.send(interruptible(run.settle))
                for at in range(0, len(pages), _PAGES):
                    way.fetch(pages[at : at + _PAGES], lambda page, stored: way.send(run.place(page, stored)), at)
                content = basis.previous.content if basis.previous else None
                made = interruptible(lambda: run.finish(outline_words(nonce, ref, before, words), content))
                way.send(made["left"])
                uploads.finish()
        finally:
            run.close()
        copied, stored = commit(target, ref, before, basis, made, words, term, uploads)
    return Copied(
        tree=copied.tree,
        snapshot=copied.digest,
        ref=ref,
        entries=copied.entries,
        bytes=copied.bytes,
        chunks_sent=made["chunks_sent"],
        chunk_bytes_sent=made["chunk_bytes_sent"],
        packs_sent=made["packs_sent"],
        bytes_fetched=way.fetched,
        bytes_stored=stored,
        seconds=time.monotonic() - started,
        unchanged=made["unchanged"],
    )


class _Way:
    """The way of the bytes: from the source through the core to the uploads. `total` is what frames come to."""

    def __init__(
        self, source: Store, run: Copy, uploads: Uploads, progress: OnProgress | None, first: list[Frame]
    ) -> None:
        self._source = source
        self._run = run
        self._uploads = uploads
        self._progress = progress
        # The next is the last.
        self._first = list(dict.fromkeys(first))[::-1]
        self._adding = threading.Lock()
        self.total = 0
        self.fetched = 0

    def fetch(self, pages: list[Frame], add: Callable[[int, bytes], None], first: int = 0) -> None:
        """Fetch pages, numbered from `first` on, and give each to `add`, from several threads."""
        numbers = {frame: number for number, frame in enumerate(pages, first)}
        fetched = fetch_all(self._source, Pages(add, numbers), lambda _: self._uploads.check())
        self.fetched += fetched.bytes

    def fetch_frames(self) -> None:
        """Fetch all frames that the core wants."""

        def report(done: int) -> None:
            self._uploads.check()
            if self._progress:
                self._progress(Progress(0, 0, done, self.total))

        if self._first:
            wanted = set(self._run.take(_ALL))
            first = set(self._first)
            self._first = sorted(wanted - first, reverse=True) + [frame for frame in self._first if frame in wanted]
        self.fetched += fetch_all(self._source, self, report).bytes

    def take(self, bytes: int) -> list[Frame]:  # noqa: A002 - the core's word
        with self._adding:
            batch = list[Frame]()
            while self._first and (not batch or bytes >= self._first[-1].length):
                batch.append(self._first.pop())
                bytes -= batch[-1].length  # noqa: A001
        return batch or self._run.take(bytes)

    def deliver(self, frame: Frame, stored: bytes) -> None:
        self.send(self._run.deliver(frame, stored))

    def send(self, packs: list[tuple[str, memoryview, bytes]]) -> None:
        """Put packs, some time."""
        with self._adding:
            while packs:  # which must not be held here while they are being put
                name, pack, fragment = packs.pop(0)
                self._uploads.add(PackName(name), pack, fragment)
                del pack
