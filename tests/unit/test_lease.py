"""How long a push may take effect, with a clock that the test winds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapwood.digests import PackName
from sapwood.errors import ConflictError, UnavailableError
from sapwood.store.condemned import encode_condemned
from sapwood.store.keys import condemned_key, lease_keys, pack_key
from sapwood.store.lease import Term
from sapwood.store.local import LocalObjects

PUSH, GRACE_S, BEGAN_S = "0123456789abcdef", 1000.0, 50.0
PACK, OTHER = PackName("1" * 64), PackName("2" * 64)


class Clock:
    now_s = BEGAN_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def term(objects: LocalObjects, clock: Clock) -> Term:
    return Term(objects, PUSH, GRACE_S, BEGAN_S, b"body", clock)


def condemn(objects: LocalObjects, pack: PackName) -> None:
    objects.put(condemned_key("f" * 16), encode_condemned([pack_key(pack)]))


def test_a_push_may_take_effect_for_half_a_grace_and_not_longer(term: Term, clock: Clock) -> None:
    clock.now_s = BEGAN_S + GRACE_S / 2
    term.require([])
    clock.now_s += 1
    with pytest.raises(UnavailableError) as slow:
        term.require([])
    assert slow.value.kind == "push-too-slow"


def test_a_lease_begins_once_and_each_renewal_gives_half_a_grace_more(
    term: Term, clock: Clock, objects: LocalObjects
) -> None:
    began, live = lease_keys(PUSH)
    puts: list[str] = []
    put = objects.put
    objects.put = lambda key, data: (puts.append(key), put(key, data))  # type: ignore[method-assign, assignment, func-returns-value]
    for _ in range(3):
        clock.now_s += GRACE_S / 4
        term.renew()
    assert puts == [began, live, live, live]
    clock.now_s += GRACE_S / 2
    term.require([])
    clock.now_s += 1
    with pytest.raises(UnavailableError):
        term.require([])


def test_what_is_too_late_is_not_renewed(term: Term, clock: Clock, objects: LocalObjects) -> None:
    clock.now_s += GRACE_S / 2 + 1
    with pytest.raises(UnavailableError) as slow:
        term.renew()
    assert slow.value.kind == "push-too-slow"
    assert objects.list("leases") == []


def test_a_push_that_re_used_what_a_renewal_found_condemned_does_not_take_effect(
    term: Term, objects: LocalObjects
) -> None:
    condemn(objects, PACK)
    # Before a lease nobody looks again: what was condemned since the push began is kept for longer than it may take.
    term.require([PACK])
    term.renew()
    term.require([OTHER])
    with pytest.raises(ConflictError) as condemned:
        term.require([OTHER, PACK])
    assert condemned.value.kind == "pack-condemned"


def test_a_term_that_runs_renews_its_lease_by_itself_and_leaves_it(objects: LocalObjects, clock: Clock) -> None:
    clock.now_s = BEGAN_S + GRACE_S / 4
    with Term(objects, PUSH, GRACE_S, BEGAN_S, b"body", clock) as term:
        while len(objects.list("leases")) < 2:
            pass
    term.require([])
    assert objects.list("leases") == sorted(lease_keys(PUSH))


def test_a_term_that_is_over_says_so_to_who_is_still_sending(objects: LocalObjects, clock: Clock) -> None:
    with Term(objects, PUSH, GRACE_S, BEGAN_S, b"body", clock) as term:
        term.check()
    clock.now_s += GRACE_S / 2 + 1
    with Term(objects, PUSH, GRACE_S, BEGAN_S, b"body", clock) as term:
        with pytest.raises(UnavailableError) as slow:
            while True:
                term.check()
        assert slow.value.kind == "push-too-slow"


def test_a_short_push_puts_no_lease(objects: LocalObjects, clock: Clock) -> None:
    with Term(objects, PUSH, GRACE_S, BEGAN_S, b"body", clock) as term:
        term.require([])
    assert objects.list("") == []
