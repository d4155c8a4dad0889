"""A short time of what `make soak` does for half an hour."""

from __future__ import annotations

import os
from pathlib import Path

from tests.soak_mount import campaign

SECONDS = 25


def test_no_reader_sees_a_wrong_byte_or_hangs_whatever_dies_or_is_damaged(tmp_path: Path) -> None:
    did = campaign(tmp_path, seconds=SECONDS, seed=7)
    assert sum(times for what, times in did.items() if what.startswith("mounted ")) > 0
    assert all(did[f"read: {what}"] > 0 for what in ("whole", "parts", "mapped", "hashed", "find"))
    assert did["harm: disk"] > 0 or os.getuid() != 0
