"""Keys: nothing of a machine is in them, and what is in them is what the Remote Execution API says."""

import hashlib
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from sapwood.build import derivation
from sapwood.build.builder import Builder
from sapwood.build.graph import Graph
from sapwood.build.listener import Listener
from sapwood.build.load import load_graph
from sapwood.build.state import State
from sapwood.open import open_store
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.building import Heard, Place
from tests.support.collecting import age
from tests.support.nobody import as_nobody, nobodys_directory

BUILD = """
from sapwood.build import derivation

lib = derivation("lib", "cat src/a >lib", sources=["src"], outputs=["lib"], env={"X": "1"})
app = derivation(
    "app", ["/bin/cp", "in/lib", "app"], deps={"in": lib}, outputs=["app"], platform={"os": "linux"}, timeout_s=60
)
"""

KEYS = """
import pathlib, sys
from sapwood.build.builder import Builder
from sapwood.build.listener import Listener
from sapwood.build.load import load_graph
from sapwood.build.state import State
from sapwood.open import open_store
home = pathlib.Path(sys.argv[1])
store = open_store(str(home / "store"), create=True)
builder = Builder(load_graph(str(home)), [store], home / "builds", State(home / "builds", home / "BUILD.py"))
for name, made in sorted(builder.build().made.items()):
    print(name, made.result.action, sorted(node.told for node in made.result.outputs.values()))
"""


def make_place(home: Path) -> None:
    (home / "src").mkdir()
    (home / "src" / "a").write_text("a\n")
    (home / "src" / "tool").write_text("#!/bin/sh\n")
    (home / "src" / "tool").chmod(0o755)
    (home / "BUILD.py").write_text(BUILD)


def test_two_users_in_two_places_have_the_same_keys_and_outputs(tmp_path, monkeypatch):
    ours = tmp_path / "a place of ours"
    ours.mkdir()
    make_place(ours)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    said = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" "$2"', sys.executable, KEYS, ours], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    with nobodys_directory() as theirs:
        make_place(theirs)
        subprocess.run(["chown", "-R", "nobody", theirs], check=True)
        first = f"os.environ.update(SAPWOOD_CACHE={str(theirs / 'cache')!r}, HOME={str(theirs)!r}, TZ='UTC')"
        other = as_nobody(KEYS, theirs, first=first)
    assert other.code == 0, other.err
    assert said.stdout == other.out
    assert said.stdout.splitlines()[0].startswith("app sha256:")


def test_the_key_is_the_digest_of_the_action_that_the_api_says(tmp_path):
    place = Place(tmp_path)
    place.sources.mkdir()
    make_place(place.sources)
    graph = load_graph(f"{place.sources}:lib")
    builder = Builder(graph, [place.store()], place.cache, State(place.cache, place.sources / "BUILD.py"))
    [(_, action, result)] = list(builder.survey())
    assert result is None

    def digest(message):
        data = message.SerializeToString(deterministic=True)
        return reapi.Digest(hash=hashlib.sha256(data).hexdigest(), size_bytes=len(data))

    def file(name, content, executable=False):
        found = reapi.Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        return reapi.FileNode(name=name, digest=found, is_executable=executable)

    source = reapi.Directory(files=[file("a", b"a\n"), file("tool", b"#!/bin/sh\n", True)])
    root = reapi.Directory(directories=[reapi.DirectoryNode(name="src", digest=digest(source))])
    variables = {
        "HOME": "/homeless",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
        "SOURCE_DATE_EPOCH": "315532800",
        "TMPDIR": "/tmp",
        "TZ": "UTC",
        "X": "1",
    }
    command = reapi.Command(
        arguments=["/bin/sh", "-euc", "cat src/a >lib"],
        environment_variables=[reapi.Command.EnvironmentVariable(name=k, value=v) for k, v in variables.items()],
        output_paths=["lib"],
        output_directory_format=reapi.Command.DIRECTORY_ONLY,
        platform=reapi.Platform(),
    )
    expected = reapi.Action(command_digest=digest(command), input_root_digest=digest(root), platform=reapi.Platform())
    assert action.digest == f"sha256:{digest(expected).hash}"
    assert action.root == f"sha256:{digest(root).hash}"


def keys(place: Place, **words: object) -> str:
    one = derivation("one", **{"command": "true", "outputs": ["x"], "base": place.sources, **words})
    builder = place.builder(one)
    [(_, action, _)] = list(builder.survey())
    return action.digest


def test_each_part_of_a_declaration_that_matters_changes_the_key_and_no_other(tmp_path):
    place = Place(tmp_path)
    place.sources.mkdir()
    (place.sources / "a").write_text("a")
    variants = [
        {},
        {"command": ["true"]},
        {"env": {"X": "1"}},
        {"env": {"X": "2"}},
        {"outputs": ["y"]},
        {"platform": {"os": "linux"}},
        {"network": True},
        {"timeout_s": 5},
        {"sources": ["a"]},
        {"sources": {"b": "a"}},
    ]
    found = [keys(place, **words) for words in variants]
    assert len(set(found)) == len(variants)
    assert keys(place) == keys(place, lazy=False) == keys(place, memory=1 << 30) == found[0]
    (place.sources / "a").chmod(0o755)
    assert keys(place, sources=["a"]) != found[8]
    (place.sources / "a").chmod(0o640)
    assert keys(place, sources=["a"]) == found[8]


def test_ten_thousand_derivations_that_are_known_are_one_read_each(tmp_path, monkeypatch):
    """Memory is measured by `make bench`; here it is that nothing is recursive and nothing is built."""
    # 10,000 results that need not survive a power failure.
    monkeypatch.setattr("sapwood.store.local.os.fsync", lambda _: None)
    place = Place(tmp_path)
    place.sources.mkdir()
    store = place.store()
    first = derivation("d0", "echo >x", outputs=["x"], base=place.sources)
    result = place.build(first).made["d0"].result
    chain = [first]
    for number in range(1, 10_000):
        # In tens, so that there are many at a time and chains of a thousand.
        chain.append(
            derivation(
                f"d{number}", "echo >x", deps={"in": chain[max(0, number - 10)]}, outputs=["x"],
                env={"N": str(number)}, base=place.sources,
            )
        )  # fmt: skip
    builder = Builder(Graph([chain[-1], *chain[-11:-1]]), [store], place.cache, State(place.cache, place.sources / "B"))
    known = {}
    for one in builder.graph:
        action, _ = builder.action(one, known)
        known[one.name] = replace(result, action=action.digest)
        if one is not first:
            builder.results.keep(known[one.name])
    built = builder.build()
    assert (built.hits, len(built.made)) == (10_000, 10_000)


def test_another_store_is_asked_too_and_not_written(tmp_path):
    place = Place(tmp_path)
    place.sources.mkdir()
    one = derivation("one", "echo 1 >x", outputs=["x"], base=place.sources)
    place.build(one)
    shutil.rmtree(place.cache)
    before = sorted(path for path in (tmp_path / "results").rglob("*"))
    mine = open_store(str(tmp_path / "mine"), create=True)
    built = place.build(one, stores=[mine, place.store()])
    assert built.hits == 1
    two = derivation("two", "cat in/x >y", deps={"in": one}, outputs=["y"], base=place.sources)
    built = place.build(two, stores=[mine, place.store()])
    assert (built.hits, mine.actions()) == (1, [built.made["two"].result.action.removeprefix("sha256:")])
    assert sorted(path for path in (tmp_path / "results").rglob("*")) == before


def test_what_was_built_into_an_object_store_is_known_on_another_machine(tmp_path, s3_place, monkeypatch):
    place = Place(tmp_path / "here")
    place.sources.mkdir(parents=True)
    (place.sources / "a").write_text("a\n")
    words = {"command": "cat a >x", "sources": ["a"], "outputs": ["x"], "base": place.sources}
    place.build(derivation("one", **words), stores=[open_store(s3_place.url, create=True)])
    monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path / "cache of another machine"))
    other = Place(tmp_path / "there")
    shutil.copytree(place.sources, other.sources)
    words["base"] = other.sources
    one = derivation("one", **words)
    two = derivation("two", "cat in/x in/x >y", deps={"in": one}, outputs=["y"], base=other.sources)
    store = open_store(s3_place.url)
    built = other.build(two, stores=[store])
    assert [name for name, made in built.made.items() if made.is_hit] == ["one"]
    result = built.made["two"].result
    assert b"".join(store.tree(f"{result.ref}@{result.snapshot}").read_blob(b"y")) == b"a\na\n"


def test_two_who_build_the_same_at_the_same_time_both_succeed(tmp_path):
    places = [Place(tmp_path / "a"), Place(tmp_path / "b")]
    store = open_store(str(tmp_path / "results"), create=True)
    meeting = threading.Barrier(2)

    class Meeting(Listener):
        def said(self, one, data):
            meeting.wait(60)

    def build(place):
        place.sources.mkdir(parents=True)
        one = derivation("one", "echo met; date +%N >x", outputs=["x"], base=place.sources)
        return place.build(one, stores=[store], listener=Meeting()).made["one"]

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(build, places))
    assert [each.is_hit for each in made] == [False, False]
    for each in made:
        assert store.tree(f"build/one@{each.result.snapshot}").find(b"x").digest == each.result.outputs["x"].digest
    assert len(store.actions()) == 1


def test_collection_deletes_results_whose_outputs_were_forgotten_and_no_others(tmp_path):
    place = Place(tmp_path)
    place.sources.mkdir()
    store = place.store()
    actions = []
    for number in range(3):
        one = derivation("one", f"echo {number} >x", outputs=["x"], base=place.sources)
        actions.append(place.build(one).made["one"].result.action.removeprefix("sha256:"))
    forget(store, Rules(last=1))
    assert collect(store).deleted == 0  # they are young
    age(tmp_path / "results")
    collect(store)
    assert store.actions() == [actions[2]]
    heard = Heard()
    place.build(derivation("one", "echo 0 >x", outputs=["x"], base=place.sources), listener=heard)
    assert heard.names == ["one"]
