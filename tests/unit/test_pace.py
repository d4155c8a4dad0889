"""What may be in flight follows what the link has carried, and is little before anything is known."""

import pytest

from sapwood.mount import pace
from sapwood.mount.pace import BEGIN_BYTES, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def carry(measured: Pace, clock: list[float], *, requests: int, count: int, seconds: float) -> None:
    for _ in range(requests):
        begun = measured.begin()
        clock[0] += seconds
        measured.end(begun, count)


def test_little_is_in_flight_before_anything_is_known() -> None:
    measured = Pace()
    assert (measured.in_flight, measured.rate) == (BEGIN_BYTES, 0)
    assert measured.batch >= 128 << 10


def test_what_the_link_carries_in_a_round_trip_is_in_flight_and_somewhat_more(clock: list[float]) -> None:
    measured = Pace()
    carry(measured, clock, requests=1, count=2_000, seconds=0.02)
    carry(measured, clock, requests=50, count=250_000, seconds=0.02)
    assert measured.rate == pytest.approx(12.5e6, rel=0.1)
    assert 2.5 * 250_000 < measured.in_flight < 2.8 * 250_000 + (256 << 10)


def test_a_longer_way_or_a_wider_one_gets_more_by_larger_requests(clock: list[float]) -> None:
    near, far = Pace(), Pace()
    carry(near, clock, requests=50, count=250_000, seconds=0.02)
    carry(far, clock, requests=50, count=12_500_000, seconds=0.1)
    assert far.in_flight > 10 * near.in_flight
    assert far.batch > near.batch


def test_time_in_which_nothing_was_asked_for_says_nothing_of_the_link(clock: list[float]) -> None:
    measured = Pace()
    carry(measured, clock, requests=50, count=250_000, seconds=0.02)
    before = measured.rate
    for _ in range(30):
        clock[0] += 60
        carry(measured, clock, requests=14, count=250_000, seconds=0.02)
    assert measured.rate == pytest.approx(before, rel=0.1)


def test_requests_that_failed_shorten_no_round_trip(clock: list[float]) -> None:
    measured = Pace()
    carry(measured, clock, requests=50, count=250_000, seconds=0.02)
    before = measured.in_flight
    carry(measured, clock, requests=1, count=0, seconds=0.0001)
    assert measured.in_flight == before
