"""What is different on a terminal: progress after a second, names that cannot drive it, no colours if told so."""

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.cli.progress import progress
from sapwood.progress import Progress
from sapwood.upkeep.recover import recover
from sapwood.upkeep.repair import repair
from sapwood.upkeep.verify import verify
from tests.support.cli import Sapwood
from tests.support.terminal import on_terminal

# Calls back as the core would, by a clock that only this program turns.
LONG_CALL = """
import sys, time
from sapwood.cli.progress import progress
from sapwood.progress import Progress
now = 100.0
time.monotonic = lambda: now
with progress("pushing") as callback:
    callback(Progress(1, 10, 1000, 10000))
    now += {seconds}
    callback(Progress(5, 10, 5000, 10000))
    print("rich" in sys.modules)
"""


def long_call(seconds: float, **environment: str) -> str:
    base = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    code, written = on_terminal([sys.executable, "-c", LONG_CALL.format(seconds=seconds)], base | environment)
    assert code == 0, written
    return written


def test_a_short_call_shows_no_progress_and_pays_nothing_for_it() -> None:
    assert long_call(0.9).strip() == "False"


def test_a_long_call_shows_what_is_done_how_far_it_is() -> None:
    written = long_call(1.1)
    assert "True" in written
    assert "pushing" in written
    assert "5 files" in written
    assert "5.0/10.0 kB" in written
    assert "\x1b[2K" in written.rpartition("True")[2]  # the bar is wiped away at the end


def test_no_color_is_honoured() -> None:
    assert "\x1b[3" in long_call(1.1)
    assert "\x1b[3" not in long_call(1.1, NO_COLOR="1").replace("\x1b[?", "")


def test_where_nobody_looks_the_core_need_not_call(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("pushing") as callback:
        assert callback is None


def test_a_name_cannot_drive_the_terminal(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "evil\x1b[2J").touch()
    (tree / os.fsdecode(b"caf\xe9")).touch()
    code, written = on_terminal(run.command("ls", tree), run.environment)
    assert code == 0
    assert written.splitlines() == ["$'caf\\xe9'", "$'evil\\x1b[2J'"]


def test_of_what_has_no_bytes_it_is_shown_how_many_are_done() -> None:
    call = LONG_CALL.replace('"pushing"', '"reading", of="packs"').format(seconds=1.1)
    code, written = on_terminal([sys.executable, "-c", call], os.environ | {"TERM": "xterm-256color"})
    assert code == 0, written
    assert "5 of 10 packs" in written
    assert "kB" not in written


def test_what_looks_at_packs_tells_how_many_it_has_looked_at(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    (tmp_path / "tree").mkdir()
    for ref in ("one", "two"):
        (tmp_path / "tree" / "a").write_text(ref)
        store.push(tmp_path / "tree", ref)
    packs = len(list((tmp_path / "store" / "packs").iterdir()))
    for look in (partial(verify, store, read_data=50), partial(repair, store), partial(recover, store.url)):
        told: list[Progress] = []
        look(progress=told.append)
        assert told[-1] == Progress(packs, packs, 0, 0)
        assert [now.files_done for now in told] == sorted(now.files_done for now in told)
