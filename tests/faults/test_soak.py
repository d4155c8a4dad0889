"""A short time of what `make soak` does for half an hour."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak_mount import campaign

WANTED = [f"read: {what}" for what in ("whole", "parts", "mapped", "hashed", "find")]


@pytest.mark.timeout(600)
def test_no_reader_sees_a_wrong_byte_or_hangs_whatever_dies_or_is_damaged(tmp_path: Path) -> None:
    wanted = [*WANTED, *(["harm: disk"] if os.getuid() == 0 else [])]
    # On a busy machine not all of it happens in the time that it takes on others.
    for seconds in (25, 100):
        work = tmp_path / str(seconds)
        work.mkdir()
        did = campaign(work, seconds=seconds, seed=7)
        if all(did[what] for what in wanted):
            break
    assert [what for what in wanted if not did[what]] == []
