"""Contexts, built by real builders, here and behind a real sshd."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.cli import Said, Sapwood
from tests.support.sshd import sshd


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with sshd(tmp_path_factory.mktemp("machine")) as found:
        yield found


class Near(Sapwood):
    """A sapwood whose ssh gets into the machine."""

    ssh: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PATH": f"{self.ssh}:{os.environ['PATH']}"}


@pytest.fixture
def run(machine: tuple[str, Path], tmp_path: Path) -> Near:
    near = Near(tmp_path)
    near.ssh = machine[1]
    app = tmp_path / "app"
    (app / "files/deep").mkdir(parents=True)
    (app / "files/deep/kept").write_text("kept")
    (app / "files/secret").write_text("secret")
    (app / "other").write_text("other")
    (app / ".dockerignore").write_text("*\n!files\nfiles/secret\n")
    (app / "Dockerfile").write_text("FROM scratch\nCOPY . /all\n")
    return near


def bud(run: Near) -> list[str]:
    """Return the command that builds what it is told, without touching anything of this machine."""
    storage = ["--root", str(run.home / "root"), "--runroot", str(run.home / "runroot"), "--storage-driver", "vfs"]
    return ["buildah", *storage, "bud", "--quiet", "--isolation", "chroot"]


def content(run: Near, image: str) -> set[str]:
    """Return the files of an image."""
    storage = bud(run)[:-4]

    def said(*words: str) -> str:
        return subprocess.run(
            [*storage, *words], capture_output=True, text=True, check=True, timeout=100
        ).stdout.strip()

    container = said("from", "--pull-never", image)
    root = Path(said("mount", container))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_buildah_builds_elsewhere_of_a_mounted_context_what_it_builds_of_the_tar_here(
    run: Near, machine: tuple[str, Path]
) -> None:
    said = run("context", "build", "app", "--on", machine[0], "--", *bud(run), "-t", "mounted", "{}")
    assert said.code == 0, said
    run.good("context", "push", "app", "main")
    # Compressed is how kaniko takes it, which no registry has.
    for name, through in (("sent", "cat"), ("compressed", "gzip")):
        tar = subprocess.Popen(run.command("tar", "main"), cwd=run.home, env=run.environment, stdout=subprocess.PIPE)
        with subprocess.Popen([through], stdin=tar.stdout, stdout=subprocess.PIPE) as given:
            subprocess.run(
                [*bud(run), "-t", name, "-"], stdin=given.stdout, check=True, timeout=100, capture_output=True
            )
        assert tar.wait(60) == 0
    for name in ("mounted", "sent", "compressed"):
        assert content(run, f"localhost/{name}") == {"all/files/deep/kept"}


def test_builders_take_a_dockerfile_from_elsewhere_in_the_tar_and_obey_its_own_rules(run: Near) -> None:
    (run.home / "other.Dockerfile").write_text("FROM scratch\nCOPY . /other\n")
    (run.home / "other.Dockerfile.dockerignore").write_text("**/secret\n")
    addresses = run.good("context", "push", "-f", "other.Dockerfile", "app", "main").out.split()
    sent = {"other/Dockerfile", "other/files/deep/kept", "other/other", "other/.dockerignore"}
    # Podman takes no runroot with a longer name.
    with tempfile.TemporaryDirectory() as short:
        podman = ["podman", "--root", str(run.home / "root"), "--runroot", f"{short}/r", "--tmpdir", f"{short}/t"]
        podman += ["--storage-driver", "vfs", "build", "--quiet", "--isolation", "chroot"]
        for name, builder in (("buildah", bud(run)), ("podman", podman)):
            words = run.command("context", "tar", *addresses)
            tar = subprocess.Popen(words, cwd=run.home, env=run.environment, stdout=subprocess.PIPE)
            build = [*builder, "-t", name, "-f", ".dockerfile.sapwood", "-"]
            done = subprocess.run(build, stdin=tar.stdout, timeout=100, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert tar.wait(60) == 0
            assert content(run, f"localhost/{name}") == sent
    mounted = [*bud(run), "-t", "mounted", "-f", "{dockerfile}", "{}"]
    assert run("context", "build", "-f", "other.Dockerfile", "app", "--", *mounted).code == 0
    assert content(run, "localhost/mounted") == sent


def test_output_and_code_come_back_and_the_second_build_sends_what_changed(
    run: Near, machine: tuple[str, Path]
) -> None:
    def build() -> Said:
        script = "cat {}/files/deep/kept; echo no >&2; exit 9"
        return run("context", "build", "app", "--on", machine[0], "--", "sh", "-c", script)

    first = build()
    assert (first.code, first.out) == (9, "kept"), first
    assert first.err.endswith("no\n")
    (run.home / "app/files/deep/kept").write_text("changed")
    second = build()
    assert (second.code, second.out) == (9, "changed"), second
    assert "sent:    2 chunks" in second.err


def test_the_second_build_needs_no_new_connection(run: Near, machine: tuple[str, Path]) -> None:
    words = run.command("context", "build", "app", "--on", machine[0], "--", "cat", "{}/files/deep/kept")
    # A socket's name has little room.
    with tempfile.TemporaryDirectory() as cache:
        environment = {**run.environment, "SAPWOOD_CACHE": cache}

        def build() -> str:
            done = subprocess.run(words, cwd=run.home, env=environment, stdout=subprocess.PIPE, timeout=100, text=True)
            return done.stdout

        assert build() == "kept"
        key = machine[1] / "key"
        key.rename(machine[1] / "lost")
        try:
            assert build() == "kept"
        finally:
            (machine[1] / "lost").rename(key)
            name = machine[0].removeprefix("ssh://")
            ssh = [machine[1] / "ssh", "-S", f"{cache}/ssh/{name}", "-O", "exit", "machine"]
            subprocess.run(ssh, check=True, capture_output=True, timeout=60)


def test_when_we_are_killed_the_builder_there_ends(run: Near, machine: tuple[str, Path]) -> None:
    words = run.command("context", "build", "app", "--on", machine[0], "--", "sh", "-c", "echo $$; exec sleep 999")
    with subprocess.Popen(words, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) as near:
        assert near.stdout is not None
        builder = os.pidfd_open(int(near.stdout.readline()))
        near.send_signal(signal.SIGINT)
        assert near.wait(60) == 130
    assert select.select([builder], [], [], 60)[0]
    os.close(builder)


def test_when_ssh_is_killed_the_builder_there_ends_and_the_next_build_runs(
    run: Near, machine: tuple[str, Path]
) -> None:
    words = run.command("context", "build", "app", "--on", machine[0], "--", "sh", "-c", "echo $$; exec sleep 999")
    with subprocess.Popen(words, cwd=run.home, env=run.environment, stdout=-1, stderr=-1, text=True) as near:
        assert near.stdout is not None
        builder = os.pidfd_open(int(near.stdout.readline()))
        for child in Path(f"/proc/{near.pid}/task/{near.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # another one, which has ended meanwhile
                if Path(f"/proc/{child}/comm").read_text() == "ssh\n":
                    os.kill(int(child), signal.SIGKILL)
        _, said = near.communicate(timeout=60)
        assert (near.returncode, "the connection ended" in said) == (6, True), said
    assert select.select([builder], [], [], 60)[0]
    os.close(builder)
    assert run("context", "build", "app", "--on", machine[0], "--", "cat", "{}/files/deep/kept").out == "kept"


def test_a_machine_that_lets_nobody_in_is_a_clear_word(run: Near) -> None:
    said = run("context", "build", "app", "--on", "ssh://127.0.0.1:1", "--", "true")
    assert said.code == 6
    assert "ssh gets no connection" in said.err
