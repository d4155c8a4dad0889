"""A forked process that does one thing and may die of it."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

from sapwood.errors import SapwoodError

_CAPABILITY_VERSION_3 = 0x20080522


def in_child(call: Callable[[], Any]) -> Any:
    """Run `call` in a fork; return its result, or raise the error of ours that it raised, or `Killed`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            try:
                outcome = (call(), None)
            except SapwoodError as error:
                outcome = (None, error)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(outcome, pipe)
            status = 0
        finally:
            os._exit(status)  # nothing of pytest's runs twice
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise Killed(status)
    result, error = pickle.loads(said)
    if error is not None:
        raise error
    return result


class Killed(Exception):
    """The child ended without an outcome; the argument is its exit status, negative for a signal."""


def die(*_: object, **__: object) -> None:
    """End this process as power loss would: at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def drop_privileges() -> None:
    """Let permissions hold for this process even if it is root's."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")
