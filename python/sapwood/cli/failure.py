"""What the user sees when something goes wrong, and the exit code of each class of error.

Invariant: one line `sapwood: …`, then its notes, then `hint: …` if there is one, all on stderr. Only a bug of ours
shows a traceback, since its reader is whoever mends it.
"""

from __future__ import annotations

import sys
import traceback

from sapwood import errors

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.InvalidInputError, 2),
    (errors.NotFoundError, 3),
    (errors.ConflictError, 4),
    (errors.CorruptError, 5),
    (errors.UnavailableError, 6),
    (errors.DeniedError, 7),
    (errors.FormatError, 8),
    (errors.StoppedError, 130),
    (errors.InternalError, 70),
    (FileNotFoundError, 3),
    (PermissionError, 7),
    (OSError, 6),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code that this error ends a command with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 70)


def report(error: BaseException) -> int:
    """Say on stderr what went wrong and return the exit code."""
    code = exit_code(error)
    if code == 130:
        return code
    if not isinstance(error, (errors.SapwoodError, OSError)):
        traceback.print_exception(error)
    for line in lines(error):
        print(line, file=sys.stderr)
    return code


def lines(error: BaseException) -> list[str]:
    """Return what is said of an error, without the traceback of a bug."""
    said = [f"sapwood: {_message(error)}"]
    said += [f"  {line}" for note in getattr(error, "__notes__", ()) for line in note.splitlines()]
    hint = getattr(error, "hint", None)
    if exit_code(error) == 70:
        hint = hint or "this is a bug of sapwood: please report it with the lines above"
    if hint:
        said.append(f"hint: {hint}")
    return said


def _message(error: BaseException) -> str:
    if isinstance(error, errors.SapwoodError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        from sapwood.cli.show import quoted

        name = error.filename
        where = f"{quoted(name if isinstance(name, bytes) else str(name).encode())}: " if name is not None else ""
        return f"{where}{error.strerror}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
