"""One command: its examples, its arguments, and the function that runs it.

Promise: a call that cannot be right ends in the same two lines as any other mistake, and exit code 2.
"""

from __future__ import annotations

from sapwood.cli.plain import PlainParser

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any


class Command:
    """`configure` adds the arguments to a parser, `run` takes what was parsed and returns the exit code."""

    __slots__ = ("configure", "examples", "run")

    def __init__(
        self,
        configure: Callable[[argparse.ArgumentParser], None],
        run: Callable[[argparse.Namespace], int],
        examples: str,
    ) -> None:
        self.configure = configure
        self.run = run
        self.examples = examples

    def parser(self, name: str, summary: str) -> argparse.ArgumentParser:
        """Return the parser of this command's arguments."""
        from sapwood.cli.parser import make

        parser = make(name, summary, self.examples)
        self.configure(parser)
        return parser

    def main(self, name: str, summary: str, arguments: list[str]) -> int:
        """Parse `arguments` and run."""
        plain: Any = PlainParser()
        self.configure(plain)
        return self.run(plain.parse(arguments) or self.parser(name, summary).parse_args(arguments))


def add_prefetch(parser: argparse.ArgumentParser) -> None:
    """Let people say that only what is read shall be fetched."""
    parser.add_argument(
        "--no-prefetch", dest="prefetch", action="store_false", help="fetch only what is read, not the rest behind it"
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Let people say which profile is fetched along, or that none is."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--profile",
        metavar="FILE",
        help="fetch first what FILE names, from `trace --out` (default: the store's)",
    )
    which.add_argument(
        "--no-profile", dest="follow", action="store_false", help="do not fetch first what was read when it was traced"
    )


def add_offline(parser: argparse.ArgumentParser) -> None:
    """Let people say that nothing shall be asked of the store."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help="ask the store nothing: what was mounted before, as far as it is in the cache; the rest cannot be read",
    )


def add_cache_size(parser: argparse.ArgumentParser) -> None:
    """Let people say how much of the disk the cache may take; `cache_size` understands it."""
    parser.add_argument(
        "--cache-size",
        metavar="SIZE",
        help="what the cache may take, as 500M or 20G (default: what leaves a tenth of the disk's space free)",
    )


def cache_size(arguments: argparse.Namespace) -> int | None:
    """Return the bytes that the cache may take, None where nobody said; errors as `size_of`."""
    return None if arguments.cache_size is None else size_of("--cache-size", arguments.cache_size)


def size_of(option: str, text: str) -> int:
    """Return the bytes that `option` says.

    Raises:
        InvalidInputError: `bad-usage`: that is no size.
    """
    import re

    from sapwood.errors import InvalidInputError

    found = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text.upper())
    if found is None:
        raise InvalidInputError(f"{option} {text}: no size", kind="bad-usage", hint=f"{option} 20G")
    return int(found[1]) << 10 * " KMGT".index(found[2] or " ")


def add_tier(parser: argparse.ArgumentParser) -> None:
    """Let people say how the kernel gets the tree; `tier` understands it."""
    parser.add_argument(
        "--tier",
        metavar="TIER",
        help="fuse: asked of sapwood (auto, the default); native: names and complete files by the kernel alone, for"
        " root; libfuse: as fuse, by way of libfuse",
    )


def tier(arguments: argparse.Namespace) -> str:
    """Return the tier that was asked for.

    Raises:
        InvalidInputError: `bad-usage`: there is no such tier.
    """
    from sapwood.errors import InvalidInputError

    if arguments.tier not in (None, "auto", "fuse", "native", "libfuse"):
        raise InvalidInputError(
            f"--tier {arguments.tier}: no tier", kind="bad-usage", hint="--tier fuse, native, libfuse, or auto"
        )
    return arguments.tier or "auto"


def add_writable(parser: argparse.ArgumentParser, ending: str) -> None:
    """Let people change the tree; `ending` says what becomes of the changes."""
    parser.add_argument(
        "--writable", action="store_true", help=f"take changes, which sapwood push can store; {ending}; for root"
    )


def add_deadline(parser: argparse.ArgumentParser) -> None:
    """Let people say for how long a read waits for a store that brings nothing; `deadline_s` understands it."""
    parser.add_argument(
        "--deadline",
        metavar="SECONDS",
        help="fail reads when the store has brought nothing for so long (default: 60); they work again when it does",
    )


def deadline_s(arguments: argparse.Namespace) -> float:
    """Return for how long a read waits for a store that brings nothing, in seconds.

    Raises:
        InvalidInputError: `bad-usage`: that is no time.
    """
    from sapwood.errors import InvalidInputError

    text = arguments.deadline
    try:
        seconds = 60.0 if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:  # nor NaN
        raise InvalidInputError(f"--deadline {text}: no time", kind="bad-usage", hint="--deadline 60")
    return seconds


def add_seek_index(parser: argparse.ArgumentParser) -> None:
    """Let people say by what an archive without TOC is read."""
    parser.add_argument(
        "--seek-index", metavar="FILE", help="the seek index of an archive, a path or URL (default: ARCHIVE.sapwood)"
    )


def add_toc(parser: argparse._ActionsContainer) -> None:
    """Let people say where an archive has its TOC."""
    parser.add_argument(
        "--toc",
        metavar="FILE_OR_URL",
        help="the TOC of an archive that has it elsewhere: eStargz with an external one",
    )


def add_platform(parser: argparse._ActionsContainer) -> None:
    """Let people say for which platform an image shall be; `for_platform` understands it."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image that is there for several (default: this machine's)"
    )


def for_platform(address: str, arguments: argparse.Namespace) -> str:
    """Return an address, and if it is an image's and a platform was said, that for it.

    Raises:
        InvalidInputError: `bad-usage`: it is no image; `bad-address`: that is no platform.
    """
    if arguments.platform is None:
        return address
    from sapwood.store.naming import names_image

    if not names_image(address):
        from sapwood.errors import InvalidInputError

        raise InvalidInputError(
            f"{address} is no image, and --platform says which of an image", kind="bad-usage", hint="leave it out"
        )
    from sapwood.image import ImageName

    return str(ImageName.parse(address).of_platform(arguments.platform))


def of_remote_store(address: str) -> str | None:
    """Return an address if it is one of a store on a server, which may be asked what it names before all is ready."""
    return address if "#" in address and "://" in address and not address.startswith("file:") else None


def add_json(parser: argparse._ActionsContainer) -> None:
    """Let the command report to machines: one JSON document on stdout."""
    parser.add_argument("--json", action="store_true", help="report as one JSON document on stdout")
