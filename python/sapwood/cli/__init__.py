"""The command line: `sapwood COMMAND …`."""

import sys


def main() -> int:
    """Run the command that `sys.argv` names and return its exit code."""
    if sys.argv[1:] == ["--version"]:
        from sapwood import __version__

        print(f"sapwood {__version__}")
        return 0
    return 2
