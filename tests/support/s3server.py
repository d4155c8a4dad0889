"""An S3 server for tests: moto's, in a process of its own, over real HTTP.

Promise: writes happen one at a time, so a conditional put is as atomic as S3's own (moto looks, then writes).

    python -m tests.support.s3server

prints `listening on http://127.0.0.1:PORT` once it accepts connections, and serves until its standard input ends, so
that it never outlives whoever started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def serving() -> Iterator[str]:
    """Run the server for the life of the context; the value is its URL."""
    command = [sys.executable, "-m", "tests.support.s3server"]
    with subprocess.Popen(
        command, cwd=_REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("listening on "), f"the S3 server did not start: {said!r}"
        # Leaving the context of the process closes its input and waits for its end.
        yield said.removeprefix("listening on ").strip()


def main() -> None:
    """Serve until standard input ends."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    writing = threading.Lock()

    def one_write_at_a_time(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return application(environ, start_response)
        with writing:
            return list(application(environ, start_response))

    server = make_server("127.0.0.1", 0, one_write_at_a_time, threaded=True)
    os.environ["MOTO_PORT"] = str(server.port)
    sys.stdout.write(f"listening on http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
