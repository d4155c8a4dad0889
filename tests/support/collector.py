"""docs/store.md, "Collection", as a generator of requests; beside `protocol`, whose words and rules it shares."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tests.support.protocol import Pack, Record, Redirect, Ref, Store, redirect_of
from tests.support.simulation import GRACE, Actor, ChangedError, GaveUpError, LostError, MissingError, Request

Frames = dict[str, set[str]]
"""Of each pack the chunks that some history needs from it."""


def collect(store: Store, *, spares_the_young: bool = True) -> Actor:
    """One run of gc. That it spares the young is for the sake of tags: without, nothing must be lost, either."""
    rules = store.rules
    by = store.now + GRACE // 2 if rules.collectors_have_a_deadline else None
    # 1. What is due.
    clock = f"gc/{store.world.nonce()}"
    yield from store.sure(Request("put", clock, Record(frozenset())), by=by)
    try:
        now: int = yield from store.sure(Request("time", clock))
    except MissingError:
        raise GaveUpError("so slow that others have cleared it away") from None
    records = yield from store.records()
    records.pop(clock, None)
    used = frozenset[str]()
    if rules.used_records_are_left:
        used = frozenset().union(*(record.condemned for _, record in records.values())) & records.keys()
    due = {key for key, (put, _) in records.items() if put <= now - GRACE and key not in used}
    due -= yield from _kept_by_leases(store, now, {key: put for key, (put, _) in records.items()})
    # 2. What is alive.
    try:
        live, frames = yield from living(store)
    except MissingError:
        raise GaveUpError("the store is damaged") from None
    # 3. What was condemned a grace ago.
    condemned = sorted(frozenset[str]().union(*(records[key][1].condemned for key in due)), key=_packs_last)
    for key in condemned:
        if key not in live or not rules.refs_are_read_before_deletion:
            yield from store.sure(Request("delete", key), by=by)
    done = set[str]()
    for key in sorted(due):
        if not rules.records_outlive_what_they_condemn or all(k.startswith("gc/") for k in records[key][1].condemned):
            yield from store.sure(Request("delete", key), by=by)
        else:
            done.add(key)
    # 4. What is to be condemned.
    youngest = 3 * GRACE // 4 if spares_the_young else 1
    waiting = frozenset[str]().union(*(records[key][1].condemned for key in records.keys() - used))
    listed = (yield from store.sure(Request("list", "packs/"))) | (yield from store.sure(Request("list", "snapshots/")))
    dead = {key for key, put in listed.items() if key not in live and key not in waiting and put <= now - youngest}
    for pack in sorted(live & listed.keys() & store.contents.keys()):
        if 2 * len(frames[pack]) < len(store.contents[pack]) and redirect_of(pack) not in listed:
            dead |= yield from _move(store, pack, frames[pack], by)
    if dead | done:
        yield from store.sure(Request("put", f"gc/{store.world.nonce()}", Record(frozenset(dead | done))), by=by)
    yield from store.sure(Request("delete", clock), by=by)
    return f"deleted {len(condemned)}, condemned {len(dead)}"


def _packs_last(key: str) -> tuple[bool, str]:
    return key.startswith("packs/") and not key.endswith(".moved"), key


def _kept_by_leases(store: Store, now: int, records: dict[str, int]) -> Generator[Request, Any, set[str]]:
    """Return the records that a lease keeps from being due; delete leases that are over."""
    listed = yield from store.sure(Request("list", "leases/"))
    kept = set[str]()
    if not store.rules.leases_are_heeded:
        return kept
    for lease in sorted({key.rpartition(".")[0] for key in listed}):
        live, began = listed.get(f"{lease}.live"), listed.get(f"{lease}.began")
        if live is None or live <= now - GRACE:
            if (live or began or 0) <= now - GRACE:
                yield from store.sure(Request("delete", f"{lease}.live"))
                yield from store.sure(Request("delete", f"{lease}.began"))
            continue
        since = -1 if began is None else began - GRACE
        kept |= {key for key, put in records.items() if put >= since}
    return kept


def living(store: Store) -> Generator[Request, Any, tuple[set[str], Frames]]:
    """Return all that some history needs; raise MissingError if a part of one is not there."""
    live = set[str]()
    frames: Frames = {}
    for key in (yield from store.sure(Request("list", "refs/"))):
        ref: Ref = yield from store.sure(Request("get", key))
        for name in (yield from store.history(ref)):
            if name not in live:
                live.add(name)
                for chunk, pack in (yield from store.sure(Request("get", name))).places:
                    frames.setdefault(pack, set()).add(chunk)
    moved = (yield from store.sure(Request("list", "packs/"))).keys()
    todo = list(frames)
    redirects: dict[str, dict[str, str]] = {}
    while todo:
        pack = todo.pop()
        if redirect_of(pack) not in moved:
            continue
        if pack not in redirects:
            redirect: Redirect = yield from store.sure(Request("get", redirect_of(pack)))
            redirects[pack] = dict(redirect.to)
            live.add(redirect_of(pack))
        for chunk in sorted(frames[pack]):
            to = redirects[pack].get(chunk)
            if to is not None:
                frames[pack].discard(chunk)
                frames.setdefault(to, set()).add(chunk)
                todo.append(to)
            elif not store.rules.redirects_must_cover:
                frames[pack].discard(chunk)
    return live | {pack for pack, needed in frames.items() if needed}, frames


def _move(store: Store, pack: str, chunks: set[str], by: int | None) -> Generator[Request, Any, set[str]]:
    """Move what lives in a pack to a new one; return what can be condemned then."""
    new = f"packs/{store.world.nonce()}"
    store.contents[new] = frozenset(chunks)
    yield from store.sure(Request("put", new, Pack(frozenset(chunks))), by=by)
    redirect = Redirect(tuple((chunk, new) for chunk in sorted(chunks)))
    store.in_time(by)
    try:
        yield Request("swap", redirect_of(pack), redirect, None)
    except (ChangedError, LostError):
        try:
            if (yield from store.sure(Request("get", redirect_of(pack)))) != redirect:
                return set()
        except MissingError:
            return set()
    return {pack}
