"""Measure all claims, or those that are named, and print the table; all of them are also written to the page."""

from __future__ import annotations

import argparse
import sys

from benchmarks import page
from benchmarks.claims import demo, edit, mount, push, startup, unchanged
from benchmarks.corpus import BUILD
from benchmarks.machine import machine

_CLAIMS = {"startup": startup, "unchanged": unchanged, "push": push, "edit": edit, "mount": mount, "demo": demo}


def main() -> int:
    """Returns 1 when a figure misses its bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", choices=[*_CLAIMS, []], help=", ".join(_CLAIMS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    chosen = {name: claim for name, claim in _CLAIMS.items() if not arguments.claims or name in arguments.claims}
    figures = [figure for claim in chosen.values() for figure in claim.figures(arguments.rounds)]
    print("\n".join([*machine(), "", *page.table(figures)]))
    if not arguments.claims:
        page.write(figures, [claim.COMMANDS for claim in chosen.values()], machine())
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
