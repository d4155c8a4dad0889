"""`sapwood context build`: a builder runs on a context, here or on another machine, and its code comes back.

Promise: the builder ends when we do; then nothing of the context is mounted any more.
"""

from __future__ import annotations

import contextlib
import os
import sys

from sapwood.cli.signals import leave_by_finally

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from sapwood.context.near import Far
    from sapwood.context.pushing import Context, PushedContext
    from sapwood.mount.begun import Begun
    from sapwood.store import Store

# Somebody else pushes the same context at the same time.
_TRIES = 5
# Of zstd, for what goes over a connection: some 75 MB/s and processor, and as small as `tar | zstd -3` is.
_LEVEL = 7


def build(arguments: argparse.Namespace, argv: list[str]) -> int:
    """Push the context that arguments speak of to where the builder is, run it there, and return its code.

    Raises:
        InvalidInputError: `bad-usage`: no command; `bad-far`.
        SapwoodError: as `push_context`, `Far.ask`.
    """
    if not argv:
        from sapwood.errors import InvalidInputError

        raise InvalidInputError(
            "context build: no command", kind="bad-usage", hint="sapwood context build DIR -- buildah bud {}"
        )
    leave_by_finally()
    # First of all: the way there, and the start of what mounts, take longer than anything else.
    if arguments.on is None:
        from sapwood.mount.begun import begin

        with begin(tied=True) as begun:
            return _built_here(arguments, argv, begun)
    from sapwood.context.reach import far_command, keeping, reach

    command, name = far_command(arguments.on)
    reached = reach(keeping(command, name))
    from sapwood.context.near import Far

    with Far(reached, name) as far:
        from sapwood.cli.context import context_of

        context = context_of(arguments)
        _require_used(context, argv)
        return _built(far, _places(context, _sent(far, context)), argv)


def _require_used(context: Context, argv: list[str]) -> None:
    """Refuse what would be sent for nothing: a builder finds by itself only what lies in the context."""
    given = [f"{{{name}}}" for name in context.named or {}]
    if "{dockerfile}" in given:
        from sapwood.errors import InvalidInputError

        raise InvalidInputError(
            "context build: {dockerfile} is the Dockerfile, so nothing else can have that name",
            kind="bad-usage",
            hint="--build-context NAME=DIR",
        )
    if context.dockerfile and context.inside is None:
        given.append("{dockerfile}")
    for word in given:
        if not any(word in each for each in argv):
            from sapwood.errors import InvalidInputError

            lies = f"{context.dockerfile} lies outside of" if word == "{dockerfile}" else f"{word[1:-1]} is beside"
            option = "-f {dockerfile}" if word == "{dockerfile}" else f"--build-context {word[1:-1]}={word}"
            raise InvalidInputError(
                f"context build: {lies} {context.root}, and the command does not say {word}",
                kind="bad-usage",
                hint=f"sapwood context build … -- podman build {option} {{}}",
            )


def _built_here(arguments: argparse.Namespace, argv: list[str], begun: Begun) -> int:
    from sapwood.cli.context import context_of, talk
    from sapwood.context.contexts import Contexts
    from sapwood.context.tidy import used
    from sapwood.places import contexts_store

    context = context_of(arguments)
    _require_used(context, argv)
    store = Contexts.open(contexts_store(), create=True)
    pushed = _pushed(store, context)
    talk(pushed)
    places = _places(context, pushed)
    used(store.url, {pinned.partition("@")[0] for _, pinned, _ in places})
    try:
        return run_mounted(places, store.url, lambda: argv, begun)
    finally:
        tidy_later(store.url)


def _sent(far: Far, context: Context) -> PushedContext:
    """Push a context to the other machine, whose ref is supposed to be as this one saw it last."""
    from sapwood.cli.context import talk
    from sapwood.context.contexts import Contexts
    from sapwood.context.near import FarObjects
    from sapwood.places import cache_dir
    from sapwood.store.base import Version
    from sapwood.store.keys import ref_key
    from sapwood.store.ref import Ref
    from sapwood.store.seen import Seen

    ref, is_alone = _ref_of(context), not context.named and context.inside is not None
    seen = Seen.read(cache_dir(), FarObjects(far).url, ref) if is_alone else None

    def will_move(key: str, data: bytes) -> None:
        """Let it be mounted while the ref moves."""
        if is_alone and key == ref_key(ref):
            snapshot = Ref.decode(ref, data, Version(""), url=objects.url).snapshot
            far.tell({"do": "mount", "places": _alone(context, f"{ref}@{snapshot}")})

    objects = FarObjects(far, {ref_key(ref): seen.ref} if seen else None, will_move)
    store = Contexts.over(objects, objects, objects, ref=ref if is_alone else None)
    pushed = _pushed(store, context, _LEVEL)
    if seen and pushed.context.unchanged:
        # Nothing was swapped, so nobody has said that it is as it was.
        found = store.ref_state(ref)
        if found is None or found.snapshot != pushed.context.snapshot:
            pushed = _pushed(store, context, _LEVEL)
    talk(pushed)
    return pushed


def _built(far: Far, places: list[list[str]], argv: list[str]) -> int:
    streams = {1: sys.stdout.buffer, 2: sys.stderr.buffer}

    def write(fd: int, data: bytes) -> None:
        streams[fd].write(data)
        streams[fd].flush()

    return int(far.ask({"do": "build", "places": places, "argv": argv}, stream=write)[0]["code"])


def _pushed(store: Store, context: Context, level: int | None = None) -> PushedContext:
    import itertools

    from sapwood.cli.progress import progress
    from sapwood.context.pushing import push_context
    from sapwood.errors import ConflictError

    for tries in itertools.count(1):
        try:
            with progress("sending") as callback:
                pushed = push_context(store, context, _ref_of(context), level=level, progress=callback)
        except ConflictError as error:
            if error.kind != "ref-moved" or tries == _TRIES:
                raise
        else:
            return pushed
    raise AssertionError


def _ref_of(context: Context) -> str:
    """Return the ref of a context: that of this directory of this machine."""
    import hashlib

    there = os.fsencode(f"{os.uname().nodename}:{os.path.realpath(context.root)}")
    return hashlib.sha256(there).hexdigest()[:32]


def _places(context: Context, pushed: PushedContext) -> list[list[str]]:
    """Return, for each word that stands for a place, the ref and snapshot to mount, and what is meant in it."""
    every = _alone(context, f"{pushed.context.ref}@{pushed.context.snapshot}")
    if pushed.dockerfile:
        every[1] = ["{dockerfile}", f"{pushed.dockerfile.ref}@{pushed.dockerfile.snapshot}", "Dockerfile"]
    return every + [[f"{{{name}}}", f"{one.ref}@{one.snapshot}", ""] for name, one in pushed.named.items()]


def _alone(context: Context, pinned: str) -> list[list[str]]:
    """Return what `_places` does of a context without names."""
    return [["{}", pinned, ""], ["{dockerfile}", pinned, context.inside or "Dockerfile"]]


def tidy_later(url: str) -> None:
    """Look after the store of contexts, if that is due, when nobody waits for it any more."""
    from sapwood.context.tidy import is_due

    if is_due(url):
        import subprocess

        nowhere = subprocess.DEVNULL
        command = ["nice", sys.executable, "-m", "sapwood", "context", "tidy"]
        with contextlib.suppress(OSError):
            subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)


def run_mounted(places: list[list[str]], url: str, asked: Callable[[], list[str]], begun: Begun | None = None) -> int:
    """Mount refs of the store at `url`, run the command that is then `asked` for, if it is, with their places.

    `begun` are the processes of the first mount. Return the command's code; errors as `process.start`.
    """
    from contextlib import ExitStack

    from sapwood.cli.run import SCRATCH, hold_signals, life_of
    from sapwood.mount import process
    from sapwood.mount.begun import begin
    from sapwood.places import cache_dir
    from sapwood.scratch import scratch

    with scratch(SCRATCH) as folder, ExitStack() as ending:
        paths: dict[str, Path] = {}
        for _, pinned, _ in places:
            if pinned not in paths:
                paths[pinned] = place = folder / str(len(paths))
                place.mkdir()
                # Only what is read: all of it is on this machine already.
                started = process.start(
                    f"{url}#{pinned}",
                    place,
                    cache_dir=cache_dir(),
                    tied=True,
                    begun=begun or ending.enter_context(begin(tied=True)),
                    prefetch=False,
                    follow=False,
                    tier="fuse",
                )
                begun = None
                ending.callback(started.end)
        if not (argv := asked()):
            return 0
        for word, pinned, inside in places:
            meant = os.path.join(paths[pinned], inside) if inside else str(paths[pinned])
            argv = [each.replace(word, meant) for each in argv]
        # From here to the end signals wait: for the command, or for the mounts to be gone.
        before = hold_signals()
        return life_of(argv, {**os.environ, "SAPWOOD_ROOT": str(paths[places[0][1]])}, before)
