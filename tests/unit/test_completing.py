"""Whoever waits until all of a tree is here waits no longer, whatever befalls who looks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from sapwood._core.mount import Server
from sapwood.mount import completing
from sapwood.mount.completing import Completing

PATIENCE_S = 60


class Ailing:
    """A server that fails, in one way after the other, before it answers."""

    is_prefetching = False

    def __init__(self) -> None:
        self.closed = False
        self.ailments: list[str] = ["stats", "lacking", "stats"]
        self.frames = 3
        self.given_back: list[int] = []

    def _ail(self, where: str) -> None:
        if self.ailments and self.ailments[0] == where:
            raise MemoryError(self.ailments.pop(0))

    def stats(self) -> dict[str, Any]:
        self._ail("stats")
        return {"frames_expected": 0, "frames_fetched": self.frames, "frames_failed": 0}

    def read_far(self, far: bool) -> None:
        pass

    def give_back(self) -> None:
        self.given_back.append(self.frames)

    def lacking(self) -> tuple[int, int]:
        self._ail("lacking")
        return 0, 0


def test_it_is_looked_again_after_whatever_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(completing, "_TICK_S", 0.001)
    server = Ailing()
    watching = Completing(cast("Server", server), tmp_path, fetch=True)
    watching.start()
    deadline = time.monotonic() + PATIENCE_S
    while watching.lacking != 0 or server.ailments or server.given_back != [3]:
        assert time.monotonic() < deadline
    server.frames = 4
    while server.given_back != [3, 4]:
        assert time.monotonic() < deadline, "once for what had come, and again for more"
    server.closed = True
    assert capfd.readouterr().err.splitlines() == [
        f"sapwood: MemoryError: {where}" for where in ("stats", "lacking", "stats")
    ]
