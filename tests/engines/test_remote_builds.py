"""`sapwood build --executor` on servers of others: the same keys and outputs as here, and nothing moved twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood.build import Derivation, derivation
from sapwood.build.builder import Built
from sapwood.build.remote import Executor
from sapwood.build.remoteresult import RemoteResult
from sapwood.build.results import Result
from sapwood.build.signing import Signer, Trusted
from sapwood.errors import InvalidInputError
from sapwood.reapi.cas import Cas
from tests.support.building import Heard, Place
from tests.support.cli import Sapwood
from tests.support.executors import casd
from tests.support.sshkeys import make_key


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with casd(tmp_path_factory.mktemp("casd")) as url:
        yield Executor(url)


def place_in(home: Path) -> Place:
    place = Place(home)
    (place.sources / "in").mkdir(parents=True)
    (place.sources / "in" / "a").write_text("hello\n")
    (place.sources / "in" / "run").write_text("#!/bin/sh\necho ran\n")
    (place.sources / "in" / "run").chmod(0o755)
    (place.sources / "in" / "link").symlink_to("a")
    return place


def graph(place: Place, salt: str) -> tuple[Derivation, Derivation]:
    made = derivation(
        "made",
        "mkdir -p d/e; tr a-z A-Z <in/link >d/e/f; ln -s f d/e/l; in/run >d/ran; cp in/run prog;"
        " echo said; echo too >&2",
        sources=["in"],
        outputs=["d", "prog"],
        env={"SALT": salt},
        base=place.sources,
    )
    used = derivation(
        "used",
        "mkdir out; cat dep/d/e/l dep/d/ran >out/all; dep/prog >>out/all;"
        " head -c 5000000 /dev/zero >out/large; cp one o",
        deps={"dep": made, "one": made.output("prog")},
        sources={"again": "in"},
        outputs=["out", "o"],
        base=place.sources,
    )
    return made, used


def outputs(built: Built, name: str) -> dict[str, Any]:
    nodes = built.made[name].result.outputs
    return {path: (node.kind, node.digest, node.size, node.executable, node.target) for path, node in nodes.items()}


def test_it_makes_under_the_same_keys_what_is_made_here(tmp_path: Path, executor: Executor) -> None:
    there, here = place_in(tmp_path / "there"), place_in(tmp_path / "here")
    heard = Heard()
    remote = there.build(graph(there, "same")[1], executor=executor, listener=heard)
    local = here.build(graph(here, "same")[1])
    assert heard.names == ["made", "used"]
    assert heard.words == b"said\ntoo\n"
    for name in ("made", "used"):
        assert remote.made[name].result.action == local.made[name].result.action
        assert outputs(remote, name) == outputs(local, name)
    assert there.read(remote, "used", b"out/all") == b"HELLO\nran\nran\n"
    assert there.read(remote, "used", b"out/large") == bytes(5_000_000)
    # What was a target is in the store now; what was not stayed where it was made.
    assert isinstance(remote.made["made"].result, RemoteResult)
    assert [ref.name for ref in there.store().refs()] == ["build/used"]
    again = there.build(graph(there, "same")[1])
    assert [made.is_hit for made in again.made.values()] == [False, True]


def test_what_another_has_built_is_found_and_only_what_is_a_target_is_read(
    tmp_path: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = place_in(tmp_path / "first"), place_in(tmp_path / "second")
    first.build(graph(first, "found")[1], executor=executor)
    read: list[Any] = []
    read_small = Cas.read_small
    monkeypatch.setattr(Cas, "read_small", lambda self, names: read.extend(names) or read_small(self, names))
    monkeypatch.setattr(Cas, "give", lambda *_: pytest.fail("it has all of that"))
    heard = Heard()
    built = second.build(graph(second, "found")[1], executor=executor, listener=heard)
    assert heard.names == []
    assert built.hits == 2
    result = built.made["used"].stored
    [of_made] = [node for path, node in built.made["made"].result.outputs.items() if path == "prog"]
    assert result.outputs["out"].blob in read
    assert {name for name in read if name == of_made.blob} <= {result.outputs["o"].blob}
    # Now it is in the store, and the server is asked for nothing.
    read.clear()
    monkeypatch.setattr(Cas, "read", lambda *_: pytest.fail("it is here"))
    assert second.build(graph(second, "found")[1], executor=executor).hits == 2
    assert read == []


def test_its_own_cache_is_not_asked_where_results_need_signatures(tmp_path: Path, executor: Executor) -> None:
    first, second = place_in(tmp_path / "first"), place_in(tmp_path / "second")
    first.build(graph(first, "wary")[1], executor=executor)
    trusted = Trusted(make_key(tmp_path / "key"))
    signer = Signer(tmp_path / "key")
    heard = Heard()
    built = second.build(graph(second, "wary")[1], executor=executor, listener=heard, trusted=trusted, signer=signer)
    assert heard.names == ["made", "used"]
    assert built.hits == 0
    assert second.builder(graph(second, "wary")[1], trusted=trusted).results.find(
        built.made["used"].result.action, ("o", "out")
    )


def test_what_lies_in_the_store_is_sent_from_there(tmp_path: Path, executor: Executor) -> None:
    place = place_in(tmp_path)
    made, used = graph(place, "from the store")
    place.build(made)
    built = place.build(used, executor=executor)
    assert built.made["made"].is_hit
    assert isinstance(built.made["made"].result, Result)
    assert place.read(built, "used", b"out/all") == b"HELLO\nran\nran\n"


def test_a_builder_that_fails_there_has_failed_and_is_built_again(tmp_path: Path, executor: Executor) -> None:
    place = place_in(tmp_path)
    fails = derivation("fails", "echo why; exit 7", sources=["in"], outputs=["x"], base=place.sources)
    for _ in range(2):
        heard = Heard()
        with pytest.raises(InvalidInputError) as failed:
            place.build(fails, executor=executor, listener=heard)
        assert (failed.value.kind, failed.value.code) == ("build-failed", 7)
        assert heard.words == b"why\n"
    lacks = derivation("lacks", "true", sources=["in"], outputs=["x"], base=place.sources)
    with pytest.raises(InvalidInputError) as failed:
        place.build(lacks, executor=executor)
    assert failed.value.kind == "output-missing"


def test_checking_builds_there_again(tmp_path: Path, executor: Executor) -> None:
    place = place_in(tmp_path)
    steady = derivation("steady", "echo x >out", outputs=["out"], base=place.sources)
    odd = derivation("odd", "cat /proc/sys/kernel/random/uuid >out", outputs=["out"], base=place.sources)
    builder = place.builder(steady, executor=executor)
    builder.check(builder.build())
    builder = place.builder(odd, executor=executor)
    with pytest.raises(InvalidInputError) as differs:
        builder.check(builder.build())
    assert differs.value.kind == "not-reproducible"


def test_the_command_says_what_it_says_of_local_builds(tmp_path: Path, executor: Executor) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "BUILD.py").write_text(
        "from sapwood.build import derivation\n"
        "one = derivation('one', 'echo said; echo of the command >out', outputs=['out'])\n"
    )
    said = run("build", "--executor", executor.url, ".")
    assert said.code == 0, said.err
    assert "builds  one" in said.err
    assert "one> said" in said.err
    assert run("cat", said.out.strip(), "out").out == "of the command\n"
    assert "1 known" in run("build", "--executor", executor.url, ".").err
