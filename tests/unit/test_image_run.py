"""Programs run in images: what the image says is what runs, and it changes nothing that it was not given."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tarfile
import threading
import time
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import ConflictError, InvalidInputError
from sapwood.oci.program import Program, User, program_of, user_of
from sapwood.oci.sandbox import Bind, held
from tests.support.badserver import send
from tests.support.cli import Sapwood
from tests.support.fakeregistry import registry
from tests.support.images import Image, Layer, digest, gzipped, stargz
from tests.support.peers import free_port
from tests.support.programs import busybox

PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = b"root:x:0:\napp:x:1001:\nmore:x:50:app,other\n"


def owned(name: str, uid: int, mode: int = 0o700) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.uid, info.gid, info.mode = tarfile.DIRTYPE, uid, uid, mode
    return info


@pytest.fixture(scope="module")
def base() -> Layer:
    """Busybox, and two users' places."""
    places = {
        "etc": None,
        "root": None,
        "tmp": owned("tmp", 0, 0o1777),
        "home": None,
        "home/app": owned("home/app", 1000),
    }
    return stargz(busybox("sh", "cat", "id", "ls", "touch", "sleep", "grep", "env") | places)


def layout(place: Path, base: Layer, **config: Any) -> str:
    files = gzipped({"etc/passwd": PASSWD, "etc/group": GROUP, "etc/said": b"by the image\n"})
    return f"oci:{Image(base, files, **config).layout(place)}"


def test_a_program_of_root_changes_nothing_of_the_kernel(base: Layer, tmp_path: Path) -> None:
    image = layout(tmp_path / "image", base, Env=["PATH=/bin"])
    # Opened, and nothing written.
    said = Sapwood(tmp_path)("run", image, "--", "sh", "-c", "id -u; : >>/proc/sys/kernel/core_pattern")
    assert said.out == "0\n", said.err
    assert "Read-only file system" in said.err


def test_what_the_image_says_is_what_runs(base: Layer, tmp_path: Path) -> None:
    address = layout(
        tmp_path / "image",
        base,
        Entrypoint=["/bin/sh", "-c"],
        Cmd=["echo $GREETING; pwd; id -u; cat /etc/said; ls -d /data /proc/1; ls /proc | grep -c '^[0-9]'; echo $HOME"],
        Env=["PATH=/bin", "GREETING=hello world"],
        WorkingDir="/work/here",
        Volumes={"/data": {}},
    )
    said = Sapwood(tmp_path)("run", address)
    assert said.code == 0, said.err
    *lines, processes, home = said.out.splitlines()
    assert lines == ["hello world", "/work/here", "0", "by the image", "/data", "/proc/1"]
    assert int(processes) < 10, "no process but its own"
    assert home == "/root"


def test_an_image_of_a_store_runs_as_it_does_where_it_lies(base: Layer, tmp_path: Path) -> None:
    config = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING; id -u; cat /etc/said; ls -a / | grep wh; pwd"]}
    address = layout(
        tmp_path / "image", base, **config, Env=["PATH=/bin", "GREETING=hello"], User="1000", WorkingDir="/tmp"
    )
    run = Sapwood(tmp_path)
    run.good("push", address, "it")
    said = run("run", "it")
    assert (said.code, said.out) == (0, "hello\n1000\nby the image\n/tmp\n"), said.err
    # With another command, and changes that stay; and without the store, as it was then.
    said = run("run", "--keep", "kept", "it", "--", "echo more >> /tmp/new; cat /tmp/new; exit 7")
    assert (said.code, said.out) == (7, "more\n"), said.err
    # What is kept of what it says is proved.
    [config] = run.cache.glob("trees/*.config")
    config.write_bytes(config.read_bytes().replace(b"hello", b"other"))
    assert run.good("run", "it").out.startswith("hello\n")
    run.store.rename(tmp_path / "away")
    said = run("run", "--offline", "--keep", "kept", "it", "--", "cat /tmp/new")
    assert (said.code, said.out) == (0, "more\n"), said.err
    assert str(tmp_path) not in run.good("mounts").out


def test_who_traces_an_image_of_a_store_hears_that_it_is_not_run_in_it(base: Layer, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", layout(tmp_path / "image", base), "it")
    said = run.good("trace", "it", "--", "cat", "{}/etc/said")
    assert said.out == "by the image\n"
    assert "is an image: cat runs on its tree, not in it\n" in said.err


def test_a_tree_of_a_store_runs_as_no_image(base: Layer, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", layout(tmp_path / "image", base, Cmd=["/bin/true"]), "it")
    (tmp_path / "tree").mkdir()
    run.good("push", "tree", "tree")
    for words, why in {
        ("run", "tree"): "no command",
        ("run", "--net", "tree", "--", "true"): "is no image",
        ("run", "--keep", "kept", "tree", "--", "true"): "is no image",
        ("run", "--writable", "it"): "takes changes as it is",
    }.items():
        said = run(*words)
        assert (said.code, why in said.err) == (2, True), said.err
    assert str(tmp_path) not in run.good("mounts").out


def test_what_to_run_is_asked_for_while_layers_are_opened(base: Layer, tmp_path: Path) -> None:
    made = Image(base, Cmd=["/bin/sh", "-c", "echo it ran"])
    opening = threading.Event()

    def first(handler: BaseHTTPRequestHandler) -> bool:
        if base.digest in handler.path:
            opening.set()
        # Who waits for its reply before he opens a layer waits in vain.
        if digest(made.config) in handler.path and not opening.wait(60):
            send(handler, 404)
            return True
        return False

    with registry() as fake:
        fake.add(made, "1")
        fake.first = first
        said = Sapwood(tmp_path)("run", f"oci://{fake.host}/some/name:1")
    assert (said.code, said.out) == (0, "it ran\n"), said.err


def test_what_is_changed_is_thrown_away_or_kept(base: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))  # where others mount nothing
    command = ["--", "sh", "-c", "cat /new /etc/said; echo more >> /new; echo changed > /etc/said; exit 7"]
    assert run("run", address, *command).out == "by the image\n"
    said = run("run", address, *command)
    assert (said.code, said.out) == (7, "by the image\n")
    assert "/new" in said.err
    assert run("run", "--keep", "kept", address, *command).out == "by the image\n"
    assert run("run", "--keep", "kept", address, *command).out == "more\nchanged\n"
    assert (tmp_path / "kept" / "upper" / "new").read_text() == "more\nmore\n"
    with held(tmp_path / "kept"):
        busy = run("run", "--keep", "kept", address, *command)
        assert (busy.code, "the changes of another run are kept there" in busy.err) == (4, True)
        with pytest.raises(ConflictError) as caught, held(tmp_path / "kept"):
            pass
        assert caught.value.kind == "keep-busy"
    assert os.listdir(tmp_path / "scratch") == []


@pytest.mark.parametrize("is_image", [True, False])
def test_what_a_killed_run_left_the_next_one_clears_away(
    base: Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_image: bool
) -> None:
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    if not is_image:
        (tmp_path / "tree").mkdir()
        run.good("push", "tree", address := "main")
    command = run.command("run", address, "--", "sh", "-c", "echo ready; read line")
    with ExitStack() as ending:
        started = [
            ending.enter_context(
                subprocess.Popen(command, env=run.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for _ in range(2)
        ]
        for process in started:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
        killed, living = started
        [left] = [name for name in scratch.iterdir() if is_of(killed.pid, name)]
        killed.kill()
        killed.wait(60)
        while f" {left}/tree " in Path("/proc/self/mountinfo").read_text():
            time.sleep(0.05)  # its server ends with it, and takes the mount along
        others = set(scratch.iterdir()) - {left}
        assert len(others) == 1
        for place in scratch.iterdir():
            os.utime(place, (1, 1))
        run.good("run", address, "--", "sh", "-c", "true")
        assert set(scratch.iterdir()) == others
        assert living.stdin
        living.stdin.close()
        assert living.wait(60) == 1
    assert os.listdir(scratch) == []


def is_of(pid: int, place: Path) -> bool:
    """Say whether a process has a directory open, as that which it holds."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(one))
    return str(place) in found


def test_nothing_of_this_machine_is_seen_but_what_is_bound(base: Layer, tmp_path: Path) -> None:
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_text("bound\n")
    binds = ["--bind", "data:/data", "--bind", f"{tmp_path}/data:/fixed:ro"]
    words = f"cat /data/in; echo out > /data/out; echo no > /fixed/no; ls -d {tmp_path}; env | grep -c SAPWOOD; true"
    said = run("run", *binds, address, "--", "sh", "-c", words)
    assert (said.code, said.out) == (0, "bound\n0\n"), said.err
    assert "Read-only file system" in said.err
    assert sorted(os.listdir(tmp_path / "data")) == ["in", "out"]
    network = ["sh", "-c", "cat /proc/net/dev | grep -vc -e '|' -e lo:; true"]
    assert run("run", address, "--", *network).out == "0\n"
    which = ["ls", "-l", "/proc/self/ns/net"]
    ours = f" -> {os.readlink('/proc/self/ns/net')}\n"
    assert [run("run", *more, address, "--", *which).out.endswith(ours) for more in ((), ("--net",))] == [False, True]


def test_links_of_an_image_lead_nowhere_else(tmp_path: Path, base: Layer) -> None:
    (tmp_path / "outside").mkdir()
    links = {"out": f"-> /oldroot{tmp_path}/outside", "var/run": "-> /run", "a": "-> b", "b": "-> a"}
    links |= {"etc/resolv.conf": "-> ../run/resolve/stub.conf", "proc": "-> run/../../processes"}
    address = f"oci:{Image(base, gzipped(links), Env=['PATH=/bin']).layout(tmp_path / 'image')}"
    run = Sapwood(tmp_path)
    (tmp_path / "data").write_text("bound\n")
    binds = ["--bind", "data:/out/made", "--bind", "data:/var/run/made:ro"]
    words = "cat /out/made /run/made && ls /proc/self/fd /processes/sys/kernel >/dev/null && cat /etc/resolv.conf"
    said = run("run", "--net", *binds, address, "--", "sh", "-c", words)
    assert said.code == 0, said.err
    assert said.out == "bound\n" * 2 + Path("/etc/resolv.conf").read_text()
    assert os.listdir(tmp_path / "outside") == []
    said = run("run", "--bind", "data:/a/made", address, "--", "true")
    assert (said.code, "lead in circles" in said.err) == (2, True), said.err


def test_it_runs_as_whom_the_image_says(base: Layer, tmp_path: Path) -> None:
    address = layout(tmp_path / "image", base, Env=["PATH=/bin"], User="app")
    words = "id -u; id -g; echo $HOME; touch /home/app/mine && ls /home/app; touch /etc/x"
    said = Sapwood(tmp_path)("run", address, "--", "sh", "-c", words)
    # Who is no root has one user, to whom all belongs that is root's.
    seen = "mine\n" if os.geteuid() == 0 else ""
    assert said.out == f"1000\n1001\n/home/app\n{seen}"
    assert ("/etc/x: Permission denied" in said.err) == (os.geteuid() == 0), said.err


def test_signals_reach_the_program(base: Layer, tmp_path: Path) -> None:
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    words = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        run.command("run", address, "--", "sh", "-c", words), env=run.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert (process.stdout.read(), process.wait(60)) == ("told\n", 5)


def test_ctrl_c_ends_the_program_and_the_run_of_it(base: Layer, tmp_path: Path) -> None:
    """A terminal tells all of the group at once: no thread of ours may take what tells of the program's end."""
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    command = run.command("run", address, "--", "sh", "-c", "echo ready; while :; do :; done")
    for _ in range(3):
        with subprocess.Popen(
            command, env=run.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, signal.SIGINT)
            try:
                assert process.wait(60) == 130
            finally:
                process.kill()


def test_an_ordinary_user_runs_images_too(base: Layer, tmp_path: Path) -> None:
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    words = "id -u; cat /etc/said; echo new > /new && cat /new; echo x > /etc/said && cat /etc/said"
    # Without any capability, as whoever is no root.
    as_user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    command = [*as_user, *run.command("run", address, "--", "sh", "-c", words)]
    said = subprocess.run(command, env=run.environment, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout) == (0, "0\nby the image\nnew\nx\n"), said.stderr


def test_a_mount_ends_that_was_there_when_a_program_began(base: Layer, tmp_path: Path) -> None:
    """Its mounts are a copy of all that there were: one that stayed would keep the server, and what it has open."""
    address, run = layout(tmp_path / "image", base, Env=["PATH=/bin"]), Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    run.good("push", tmp_path / "tree", "main")
    shared = tmp_path / "shared"
    (shared / "mnt").mkdir(parents=True)
    subprocess.run(["mount", "--bind", shared, shared], check=True)
    try:
        # As all of a machine is under systemd.
        subprocess.run(["mount", "--make-shared", shared], check=True)
        server = os.pidfd_open(run.good("mount", "--json", "main", shared / "mnt").document["pid"])
        with subprocess.Popen(
            run.command("run", address, "--", "sh", "-c", "echo ready; cat"),
            env=run.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            run.good("umount", shared / "mnt")
            has_ended, _, _ = select.select([server], [], [], 60)
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(60) == 0
        os.close(server)
        assert has_ended
    finally:
        subprocess.run(["umount", "--lazy", "--recursive", shared], check=True)


def test_what_is_no_program_gives_the_codes_that_a_shell_gives(base: Layer, tmp_path: Path) -> None:
    address, run = layout(tmp_path / "image", base, Env=["PATH=/none:/bin"], WorkingDir="/etc"), Sapwood(tmp_path)
    for words, code, found in (
        (["nothing"], 127, "nothing: No such file"),
        (["/bin/nothing"], 127, "/bin/nothing: No such file"),
        (["/etc/said"], 126, "/etc/said: Permission denied"),
        (["./said"], 126, "./said: Permission denied"),
        (["/tmp"], 126, "/tmp: Permission denied"),
        (["sh", "-c", "exit 1"], 1, ""),
        (["sh", "-c", "nothing"], 127, "nothing: not found"),
    ):
        said = run("run", address, "--", *words)
        assert (said.code, found in said.err) == (code, True), (words, said)


def test_what_cannot_be_run_is_refused_with_a_remedy(base: Layer, tmp_path: Path) -> None:
    address, run = layout(tmp_path / "image", base, User="stranger"), Sapwood(tmp_path)
    for words, found in (
        (["run", address], "does not say what to run"),
        (["run", address, "--", "sh"], "as user stranger, which it has not"),
        (["run", "--writable", address, "--", "sh"], "takes changes as it is"),
        (["run", "--bind", "nowhere:/x", address, "--", "sh"], "nowhere is not there"),
        (["run", "--bind", "x", address, "--", "sh"], "no HERE:/THERE"),
        (["run", "--net", "a.tar", "--", "sh"], "a.tar is no image"),
    ):
        said = run(*words)
        assert (said.code, found in said.err) == (2, True), said.err


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": "sh"}, {"Cmd": [7]}, {"Entrypoint": ["a\0b"]}, {"User": 7, "Cmd": ["x"]}, {"Env": [1], "Cmd": ["x"]},
        {"Cmd": ["x"], "WorkingDir": "a\0"}, {"Cmd": ["\ud800"]}, {"Env": ["A=\udc80"], "Cmd": ["x"]},
        {"Cmd": ["x"], "WorkingDir": "\ud800"}, {"Cmd": ["x"], "Volumes": {"\ud800": {}}},
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        program_of({"config": config}, [], "it")
    assert caught.value.kind == "not-supported"


def test_a_program_is_what_its_configuration_says() -> None:
    said = {
        "Entrypoint": ["a"],
        "Cmd": ["b"],
        "Env": ["X=1=2", "odd", "=no"],
        "WorkingDir": "../../x",
        "Volumes": {"/v/..": {}},
    }
    made = program_of({"config": said}, [], "it")
    assert made == Program(("a", "b"), {"PATH": made.environment["PATH"], "X": "1=2"}, "", "/x", ("/",))
    assert program_of({"config": said}, ["c"], "it").command == ("a", "c")


def test_users_are_found_in_the_image_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(PASSWD + b"nobody:x:1:1::/a\0b:/\nlong:x:" + b"9" * 5000 + b":0:::\n")
    (tmp_path / "etc" / "group").write_bytes(GROUP)
    assert user_of("", tmp_path, "it") == User(0, 0, (), "/root")
    assert user_of("app", tmp_path, "it") == User(1000, 1001, (50,), "/home/app")
    assert user_of("1000:more", tmp_path, "it") == User(1000, 50, (), "/home/app")
    assert user_of("4:5", tmp_path, "it") == User(4, 5, (), "/")
    for text in ("nobody", "app:none", "-1", "4294967296", "9" * 5000, "long"):
        with pytest.raises(InvalidInputError):
            user_of(text, tmp_path, "it")
    (tmp_path / "etc" / "passwd").unlink()
    (tmp_path / "etc" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInputError):
        user_of("nobody", tmp_path, "it")


def test_a_bind_is_two_paths(tmp_path: Path) -> None:
    assert Bind.parse(f"{tmp_path}:/a/../b:ro") == Bind(str(tmp_path), "/b", is_readonly=True)


def test_an_image_that_ran_once_runs_offline(base: Layer, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    # Nobody else listens there later.
    with registry(port=free_port()) as fake:
        fake.add(Image(base, Env=["PATH=/bin"], Cmd=["sh", "-c", "echo here"]), "latest")
        address = f"oci://{fake.host}/some/name:latest"
        missing = run("run", "--offline", address)
        assert (missing.code, missing.err.count("nothing of it is kept here")) == (3, 1), missing.err
        assert run("run", address).out == "here\n"
    said = run("run", "--offline", address)
    assert (said.code, said.out) == (0, "here\n"), said.err
    again = run("run", address)
    assert (again.code, again.out) == (0, "here\n")
    assert "the connection was refused" in again.err
