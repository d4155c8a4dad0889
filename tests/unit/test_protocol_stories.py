"""Losses that a random walk would seek too long: each happens without one rule of docs/store.md, never with it.

A story starts who takes part, lets each go on to the request that matters, and lets time pass where it hurts.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.collector import collect
from tests.support.protocol import Machine, Rules, Store
from tests.support.simulation import GRACE, LATEST_LISTING, Running, Violation, World

QUARTER = GRACE // 4


class Telling:
    """A store, and words to tell a story with."""

    def __init__(self, rules: Rules) -> None:
        self.world = World(choose=lambda limit: limit - 1)
        self.store = Store(self.world, rules)
        self.world.watch = lambda _, request: self.store.watch(request)

    def begin_push(self, ref: str, tree: str, packs: int = 1) -> Running:
        return self.world.start("push", self.store.push(Machine(), ref, frozenset(tree), packs))

    def begin_gc(self) -> Running:
        return self.world.start("collect", collect(self.store, spares_the_young=False))

    def push(self, ref: str, tree: str) -> None:
        self.end(self.begin_push(ref, tree))

    def gc(self) -> None:
        self.wait(1)
        self.end(self.begin_gc())

    def forget(self, ref: str) -> None:
        self.end(self.world.start("forget", self.store.forget(ref, 0)))

    def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            self.world.tick()

    def until(self, one: Running, verb: str, key: str) -> None:
        """Go on until this request is about to be made."""
        assert self.goes_on_to(one, verb, key), "it has ended"

    def goes_on_to(self, one: Running, verb: str, key: str) -> bool:
        """Go on until this request is about to be made, or the end."""
        while one in self.world.running:
            if one.request and one.request.verb == verb and one.request.key.startswith(key):
                return True
            self.one_request(one)
        return False

    def one_request(self, one: Running, pause: int = 0) -> None:
        """Make a request, hear the reply, and sleep before looking at it."""
        assert one in self.world.running, "it has ended"
        if one.request:
            self.world.serve(one, "answered")
        self.wait(pause)
        self.world.answer(one)

    def end(self, one: Running) -> None:
        while one in self.world.running:
            self.one_request(one)

    def long_push(self, ref: str, pause: int = QUARTER) -> Running:
        """Begin one that lasts longer than a grace; return it when its first pack has been condemned."""
        push = self.begin_push(ref, "abcd", packs=4)
        self.until(push, "put", "packs/")
        self.one_request(push, pause)
        self.gc()
        for _ in range(3):
            self.until(push, "put", "packs/")
            self.one_request(push, QUARTER)
        self.until(push, "put", "snapshots/")
        self.one_request(push, QUARTER)
        return push


def the_lease_of_a_long_push(tell: Telling) -> None:
    push = tell.long_push("main")
    tell.gc()
    tell.end(push)


def the_lease_that_was_deleted_before_the_new_ref_is_listed(tell: Telling) -> None:
    push = tell.long_push("new")
    tell.end(push)
    gc = tell.begin_gc()
    tell.until(gc, "list", "refs/")
    tell.world.place.be_late(lambda limit: 0 if limit == 3 else limit - 1)
    tell.one_request(gc)
    tell.world.place.be_late(lambda limit: limit - 1)
    tell.end(gc)
    tell.wait(LATEST_LISTING)


def the_collector_that_slept_before_it_redirected(tell: Telling) -> None:
    tell.push("main", "abc")
    tell.push("main", "a")
    tell.forget("main")
    tell.wait(1)
    sleeper = tell.begin_gc()
    tell.until(sleeper, "put", "packs/")
    tell.world.serve(sleeper, "answered")
    # While it sleeps, more of the pack is alive, so nobody else moves it, and what it has put is collected.
    tell.push("main", "ab")
    tell.gc()
    tell.wait(GRACE)
    tell.gc()
    tell.push("main", "a")
    tell.forget("main")
    tell.end(sleeper)
    tell.wait(2 * GRACE)
    tell.gc()
    tell.wait(2 * GRACE)
    tell.gc()


def the_collector_that_used_a_record_which_another_took_away(tell: Telling) -> None:
    push = tell.begin_push("main", "a")
    tell.until(push, "put", "snapshots/")
    tell.world.serve(push, "answered")
    tell.gc()  # condemns the pack that is about to be alive
    tell.end(push)
    tell.wait(GRACE)
    tell.gc()  # finds it alive; names the record, which is used now
    tell.wait(GRACE)
    second = tell.begin_gc()
    tell.until(second, "delete", "gc/")
    tell.push("main", "b")
    tell.forget("main")
    third = tell.begin_gc()
    deletes = tell.goes_on_to(third, "delete", "packs/")
    tell.end(second)
    tell.push("next", "a")
    if deletes:
        tell.end(third)


STORIES: dict[str, Callable[[Telling], None]] = {
    "leases_are_heeded": the_lease_of_a_long_push,
    "leases_end_by_themselves": the_lease_that_was_deleted_before_the_new_ref_is_listed,
    "collectors_have_a_deadline": the_collector_that_slept_before_it_redirected,
    "used_records_are_left": the_collector_that_used_a_record_which_another_took_away,
}


@pytest.mark.parametrize("rule", STORIES)
def test_with_all_rules_the_story_ends_well(rule: str) -> None:
    STORIES[rule](Telling(Rules()))


@pytest.mark.parametrize("rule", STORIES)
def test_without_the_rule_the_story_ends_with_a_loss(rule: str) -> None:
    with pytest.raises(Violation):
        STORIES[rule](Telling(Rules(**{rule: False})))
