"""What the documents show is what works."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from sapwood.cli.main import modules

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for line in README.splitlines() if line.startswith("sapwood ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_can_be_called_so(line: str) -> None:
    _, name, *words = shlex.split(re.split(r" {2,}", line)[0])
    command = import_module(f"sapwood.cli.{modules()[name]}").COMMANDS[name]
    assert command.parser(name, "summary").parse_args(words)


def test_the_tour_has_ten_lines() -> None:
    [tour] = re.findall(r"^## A tour.*?```\n(.*?)^```", README, re.S | re.M)
    assert len(tour.splitlines()) == 10


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "tool").write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
    exec(example.replace("/srv/trees", str(tmp_path / "trees")), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("sha256:")
    assert said[1:] == ["b'tool' 10"]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_between_documents_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        # The page of figures is written by `make bench`.
        assert (ROOT / page).parent.joinpath(target).exists() or target == "docs/benchmarks.md"
