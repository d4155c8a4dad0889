"""`sapwood context far`, `mounted`, `tidy`: what an ssh starts on the machine of a builder, and what that starts.

Promise: standard output is the connection's alone; the builder ends when the connection does, however that happens. The
processes start each other before they import what they need, so that none waits for another's start.
"""

from __future__ import annotations

import os
import sys

from sapwood.cli.signals import leave_by_finally


def far() -> int:
    """Be the far side, until standard input ends.

    Raises:
        InvalidInputError: `bad-usage`: a person has started it.
        SapwoodError: as `open_store`, `serve`.
    """
    if sys.stdin.isatty():
        from sapwood.errors import InvalidInputError

        raise InvalidInputError("context far: started by `context build --on`, by nobody else", kind="bad-usage")
    # The connection is ours alone: whatever else is printed goes elsewhere.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from sapwood.context.builders import Builders

    leave_by_finally()
    with Builders([sys.executable, "-m", "sapwood", "context", "mounted"]) as builders:
        from pathlib import Path

        from sapwood.context.far import serve
        from sapwood.places import contexts_store
        from sapwood.store import open_store
        from sapwood.store.local import LocalObjects

        url = contexts_store()
        open_store(url, create=True)
        serve(LocalObjects(Path(url)), sys.stdin.buffer, outgoing, builders)
    from sapwood.cli.builder import tidy_later

    tidy_later(url)
    return 0


def tidied() -> int:
    """Look after the store of contexts, after a build."""
    import signal

    from sapwood.context.tidy import tidy
    from sapwood.places import contexts_store

    # Whoever started this may have held them.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    tidy(contexts_store())
    return 0


def mounted() -> int:
    """Mount what a line of standard input says, of what was sent to this machine, and run what the next line says.

    It ends, with all that it started, when whoever started us does.
    """
    import signal

    from sapwood.mount.begun import begin

    leave_by_finally()
    above = os.getppid()
    try:
        with begin(tied=True) as begun:
            _end_with_parent()
            # While nobody waits for it.
            import json

            from sapwood.cli.builder import run_mounted
            from sapwood.cli.run import life_of  # noqa: F401
            from sapwood.mount import process  # noqa: F401
            from sapwood.places import contexts_store
            from sapwood.scratch import scratch  # noqa: F401

            def asked() -> list[str]:
                argv: list[str] = json.loads(sys.stdin.buffer.readline() or b"[]")
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                return argv

            if not (places := sys.stdin.buffer.readline()):
                return 0
            return run_mounted(json.loads(places), contexts_store(), asked, begun)
    finally:
        if os.getppid() != above:
            # Our own SIGTERM waits for the end of this process.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            os.killpg(0, signal.SIGTERM)


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM when the process that started this one ends, however it does."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
