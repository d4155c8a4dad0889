"""The protocol of docs/store.md: no schedule loses anything, and without any one of its rules some schedule does."""

from __future__ import annotations

import dataclasses
import random

import pytest

from tests.support.collector import collect, living
from tests.support.protocol import Machine, Rules, Store, at_once
from tests.support.simulation import GRACE, Fate, Running, Violation, World

CHUNKS = "abcde"
REFS = ("main", "next", "one", "two", "three", "four")

QUARTER = GRACE // 4
NAPS: dict[str, tuple[float, list[int]]] = {
    "none": (0.0, [0]),
    "few": (0.1, [1, 2]),
    "short": (0.5, [1, 2]),
    "a quarter": (0.9, [QUARTER - 1, QUARTER]),
    "a half": (0.6, [QUARTER, 2 * QUARTER]),
    "late": (0.2, [2 * QUARTER, GRACE, GRACE + 1, 2 * GRACE]),
}
"""How often one pauses, and how long."""
WEIGHTS = {"push": 5, "collect": 4, "forget": 1, "remove": 1, "tag": 1, "read": 1}


@dataclasses.dataclass(frozen=True)
class Mood:
    """What a walk is inclined to: it decides how soon something rare is met, never what may happen."""

    weights: dict[str, int]
    naps: dict[str, str]
    refs: int = 2
    most: int = 3
    packs: int = 2
    spares_the_young: bool = True
    losing: float = 0.0
    dying: float = 0.0

    @classmethod
    def drawn(cls, dice: random.Random) -> Mood:
        return cls(
            weights={what: weight * dice.choice([0, 1, 1, 3]) + 1 for what, weight in WEIGHTS.items()},
            naps={dice.choice(["push", "push", "collect", "tag", "read"]): dice.choice([*NAPS])},
            refs=dice.choice([1, 2, 2, 6]),
            most=dice.choice([2, 3, 4]),
            packs=dice.choice([1, 2, 2, 4]),
            spares_the_young=dice.choice([True, False]),
            losing=dice.choice([0, 0, 0, 0.02, 0.1]),
            dying=dice.choice([0, 0, 0.01]),
        )


class Walk:
    """A random walk through schedules: who begins, who goes on, what is lost, how much time passes."""

    def __init__(self, seed: int, rules: Rules, mood: Mood | None = None) -> None:
        dice = self.dice = random.Random(seed)
        self.mood = mood or Mood.drawn(dice)
        self.refs = REFS[: self.mood.refs]
        self.natures: dict[str, tuple[float, list[int]]] = {}
        self.world = World(choose=lambda limit: int(dice.random() * limit))
        self.store = Store(self.world, rules)
        self.world.watch = lambda _, request: self.store.watch(request)
        self.machines = [Machine() for _ in range(3)]

    def begin(self) -> None:
        dice, store = self.dice, self.store
        what = dice.choices([*self.mood.weights], [*self.mood.weights.values()])[0]
        ref = dice.choice(self.refs)
        if what == "push":
            tree = frozenset(dice.sample(CHUNKS, dice.choice([1, 2, 2, 3, 4])))
            actor = store.push(dice.choice(self.machines), ref, tree, dice.choice([1, self.mood.packs]))
        elif what == "collect":
            actor = collect(store, spares_the_young=self.mood.spares_the_young)
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
        if what in self.mood.naps and dice.random() < 0.7:
            self.natures[started.name] = NAPS[self.mood.naps[what]]

    def step(self, one: Running) -> None:
        dice, world = self.dice, self.world
        if dice.random() < self.mood.dying:
            world.kill(one)
            return
        if one.request:
            fates: list[Fate] = ["unheard", "lost", "twice"]
            world.serve(one, dice.choice(fates) if dice.random() < self.mood.losing else "answered")
            sleepy, naps = self.natures.get(one.name, NAPS["none"])
            if dice.random() < sleepy:
                one.asleep_until = world.now + dice.choice(naps)
        if not one.request and one.asleep_until <= world.now:
            world.answer(one)

    def walk(self, steps: int) -> None:
        dice, world = self.dice, self.world
        for _ in range(steps):
            awake = [one for one in world.running if one.asleep_until <= world.now or one.request]
            if len(world.running) < self.mood.most and dice.random() < 0.15:
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
        self.mood = dataclasses.replace(self.mood, losing=0.0, dying=0.0)
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


def search(rules: Rules, seeds: range, mood: Mood | None = None) -> tuple[int, str, list[str]] | None:
    """Return the first seed that finds a loss, what was lost, and the story of it."""
    for seed in seeds:
        walk = Walk(seed, rules, mood)
        try:
            walk.walk(250)
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
        "pushes_have_a_deadline",
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
