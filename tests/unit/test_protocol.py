"""The protocol of docs/store.md: no schedule loses anything, and without any one of its rules some schedule does."""

from __future__ import annotations

import random

import pytest

from tests.support.collector import collect, living
from tests.support.protocol import Machine, Rules, Store, at_once
from tests.support.simulation import GRACE, Fate, Running, Violation, World

CHUNKS = "abcde"
REFS = ("main", "next")

QUARTER = GRACE // 4
NATURES: list[tuple[float, list[int]]] = [
    (0.0, [0]),
    (0.1, [1, 2]),
    (0.5, [1, 2]),
    (0.9, [QUARTER - 1, QUARTER]),
    (0.6, [QUARTER, 2 * QUARTER]),
    (0.2, [2 * QUARTER, GRACE, GRACE + 1, 2 * GRACE]),
]
"""How often one pauses, and how long."""


class Walk:
    """A random walk through schedules: who begins, who goes on, what is lost, how much time passes."""

    def __init__(self, seed: int, rules: Rules) -> None:
        dice = self.dice = random.Random(seed)
        # Each walk has a mood: how much is lost, how long pauses are, how eager collectors are.
        self.losing = dice.choice([0, 0, 0, 0.02, 0.1])
        self.dying = dice.choice([0, 0, 0.01])
        self.refs = REFS[: dice.choice([1, 2])]
        self.most = dice.choice([2, 3, 4])
        self.weights = [dice.choice([3, 8]), dice.choice([2, 6]), 1, 1, dice.choice([0, 1]), 1]
        self.world = World(choose=lambda limit: int(dice.random() * limit))
        self.store = Store(self.world, rules)
        self.world.watch = lambda _, request: self.store.watch(request)
        self.machines = [Machine() for _ in range(3)]
        self.slow = dice.choice(["push", "push", "collect", "tag", "read"]), dice.choice(NATURES)
        self.natures: dict[str, tuple[float, list[int]]] = {}

    def begin(self) -> None:
        dice, store = self.dice, self.store
        what = dice.choices(["push", "collect", "forget", "remove", "tag", "read"], self.weights)[0]
        ref = dice.choice(self.refs)
        if what == "push":
            tree = frozenset(dice.sample(CHUNKS, dice.choice([1, 2, 2, 3])))
            actor = store.push(dice.choice(self.machines), ref, tree, dice.choice([1, 1, 2]))
        elif what == "collect":
            actor = collect(store)
        elif what == "forget":
            actor = store.forget(ref, dice.choice([0, 0, 1]))
        elif what == "remove":
            actor = store.remove(ref)
        elif what == "tag":
            known = [state.snapshot for name in self.refs for state in self.world.place.ever(f"refs/{name}")]
            if not any(known):
                return
            actor = store.tag(dice.choice([ref, "v1"]), dice.choice([name for name in known if name]))
        else:
            actor = store.read(ref)
        started = self.world.start(what, actor)
        if what == self.slow[0] and dice.random() < 0.7:
            self.natures[started.name] = self.slow[1]

    def step(self, one: Running) -> None:
        dice, world = self.dice, self.world
        if dice.random() < self.dying:
            world.kill(one)
            return
        if one.request:
            fates: list[Fate] = ["unheard", "lost", "twice"]
            world.serve(one, dice.choice(fates) if dice.random() < self.losing else "answered")
            sleepy, naps = self.natures.get(one.name, NATURES[0])
            if dice.random() < sleepy:
                one.asleep_until = world.now + dice.choice(naps)
        if not one.request and one.asleep_until <= world.now:
            world.answer(one)

    def walk(self, steps: int) -> None:
        dice, world = self.dice, self.world
        for _ in range(steps):
            awake = [one for one in world.running if one.asleep_until <= world.now or one.request]
            if len(world.running) < self.most and dice.random() < 0.15:
                self.begin()
            elif awake and dice.random() < 0.96:
                # Mostly one goes on for a while.
                self.step(awake[0] if dice.random() < 0.5 else dice.choice(awake))
            else:
                asleep = [one.asleep_until - world.now for one in world.running if not one.request]
                for _ in range(dice.choice([1, 1, 2, QUARTER, 2 * QUARTER, GRACE - 1, GRACE + 1, max([1, *asleep])])):
                    world.tick()
                    if any(one.asleep_until == world.now for one in world.running):
                        break

    def settle(self) -> None:
        """Let everybody end, then collect three times, two graces apart."""
        world = self.world
        self.losing = self.dying = 0.0
        self.natures.clear()
        while world.running:
            for one in list(world.running):
                one.asleep_until = 0
                self.step(one)
        for _ in range(3):
            for _ in range(2 * GRACE):
                world.tick()
            collecting = world.start("collect", collect(self.store))
            while collecting in world.running:
                self.step(collecting)


def search(rules: Rules, seeds: range, steps: int = 250) -> tuple[int, str, list[str]] | None:
    """Return the first seed that finds a loss, what was lost, and the story of it."""
    for seed in seeds:
        walk = Walk(seed, rules)
        try:
            walk.walk(steps)
        except Violation as found:
            return seed, str(found), walk.world.story
    return None


def test_no_schedule_loses_anything() -> None:
    found = search(Rules(), range(2000))
    assert found is None, f"seed {found[0]}: {found[1]}\n" + "\n".join(found[2])


def test_when_all_is_quiet_what_is_alive_is_left_and_nothing_else() -> None:
    for seed in range(150):
        walk = Walk(seed, Rules())
        walk.walk(250)
        walk.settle()
        place = walk.world.place
        live, _ = at_once(living(walk.store), place)
        left = {key for key in place.now_there() if not key.startswith("refs/")}
        assert left == live, (seed, left ^ live)


@pytest.mark.parametrize(
    "rule",
    [
        "names_never_repeat",
        "condemned_is_not_reused",
        "refs_are_read_before_deletion",
        "redirects_must_cover",
        "holdings_are_chunks",
        "renewals_have_a_deadline",
        "records_outlive_what_they_condemn",
        "tags_heed_records",
    ],
)
def test_without_any_one_rule_some_schedule_loses_something(rule: str) -> None:
    assert search(Rules(**{rule: False}), range(12_000)) is not None
