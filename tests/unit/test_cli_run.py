"""`sapwood run`: signals reach the command, its code comes back, and nothing is left, however it ended."""

import json
import os
import pty
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Sapwood

PATIENCE_S = 60


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Sapwood]:
    """A sapwood whose default store has a tree `main`, and which leaves no mount behind."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "hello").write_text("hello\n")
    (tree / "plain").write_text("not a program\n")
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    yield sapwood
    assert mounted_below(sapwood) == []


def mounted_below(run: Sapwood) -> list[str]:
    """Return the mount points of servers with this cache."""
    return [
        mount["path"] for mount in run.good("mounts", "--json").document if mount["address"].startswith(str(run.home))
    ]


def started(run: Sapwood, script: str) -> subprocess.Popen[str]:
    """Start `sapwood run main -- sh -c SCRIPT`, whose stdout can be read."""
    words = run.command("run", "main", "--", "sh", "-c", script)
    return subprocess.Popen(words, env=run.environment, stdout=subprocess.PIPE, text=True, cwd=run.home)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_the_command_reads_the_tree_at_its_argument_and_in_its_environment(run: Sapwood) -> None:
    said = run.good(
        "run", "main", "--", "sh", "-c", 'cat "$1/hello"; test "$1" = "$SAPWOOD_ROOT" && echo same', "sh", "{}"
    )
    assert said.out == "hello\nsame\n"
    assert said.err == ""


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_code_of_the_command_comes_back_and_its_mount_is_gone(run: Sapwood, script: str, code: int) -> None:
    said = run("run", "main", "--", "sh", "-c", f'echo "$SAPWOOD_ROOT"; {script}')
    assert said.code == code
    assert not Path(said.out.strip()).exists()


def test_a_command_that_cannot_be_run_says_so_as_a_shell_does(run: Sapwood) -> None:
    missing = run("run", "main", "--", "no-such-command")
    assert (missing.code, missing.err) == (127, "sapwood: no-such-command: No such file or directory\n")
    plain = run("run", "main", "--", "{}/plain")
    assert plain.code == 126
    assert plain.err.endswith("/plain: Permission denied\n")


def test_options_of_the_command_are_its_own(run: Sapwood) -> None:
    assert run.good("run", "main", "--", "echo", "--json", "-h").out == "--json -h\n"


def test_a_missing_ref_ends_before_anything_is_started(run: Sapwood) -> None:
    said = run("run", "mian", "--", "true")
    assert (said.code, said.out) == (3, "")
    assert said.err == f"sapwood: {run.store} has no ref mian\nhint: sapwood refs {run.store}\n"


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_passed_on_to_the_command(run: Sapwood, signo: signal.Signals) -> None:
    # It must not block: a signal that comes right before a shell's `read` does is seen when that ends.
    trap = f"trap 'echo caught; exit 9' {signo.name[3:]}; echo ready; while :; do :; done"
    with started(run, trap) as process:
        assert first_line(process) == "ready"
        process.send_signal(signo)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert (out, process.returncode) == ("caught\n", 9)


def test_ctrl_c_reaches_the_command_once(run: Sapwood) -> None:
    ours, theirs = pty.openpty()
    # It must not block before: see above.
    script = "trap 'echo caught; caught=1' INT; echo ready; until test $caught; do :; done; read -r _; exit 5"
    words = run.command("run", "main", "--", "sh", "-c", script)
    with subprocess.Popen(
        # A session of its own, with the terminal that it opens first.
        ["setsid", "--ctty", "--wait", *words], env=run.environment, stdin=theirs, stdout=theirs, stderr=theirs,
        cwd=run.home,
    ) as process:  # fmt: skip
        os.close(theirs)
        written = b""
        while b"ready" not in written:
            written += os.read(ours, 1000)
        os.write(ours, b"\x03")
        while b"caught" not in written:
            written += os.read(ours, 1000)
        os.write(ours, b"\n")
        process.wait(PATIENCE_S)
    with pytest.raises(OSError):  # the terminal has no other end any more
        while True:
            written += os.read(ours, 1000)
    os.close(ours)
    assert written.count(b"caught") == 1
    assert process.returncode == 5


def test_a_killed_run_takes_its_mount_along(run: Sapwood) -> None:
    os.mkfifo(run.home / "fifo")
    with started(run, 'echo "$SAPWOOD_ROOT"; read -r _ < fifo') as process:
        place = first_line(process)
        [mount] = [mount for mount in run.good("mounts", "--json").document if mount["path"] == place]
        server = os.pidfd_open(mount["pid"])
        process.kill()
        ended, _, _ = select.select([server], [], [], PATIENCE_S)
        os.close(server)
        (run.home / "fifo").write_text("\n")
    assert ended
    Path(place).rmdir()
    Path(place).parent.rmdir()


def test_statistics_say_what_was_read(run: Sapwood) -> None:
    run.good("run", "--stats", "stats.json", "main", "--", "cat", "{}/hello")
    stats = json.loads((run.home / "stats.json").read_text())
    assert (stats["files_read"], stats["bytes_read"]) == (1, 6)


def test_statistics_that_could_not_be_written_are_refused_before_anything_is_read(run: Sapwood) -> None:
    said = run("run", "--stats", "no/stats.json", "main", "--", "touch", "ran")
    assert (said.code, said.err) == (
        2,
        f"sapwood: --stats no/stats.json: there is no directory {run.home}/no\nhint: make it: mkdir -p {run.home}/no\n",
    )
    said = run("run", "--stats", ".", "main", "--", "touch", "ran")
    assert (said.code, said.err) == (2, "sapwood: --stats . is a directory\nhint: name a file to be written\n")
    assert not (run.home / "ran").exists()


def test_a_mount_in_the_background_stays_until_it_is_ended(run: Sapwood) -> None:
    place = run.home / "mnt"
    place.mkdir()
    shown = run.good("mount", "--json", "main", "mnt").document
    assert (shown["path"], shown["address"]) == (str(place), f"{run.store}#main")
    assert (place / "hello").read_text() == "hello\n"
    assert mounted_below(run) == [str(place)]
    assert f"{place}  {run.store}#main" in run.good("mounts").out
    server = os.pidfd_open(shown["pid"])
    run.good("umount", "mnt")
    ended, _, _ = select.select([server], [], [], PATIENCE_S)
    os.close(server)
    assert ended
    assert list(place.iterdir()) == []


def test_umount_cleans_up_after_a_server_that_was_killed(run: Sapwood) -> None:
    place = run.home / "mnt"
    place.mkdir()
    pid = run.good("mount", "--json", "main", place).document["pid"]
    server = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([server], [], [], PATIENCE_S)[0]
    os.close(server)
    run.good("umount", place)
    assert list(place.iterdir()) == []


def test_umount_of_what_is_no_mount_says_so(run: Sapwood) -> None:
    said = run("umount", run.home)
    assert said.code == 2
    assert said.err.startswith("sapwood: ")
    assert "not mounted" in said.err
