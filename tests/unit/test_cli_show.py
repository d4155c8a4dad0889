"""How names, sizes and times look."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sapwood.cli import show


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("Stämme".encode(), "Stämme"),
        (b"two\nlines", "$'two\\nlines'"),
        (b"\x1b[2Jgone", "$'\\x1b[2Jgone'"),
        (b"caf\xe9", "$'caf\\xe9'"),
        (b"it's\x07", "$'it\\'s\\x07'"),
    ],
)
def test_a_name_cannot_drive_a_terminal(name: bytes, seen: str) -> None:
    assert show.quoted(name) == seen
    assert show.quoted(name).isprintable()


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name))
def test_what_is_quoted_is_printable(name: bytes) -> None:
    assert show.quoted(name).isprintable()


@pytest.mark.parametrize("name", [b"two\nlines", b"\xff\xfe", b"it's\t\\", "é\x85".encode()])
def test_a_shell_reads_a_quoted_name_back_as_its_bytes(name: bytes) -> None:
    script = f"printf %s {show.quoted(name)}"
    said = subprocess.run(["bash", "-c", script], check=True, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    assert said.stdout == name


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB (1,000 B)"),
        (1_297_311_744, "1.3 GB (1,297,311,744 B)"),
        (999_600, "1.0 MB (999,600 B)"),
    ],
)
def test_sizes_are_human_and_exact(size: int, seen: str) -> None:
    assert show.exact(size) == seen


@pytest.mark.parametrize(
    ("duration", "seen"), [(0.004, "0.00 s"), (9.5, "9.50 s"), (12.34, "12.3 s"), (200.4, "3 min 20 s")]
)
def test_durations_have_the_unit_that_suits_them(duration: float, seen: str) -> None:
    assert show.seconds(duration) == seen


def test_counts_agree_with_their_nouns() -> None:
    assert [show.counted(1, "entry"), show.counted(2, "entry"), show.counted(78273, "file")] == [
        "1 entry",
        "2 entries",
        "78,273 files",
    ]


def test_a_path_in_json_gives_its_bytes_back(capfd: pytest.CaptureFixture[str]) -> None:
    import json

    show.document({"path": show.text(b"caf\xe9/\n")})
    said = capfd.readouterr().out
    assert "\\udce9" in said
    assert os.fsencode(json.loads(said)["path"]) == b"caf\xe9/\n"


def test_into_a_pipe_names_go_as_they_are(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    show.line("A ", b"caf\xe9")
    assert capfdbinary.readouterr().out == b"A caf\xe9\n"
