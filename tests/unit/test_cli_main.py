"""Finding commands: help, version, usage, completion, and what each costs."""

import argparse
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sapwood
from sapwood.cli.main import modules, summaries
from tests.support.cli import Said, Sapwood


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


def test_version(run: Sapwood) -> None:
    said = run("--version")
    assert (said.code, said.out, said.err) == (0, f"sapwood {sapwood.__version__}\n", "")


def test_version_loads_nothing_heavy() -> None:
    code = "import sys; from sapwood.cli.main import main; main(['--version']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"argparse", "rich", "obstore", "asyncio", "json", "importlib.metadata", "sapwood._core"} & set(loaded)


# What takes longer to import than a small tree to hash: docs/decisions/0008-start-up.md.
HEAVY = {"argparse", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib", "inspect"}
HEAVY |= {"importlib.metadata", "json", "locale", "obstore", "pathlib", "re", "rich", "shutil", "socket", "subprocess"}
HEAVY |= {"tempfile", "typing", "urllib", "urllib.parse"}


@pytest.mark.parametrize("words", [["hash"], ["status"], ["hash", "--index=state"], ["status", "--index", "state"]])
def test_hash_and_status_load_nothing_heavy(run: Sapwood, words: list[str]) -> None:
    # What the interpreter itself has loaded, a virtual environment's site among it, does not count.
    code = "import sys; before = set(sys.modules)\nfrom sapwood.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
    code += "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    (run.home / "tree").mkdir()
    said = subprocess.run(
        [sys.executable, "-c", code, *words, "tree"],
        cwd=run.home, env=run.environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    loaded = said.stderr.splitlines()[-1].split()
    assert "sapwood.tree.index" in loaded
    assert not HEAVY & set(loaded)
    assert not {"sapwood.tree.tree", "sapwood.store", "sapwood.digests"} & set(loaded)


def test_help_lists_every_command_and_every_exit_code(run: Sapwood) -> None:
    said = run("--help")
    assert said.code == 0
    for name, summary in summaries().items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", said.out, re.M)
    documented = Path("docs/cli.md").read_text(encoding="utf-8")
    codes = re.findall(r"^\| (\d+) \|", documented, re.M)
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "70", "130", "141"]
    for code in codes:
        assert re.search(rf"\b{code}\b", said.out.partition("Exit codes:")[2])


@pytest.mark.parametrize("name", modules())
def test_each_command_explains_itself_with_examples(run: Sapwood, name: str) -> None:
    said = run(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"usage: sapwood {name}")
    assert "sapwood" in said.out.partition("examples:")[2]
    assert all(len(line) <= 120 for line in said.out.splitlines())


def test_the_modules_define_the_commands_of_the_table() -> None:
    table = modules()
    for module in set(table.values()):
        defined = import_module(f"sapwood.cli.{module}").COMMANDS
        assert set(defined) == {name for name, home in table.items() if home == module}


# Words -> what is said on stderr; the exit code is 2.
USAGE = {
    ("pusch",): "sapwood: no command 'pusch'\nhint: sapwood push\n",
    ("xyzzy",): "sapwood: no command 'xyzzy'\nhint: sapwood --help\n",
    ("push",): "sapwood: push: the following arguments are required: TREE, ADDRESS\nhint: sapwood push --help\n",
    ("hash", ".", "--jsn"): "sapwood: hash: unrecognized arguments: --jsn\nhint: sapwood hash --help\n",
    ("run", "a.tar"): "sapwood: run: no command\nhint: sapwood run a.tar -- ls {}\n",
    ("log", "main", "-n", "-1"): "sapwood: log: -n -1: less than nothing\n",
    ("push", ".", "main@sha256:" + "0" * 64): (
        "sapwood: {store}#main@sha256:"
        + "0" * 64
        + ": a push moves a ref, and this address is pinned to one snapshot\n"
        "hint: sapwood push . {store}#main\n"
    ),
    ("pull", "/srv/trees", "x"): ("sapwood: /srv/trees: names a place but no ref in it\nhint: /srv/trees#main\n"),
    ("pull", "a..b/../c", "x"): (
        "sapwood: 'a..b/../c' cannot be a ref's name\n"
        "hint: 1 to 200 of A-Z a-z 0-9 . _ - in parts separated by /; no part is . or .. or ends in .ref\n"
    ),
    ("refs", "{home}"): (
        "sapwood: {home}: not a store: there is no sapwood.json\n"
        "hint: name a store; an empty place becomes one by: sapwood init {home}\n"
    ),
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_a_call_that_cannot_be_right_says_so_in_a_line_and_a_hint(run: Sapwood, words: tuple[str, ...]) -> None:
    names = {"store": run.store, "home": run.home}
    said = run(*(word.replace("{home}", str(run.home)) for word in words))
    assert (said.code, said.out) == (2, "")
    expected = USAGE[words]
    for name, value in names.items():
        expected = expected.replace(f"{{{name}}}", str(value))
    assert said.err == expected


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_knows_every_command_and_option(run: Sapwood, shell: str) -> None:
    script = run.good("completion", shell).out
    for name, module in modules().items():
        parser: argparse.ArgumentParser = import_module(f"sapwood.cli.{module}").COMMANDS[name].parser(name, "x")
        assert name in script
        for action in parser._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in script


def test_bash_completes_commands_and_options(run: Sapwood) -> None:
    script = run.good("completion", "bash").out
    ask = 'COMP_WORDS=({}); COMP_CWORD={}; _sapwood; echo "${{COMPREPLY[@]}}"\n'
    asked = script + ask.format("sapwood pu", 1) + ask.format("sapwood push --sk", 2)
    said = subprocess.run(["bash", "-c", asked], check=True, capture_output=True, text=True)
    assert said.stdout.splitlines() == ["push pull", "--skip-unreadable"]


def test_a_reader_that_goes_away_ends_the_command_quietly(run: Sapwood) -> None:
    script = '"$@" | true; echo "${PIPESTATUS[0]}"'
    said = subprocess.run(
        ["bash", "-c", script, "bash", *run.command("completion", "zsh")],
        env=run.environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stderr == ""
    assert said.stdout.strip() in ("141", "0")


def with_streams(run: Sapwood, redirections: str, *words: str) -> Said:
    """Run a command from a shell that redirects its streams."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirections}', "sh", *run.command(*words)],
        cwd=run.home, env=run.environment, capture_output=True, text=True,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("closed", [">&-", ">&- <&-"])
def test_a_closed_stdout_is_an_error_before_anything_is_done(run: Sapwood, closed: str) -> None:
    said = with_streams(run, closed, "push", ".", "main")
    assert said == Said(2, "", "sapwood: stdout is closed\nhint: send it to /dev/null instead\n")
    assert list(run.home.iterdir()) == []


def test_a_closed_stderr_sends_no_talk_to_stdout_nor_into_files(run: Sapwood) -> None:
    (run.home / "tree").mkdir()
    digest = run.good("hash", "tree").out
    assert with_streams(run, "2>&-", "hash", "--index", "state", "tree") == Said(0, digest, "")
    assert with_streams(run, "2>&-", "status", "missing") == Said(3, "", "")
    assert run.good("hash", "--json", "--index", "state", "tree").document["filesHashed"] == 0


def test_a_full_disk_under_stdout_is_said(run: Sapwood) -> None:
    said = with_streams(run, ">/dev/full", "--help")
    assert said == Said(6, "", "sapwood: No space left on device\n")
