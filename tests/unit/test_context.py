"""`sapwood context`: what is pushed, and builders on it; the far side is a process of this machine, without ssh."""

from __future__ import annotations

import io
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sapwood.context.builders import Builders
from sapwood.context.far import serve
from sapwood.context.near import Far, FarObjects
from sapwood.context.pushing import Context, push_context
from sapwood.context.reach import far_command, keeping, reach
from sapwood.context.tidy import is_due
from sapwood.context.wire import MAGIC, Sending, read_message
from sapwood.errors import (
    CorruptError,
    FormatError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    UnavailableError,
)
from sapwood.places import contexts_store
from sapwood.store import Store, open_store
from sapwood.store.keys import ref_key
from sapwood.store.local import LocalObjects
from sapwood.store.ref import Ref
from tests.support.cli import Sapwood


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sapwood:
    """A sapwood beside a context `app`."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path / "cache"))
    # Nobody needs to look after the store today, while tests run.
    write(tmp_path, {"data/sapwood/contexts.tidied": "today"})
    write(tmp_path / "app", {"Dockerfile": "FROM scratch\n", "src/a": "a\n", "src/b": "b\n", "secret": "s\n"})
    (tmp_path / "app/.dockerignore").write_text("*\n!src\nsrc/b\n")
    return Sapwood(tmp_path)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_context_is_a_tar_of_what_docker_would_send_and_the_second_push_sends_what_changed(run: Sapwood) -> None:
    first = run.good("context", "push", "app", "main")
    tar = subprocess.run(run.command("tar", "main"), cwd=run.home, env=run.environment, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(tar.stdout)) as sent:
        names = {member.name.strip("./") for member in sent} - {""}
    assert names == {"dockerignore", "Dockerfile", "src", "src/a"}
    # Docker's command looks for one whole header, and what belongs to it, in so many bytes.
    assert (tar.stdout[156:157], tar.stdout[257:262], tar.stdout[1024 + 257 : 1024 + 262]) == (b"g", b"ustar", b"ustar")
    assert tarfile.TarInfo.frombuf(tar.stdout[:512], "utf-8", "strict").size <= 512
    assert first.out.startswith(f"{run.store}#main@sha256:")
    again = subprocess.run(run.command("tar", "main"), cwd=run.home, env=run.environment, capture_output=True)
    assert again.stdout == tar.stdout
    (run.home / "app/src/a").write_text("another\n")
    (run.home / "app/secret").write_text("another\n")
    told = run.good("context", "push", "--json", "app", "main").document
    assert (told["files"], told["unchanged"]) == (3, False)
    assert told["chunksSent"] == 2  # the file, and the page that names it
    assert run.good("context", "push", "--json", "app", "main").document["unchanged"]


def test_a_dockerfile_from_elsewhere_brings_its_own_rules_and_names_have_their_own_trees(run: Sapwood) -> None:
    write(run.home, {"other.Dockerfile": "FROM other\n", "other.Dockerfile.dockerignore": "src\n"})
    write(run.home, {"shared/x": "x\n", "shared/y": "y\n", "shared/.dockerignore": "y\n"})
    told = run.good(
        "context", "push", "-f", "other.Dockerfile", "--build-context", "shared=shared", "--json", "app", "main"
    ).document  # fmt: skip
    assert run.good("ls", "-R", "main").out.split() == [".dockerignore", "Dockerfile", "secret"]
    assert run.good("cat", told["dockerfile"], "Dockerfile").out == "FROM other\n"
    assert [one["name"] for one in told["contexts"]] == ["shared"]
    assert run.good("ls", "-R", told["contexts"][0]["address"]).out.split() == [".dockerignore", "x"]


def test_a_builder_here_finds_everything_at_the_words_that_stand_for_it(run: Sapwood) -> None:
    write(run.home, {"docker/Dockerfile": "FROM other\n", "shared/x": "x\n"})
    script = 'cat {}/src/a {dockerfile} {shared}/x; test "$SAPWOOD_ROOT" = {} && ! test -e {}/secret && exit 7'
    more = ["-f", "docker/Dockerfile", "--build-context", "shared=shared"]
    said = run("context", "build", "app", *more, "--", "sh", "-c", script)
    assert (said.code, said.out) == (7, "a\nFROM other\nx\n")
    assert run("context", "build", "app", "--", "/no/such").code == 127


def test_a_dockerfile_that_is_a_link_is_there_wherever_it_leads(run: Sapwood) -> None:
    write(run.home, {"docker/Dockerfile": "FROM outside\n", "app/ignored/Dockerfile": "FROM inside\n"})
    (run.home / "app/out").symlink_to("../docker/Dockerfile")
    (run.home / "app/Dockerfile").unlink()
    (run.home / "app/Dockerfile").symlink_to("ignored/Dockerfile")
    for more, said in (([], "FROM inside\n"), (["-f", "app/out"], "FROM outside\n")):
        assert run.good("context", "build", *more, "app", "--", "cat", "{dockerfile}").out == said
    assert run.good("context", "build", "app", "--", "cat", "{}/Dockerfile").out == "FROM inside\n"
    (run.home / "app/Dockerfile").unlink()
    (run.home / "app/Dockerfile").symlink_to("../docker/Dockerfile")
    assert run.good("context", "build", "app", "--", "cat", "{dockerfile}").out == "FROM outside\n"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["context", "build", "app"], "no command"),
        (["context", "build", "app", "--"], "no command"),
        (["context", "sing"], "context sing: no such action; there are push, build, tar\n"),
        (["context", "sing", "app"], "context sing: no such action; there are push, build, tar\n"),
        (["context", "--json", "sing", "app"], "context sing: no such action"),
        (["context", "build", "app", "--on", "http://x", "--", "true"], "not ssh://"),
        (["context", "build", "app", "--on", "ssh://-oProxyCommand=x", "--", "true"], "not ssh://"),
        (["context", "build", "-f", "store/x", "app", "--", "true", "{}"], "does not say {dockerfile}"),
        (["context", "build", "--build-context", "x=app", "app", "--", "true", "{}"], "does not say {x}"),
        (["context", "build", "--build-context", "dockerfile=app", "app", "--", "true", "{dockerfile}"], "that name"),
        (["context", "-f", "app/Dockerfile", "push", "app", "main"], "options come behind it"),
        (["context", "push", "--build-context", "x", "app", "main"], "not NAME=DIR"),
        (["context", "push", "--build-context", "x=a", "--build-context", "x=b", "app", "main"], "x was a before"),
        (["context", "push", "app", "main@sha256:" + "0" * 64], "pinned"),
    ],
)
def test_a_call_that_cannot_be_right_says_why(run: Sapwood, words: list[str], kind: str) -> None:
    said = run(*words)
    assert said.code == 2
    assert kind in said.err


def test_a_dockerfile_that_is_not_there_and_a_rule_file_that_is_none_end_the_push(run: Sapwood) -> None:
    said = run("context", "push", "-f", "nowhere", "app", "main")
    assert (said.code, "no such Dockerfile" in said.err) == (3, True)
    for words in (["push", "none", "main"], ["push", "--build-context", "a=none", "app", "main"]):
        said = run("context", *words)
        assert (said.code, said.err) == (3, "sapwood: none: no such directory\n")
    (run.home / "app/.dockerignore").unlink()
    (run.home / "app/.dockerignore").mkdir()
    with pytest.raises(InvalidInputError) as bad:
        Context(str(run.home / "app")).rules()
    assert bad.value.kind == "bad-dockerignore"
    (run.home / "app/.dockerignore").rmdir()
    (run.home / "app/.dockerignore").write_text("a\n" * (1 << 20))
    with pytest.raises(InvalidInputError, match="more than"):
        Context(str(run.home / "app")).rules()


@pytest.mark.parametrize(
    ("on", "words"),
    [
        ("ssh://host", ["--", "host"]),
        ("ssh://me@host:22/", ["-p", "22", "-l", "me", "--", "host"]),
        ("ssh://[::1]:2222", ["-p", "2222", "--", "::1"]),
        ("ssh://[fe80::1]", ["--", "fe80::1"]),
    ],
)
def test_a_machine_is_reached_as_ssh_knows_it(on: str, words: list[str]) -> None:
    command, name = far_command(on)
    assert command[-1 - len(words) : -1] == words
    assert name == on.rstrip("/")


@pytest.mark.parametrize(
    "on",
    [
        "host", "ssh:host", "ssh://", "ssh://@host", "ssh://me:secret@host", "ssh://-l@host", "ssh://host:", "ssh://host:x",
        "ssh://host:65536", "ssh://[::1", "ssh://[::1]22", "ssh://[]", "ssh://host/way", "ssh://a b",
    ],
)  # fmt: skip
def test_what_is_no_machine_is_refused(on: str) -> None:
    with pytest.raises(InvalidInputError) as bad:
        far_command(on)
    assert bad.value.kind == "bad-far"


@pytest.mark.parametrize(
    ("has", "cache", "is_kept"),
    [("", "cache", True), ("controlpath /their/%C", "cache", False), ("", "c" * 90, False)],
)
def test_ssh_keeps_the_connection_unless_its_configuration_says_how(
    monkeypatch: pytest.MonkeyPatch, has: str, cache: str, *, is_kept: bool
) -> None:
    with tempfile.TemporaryDirectory() as home:
        ssh = Path(home) / "ssh"
        ssh.write_text(f"#!/bin/sh\necho 'user me'\necho '{has}'\n")
        ssh.chmod(0o755)
        monkeypatch.setenv("SAPWOOD_CACHE", f"{home}/{cache}")
        command, name = far_command("ssh://host")
        command[0] = str(ssh)
        kept = keeping(command, name)
        assert kept[-3:] == ["--", "host", "sapwood context far"]
        assert (kept[1:3] == ["-S", f"{home}/{cache}/ssh/host"]) is is_kept
        assert (kept == command) is not is_kept


FAR = [sys.executable, "-m", "sapwood", "context", "far"]


@pytest.fixture
def far(run: Sapwood) -> Iterator[Far]:
    with Far(reach(FAR), "far://") as far:
        yield far


def test_the_store_of_another_machine_takes_a_context_and_the_next_push_asks_it_little(run: Sapwood, far: Far) -> None:
    objects = FarObjects(far)
    store = Store.over(objects, objects, objects)
    pushed = push_context(store, Context(str(run.home / "app")), "c")
    assert store.read_ref("c").snapshot == pushed.context.snapshot
    (run.home / "app/src/a").write_text("another\n")
    before = sum(objects.requests.so_far().values())
    store = Store.over(objects, objects, objects, ref="c")
    assert push_context(store, Context(str(run.home / "app")), "c").context.chunks_sent == 2
    assert sum(objects.requests.so_far().values()) - before <= 6


def test_every_request_means_what_it_does_in_a_store_here(far: Far) -> None:
    objects = FarObjects(far)
    assert not objects.is_empty()
    objects.reconnect()
    objects.put("packs/aa/x", b"0123456789")
    assert objects.get("packs/aa/x") == b"0123456789"
    assert objects.get_ranges("packs/aa/x", [(1, 2), (0, 0), (8, 2)]) == [b"12", b"", b"89"]
    assert objects.get_range("packs/aa/x", 3, 1) == b"3"
    assert objects.list("packs") == ["packs/aa/x"]
    assert [one.size for one in objects.listed("packs")] == [10]
    version = objects.swap("refs/x", b"1", None)
    assert objects.read_versioned("refs/x") == (b"1", version)
    with pytest.raises(SapwoodError) as lost:
        objects.swap("refs/x", b"2", None)
    assert lost.value.kind == "object-changed"
    objects.delete("packs/aa/x")
    assert not objects.exists("packs/aa/x")
    with pytest.raises(NotFoundError) as missing:
        objects.get("packs/aa/x")
    assert missing.value.kind == "object-missing"
    with pytest.raises(InvalidInputError) as unknown:
        far.ask({"do": "sing"})
    assert unknown.value.kind == "not-supported"
    with pytest.raises(InternalError) as nonsense:
        far.ask({"do": "get_ranges", "key": "packs/aa/x"})
    assert nonsense.value.kind == "internal"


def speaking(*said: bytes) -> list[str]:
    """Return a command that writes this and goes on until nobody speaks to it."""
    script = f"import sys; sys.stdout.buffer.write({b''.join(said)!r}); sys.stdout.flush(); sys.stdin.buffer.read()"
    return [sys.executable, "-c", script]


def message(head: object, body: bytes = b"") -> bytes:
    said = json.dumps(head).encode()
    return struct.pack(">II", len(said), len(body)) + said + body


@pytest.mark.parametrize(
    ("command", "kind", "kind_of_error"),
    [
        (["sh", "-c", "exit 127"], "far-without-sapwood", NotFoundError),
        (["sh", "-c", "exit 255"], "far-unreachable", UnavailableError),
        (["/no/such/ssh"], "far-unreachable", UnavailableError),
        (["true"], "far-lost", UnavailableError),
        (["sh", "-c", "exit 2"], "far-lost", UnavailableError),
        (speaking(b"Welcome!\n"), "wire-corrupt", CorruptError),
        (speaking(MAGIC, b"\xff" * 8), "wire-corrupt", CorruptError),
        (speaking(MAGIC, message([1])), "wire-corrupt", CorruptError),
        (speaking(MAGIC, message({"version": 1}), message({"id": [1]})), "wire-corrupt", CorruptError),
        (speaking(MAGIC, struct.pack(">II", 100_000, 0), b"[" * 100_000), "wire-corrupt", CorruptError),
        (speaking(MAGIC, message({"version": None, "versions": [7, 9], "program": "9"})), "far-version", FormatError),
    ],
)  # fmt: skip
def test_a_far_side_that_is_none_is_a_clear_word_and_no_wait(
    command: list[str], kind: str, kind_of_error: type[SapwoodError]
) -> None:
    with pytest.raises(kind_of_error) as error, Far(reach(command), "far://") as far:
        far.ask({"do": "get", "key": "sapwood.json"})
    assert error.value.kind == kind


def test_who_reads_no_more_of_what_a_builder_says_ends_it(run: Sapwood) -> None:
    words = run.command("context", "build", "app", "--on", "ssh://host", "--", "sh", "-c", "echo $$; exec yes")
    (run.home / "ssh").write_text(f"#!/bin/sh\nexec {' '.join(FAR)}\n")
    (run.home / "ssh").chmod(0o755)
    environment = {**run.environment, "PATH": f"{run.home}:{os.environ['PATH']}"}
    with subprocess.Popen(words, cwd=run.home, env=environment, stdout=subprocess.PIPE) as near:
        assert near.stdout is not None
        builder = os.pidfd_open(int(near.stdout.readline()))
        near.stdout.close()
        assert near.wait(60) == 141
    try:
        assert select.select([builder], [], [], 60)[0]
    finally:
        os.close(builder)


def test_a_near_side_that_is_newer_is_told_so(tmp_path: Path) -> None:
    out = io.BytesIO()
    said = io.BytesIO()
    Sending(said).send({"versions": [7, 9]})
    said.seek(0)
    with Builders(["false"]) as builders:
        serve(LocalObjects(tmp_path), said, out, builders)
    out.seek(len(MAGIC))
    answer = read_message(out)
    assert answer is not None
    assert (answer[0]["version"], answer[0]["versions"]) == (None, [1, 1])


def test_nobody_speaks_to_the_far_side_by_hand(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as bad, Builders(["false"]) as builders:
        serve(LocalObjects(tmp_path), io.BytesIO(b"hello"), io.BytesIO(), builders)
    assert bad.value.kind == "bad-usage"


@pytest.mark.parametrize("how", ["the connection ends", "the far side is killed"])
def test_a_builder_ends_when_the_connection_does(run: Sapwood, how: str) -> None:
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    with ExitStack() as ending:
        far = ending.enter_context(Far(reach(FAR), "far://"))
        objects = FarObjects(far)
        pushed = push_context(Store.over(objects, objects, objects), Context(str(run.home / "app")), "c").context
        places, argv = [["{}", f"c@{pushed.snapshot}", ""]], ["sh", "-c", "echo $$; sleep 999"]
        build = {"do": "build", "places": places, "argv": argv}
        errors: queue.SimpleQueue[str] = queue.SimpleQueue()

        def wait() -> None:
            with pytest.raises(UnavailableError) as lost:
                far.ask(build, stream=lambda _, data: heard.put(os.pidfd_open(int(data))))
            errors.put(lost.value.kind)

        waiting = threading.Thread(target=wait)
        waiting.start()
        builder = heard.get(timeout=60)
        if how == "the far side is killed":
            os.kill(far._process.pid, signal.SIGKILL)
        else:
            ending.close()
        assert errors.get(timeout=60) == "far-lost"
        waiting.join()
    try:
        assert select.select([builder], [], [], 60)[0]
    finally:
        os.close(builder)


class _CutAfterAPack(FarObjects):
    """The store of a machine whose connection is cut when the first pack has arrived."""

    def __init__(self, far: Far) -> None:
        super().__init__(far)
        self._process = far._process

    def put(self, key: str, data: bytes | memoryview) -> None:
        super().put(key, data)
        if len(data) > 1 << 20:
            self._process.kill()


def test_a_push_that_was_cut_leaves_nothing_half_made_and_the_next_sends_the_rest(run: Sapwood) -> None:
    context = Context(str(run.home / "large"))
    (run.home / "large").mkdir()
    for number in range(6):
        (run.home / f"large/{number}").write_bytes(os.urandom(8 << 20))
    with pytest.raises(SapwoodError) as lost, Far(reach(FAR), "far://") as far:
        cut = _CutAfterAPack(far)
        push_context(Store.over(cut, cut, cut), context, "c")
    assert lost.value.kind == "far-lost"
    with Far(reach(FAR), "far://") as far:
        objects = FarObjects(far)
        store = Store.over(objects, objects, objects)
        assert store.ref_state("c") is None
        pushed = push_context(store, context, "c").context
    assert pushed.bytes_stored < pushed.bytes - (8 << 20)


def test_a_builder_runs_on_what_it_was_told_last_though_something_else_was_mounted_for_it(run: Sapwood) -> None:
    heard: list[bytes] = []
    script = 'read places; echo "$places" >> told; read argv; echo "$places $argv"; exit 3'
    with Builders(["sh", "-c", f"cd {run.home}; {script}"]) as builders:
        builders.mount(b"one")
        builders.mount(b"two")
        assert builders.run(b"two", b"go", lambda _, data: heard.append(data)) == 3
        assert builders.run(b"three", b"on", lambda _, data: heard.append(data)) == 3
    assert heard == [b"two go\n", b"three on\n"]
    assert builders.run(b"four", b"late", lambda _, data: heard.append(data)) == 128 + signal.SIGTERM
    # The first may have begun to mount before it was ended.
    assert [told for told in (run.home / "told").read_text().split() if told != "one"] == ["two", "three"]


def test_a_builder_that_leaves_a_process_behind_has_ended_all_the_same() -> None:
    heard: list[bytes] = []
    with Builders(["sh", "-c", "read places; read argv; setsid sleep 999 & echo $!; exit 3"]) as builders:
        assert builders.run(b"one", b"go", lambda _, data: heard.append(data)) == 3
    os.kill(int(b"".join(heard)), signal.SIGKILL)


def test_a_name_is_not_written_after_what_it_names_was_not(far: Far) -> None:
    objects = FarObjects(far)
    objects.put("packs/" + "x" * 300, b"a name that is too long")
    with pytest.raises(SapwoodError):
        objects.swap("refs/x", b"1", None)
    assert not objects.exists("refs/x")


def test_a_ref_that_is_not_as_it_was_seen_is_read_again(run: Sapwood, far: Far) -> None:
    context = Context(str(run.home / "app"))
    objects = FarObjects(far)
    push_context(Store.over(objects, objects, objects), context, "c")
    supposing = FarObjects(far, {"refs/c.ref": b"what it was long ago"})
    assert supposing.read_versioned("refs/c.ref")[0] == b"what it was long ago"
    assert supposing.read_versioned("refs/c.ref") == objects.read_versioned("refs/c.ref")


def test_the_store_of_contexts_forgets_what_nobody_builds_from(run: Sapwood) -> None:
    url = contexts_store()
    for name in ("old", "kept"):
        write(run.home, {f"{name}/Dockerfile": f"FROM {name}\n"})
        assert run("context", "build", name, "--", "true").code == 0
    store = open_store(url)
    old, kept = (next(ref for ref in store.refs() if source_of(store, ref).endswith(name)) for name in ("old", "kept"))
    os.utime(f"{url}/{ref_key(old.name)}", (0, 0))
    os.utime(f"{url}/{ref_key(kept.name)}", (0, 0))
    write(run.home, {"kept/Dockerfile": "FROM scratch\n"})
    assert run("context", "build", "kept", "--", "true").code == 0
    assert run("context", "build", "kept", "--", "true").code == 0
    os.utime(f"{url}.tidied", (0, 0))
    assert is_due(url)
    run.good("context", "tidy")
    assert not is_due(url)
    run.good("context", "tidy")
    assert [ref.name for ref in store.refs()] == [kept.name]
    assert len(list(store.history(store.read_ref(kept.name)))) == 1


def source_of(store: Store, ref: Ref) -> str:
    return store.read_snapshot(ref.snapshot).source


def test_two_builds_of_one_context_at_once_both_run_on_a_whole_one(run: Sapwood) -> None:
    words = run.command("context", "build", "app", "--", "cat", "{}/src/a")
    both = [
        subprocess.Popen(words, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [(one.communicate(timeout=100)[0], one.returncode) for one in both] == [("a\n", 0)] * 2


def test_one_tar_has_a_dockerfile_from_elsewhere_and_hides_it_by_the_rules_that_count(run: Sapwood) -> None:
    write(run.home, {"other.Dockerfile": "FROM other\n", "none/a": "a\n"})

    def sent(folder: str) -> dict[str, str]:
        words = run.command(
            "context", "tar", *run.good("context", "push", "-f", "other.Dockerfile", folder, "main").out.split()
        )
        first, again = (
            subprocess.run(words, cwd=run.home, env=run.environment, capture_output=True, check=True).stdout
            for _ in range(2)
        )
        assert first == again
        assert first[156:157] == b"g"
        with tarfile.open(fileobj=io.BytesIO(first)) as tar:
            files = [member for member in tar if member.isreg()]
            assert len(files) == len({member.name.removeprefix("./") for member in files})
            contents = {member.name.removeprefix("./"): tar.extractfile(member) for member in files}
            return {name: content.read().decode() for name, content in contents.items() if content}

    told = sent("app")
    assert told.pop(".dockerfile.sapwood") == "FROM other\n"
    # DIR's Dockerfile is a file as any, which these rules leave out.
    assert told == {".dockerignore": "*\n!src\nsrc/b\n\n.dockerfile.sapwood\n", "src/a": "a\n"}
    write(run.home, {"other.Dockerfile.dockerignore": "src\n"})
    told = sent("app")
    assert told[".dockerignore"] == "src\n\n.dockerfile.sapwood\n"
    assert set(told) == {".dockerfile.sapwood", ".dockerignore", "Dockerfile", "secret"}
    # What DIR has not, COPY does not see.
    assert sent("none")[".dockerignore"] == "src\n\n.dockerignore\n.dockerfile.sapwood\n"
    (run.home / "other.Dockerfile.dockerignore").unlink()
    assert sent("none")[".dockerignore"] == "\n.dockerignore\n.dockerfile.sapwood\n"
    said = run("context", "tar", "main", "main")
    assert (said.code, "main: no Dockerfile is in it\nhint: " in said.err) == (3, True), said.err


def test_rules_of_a_dockerfile_of_its_own_are_where_a_builder_looks_for_them(run: Sapwood) -> None:
    write(run.home, {"other.Dockerfile": "FROM other\n", "other.Dockerfile.dockerignore": "src\n"})
    write(run.home / "app/docker", {"Dockerfile": "FROM inside\n", "Dockerfile.dockerignore": "docker\nsecret\n"})
    told = run.good("context", "push", "-f", "other.Dockerfile", "--json", "app", "main").document
    assert run.good("cat", told["dockerfile"], "Dockerfile.dockerignore").out == "src\n"
    run.good("context", "push", "-f", "app/docker/Dockerfile", "app", "main")
    names = run.good("ls", "-R", "main").out.split()
    assert "docker/Dockerfile.dockerignore" in names
    assert "secret" not in names


def test_rules_are_found_by_links_to_them_and_to_their_directory(run: Sapwood) -> None:
    write(run.home, {"other.Dockerfile": "FROM other\n", "outside": "secret\n"})
    (run.home / "link").symlink_to("app")
    run.good("context", "push", "link", "main")
    assert set(run.good("ls", "main").out.split()) == {".dockerignore", "Dockerfile", "src"}
    rules = run.home / "app/.dockerignore"
    rules.rename(run.home / "app/rules")
    rules.symlink_to("rules")
    run.good("context", "push", "app", "main")
    assert set(run.good("ls", "main").out.split()) == {".dockerignore", "Dockerfile", "rules", "src"}
    # One that leads elsewhere a builder finds nowhere but in the one tar, or beside the Dockerfile.
    rules.unlink()
    rules.symlink_to("../outside")
    addresses = run.good("context", "push", "-f", "other.Dockerfile", "app", "main").out.split()
    assert run.good("cat", addresses[1], "Dockerfile.dockerignore").out == "secret\n"
    words = run.command("context", "tar", *addresses)
    done = subprocess.run(words, cwd=run.home, env=run.environment, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        said = tar.extractfile(".dockerignore")
        assert said is not None
        assert said.read() == b"secret\n\n.dockerfile.sapwood\n"
        assert "secret" not in tar.getnames()
