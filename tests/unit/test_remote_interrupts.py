"""Ctrl-C while the remote executor waits for what runs there."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import Sapwood
from tests.support.scripted import Scripted, scripted

# It waits as long as a busy machine needs, for the name of what runs there and for the answer.
PATIENT = """
import sys
from sapwood.build import engine
from sapwood.cli.main import main
engine._NAMED_S = engine._CANCEL_S = 60.0
sys.exit(main())
"""
# Another thread than the first receives the signal.
ELSEWHERE = """
import signal, sys, threading
from sapwood.build import engine
from sapwood.cli.main import main
engine._NAMED_S = engine._CANCEL_S = 60.0
def receive():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
threading.Thread(target=receive, daemon=True).start()
sys.exit(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(tmp_path) as server:
        yield server


@contextmanager
def building(script: str, home: Path, server: Scripted) -> Iterator[subprocess.Popen[bytes]]:
    """A build, as `script` runs the command, of what goes on at the server until it is cancelled."""
    run = Sapwood(home)
    (home / "BUILD.py").write_text(
        "from sapwood.build import derivation\none = derivation('one', 'sleep 1000', outputs=['out'])\n"
    )
    server.steps = [server.hangs()]
    command = [sys.executable, "-c", script, "build", "--executor", server.url, "--cas", server.cas, "."]
    with subprocess.Popen(command, cwd=run.home, env=run.environment, stdin=-1, stderr=-1) as process:
        try:
            assert server.is_asked.wait(60)
            yield process
        finally:
            process.kill()


def test_an_interrupt_cancels_what_runs_there(tmp_path: Path, server: Scripted) -> None:
    with building(PATIENT, tmp_path, server) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert server.cancelled == ["operations/one"]
    assert b"Traceback" not in said


def test_an_interrupt_that_another_thread_receives_ends_a_build(tmp_path: Path, server: Scripted) -> None:
    with building(ELSEWHERE, tmp_path, server) as process:
        _, said = process.communicate(b"\n", timeout=60)
    assert process.returncode == 130, said
    assert server.cancelled == ["operations/one"]
