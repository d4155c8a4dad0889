"""`sapwood context`: a build context goes to its builder as what changed in it."""

from __future__ import annotations

import os

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.progress import progress

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse

    from sapwood.context.pushing import Context, PushedContext
    from sapwood.errors import InvalidInputError
    from sapwood.push import Pushed
    from sapwood.store import Store

_ACTIONS = ("push", "build", "tar")


def _configure(parser: argparse.ArgumentParser) -> None:
    _add_context(parser)
    _add_on(parser)
    parser.add_argument(
        "address", metavar="ADDRESS|-- CMD", nargs="...", help="of push, where to; of build, the builder"
    )
    add_json(parser)


def _add_context(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="|".join(_ACTIONS), help="store a context, or build from it, here or elsewhere"
    )
    parser.add_argument("dir", metavar="DIR", help="the context; its .dockerignore counts")
    parser.add_argument(
        "-f", "--file", metavar="FILE", help="the Dockerfile, wherever it lies (default: DIR/Dockerfile)"
    )
    parser.add_argument(
        "--build-context", metavar="NAME=DIR", action="append", help="one more, by name; can be given again"
    )


def _add_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", metavar="ssh://HOST", help="of build: where, with [USER@]HOST[:PORT] as ssh knows it (default: here)"
    )


def _configure_build(parser: argparse.ArgumentParser) -> None:
    _add_context(parser)
    _add_on(parser)


def _configure_push(parser: argparse.ArgumentParser) -> None:
    _add_context(parser)
    parser.add_argument("address", metavar="ADDRESS", help="STORE_URL#REF; a store is made where there is nothing yet")
    add_json(parser)


def _configure_tar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="tar", help="one tar of both for stdout, as docker's client would send it")
    parser.add_argument("context", metavar="ADDRESS", help="which context")
    parser.add_argument("dockerfile", metavar="DOCKERFILE", help="the second address that `push -f` printed")
    parser.set_defaults(json=False)


def context_of(arguments: argparse.Namespace) -> Context:
    """Return the context that arguments speak of."""
    from sapwood.context.pushing import Context
    from sapwood.errors import InvalidInputError

    named: dict[str, str] = {}
    for given in arguments.build_context or []:
        name, equals, folder = given.partition("=")
        if not equals or not name or not folder:
            raise InvalidInputError(
                f"--build-context {given}: not NAME=DIR", kind="bad-usage", hint="--build-context shared=../shared"
            )
        if name in named:
            raise InvalidInputError(f"--build-context {given}: {name} was {named[name]} before", kind="bad-usage")
        named[name] = folder
    return Context(arguments.dir, arguments.file, named)


def _push(arguments: argparse.Namespace) -> int:
    from sapwood.context.pushing import check_context, push_context
    from sapwood.errors import InvalidInputError
    from sapwood.store import Address, open_store

    address = Address.parse(arguments.address)
    if address.pin:
        raise InvalidInputError(
            f"{address}: a push moves a ref, and this address is pinned to one snapshot",
            kind="bad-address",
            hint=f"sapwood context push {arguments.dir} {address.store_url}#{address.ref}",
        )
    context = context_of(arguments)
    # Before a store is made for it.
    check_context(context)
    store = open_store(address.store_url, create=True)
    with progress("pushing") as callback:
        pushed = push_context(store, context, address.ref, progress=callback)
    if arguments.json:
        show.document(
            {
                **_told(store, pushed.context),
                "dockerfile": _address(store, pushed.dockerfile) if pushed.dockerfile else None,
                "contexts": [{"name": name, **_told(store, one)} for name, one in pushed.named.items()],
                **show.requests(store.requests()),
            }
        )
        return 0
    talk(pushed)
    for one in (pushed.context, pushed.dockerfile, *pushed.named.values()):
        if one is not None:
            show.line(_address(store, one))
    return 0


def _tar(arguments: argparse.Namespace) -> int:
    from sapwood.address import open_address
    from sapwood.cli.binary import require_one_stdout
    from sapwood.cli.progress import opening
    from sapwood.context.outside import DOCKERFILE, NAME, write_with_dockerfile
    from sapwood.errors import InvalidInputError, NotFoundError
    from sapwood.open import open_tree, tree_of
    from sapwood.store import Store
    from sapwood.store.naming import without_query
    from sapwood.store.snapshot import Snapshot

    require_one_stdout(arguments, "-", "tar")
    with opening() as callback:
        store, snapshot = open_address(arguments.context, progress=callback)
        if not isinstance(store, Store) or not isinstance(snapshot, Snapshot):
            raise InvalidInputError(f"{arguments.context}: no context that was pushed", kind="bad-address")
        dockerfile = open_tree(arguments.dockerfile)
        if dockerfile.find(DOCKERFILE.encode()) is None:
            raise NotFoundError(
                f"{without_query(arguments.dockerfile)}: no {DOCKERFILE} is in it",
                kind="path-missing",
                hint="name the two addresses that this prints first: sapwood context push -f FILE DIR ADDRESS",
            )
    context = tree_of(store, snapshot)
    with progress("writing") as callback, os.fdopen(os.dup(1), "wb", buffering=0) as out:
        told = write_with_dockerfile(store, snapshot, context, dockerfile, out, progress=callback)
    show.talk(f"tar: {show.exact(told.size)}; the Dockerfile is {NAME}")
    return 0


def talk(pushed: PushedContext) -> None:
    """Say what a context has, and what of it was sent."""
    every = [one for one in (pushed.context, pushed.dockerfile, *pushed.named.values()) if one is not None]
    files, size = sum(one.files for one in every), sum(one.bytes for one in every)
    show.talk(f"context: {show.counted(files, 'file')}, {show.exact(size)}")
    show.talk(
        f"sent:    {show.counted(sum(one.chunks_sent for one in every), 'chunk')},"
        f" {show.exact(sum(one.chunk_bytes_sent for one in every))}"
        f" as {show.exact(sum(one.bytes_stored for one in every))},"
        f" in {show.seconds(sum(one.seconds for one in every))}"
    )


def _address(store: Store, pushed: Pushed) -> str:
    return f"{store.url}#{pushed.ref}@{pushed.snapshot}"


def _told(store: Store, pushed: Pushed) -> dict[str, object]:
    return {
        "address": _address(store, pushed),
        "tree": pushed.tree,
        "unchanged": pushed.unchanged,
        "files": pushed.files,
        "bytes": pushed.bytes,
        "chunksSent": pushed.chunks_sent,
        "chunkBytesSent": pushed.chunk_bytes_sent,
        "bytesStored": pushed.bytes_stored,
        "seconds": round(pushed.seconds, 6),
    }


class _Context(Command):
    """A context that is pushed, or built from."""

    __slots__ = ()

    def parser(self, name: str, summary: str) -> argparse.ArgumentParser:
        parser = super().parser(name, summary)
        parser.usage = (
            "sapwood context push [OPTION …] DIR ADDRESS\n"
            "       sapwood context build [OPTION …] DIR [OPTION …] -- CMD\n"
            "       sapwood context tar ADDRESS DOCKERFILE"
        )
        return parser

    def main(self, name: str, summary: str, arguments: list[str]) -> int:
        match arguments[:1]:
            case ["push"]:
                return Command(_configure_push, _push, self.examples).main(name, summary, arguments)
            case ["build"] if "--" in arguments:
                from sapwood.cli import builder

                at = arguments.index("--")
                argv = arguments[at + 1 :]

                def build(parsed: argparse.Namespace) -> int:
                    return builder.build(parsed, argv)

                return Command(_configure_build, build, self.examples).main(name, summary, arguments[:at])
            case ["tar"]:
                return Command(_configure_tar, _tar, self.examples).main(name, summary, arguments)
            case ["far"]:
                from sapwood.cli.far import far

                return far()
            case ["mounted"]:
                from sapwood.cli.far import mounted

                return mounted()
            case ["tidy"]:
                from sapwood.cli.far import tidied

                return tidied()
            case [action] if action not in _ACTIONS and not action.startswith("-"):
                raise _no_such(action)
        return super().main(name, summary, arguments)


def _refuse(arguments: argparse.Namespace) -> int:
    from sapwood.errors import InvalidInputError

    if arguments.action == "build":
        raise InvalidInputError(
            "context build: no command", kind="bad-usage", hint="sapwood context build DIR -- buildah bud {}"
        )
    if arguments.action not in _ACTIONS:
        raise _no_such(arguments.action)
    raise InvalidInputError(
        f"context {arguments.action}: options come behind it",
        kind="bad-usage",
        hint="sapwood context push DIR ADDRESS",
    )


def _no_such(action: str) -> InvalidInputError:
    from sapwood.errors import InvalidInputError

    return InvalidInputError(
        f"context {show.quoted(os.fsencode(action))}: no such action; there are {', '.join(_ACTIONS)}",
        kind="bad-usage",
        hint="sapwood context --help",
    )


COMMANDS = {
    "context": _Context(
        _configure,
        _refuse,
        """
        sapwood context push . s3://bucket/contexts#app        the second time only what changed
        sapwood tar s3://bucket/contexts#app | docker build -  there; or mount it
        sapwood context push -f ../app.Dockerfile --build-context shared=../shared . main
        sapwood context tar $(sapwood context push -f ../app.Dockerfile . main) | docker build -f .dockerfile.sapwood -
        sapwood context build . --on ssh://builder -- buildah bud -t app {}
        sapwood context build -f ../app.Dockerfile . -- podman build -f {dockerfile} {}
        """,
    ),
}
