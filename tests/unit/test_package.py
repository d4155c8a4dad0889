"""The package as others see it: its version, its names, and what importing it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sapwood
import sapwood.mount
import sapwood.store
import sapwood.tree

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_is_that_of_the_crates() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert sapwood.__version__ == cargo["workspace"]["package"]["version"]


def test_every_exported_name_is_there_and_listed() -> None:
    for name in sapwood.__all__:
        assert getattr(sapwood, name) is not None
        assert name in dir(sapwood)


def test_importing_sapwood_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import sapwood; print(sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "['__future__', 'sapwood', 'sapwood.lazy']"


def test_starting_a_mount_loads_no_store_and_nothing_that_serves() -> None:
    code = "import sys; import sapwood.cli.run, sapwood.mount.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "sapwood.mount.process" in loaded
    assert not {"sapwood.store.address", "sapwood.store.store", "sapwood.mount.server", "obstore"} & {*loaded}


def test_what_runs_a_command_begins_its_mount_before_it_loads_much() -> None:
    code = "import sys; import sapwood.cli.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "sapwood.mount.begun" in loaded
    assert not {"argparse", "dataclasses", "json", "pathlib", "sapwood.mount.process", "tempfile", "typing"} & {*loaded}


def test_packages_export_what_they_list() -> None:
    for package in (sapwood.mount, sapwood.store):
        for name in package.__all__:
            assert getattr(package, name) is not None
            assert name in dir(package)
        with pytest.raises(AttributeError, match="nosuch"):
            package.nosuch  # noqa: B018


def test_trees_export_what_they_list() -> None:
    for name in sapwood.tree.__all__:
        assert getattr(sapwood.tree, name) is not None
