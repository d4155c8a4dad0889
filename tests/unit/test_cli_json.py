"""Every JSON document has the fields that docs/cli.md lists, and no others."""

import json
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sapwood.cli.main import modules
from tests.support.cli import Sapwood, document_of
from tests.support.images import Image, gzipped
from tests.support.watching import PatientSapwood

ROW = re.compile(r"^\| ([a-z -]+) \| (object|list) \| (.*) \|$", re.M)
DOCUMENTED = {
    command: (shape, set(re.findall(r"`(\w+)`", fields)))
    for command, shape, fields in ROW.findall(Path("docs/cli.md").read_text(encoding="utf-8"))
}
# What is appended to the command for a document with something in it, and spoils nothing for the others.
ARGUMENTS = {
    "hash": ["tree"],
    "status": ["tree"],
    "watch": ["place"],
    "watch --list": [],
    "index": ["tree.tar"],
    "index verify": ["tree"],
    "index show": ["tree/a"],
    "push": ["tree", "another"],
    "pull": ["main", "copy"],
    "cp": ["main", "another-store"],
    "pack": ["tree", "tree.tar.gz"],
    "convert": ["tree.tar", "converted.tar.gz"],
    "tar": ["main", "-o", "back.tar"],
    "init": ["new-store"],
    "ls": ["main"],
    "diff": ["tree", "main"],
    "refs": [],
    "log": ["main"],
    "tag": ["main", "v1"],
    "rm": ["old"],
    "forget": ["--keep-last", "1"],
    "gc": ["--dry-run"],
    "stats": [],
    "verify": [],
    "repair": [],
    "recover": ["store"],
    "trace": ["main", "--", "true"],
    "coverage": ["main"],
    "optimize": ["main"],
    "slim": ["--profile", "read", "oci:image", "oci:slim"],
    "context": ["tree", "another-context"],
    "build": ["BUILD.py"],
    "build show": ["BUILD.py"],
    "build why": ["BUILD.py"],
    "build outputs": ["BUILD.py"],
    "build defaults": [],
    "cache": [],
    "mount": ["main", "place"],
    "mounts": [],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sapwood]:
    """A sapwood with a tree that was pushed, mounted, and then changed while it is watched."""
    tmp_path = tmp_path_factory.mktemp("json")
    run = PatientSapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a\n")
    (tmp_path / "tree" / "link").symlink_to("a")
    with tarfile.open(tmp_path / "tree.tar", "w") as tar:
        tar.add(tmp_path / "tree", ".")
    (tmp_path / "place").mkdir()
    (tmp_path / "mounted").mkdir()
    (tmp_path / "BUILD.py").write_text(
        "from sapwood.build import derivation\nd = derivation('d', 'cp tree/a b', sources=['tree'], outputs=['b'])\n"
    )
    run.good("push", "tree", "main")
    run.good("tag", "main", "old")
    run.good("mount", "main", "mounted")
    run.good("trace", "main", "--", "cat", "{}/a")
    run.good("trace", "--out", "read", "main", "--", "cat", "{}/a")
    Image(gzipped({"a": b"a\n", "b": b"b\n"})).layout(tmp_path / "image")
    run.good("watch", "tree")
    (tmp_path / "tree" / "new").write_text("")
    yield run
    run.good("watch", "--stop", "tree")
    run.good("umount", "mounted")


def assert_documented(command: str, document: Any) -> None:
    shape, fields = DOCUMENTED[command]
    assert isinstance(document, dict if shape == "object" else list)
    for each in [document] if shape == "object" else document:
        assert set(each) == fields
        if "requests" in fields:
            assert each["requests"] == sum(each["requestsByVerb"].values()) > 0
    assert document


@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_document_has_the_fields_that_are_documented(run: Sapwood, command: str) -> None:
    words = [*command.split(), *(["push"] if command == "context" else [])]
    said = run(*words, "--json", *ARGUMENTS[command])
    assert (said.code, said.err) == (1 if command == "diff" else 0, "")
    if command in ("mount", "watch"):
        run.good(*{"mount": ["umount"], "watch": ["watch", "--stop"]}[command], "place")
    assert_documented(command, said.document)


def test_a_mount_in_the_foreground_says_so_as_documented(run: Sapwood) -> None:
    words = run.command("mount", "--foreground", "--json", "main", "place")
    with subprocess.Popen(words, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "}\n")
        document = json.loads("".join(lines) + "}")
        server.send_signal(signal.SIGTERM)
    assert_documented("mount --foreground", document)


def test_a_worker_says_what_is_documented_and_ends_when_it_is_asked_to_though_nobody_answers(run: Sapwood) -> None:
    command = run.command("worker", "--json", "--scheduler", "grpc://127.0.0.1:9", "--jobs", "2")
    with subprocess.Popen(command, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) as worker:
        document = document_of(worker)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert (document["cas"], document["jobs"], document["lazy"]) == ("grpc://127.0.0.1:9", 2, True)
    assert_documented("worker", document)


def test_every_command_that_has_json_is_documented() -> None:
    able = set()
    for name, module in modules().items():
        help_of = import_module(f"sapwood.cli.{module}").COMMANDS[name].parser(name, "x").format_help()
        if "--json" in help_of:
            able.add(name)
    assert {command.split()[0] for command in DOCUMENTED} == able
    assert set(ARGUMENTS) | {"mount --foreground", "serve", "worker"} == set(DOCUMENTED)
