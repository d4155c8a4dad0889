"""`sapwood serve`: a store as the cache of builds."""

from __future__ import annotations

import argparse
import os
import sys

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", metavar="STORE_URL", nargs="?", help="the store, made if there is none (default: the default store)"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where to listen (default: 127.0.0.1:8980; port 0: any that is free)"
    )
    parser.add_argument("--instance", metavar="NAME", help="the instance that clients must name (default: none)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate, PEM; with --tls-key")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, PEM")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="only clients with a certificate of this authority")
    parser.add_argument(
        "--tokens", metavar="FILE", help="only calls with a token of these: lines NAME ROLE TOKEN (docs/serve.md)"
    )
    parser.add_argument(
        "--staging", metavar="DIR", help="where what no pack holds yet is kept (default: in your data directory)"
    )
    parser.add_argument("--keep", metavar="SIZE", help="what may stay there after it was packed, to read (default: 1G)")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    import logging
    import signal
    from pathlib import Path

    from sapwood import places
    from sapwood.cli.command import size_of
    from sapwood.errors import UnavailableError
    from sapwood.store import open_store

    try:
        from sapwood.serve.server import Options, Server
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed", kind="grpc-missing", hint="pip install 'sapwood[build]'"
        ) from error

    logging.basicConfig(format="sapwood: %(message)s", level=logging.WARNING)
    store = open_store(store_url(arguments.store, "serve"), create=True)
    options = Options(
        listen=arguments.listen or "127.0.0.1:8980",
        instance=arguments.instance or "",
        certificate=arguments.tls_cert,
        key=arguments.tls_key,
        client_ca=arguments.tls_client_ca,
        tokens=arguments.tokens,
        keep=(1 << 30) if arguments.keep is None else size_of("--keep", arguments.keep),
    )
    staging = Path(arguments.staging) if arguments.staging else places.staging_dir() / store.id
    with Server(store, options, staging) as server:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # What wakes whoever waits below: a signal may come to any thread, and Python's handlers run in this one alone.
        signal.set_wakeup_fd(writing)

        def end(signo: int, _: object) -> None:
            signal.signal(signo, signal.SIG_DFL)  # the second one ends it as it would end any program

        for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signo, end)
        scheme = "grpcs" if options.certificate else "grpc"
        url = f"{scheme}://{options.listen.rpartition(':')[0]}:{server.port}"
        if arguments.json:
            show.document({"url": url, "store": store.url, "instance": options.instance, "pid": os.getpid()})
            sys.stdout.flush()
        else:
            show.talk(f"{store.url} is served at {url}; Ctrl-C ends it")
            if not options.tokens:
                show.talk("everybody who reaches it may read and write: --tokens FILE says who may")
        os.read(reading, 1)
        if not arguments.json:
            show.talk("ending: what runs is let end, and what was staged is packed")
    return 0


COMMANDS = {
    "serve": Command(
        _configure,
        _run,
        """
        sapwood serve                            the default store, at grpc://127.0.0.1:8980
        sapwood serve s3://bucket/builds --listen 0.0.0.0:8980 --tls-cert c.pem --tls-key k.pem --tokens t.txt
        bazel build //... --remote_cache=grpc://127.0.0.1:8980
        """,
    ),
}
