"""Exit codes and what is said when something goes wrong."""

import errno

import pytest

from sapwood import errors
from sapwood.cli.failure import exit_code, lines, report


def raised(error: Exception) -> Exception:
    """Return the error with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInputError("x", kind="k"), 2),
        (errors.NotFoundError("x", kind="k"), 3),
        (errors.ConflictError("x", kind="k"), 4),
        (errors.CorruptError("x", kind="k"), 5),
        (errors.UnavailableError("x", kind="k"), 6),
        (errors.DeniedError("x", kind="k"), 7),
        (errors.FormatError("x", kind="k"), 8),
        (errors.InternalError("x", kind="k"), 70),
        (errors.StoppedError("x", kind="k"), 130),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "/secret"), 7),
        (OSError(errno.ENOSPC, "No space left on device"), 6),
        (ZeroDivisionError("division by zero"), 70),
    ],
)
def test_each_class_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_every_class_of_error_has_a_code_of_its_own() -> None:
    classes = [getattr(errors, name) for name in errors.__all__ if name != "SapwoodError"]
    codes = [exit_code(kind("x", kind="k")) for kind in classes]
    assert len(set(codes)) == len(codes)


def test_an_error_is_a_line_its_notes_and_its_hint() -> None:
    error = errors.NotFoundError("/srv has no ref mian", kind="ref-missing", hint="sapwood refs /srv")
    error.add_note("there is a ref main")
    assert lines(error) == ["sapwood: /srv has no ref mian", "  there is a ref main", "hint: sapwood refs /srv"]


def test_a_mistake_of_the_users_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(raised(errors.NotFoundError("x", kind="k"))) == 3
    assert capsys.readouterr().err == "sapwood: x\n"


def test_an_error_of_the_system_names_its_file() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", b"/srv/\xff")
    assert lines(error) == ["sapwood: $'/srv/\\xff': Permission denied"]


def test_a_bug_shows_where_it_is_and_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(raised(ZeroDivisionError("division by zero"))) == 70
    said = capsys.readouterr().err
    assert "test_cli_failure.py" in said
    assert said.endswith(
        "sapwood: ZeroDivisionError: division by zero\n"
        "hint: this is a bug of sapwood: please report it with the lines above\n"
    )


def test_a_stopped_command_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(errors.StoppedError("stopped", kind="stopped")) == 130
    assert capsys.readouterr().err == ""
