"""What a missing tool says: one sentence with its remedy, and nothing else."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(script: str, *words: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", SCRIPTS / script, *words],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with a cargo, a compiler, and an `id` that says we are not root."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, script in {"cargo": "exit 0", "cc": "exit 0", "fusermount3": "exit 0", "id": "echo 1000"}.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    return place


def test_with_everything_there_nothing_is_said(tools: Path) -> None:
    said = run("require.sh", "mount", path=tools)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("tool", "remedy"),
    [
        (
            "cargo",
            "sapwood: cargo is missing: install Rust (stable) from https://rustup.rs, or set PATH to where it is\n",
        ),
        ("cc", "sapwood: cc is missing: apt-get install gcc (as root)\n"),
        ("fusermount3", "sapwood: fusermount3 is missing: apt-get install fuse3 (as root)\n"),
    ],
)
def test_a_missing_tool_is_said_in_one_sentence_with_its_remedy(tools: Path, tool: str, remedy: str) -> None:
    (tools / tool).unlink()
    said = run("require.sh", "mount", path=tools)
    assert (said.returncode, said.stdout, said.stderr) == (1, "", remedy)


@pytest.mark.parametrize(("present", "missing"), [("", "go"), ("versitygw-1.8.0", "npm")])
def test_a_server_for_the_tests_that_cannot_be_installed_is_said(
    tools: Path, tmp_path: Path, present: str, missing: str
) -> None:
    peers = tmp_path / "peers"
    peers.mkdir()
    if present:
        (peers / present).touch(mode=0o755)
    said = run("install-peers.sh", path=tools, SAPWOOD_PEERS=str(peers))
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1)
    assert said.stderr.startswith(f"sapwood: {missing} is missing: install ")


def test_no_suitable_python_is_said_in_one_sentence(tools: Path) -> None:
    (tools / "python3").write_text("#!/bin/sh\nexit 127\n")  # a version manager's shim for what is not installed
    (tools / "python3").chmod(0o755)
    script = (SCRIPTS / "find-python.sh").read_text().replace(" /usr/bin/python3;", ";")
    said = subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tools)}, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == (
        "sapwood: needs Python 3.11 or newer with its venv module:"
        " apt-get install python3 python3-venv, or set PYTHON=/path/to/python\n"
    )


def test_the_python_that_is_asked_for_is_found(tools: Path) -> None:
    import sys

    said = run("find-python.sh", path=tools, PYTHON=sys.executable, HOME=os.environ.get("HOME", "/"))
    assert (said.returncode, said.stderr) == (0, "")
    assert Path(said.stdout.strip()).samefile(sys.executable)
