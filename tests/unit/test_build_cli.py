"""`sapwood build` and `sapwood cache` as people call them."""

import io
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sapwood.build import derivation
from sapwood.cli.build import COMMANDS
from sapwood.cli.telling import Talking
from sapwood.errors import UnavailableError
from tests.support.building import nap, who_takes
from tests.support.cli import Sapwood

BUILD = """
from sapwood.build import derivation

lib = derivation("lib", "echo hears; cat src/a src/b >lib", sources=["src"], outputs=["lib"], env={"X": "1"})
app = derivation("app", "cp in/lib app", deps={"in": lib}, outputs=["app"])
"""

# Says on stderr when the core has begun with something that takes a while.
TOLD = """
import sys
from sapwood.build.builder import Builder
from sapwood.cli.main import main
def telling(go_on):
    def told(self, progress=None):
        if progress and progress.bytes_done:
            print("busy", file=sys.stderr, flush=True)
        go_on(self, progress)
    return told
Builder._go_on, Builder._go_on_storing = telling(Builder._go_on), telling(Builder._go_on_storing)
sys.exit(main())
"""


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("a\n")
    (tmp_path / "src" / "b").write_text("b\n")
    (tmp_path / "BUILD.py").write_text(BUILD)
    return Sapwood(tmp_path)


def test_stdout_is_where_the_outputs_are_and_stderr_what_happens(run):
    said = run.good("build", ".:app")
    assert said.out.startswith(f"{run.store}#build/app@sha256:")
    lines = said.err.splitlines()
    assert lines[:3] == ["builds  lib", "lib> hears", lines[2]]
    assert lines[2].startswith("built   lib in ")
    assert lines[-1].startswith("2 derivations: 2 built, 0 known")
    assert run.good("cat", said.out.strip(), "app").out == "a\nb\n"
    again = run.good("build", "BUILD.py:app")
    assert again.out == said.out
    assert again.err.startswith("2 derivations: 0 built, 2 known")


def test_an_output_is_run_and_mounted_as_any_tree_is(run):
    """Also without where it was built: from the store alone."""
    script = "printf '#!/bin/sh\\necho $(cat $(dirname $0)/a) $1\\n' >tool/run; chmod 755 tool/run; echo made >tool/a"
    words = f"derivation('tool', {f'mkdir tool; {script}'!r}, outputs=['tool'])"
    (run.home / "BUILD.py").write_text(f"from sapwood.build import derivation\ntool = {words}\n")
    address = run.good("build", ".").out.strip()
    shutil.rmtree(run.cache)
    assert run.good("run", address, "--", "{}/tool/run", "here").out == "made here\n"


def test_why_names_the_part_of_the_key_and_the_files_that_differ(run):
    assert "never built from this file" in run.good("build", "why", ".:lib").out
    run.good("build", ".")
    assert run.good("build", "why", ".:lib").out == "lib: nothing differs from the last build\n"
    (run.home / "src" / "b").write_text("other\n")
    (run.home / "src" / "c").write_text("new\n")
    lines = run.good("build", "why", ".:lib").out.splitlines()
    assert lines[0] == "lib: these differ from the last build:"
    assert lines[1].startswith("  source src: sha256:")
    assert lines[2:] == ["    b", "    c"]
    assert run.good("build", "why", ".:app").out == "app: what it needs has to be built first\n"
    run.good("build", ".")
    assert (
        "app: nothing differs from the last build, in which these did:\n  dep lib:" in run.good("build", "why", ".").out
    )
    (run.home / "BUILD.py").write_text(BUILD.replace('"1"', '"2"').replace("hears", "hears more"))
    lines = run.good("build", "why", ".:lib").out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["  command", "  env X"]
    assert lines[2] == "  env X: 1 -> 2"


def test_why_names_inputs_that_are_gone_and_tells_nothing_from_an_empty_word(run):
    run.good("build", ".")
    (run.home / "BUILD.py").write_text(
        """from sapwood.build import derivation
lib = derivation("lib", "true", sources={"other": "src"}, outputs=["lib"], env={"X": "", "Y": ""})
"""
    )
    lines = run.good("build", "why", ".:lib").out.splitlines()
    assert [line.partition(": ")[0] for line in lines[2:]] == ["  env X", "  env Y", "  source src", "  input src"]
    assert lines[2:4] == ["  env X: 1 -> ''", "  env Y: none -> ''"]
    assert lines[-1].endswith(" -> none")


def test_what_a_build_file_prints_is_talk(run):
    (run.home / "BUILD.py").write_text("print('hello')\n" + BUILD)
    said = run.good("build", "--json", ".")
    assert said.document["derivations"] == 2
    assert said.err.startswith("hello\n")


def test_an_empty_word_is_not_the_default_store(run):
    for words in (["build", ".", "--store", ""], ["cache", "--store", ""], ["build", "defaults", "--store", ""]):
        assert run(*words).code == 2
    assert not run.store.exists()


def test_why_says_that_a_build_that_failed_has_no_result(run):
    (run.home / "BUILD.py").write_text(
        "from sapwood.build import derivation\none = derivation('one', 'exit 1', outputs=['out'])\n"
    )
    assert run("build", ".").code == 2
    said = run.good("build", "why", ".").out
    assert said == "one: nothing differs from the last build, of which there is no result\n"


def test_show_outputs_and_graph_build_nothing(run):
    assert run.good("build", "outputs", ".:lib").out == "lib: not built\n"
    shown = run.good("build", "show", ".").out
    assert "app: its key is not known before what it needs is built\n" in shown
    assert "  env      X=1\n" in shown
    assert "  needs    lib\n" in shown
    assert '"app" -> "lib"' in run.good("build", "graph", ".").out
    assert not list((run.home / "cache" / "builds").glob("outputs/*"))
    assert run.good("cache").out == "kept on this machine: 0 B\n0 of 0 were known, which saved 0.00 s\n"
    assert not run.store.exists()
    run.good("build", ".")
    assert run.good("build", "outputs", ".:lib").out.splitlines()[1].startswith("  lib sha256:")
    assert "rounded,filled" in run.good("build", "graph", "--store", run.store, ".").out
    assert "<svg" in run.good("build", "graph", "--svg", ".").out


def test_svg_without_graphviz_says_what_to_install(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as missing:
        COMMANDS["build"].main("build", "x", ["graph", "--svg", str(run.home)])
    assert (missing.value.kind, missing.value.hint) == ("graphviz-missing", "apt-get install graphviz")


def test_without_the_extra_it_says_what_to_install(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "sapwood.build.builder", raising=False)
    monkeypatch.setitem(sys.modules, "sapwood.build.action", None)
    with pytest.raises(UnavailableError) as missing:
        COMMANDS["build"].main("build", "x", ["show", str(run.home)])
    assert (missing.value.kind, missing.value.hint) == ("grpc-missing", "pip install 'sapwood[build]'")


def test_what_is_said_without_an_end_of_a_line_is_shown_and_not_gathered(capsys):
    one = derivation("one", "true", outputs=["x"])
    talking = Talking(quiet=False, silent=False)
    for _ in range(64):
        talking.said(one, b"x" * 8192)
        assert sum(map(len, talking._rest.values())) <= 32 << 10
    talking.said(one, b"y\n")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("one> ") for line in lines)
    assert "".join(line.removeprefix("one> ") for line in lines) == "x" * (64 * 8192) + "y"


def test_threads_that_tell_of_servers_outlive_who_reads_stderr(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb", buffering=0) as closed:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(closed, write_through=True))
        Talking(quiet=False, silent=False).told("a server is away")
        with pytest.raises(BrokenPipeError):
            Talking(quiet=False, silent=False).begun(derivation("one", "true", outputs=["x"]))


def test_a_failure_is_shown_with_its_log(run):
    (run.home / "BUILD.py").write_text(BUILD.replace("echo hears;", "echo hears; echo why >&2; exit 3;"))
    said = run("build", "--quiet", "--keep-failed", ".")
    assert said.code == 2
    lines = said.err.splitlines()
    assert lines[:3] == ["builds  lib", "lib> hears", "lib> why"]
    assert lines[3].startswith("failed  lib; its directory: ")
    assert lines[4] == "sapwood: derivation lib: its command ended with 3"
    assert Path(lines[5].removeprefix("hint: read ")).read_text() == "hears\nwhy\n"


def test_what_builds_into_a_store_do_by_default_can_be_said_and_set(run):
    run.good("init", run.store)
    assert run.good("build", "defaults").out == "lazy: yes\n"
    assert run.good("build", "defaults", "--no-lazy").out == "lazy: no\n"
    assert (run.store / "builds.json").read_text() == '{"format":1,"lazy":false}'
    run.good("build", ".")
    (run.store / "builds.json").write_text('{"format":1,"lazy":0}')
    run.good("build", ".")  # in which nothing is built
    (run.home / "src" / "b").write_text("other\n")
    failed = run("build", ".")
    assert failed.code == 5
    assert "hint: sapwood build defaults --store" in failed.err
    assert run.good("build", "defaults", "--lazy").out == "lazy: yes\n"
    run.good("build", ".")


def test_check_builds_again_and_names_what_differs(run):
    run.good("build", "--check", ".")
    (run.home / "BUILD.py").write_text(BUILD.replace("cp in/lib app", "head -c 9 /dev/urandom >app"))
    said = run("build", "--check", ".")
    assert said.code == 2
    assert "sapwood: derivation app makes something else each time: app" in said.err


def test_the_cache_counts_results_and_what_they_saved(run):
    run.good("build", ".")
    run.good("build", ".")
    lines = run.good("cache").out.splitlines()
    assert lines[0] == f"{run.store}: 2 results; 2 names, whose outputs have 8 B"
    assert lines[1] == "kept on this machine: 8 B"
    assert lines[2].startswith("2 of 4 were known, 50 %, which saved ")


def test_a_number_of_builders_that_is_none_is_refused(run):
    assert run("build", "--jobs", "0", ".").err.splitlines()[-1] == "hint: --jobs 4"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_no_builder_and_the_next_one_no_rest(run, number):
    command = nap()
    (run.home / "BUILD.py").write_text(
        f"from sapwood.build import derivation\nd = derivation('d', 'echo runs; exec {command}')\n"
    )
    with subprocess.Popen(
        run.command("build", "."), cwd=run.home, env=run.environment, stderr=subprocess.PIPE, text=True
    ) as build:
        assert build.stderr is not None
        while build.stderr.readline() != "d> runs\n":
            pass
        while not (found := who_takes(command)):
            pass
        build.send_signal(number)
        assert build.wait() == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    for builder in found:
        _await_end(builder)
    scratch = run.home / "cache" / "builds" / "scratch"
    assert bool(list(scratch.iterdir())) == (number == signal.SIGKILL)
    (run.home / "BUILD.py").write_text("from sapwood.build import derivation\nd = derivation('d', 'true')\n")
    run.good("build", ".")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("stage", ["hashing", "storing"])
def test_a_build_that_is_stopped_does_not_finish_hashing_or_storing_first(run, stage):
    """8 TB take an hour; what ends within the time limit of a test has been stopped."""
    size = 8 << 40
    if stage == "hashing":
        with (run.home / "src" / "large").open("wb") as file:
            file.truncate(size)
        words = "'true', sources=['src/large']"
    else:
        words = f"'truncate -s {size} out; echo made', outputs=['out']"
    (run.home / "BUILD.py").write_text(f"from sapwood.build import derivation\none = derivation('one', {words})\n")
    with subprocess.Popen(
        [sys.executable, "-c", TOLD, "build", "."],
        cwd=run.home,
        env=run.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as build:
        assert build.stderr is not None
        while build.stderr.readline() != "busy\n":
            pass
        build.send_signal(signal.SIGINT)
        build.stderr.read()
        assert build.wait() == 130
    assert list((run.cache / "builds" / "scratch").iterdir()) == []


def _await_end(pid: int) -> None:
    """Wait until a process that is no child of ours is gone; the test's own time limit bounds it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [])
    os.close(descriptor)
