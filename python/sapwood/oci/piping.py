"""What writes to a descriptor, given to what takes pieces; and how much of it there may be.

Invariant: whoever writes has ended when the call does. Not here: what is written (the core).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from sapwood.tarstream import Sink

__all__ = ["piped"]

_Result = TypeVar("_Result")

_PIECE = 1 << 20


def piped(write: Callable[[int], _Result], out: Sink) -> _Result:
    """Let `write` write to a descriptor, pass on what comes, and return what it returns; an error of `out` ends it."""
    source, into = os.pipe2(os.O_CLOEXEC)
    results, failed = list[_Result](), list[BaseException]()

    def work() -> None:
        try:
            results.append(write(into))
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)
        finally:
            os.close(into)

    thread = threading.Thread(target=work, daemon=True, name="sapwood-layer")
    thread.start()
    try:
        with open(source, "rb", buffering=0) as pipe:
            while piece := pipe.read(_PIECE):
                out.write(piece)
    finally:
        # It meets a closed pipe; what it reads is not to be taken away from under it.
        thread.join()
    if failed:
        raise failed[0]
    return results[0]
