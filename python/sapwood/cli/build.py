"""`sapwood build`: what a build file declares, made, shown and explained; `sapwood cache`: what was made so far.

A first word that is none of `show`, `graph`, `why`, `outputs`, `defaults` is a build file.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.executor import add_executor, executor_of
from sapwood.cli.signals import leave_by_finally

if TYPE_CHECKING:
    from sapwood.build.builder import Builder, Made
    from sapwood.build.derivation import Derivation
    from sapwood.build.graph import Graph
    from sapwood.build.signing import Signer
    from sapwood.build.state import State
    from sapwood.store.store import Store

_COLLECTED = 200_000
_ACTIONS = ("show", "graph", "why", "outputs", "defaults")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="FILE[:TARGET]",
        help="a build file, or a directory with a BUILD.py; one derivation of it, or all",
    )


def _add_stores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="STORE_URL", help="keep results and outputs there (default: the default store)"
    )
    parser.add_argument(
        "--also",
        metavar="STORE_URL",
        action="append",
        help="look results up there too, and write nothing there; can be given again",
    )


def _add_lazy(parser: argparse.ArgumentParser) -> None:
    lazy = parser.add_mutually_exclusive_group()
    lazy.add_argument(
        "--no-lazy",
        dest="lazy",
        action="store_false",
        default=None,
        help="have all inputs here before a builder starts",
    )
    lazy.add_argument(
        "--lazy",
        action="store_true",
        default=None,
        help="let a builder start before its inputs are here (the default, unless the store has another)",
    )


def _add_trusted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trusted",
        metavar="FILE",
        help="believe only results signed by one of the SSH keys in it, one a line (default: $SAPWOOD_TRUSTED, or all)",
    )


def _configure_build(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    _add_stores(parser)
    _add_trusted(parser)
    parser.add_argument("--sign", metavar="KEYFILE", help="sign what is built by this SSH key, an Ed25519 one")
    parser.add_argument("--jobs", metavar="N", help="run so many builders at a time (default: as many as processors)")
    _add_lazy(parser)
    parser.add_argument("--keep-failed", action="store_true", help="keep the directory of a builder that failed")
    parser.add_argument("--check", action="store_true", help="build the targets once more, and name what differs")
    add_executor(parser)
    parser.add_argument("--quiet", action="store_true", help="show what a builder says only if it fails")
    add_json(parser)


def _configure_look(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    words = {
        "show": "say what derivations are: command, inputs, key",
        "graph": "draw what needs what",
        "why": "say which parts of a key differ from the last build",
        "outputs": "list what was built, and where it is",
    }
    for name, text in words.items():
        action = actions.add_parser(name, help=text)
        _add_target(action)
        _add_stores(action)
        _add_trusted(action)
        if name == "graph":
            action.add_argument("--svg", action="store_true", help="as SVG, drawn by Graphviz, not as DOT")
        else:
            add_json(action)
    defaults = actions.add_parser("defaults", help="say, or set, what builds into a store do by default")
    defaults.add_argument("--store", metavar="STORE_URL", help="of this store (default: the default store)")
    _add_lazy(defaults)
    add_json(defaults)


def _home() -> Path:
    from sapwood import places

    return places.cache_dir() / "builds"


def _stores(arguments: argparse.Namespace, *, looking: bool = False) -> list[Store]:
    """Return where results are kept, then where else they are looked up; who is only `looking` makes no store."""
    from sapwood import places
    from sapwood.errors import InvalidInputError
    from sapwood.store.store import open_store

    also = [open_store(url) for url in arguments.also or ()]
    try:
        # An empty word is no URL, and not the default store.
        url = places.default_store() if arguments.store is None else arguments.store
        return [open_store(url, create=not looking), *also]
    except InvalidInputError as error:
        if not looking or error.kind != "not-a-store":
            raise
        return also


def _graph(arguments: argparse.Namespace) -> tuple[Graph, State]:
    from sapwood.build.load import load_graph, split_target
    from sapwood.build.state import State

    # What a build file prints is talk: stdout is where outputs are.
    with contextlib.redirect_stdout(sys.stderr):
        graph = load_graph(arguments.target)
    return graph, State(_home(), split_target(arguments.target)[0])


def _jobs(arguments: argparse.Namespace) -> int | None:
    from sapwood.errors import InvalidInputError

    if arguments.jobs is None:
        return None
    if not arguments.jobs.isdecimal() or not 0 < int(arguments.jobs) < 10_000:
        raise InvalidInputError(f"--jobs {arguments.jobs}: no number of builders", kind="bad-usage", hint="--jobs 4")
    return int(arguments.jobs)


def _builder(arguments: argparse.Namespace, graph: Graph, stores: list[Store], state: State, **options: Any) -> Builder:
    """Return a builder, which needs what not everybody has installed."""
    from sapwood import places
    from sapwood.errors import UnavailableError

    try:
        from sapwood.build.builder import Builder
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed", kind="grpc-missing", hint="pip install 'sapwood[build]'"
        ) from error
    trusted = None
    # A word that is empty, as of a variable that is not set, is no list: then nothing may be believed.
    if (listed := places.trusted_keys() if arguments.trusted is None else arguments.trusted) is not None:
        from sapwood.build.signing import Trusted

        trusted = Trusted(listed)
    return Builder(graph, stores, _home(), state, trusted=trusted, **options)


def _signer(arguments: argparse.Namespace) -> Signer | None:
    if arguments.sign is None:
        return None
    from sapwood.build.signing import Signer

    return Signer(arguments.sign)


def _build(arguments: argparse.Namespace) -> int:
    leave_by_finally()
    began = time.monotonic()
    # Sources are many small objects that stay: looking through all of them again and again took a third of the time.
    gc.set_threshold(_COLLECTED)
    from sapwood.build.state import Counts, add_counts
    from sapwood.cli.telling import telling

    jobs, executor = _jobs(arguments), executor_of(arguments)
    graph, state = _graph(arguments)
    stores, signer = _stores(arguments), _signer(arguments)
    with telling(graph, quiet=arguments.quiet, silent=arguments.json) as listener:
        builder = _builder(
            arguments,
            graph,
            stores,
            state,
            jobs=jobs,
            signer=signer,
            lazy=arguments.lazy,
            keep_failed=arguments.keep_failed,
            listener=listener,
            executor=executor,
        )
        built = builder.build()
        add_counts(_home(), Counts(built.hits, len(built.made) - built.hits, built.saved_s))
        if arguments.check:
            builder.check(built)
    took = time.monotonic() - began
    if arguments.json:
        show.document(
            {
                "targets": [_target(one, built.made[one.name]) for one in graph.targets],
                "derivations": len(graph),
                "hits": built.hits,
                "built": len(built.made) - built.hits,
                "untrusted": len(builder.results.distrusted),
                "savedSeconds": round(built.saved_s, 6),
                "seconds": round(took, 6),
            }
        )
        return 0
    for one in graph.targets:
        show.line(built.made[one.name].stored.address)
    show.talk(
        f"{show.counted(len(graph), 'derivation')}: {len(built.made) - built.hits:,} built, {built.hits:,} known,"
        f" which saved {show.seconds(built.saved_s)}; in {show.seconds(took)}"
    )
    if distrusted := len(builder.results.distrusted):
        show.talk(f"{show.counted(distrusted, 'result')} that no trusted key has signed: not used")
    return 0


def _target(one: Derivation, made: Made) -> dict[str, Any]:
    result = made.stored
    return {
        "name": one.name,
        "action": result.action,
        "address": result.address,
        "hit": made.is_hit,
        "seconds": round(result.seconds, 6),
        "outputs": _outputs_of(result.outputs),
    }


def _outputs_of(outputs: Any) -> list[dict[str, Any]]:
    return [
        {
            "path": path,
            "kind": node.kind,
            "digest": node.digest or None,
            "target": show.text(node.target) if node.kind == "symlink" else None,
        }
        for path, node in sorted(outputs.items())
    ]


def _defaults(arguments: argparse.Namespace) -> int:
    from sapwood import places
    from sapwood.build.defaults import Defaults, read_defaults, write_defaults
    from sapwood.store.store import open_store

    store = open_store(places.default_store() if arguments.store is None else arguments.store)
    if arguments.lazy is not None:
        write_defaults(store, Defaults(arguments.lazy))
    lazy = read_defaults(store).lazy
    if arguments.json:
        show.document({"store": store.url, "lazy": lazy})
    else:
        show.line(f"lazy: {'yes' if lazy else 'no'}")
    return 0


def _look(arguments: argparse.Namespace) -> int:
    if arguments.action == "defaults":
        return _defaults(arguments)
    graph, state = _graph(arguments)
    if arguments.action == "graph" and not arguments.store:
        return _draw(graph, set(), arguments)
    builder = _builder(arguments, graph, _stores(arguments, looking=True), state)
    if arguments.action == "graph":
        return _draw(graph, {one.name for one, _, result in builder.survey() if result}, arguments)
    if arguments.action == "why":
        return _why(builder, state, arguments)
    return _show(builder, arguments) if arguments.action == "show" else _outputs(builder, arguments)


def _draw(graph: Graph, cached: set[str], arguments: argparse.Namespace) -> int:
    from sapwood.build.dot import dot
    from sapwood.errors import UnavailableError

    text = dot(graph, cached)
    if arguments.svg:
        try:
            drawn = subprocess.run(["dot", "-Tsvg"], input=text.encode(), stdout=subprocess.PIPE, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise UnavailableError(
                f"Graphviz cannot draw: {error}", kind="graphviz-missing", hint="apt-get install graphviz"
            ) from error
        text = drawn.stdout.decode()
    sys.stdout.write(text)
    return 0


def _show(builder: Builder, arguments: argparse.Namespace) -> int:
    targets = set(builder.graph.targets)
    shown: list[dict[str, Any]] = []
    for one, action, result in builder.survey():
        if one not in targets:
            continue
        shown.append(
            {
                "name": one.name,
                "action": action.digest if action else None,
                "root": action.root if action else None,
                "known": result is not None,
                "command": list(one.command),
                "env": dict(one.env),
                "inputs": action.parts["inputs"] if action else None,
                "deps": [need.name for need in builder.graph.needs(one)],
                "outputs": list(one.outputs),
                "platform": dict(one.platform),
                "network": one.network,
                "lazy": one.lazy,
                "timeout": one.timeout_s,
                "memory": one.memory,
                "disk": one.disk,
            }
        )
    if arguments.json:
        show.document(shown)
        return 0
    for each in shown:
        show.line(f"{each['name']}: {each['action'] or 'its key is not known before what it needs is built'}")
        show.line(f"  command  {' '.join(each['command'])}")
        for name, value in each["env"].items():
            show.line(f"  env      {name}={value}")
        for place, told in (each["inputs"] or {}).items():
            show.line(f"  input    {place or '.'} {told}")
        for name in each["deps"]:
            show.line(f"  needs    {name}")
        for path in each["outputs"]:
            show.line(f"  output   {path}")
        show.line(f"  result   {'known' if each['known'] else 'not known'}")
    return 0


def _outputs(builder: Builder, arguments: argparse.Namespace) -> int:
    targets = set(builder.graph.targets)
    found: list[dict[str, Any]] = [
        {
            "name": one.name,
            "address": result.address if result else None,
            "outputs": _outputs_of(result.outputs) if result else [],
        }
        for one, _, result in builder.survey()
        if one in targets
    ]
    if arguments.json:
        show.document(found)
        return 0
    for each in found:
        show.line(f"{each['name']}: {each['address'] or 'not built'}")
        for output in each["outputs"]:
            show.line(f"  {output['path']} {output['digest'] or '-> ' + output['target']}")
    return 0


def _why(builder: Builder, state: State, arguments: argparse.Namespace) -> int:
    from sapwood.build.why import differences

    targets = set(builder.graph.targets)
    shown: list[dict[str, Any]] = []
    for one, action, result in builder.survey():
        if one not in targets:
            continue
        last = state.parts(one.name)
        found = []
        if action and last:
            # Nothing since: then why the last build was not the one before.
            now, before = (action.parts, last[0]) if last[0].get("key") != action.digest else (last[0], last[-1])
            found = differences(one, before, now, state)
        shown.append(
            {
                "name": one.name,
                "key": action.digest if action else None,
                "last": last[0].get("key") if last else None,
                "known": result is not None,
                "differs": [
                    {
                        "part": each.part,
                        "before": each.before,
                        "now": each.now,
                        "files": [show.text(path) for path in each.files],
                    }
                    for each in found
                ],
            }
        )
    if arguments.json:
        show.document(shown)
        return 0
    for one_shown in shown:
        _explain(one_shown)
    return 0


def _explain(shown: dict[str, Any]) -> None:
    name, key, last = shown["name"], shown["key"], shown["last"]
    if key is None:
        show.line(f"{name}: what it needs has to be built first")
    elif last is None:
        show.line(f"{name}: never built from this file on this machine" + (", but known" if shown["known"] else ""))
    elif key == last:
        show.line(
            f"{name}: nothing differs from the last build"
            + ("" if shown["known"] else ", of which there is no result")
            + (", in which these did:" if shown["differs"] else "")
        )
    else:
        show.line(f"{name}: these differ from the last build:")
    for each in shown["differs"]:
        before, now = ("none" if told is None else told or "''" for told in (each["before"], each["now"]))
        show.line(f"  {each['part']}: {before} -> {now}")
        for path in each["files"]:
            show.line(f"    {show.quoted(os.fsencode(path))}")


def _configure_cache(parser: argparse.ArgumentParser) -> None:
    _add_stores(parser)
    add_json(parser)


def _cache(arguments: argparse.Namespace) -> int:
    from sapwood.build.state import kept_bytes, read_counts

    counts = read_counts(_home())
    stores = _stores(arguments, looking=True)
    found = [_held(store) for store in stores]
    kept = kept_bytes(_home() / "outputs")
    if arguments.json:
        show.document(
            {
                "stores": found,
                "keptBytes": kept,
                "hits": counts.hits,
                "built": counts.built,
                "savedSeconds": counts.saved_s,
            }
        )
        return 0
    for each in found:
        show.line(
            f"{each['store']}: {show.counted(each['results'], 'result')}; {show.counted(each['names'], 'name')},"
            f" whose outputs have {show.human(each['bytes'])}"
        )
    show.line(f"kept on this machine: {show.human(kept)}")
    total = counts.hits + counts.built
    rate = f", {100 * counts.hits // total} %" if total else ""
    show.line(f"{counts.hits:,} of {total:,} were known{rate}, which saved {show.seconds(counts.saved_s)}")
    return 0


def _held(store: Store) -> dict[str, Any]:
    """Return what a store has of builds: results, and by the refs of outputs what they name now."""
    from sapwood.store.waiting import each

    refs = [ref for ref in store.refs() if ref.name.startswith("build/")]
    sizes = each(lambda ref: store.read_snapshot(ref.snapshot).bytes, refs)
    return {"store": store.url, "results": len(store.actions()), "names": len(refs), "bytes": sum(sizes)}


class _Build(Command):
    """A build, or a look at one."""

    __slots__ = ()

    def parser(self, name: str, summary: str) -> argparse.ArgumentParser:
        parser = super().parser(name, summary)
        parser.usage = "sapwood build [OPTION …] FILE[:TARGET]\n       sapwood build ACTION [OPTION …] FILE[:TARGET]"
        return parser

    def main(self, name: str, summary: str, arguments: list[str]) -> int:
        if arguments and arguments[0] in _ACTIONS:
            return Command(_configure_look, _look, self.examples).main(name, summary, arguments)
        return super().main(name, summary, arguments)


COMMANDS = {
    "build": _Build(
        _configure_build,
        _build,
        """
        sapwood build .                            all that BUILD.py declares; stdout is where the outputs are
        sapwood build BUILD.py:app                 one of it, and what that needs
        sapwood build --store s3://bucket/builds . what anybody has built there is not built again
        sapwood build --sign key --trusted keys .  what others built counts only if a key of that list signed it
        sapwood build --executor grpcs://builders:443 --token-file ~/.token .  a server's workers build
        sapwood build why BUILD.py:app             which part of its key differs from the last build
        sapwood build graph --svg . >graph.svg     also: build show FILE[:TARGET], build outputs FILE[:TARGET]
        sapwood build defaults --no-lazy           have inputs complete first, in all builds into the default store
        sapwood pull "$(sapwood build .:app)" out  what was built, in a directory
        """,
    ),
    "cache": Command(
        _configure_cache,
        _cache,
        """
        sapwood cache                              how many results there are, and what they saved
        sapwood cache --store s3://bucket/builds --json
        """,
    ),
}
