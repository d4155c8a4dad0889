"""From `sys.argv` to an exit code: finds the command, runs it, and says what went wrong.

Invariant: `--version` and `--help` import neither argparse nor any command; a command imports only what it needs.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from typing import NoReturn

    from sapwood.cli.command import Command

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Trees on this machine": {
        "hash": ("hash", "print the tree digest of a directory"),
        "status": ("hash", "list what changed in a directory since its last hash or push"),
        "index": ("index", "make an archive readable in parts; or check the state kept of a directory"),
        "watch": ("watch", "be told of changes, so that hash and status look only at them"),
    },
    "Trees on their way": {
        "push": ("push", "store a directory, or the tree of a tar or an image, and let a ref name it"),
        "pull": ("push", "fetch a whole tree into a directory"),
        "cp": ("copy", "copy trees from store to store"),
    },
    "Trees as archives": {
        "pack": ("pack", "write a tree as an archive that anybody can unpack and enter anywhere"),
        "convert": ("pack", "make such an archive of a tar, or of each layer of an image"),
        "tar": ("tar", "give back the tar that a tree was pushed as"),
    },
    "Trees in a store": {
        "init": ("init", "make an empty place a store"),
        "ls": ("look", "list a directory of a tree"),
        "cat": ("look", "write files of a tree to stdout"),
        "diff": ("look", "compare two trees, each a directory or an address"),
        "refs": ("refs", "list the refs of a store"),
        "log": ("refs", "list the snapshots a ref has named"),
        "tag": ("forget", "give a snapshot a name of its own"),
        "rm": ("forget", "remove refs"),
    },
    "Trees before they have arrived": {
        "mount": ("mount", "show a tree at a directory, fetching what is read"),
        "umount": ("mount", "end a mount, also one whose server was killed"),
        "mounts": ("mount", "list the mounts of this user"),
        "run": ("run", "run a command on a mounted tree"),
        "trace": ("trace", "run a command likewise, and record what it reads, so that this comes first next time"),
        "coverage": ("coverage", "say what of a tree was ever read when it was traced, and what never"),
        "optimize": ("optimize", "lay out again, together, what of a tree was read when it was traced"),
        "slim": ("slim", "make of an image one that has only what was read of it when it was traced"),
    },
    "Builds": {
        "build": ("build", "make what a build file declares, unless somebody has made it; show, graph, why, outputs"),
        "context": ("context", "send a build context as what changed in it, or build from it, here or elsewhere"),
        "cache": ("build", "say what was built so far, and what that saved"),
        "serve": ("serve", "serve a store to builds, by the Remote Execution API"),
        "worker": ("worker", "run actions for a scheduler, fetching of their inputs what they read"),
    },
    "Upkeep of a store": {
        "forget": ("forget", "cut the histories of refs to what rules keep"),
        "gc": ("gc", "delete what no ref needs any more"),
        "stats": ("stats", "say how much a store, or a tree in it, takes and why"),
        "verify": ("verify", "find out whether everything that refs need is there"),
        "repair": ("repair", "heal what is damaged of what any other copy has"),
        "recover": ("recover", "make everything but packs again, from packs alone"),
    },
    "Help": {
        "completion": ("completion", "print a script that completes commands in your shell"),
    },
}
"""Heading -> command -> (module in this package, summary)."""

_HEAD = """\
usage: sapwood COMMAND [ARGUMENT …]
       sapwood COMMAND --help
       sapwood --version

Hash file trees incrementally, ship only what is missing, use them anywhere before they have arrived.
"""

_FOOT = """\
An ADDRESS is STORE_URL#REF, STORE_URL#REF@sha256:… (pinned to one snapshot), or REF in the default store. A STORE_URL
is a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or, to read, https://…
What only reads takes an archive, too, by path or URL, or an image: oci://HOST/REPOSITORY:TAG, oci:DIR:TAG.

Environment:
  SAPWOOD_STORE  the default store (else ~/.local/share/sapwood/store)
  SAPWOOD_CACHE  where indexes and fetched files are kept (else ~/.cache/sapwood)
  NO_COLOR       no colours

Exit codes:
  0    done
  1    `diff` found differences
  2    the call cannot be right           6    a place does not answer, or the disk is full
  3    something is not there             7    permission denied
  4    somebody else was first            8    written by a newer sapwood
  5    stored bytes are damaged           70   a bug of sapwood
  130  stopped by Ctrl-C                  141  the reader of stdout went away
`run`, `trace` and `context build` pass on the code of their command (128 + N if signal N ended it; 127: not found,
126: cannot be run).
"""


def run() -> NoReturn:
    """Be the process `sapwood`."""
    code = main()
    # All is said and written, and threads are daemons: taking index and interpreter apart would only take 2 ms.
    os._exit(code)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; everything it says has been written."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        _open_streams()
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more (`| head`). What is left in the buffer must not be flushed to nobody at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into a line and a code
        from sapwood.cli.failure import report

        return report(error)


def modules() -> dict[str, str]:
    """Return command -> name of its module in this package."""
    return {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}


def summaries() -> dict[str, str]:
    """Return command -> summary, in the order of the help."""
    return {name: summary for group in COMMANDS.values() for name, (_, summary) in group.items()}


def _open_streams() -> None:
    """Refuse to work for nobody, and let no file that is opened later become a standard stream that was closed.

    Raises:
        InvalidInputError: `no-stdout`.
    """
    if sys.stdin and sys.stdout and sys.stderr:
        return
    has_stdout = sys.stdout is not None
    while os.open(os.devnull, os.O_RDWR) < 2:
        pass
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    if not has_stdout:
        from sapwood.errors import InvalidInputError

        raise InvalidInputError("stdout is closed", kind="no-stdout", hint="send it to /dev/null instead")


def _dispatch(arguments: list[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name in ("--version", "-V"):
        from sapwood import __version__

        print(f"sapwood {__version__}")
        return 0
    if name in ("--help", "-h", "help"):
        print(_help(), end="")
        return 0
    module = modules().get(name)
    if module is None:
        from difflib import get_close_matches

        from sapwood.errors import InvalidInputError

        close = get_close_matches(name, modules(), n=1)
        raise InvalidInputError(
            f"no command {name!r}", kind="bad-usage", hint=f"sapwood {close[0]}" if close else "sapwood --help"
        )
    from importlib import import_module

    command: Command = import_module(f"sapwood.cli.{module}").COMMANDS[name]
    return command.main(name, summaries()[name], rest)


def _help() -> str:
    groups = (
        f"{heading}:\n" + "".join(f"  {name:<12}{summary}\n" for name, (_, summary) in group.items())
        for heading, group in COMMANDS.items()
    )
    return "\n".join((_HEAD, *groups, _FOOT))
