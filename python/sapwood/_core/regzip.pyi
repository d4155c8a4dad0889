"""Gzip streams as plain bytes and corrections."""

from os import PathLike

__all__ = ["apart", "inflate", "together"]

def apart(input: int, name: str | PathLike[str], plain: int, corrections: int) -> bool:
    """Write the plain bytes of the gzip stream in the open file `input`, called `name`, and its corrections.

    False if it has none of use: what was written is to be thrown away.

    Raises:
        UnavailableError: `io`, `disk-full`.
    """

def together(plain: int, corrections: int, name: str | PathLike[str], output: int) -> None:
    """Write the gzip stream of `plain` that `corrections` say, both read from where they stand. It is not proved.

    Raises:
        CorruptError: `damaged`: they are not of each other.
        FormatError: `format-newer`.
        UnavailableError: `io`, `disk-full`.
    """

def inflate(input: int, name: str | PathLike[str], output: int) -> None:
    """Write the plain bytes of a tar as it lies in the open file `input`: plain, or by gzip or zstd.

    Raises:
        CorruptError: `damaged`.
        UnavailableError: `io`, `disk-full`.
    """
