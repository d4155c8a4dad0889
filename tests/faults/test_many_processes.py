"""Eight processes on one store of a real server, killed now and then: nothing finished is lost, no read is wrong."""

from __future__ import annotations

import pytest

from tests.soak import Crowd, Line, campaign, require_lines
from tests.support.crowd import WrongError
from tests.support.storeplaces import BucketPlace

WANTED = ("pushed", "read", "forgot", "collected", "were killed", "deleted by collections")


@pytest.mark.timeout(600)
def test_pushers_readers_and_collectors_at_once_lose_nothing_and_leave_nothing(versitygw_place: BucketPlace) -> None:
    crowd = Crowd(pushers=4, readers=2, collectors=1)
    # On a busy machine not all of it happens in the time that it takes on others.
    for seconds in (35, 100):
        did = campaign(f"{versitygw_place.url}/{seconds}", crowd, seconds=seconds, grace_s=12)
        if all(did[what] for what in WANTED):
            break
    assert [what for what in WANTED if not did[what]] == []
    assert did["snapshots read after that"] == did["snapshots read at the end"] > 0


def pushed(snapshot: str, parent: str | None) -> Line:
    return {"did": "pushed", "ref": "main", "snapshot": snapshot, "parent": parent}


LINE = [pushed("a", None), pushed("b", "a"), {"did": "removed", "ref": "main", "snapshot": "b"}, pushed("c", None)]


def test_a_history_that_is_one_line_is_right() -> None:
    require_lines(LINE, {"c"}, unknown=0)
    require_lines(LINE, {"d"}, unknown=1)


def test_two_pushes_that_follow_the_same_snapshot_are_found() -> None:
    with pytest.raises(WrongError, match="2 pushes follow a"):
        require_lines([*LINE, pushed("x", "a")], {"c", "x"}, unknown=0)


def test_a_finished_push_that_no_ref_remembers_is_found() -> None:
    with pytest.raises(WrongError, match="nobody followed"):
        require_lines([*LINE, pushed("x", None)], {"c"}, unknown=0)
