"""Several calls at a time, in order, ended by the first error."""

from __future__ import annotations

import signal
import threading

import pytest

from sapwood.store.waiting import each, interruptible
from tests.support.requests import settle


def test_results_come_in_order_whichever_is_first() -> None:
    first_may_end = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            first_may_end.wait()
        elif item == 5:
            first_may_end.set()
        return item * item

    assert each(call, range(6)) == [0, 1, 4, 9, 16, 25]


def test_nothing_asked_is_nothing() -> None:
    assert each(str, []) == []


def test_an_error_is_raised_and_no_more_calls_are_begun() -> None:
    begun: list[int] = []
    raised = threading.Event()

    def call(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise KeyError(item)
        raised.wait()

    with pytest.raises(KeyError):
        each(call, range(1000))
    assert len(begun) < 1000
    raised.set()


def test_who_met_an_error_begins_no_other_call() -> None:
    begun: list[int] = []
    others = threading.enumerate()

    def call(item: int) -> None:
        begun.append(item)
        raise KeyError(item)

    with pytest.raises(KeyError):
        each(call, range(1000), at_once=1)
    settle(others)
    assert begun == [0]


def test_a_call_runs_beside_the_main_thread_alone() -> None:
    assert interruptible(threading.current_thread) is not threading.main_thread()
    threads: list[bool] = []

    def elsewhere() -> None:
        threads.append(interruptible(threading.current_thread) is threading.current_thread())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert threads == [True]


def test_what_a_call_raises_is_raised() -> None:
    def call() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        interruptible(call)


@pytest.mark.parametrize("limit_s", [None, 60.0])
def test_an_interrupt_that_another_thread_receives_is_heard(limit_s: float | None) -> None:
    never = threading.Event()

    def call() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        never.wait()

    with pytest.raises(KeyboardInterrupt):
        interruptible(call, limit_s)
    never.set()
