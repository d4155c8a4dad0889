"""Work under strace: every system call of one thread, numbered, and each of them made to kill or to fail.

Promise: work that is injected into makes the same calls as work that was numbered, up to the injected one, as long as
nothing in it depends on the timing of threads.
Invariant: the work runs in a fork whose main thread makes no call of `FILE_CALLS` beside it, for strace counts calls by
thread and injects into all.
"""

from __future__ import annotations

import mmap
import os
import pickle
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sapwood.errors import SapwoodError

_LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_CLASSES = "%file,%desc"
_MEMORY = frozenset({"mmap", "execve", "futex"})
_ROOM = 1 << 20


class Call(NamedTuple):
    """A system call: `name`, which one of that name in its thread (from 1), and how strace shows it."""

    name: str
    number: int
    shown: str

    def __repr__(self) -> str:
        return f"{self.name} {self.number}: {self.shown[:100]}"


def calls(work: Callable[[], Any], marked: str) -> list[Call]:
    """Do `work`; return those calls on files of the thread that opened a file whose path ends in `marked`."""
    traced, outcome = _traced(work, [])
    _result(outcome)
    found = [line for text in traced.splitlines() if (line := _LINE.match(text))]
    threads = {line["thread"] for line in found if line["name"] == "openat" and f'{marked}"' in line["rest"]}
    assert len(threads) == 1, traced
    counts: Counter[str] = Counter()
    numbered = []
    for line in found:
        if line["thread"] in threads and line["name"] not in _MEMORY:
            counts[line["name"]] += 1
            numbered.append(Call(line["name"], counts[line["name"]], line["name"] + "(" + line["rest"]))
    return numbered


def kill_at(call: Call, work: Callable[[], Any]) -> None:
    """Do `work` and kill it as it enters `call`."""
    traced, outcome = _traced(work, [f"inject={call.name}:signal=SIGKILL:when={call.number}"])
    assert outcome is None, (call, outcome)
    assert "killed by SIGKILL" in traced


def fail_at(call: Call, work: Callable[[], Any], error: str) -> Any:
    """Do `work`, whose `call` is not made but fails with `error`; return its result or raise its error of ours."""
    traced, outcome = _traced(work, [f"inject={call.name}:error={error}:when={call.number}"])
    assert "(INJECTED)" in traced, (call, traced)
    assert outcome is not None, "the process died"
    return _result(outcome)


def _result(outcome: tuple[Any, SapwoodError | None] | None) -> Any:
    assert outcome is not None
    result, error = outcome
    if error is not None:
        raise error
    return result


def _traced(work: Callable[[], Any], injections: list[str]) -> tuple[str, tuple[Any, SapwoodError | None] | None]:
    """Return what strace wrote and what came of the work; None if its process was killed."""
    with mmap.mmap(-1, _ROOM) as shared, tempfile.NamedTemporaryFile("r") as log:
        child = os.fork()
        if child == 0:
            _do(work, shared)
        os.waitpid(child, os.WUNTRACED)
        options = [word for injection in injections for word in ("-e", injection)]
        command = ["strace", "-f", "-e", f"trace={_CLASSES}", *options, "-o", log.name, "-p", str(child)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            os.kill(child, signal.SIGCONT if "attached" in said else signal.SIGKILL)
            os.waitpid(child, 0)
            assert "attached" in said, said + strace.stderr.read()
            strace.stderr.read()
        length = int.from_bytes(shared[:8], "little")
        return Path(log.name).read_text(), pickle.loads(shared[8 : 8 + length]) if length else None


def _do(work: Callable[[], Any], shared: mmap.mmap) -> None:
    """In the child: stop until strace is there, and leave the outcome in memory, which takes no system call."""
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            outcome = (work(), None)
        except SapwoodError as error:
            outcome = (None, error)
        data = pickle.dumps(outcome)
        shared[8 : 8 + len(data)] = data
        shared[:8] = len(data).to_bytes(8, "little")
    finally:
        os._exit(0)  # nothing of pytest's runs twice
