"""`python -m sapwood`: the same as the command `sapwood`."""

from sapwood.cli.main import run

run()
