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
        asked = measured.begin(count)
        clock[0] += seconds
        measured.end(asked, count)


def test_little_is_in_flight_before_anything_is_known() -> None:
    measured = Pace()
    assert (measured.in_flight, measured.rate) == (BEGIN_BYTES, 0)
    assert measured.batch >= 128 << 10


def test_what_the_link_carries_in_a_round_trip_is_in_flight_and_somewhat_more(clock: list[float]) -> None:
    measured = Pace()
    carry(measured, clock, requests=1, count=2_000, seconds=0.02)
    carry(measured, clock, requests=50, count=250_000, seconds=0.02)
    assert measured.rate == pytest.approx(12.5e6, rel=0.1)
    assert 3.3 * 250_000 < measured.in_flight < 3.6 * 250_000 + (256 << 10)


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


def test_a_longer_way_is_noticed_once_little_is_under_way(clock: list[float]) -> None:
    measured = Pace()
    carry(measured, clock, requests=1, count=2_000, seconds=0.02)
    carry(measured, clock, requests=100, count=250_000, seconds=0.02)
    before = measured.in_flight
    # What is under way at the same time makes a request longer, and says nothing of the way.
    crowd = [measured.begin(1_000_000) for _ in range(4)]
    clock[0] += 11
    late = measured.begin(250_000)
    assert measured.in_flight < before
    clock[0] += 5
    for asked in (*crowd, late):
        measured.end(asked, asked.bytes)
    assert measured.in_flight < before
    carry(measured, clock, requests=100, count=250_000, seconds=0.1)
    assert measured.in_flight == pytest.approx(3.3 * 250_000 + (256 << 10), rel=0.1)


def test_a_request_is_silent_after_several_times_what_all_that_is_asked_for_takes(clock: list[float]) -> None:
    measured = Pace()
    assert measured.silence_s == 5
    carry(measured, clock, requests=50, count=250_000, seconds=0.02)
    assert measured.silence_s == 2
    crowd = [measured.begin(12_500_000) for _ in range(4)]
    assert measured.silence_s == pytest.approx(4 * 4, rel=0.1)
    # Those that are silent are not waited for.
    for asked in crowd:
        measured.drop(asked)
    assert measured.silence_s == 2


def test_a_silent_request_says_nothing_of_the_link(clock: list[float]) -> None:
    measured = Pace()
    carry(measured, clock, requests=50, count=250_000, seconds=0.02)
    silent = measured.begin(250_000)
    before = (measured.rate, measured.in_flight)
    clock[0] += 3
    measured.drop(silent)
    clock[0] += 30
    measured.end(silent, 250_000)
    assert (measured.rate, measured.in_flight) == before
