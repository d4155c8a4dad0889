"""The table of a build on a terminal: what it shows, and that the lines of the build are the same with it."""

import os
import sys
from io import StringIO

from rich.console import Console

from sapwood.build import derivation
from sapwood.build.builder import Made
from sapwood.build.listener import Sent, Stage
from sapwood.build.results import Result
from sapwood.cli.telling import Board
from sapwood.digests import SnapshotDigest
from tests.support.cli import Sapwood
from tests.support.terminal import on_terminal

# Draws the table at once, and each time that a builder says something, so that no clock decides what is seen.
DRAWN = """
import sys
from sapwood.cli import telling
from sapwood.cli.main import main
class Board(telling.Board):
    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        self.open()
    def said(self, one, data):
        super().said(one, data)
        self._live.refresh()
telling.Board = Board
sys.argv[0] = "sapwood"
sys.exit(main())
"""


def made(name: str, *, is_hit: bool) -> Made:
    return Made(Result("sha256:", {}, "store", f"build/{name}", SnapshotDigest("sha256:"), 1.5, b""), is_hit=is_hit)


def drawn(board: Board, monkeypatch, *, width: int = 100, height: int = 24) -> list[str]:
    monkeypatch.setattr("sapwood.cli.telling.time.monotonic", lambda: 100.0)
    console = Console(file=StringIO(), width=width, height=height)
    console.print(board.table(console))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_shows_what_each_is_at_and_waits_for_and_what_was_sent(monkeypatch):
    one, two, three, four = (derivation(name, "true") for name in ("one", "two", "three", "four"))
    needs = {"one": [], "two": [], "three": [], "four": [], "five": ["three"], "six": ["one", "three", "two"]}
    board = Board(needs, quiet=True)
    monkeypatch.setattr("sapwood.cli.telling.time.monotonic", lambda: 88.0)
    board.stage(four, Stage.QUEUED)
    board.stage(three, Stage.LOOKING)
    board.made(three, made("three", is_hit=True))
    board.stage(one, Stage.HASHING)
    board.stage(one, Stage.INPUT, "src/main.c")
    board.stage(two, Stage.RUNNING)
    board.sent(Sent(1_200_000, 3_000_000, 1_300_000_000))
    assert drawn(board, monkeypatch) == [
        "two   running                 12.0 s",
        "one   waiting for src/main.c  12.0 s",
        "four  queued                  12.0 s",
        "six   needs one and 1 more",
        "1 of 6: 0 built, 1 known; 3 going on, 2 wait for others; sent 1.2 MB, of 3.0 MB asked for, of 1.3 GB",
    ]


def test_a_small_terminal_shows_as_much_as_there_is_room_for(monkeypatch):
    board = Board({str(number): ["0"] for number in range(10_000)}, quiet=True)
    for number in range(500):
        board.stage(derivation(f"{'long' * 20}{number}", "true"), Stage.RUNNING)
    lines = drawn(board, monkeypatch, width=40, height=10)
    assert len(lines) == 8
    assert lines[-2] == "and 494 more"
    assert max(map(len, lines)) <= 40


def test_on_a_terminal_the_lines_are_the_same_and_the_table_is_gone_in_the_end(tmp_path):
    run = Sapwood(tmp_path)
    (tmp_path / "BUILD.py").write_text(
        "from sapwood.build import derivation\n"
        "one = derivation('one', 'echo [bold]hears; echo 1 >out', outputs=['out'])\n"
    )
    environment = {**run.environment, "TERM": "xterm-256color", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = [sys.executable, "-c", DRAWN, "build", "--check", str(tmp_path)]
    code, written = on_terminal(command, environment)
    assert code == 0, written
    assert "one> [bold]hears" in written
    assert "built   one in " in written
    assert "checked one" in written
    assert "0 of 1: 0 built, 0 known; 1 going on, 0 wait for others" in written
    assert "wait for others" not in written.rpartition("\x1b[?25h")[2]  # the cursor is shown again at the end
    assert run.good("build", "--check", tmp_path).err.splitlines()[:2] == ["builds  one", "checked one"]


def test_a_build_that_fails_gives_the_terminal_back(tmp_path):
    run = Sapwood(tmp_path)
    (tmp_path / "BUILD.py").write_text(
        "from sapwood.build import derivation\none = derivation('one', 'echo begun; exit 3', outputs=['out'])\n"
    )
    environment = {**run.environment, "TERM": "xterm-256color", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    code, written = on_terminal([sys.executable, "-c", DRAWN, "build", str(tmp_path)], environment)
    assert code == 2
    assert "\x1b[?25l" in written
    end = written.rpartition("\x1b[?25h")[2]
    assert "sapwood: derivation one: its command ended with 3" in end
