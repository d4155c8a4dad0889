"""The remote executor, on a server that does what is rare: fails, forgets, lies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from sapwood.build import Derivation, derivation, workers
from sapwood.build import engine as engine_module
from sapwood.build.action import complete_mark
from sapwood.build.listener import Stage
from sapwood.build.remote import Executor
from sapwood.build.supply import Supply
from sapwood.errors import CorruptError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.reapi import channel, delivering
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from tests.support.building import Heard, Place
from tests.support.cli import Sapwood
from tests.support.peers import free_port
from tests.support.reapiclient import digest_of
from tests.support.scripted import Scripted, operation, scripted

_Code = grpc.StatusCode


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let further tries begin at once."""
    for module in (engine_module, channel):
        monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.01, 0.01))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(tmp_path) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.sources.mkdir()
    (place.sources / "in").write_text("of the source\n")
    return place


def one_in(place: Place, **more: Any) -> Derivation:
    return derivation("one", "make it", **{"sources": ["in"], "outputs": ["out"], "base": place.sources, **more})


def build(place: Place, server: Scripted, *targets: Derivation, lazy: bool = False, **options: Any) -> Any:
    executor = Executor(server.url, server.cas, complete=False)
    return place.build(*targets, executor=executor, lazy=lazy, **options)


def test_what_it_needs_is_in_the_cas_when_it_is_run(place: Place, server: Scripted) -> None:
    seen: list[list[bytes]] = []
    makes = server.makes({"out": b"made"})

    def step(context: Any) -> Iterator[Any]:
        seen.append(server.blobs.missing([b"of the source\n"]))
        return makes(context)

    server.steps = [step]
    built = build(place, server, one_in(place))
    assert seen == [[]]
    assert place.read(built, "one", b"out") == b"made"
    assert server.calls == ["execute"]


@pytest.mark.parametrize("code", [_Code.UNAVAILABLE, _Code.ABORTED, _Code.RESOURCE_EXHAUSTED, _Code.INTERNAL])
def test_its_own_failures_are_tried_again_and_never_kept(place: Place, server: Scripted, code: grpc.StatusCode) -> None:
    makes = server.makes({"out": b"made"})
    server.steps = [server.fails(code)]
    with pytest.raises(UnavailableError) as failed:
        build(place, server, one_in(place))
    assert failed.value.kind == ("executor-full" if code is _Code.RESOURCE_EXHAUSTED else "executor-unreachable")
    assert server.calls == ["execute"] * 4
    assert place.store().actions() == []
    server.steps = [server.fails(code), server.refuses(code), makes]
    assert not build(place, server, one_in(place)).made["one"].is_hit


def test_a_stream_that_breaks_is_taken_up_and_an_operation_that_is_forgotten_begun_anew(
    place: Place, server: Scripted
) -> None:
    server.steps = [server.breaks(), server.breaks(), server.refuses(_Code.NOT_FOUND), server.makes({"out": b"made"})]
    build(place, server, one_in(place))
    assert server.calls == ["execute", "wait operations/one", "wait operations/one", "execute"]


@pytest.mark.parametrize("code", [_Code.UNAVAILABLE, _Code.INTERNAL])
def test_one_that_has_answered_is_waited_for_longer_and_that_is_said(
    place: Place, server: Scripted, code: grpc.StatusCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[tuple[str, str]] = []

    class Listening(Heard):
        words_told: ClassVar[list[str]] = []

        def stage(self, one: Derivation, stage: Any, what: str = "", /) -> None:
            stages.append((stage.name, what))

        def told(self, words: str) -> None:
            self.words_told.append(words)

    away = [server.refuses(code)] * 20
    server.steps = [server.breaks(), *away, server.makes({"out": b"made"})]
    build(place, server, one_in(place), listener=Listening())
    assert server.calls == ["execute"] + ["wait operations/one"] * 21
    assert Listening.words_told == [
        f"{server.url} does not answer, and is asked again for 120 s: the call is {code.name}",
        f"{server.url} is back",
    ]
    at = stages.index(("INPUT", server.url))
    assert ("QUEUED", "for a worker") in stages[at:]
    # For so long, and no longer.
    monkeypatch.setattr(channel, "LOST_S", 0.1)
    server.steps = [server.refuses(code)]
    with pytest.raises(UnavailableError) as failed:
        build(place, server, one_in(place, env={"ANOTHER": "one"}))
    assert failed.value.kind == "executor-unreachable"
    assert "build again" in (failed.value.hint or "")


def test_who_was_never_there_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "_NOBODY_S", 0.1)
    url = f"grpc://127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError) as failed:
        place.build(one_in(place), executor=Executor(url))
    assert failed.value.kind == "executor-unreachable"
    assert url in str(failed.value)


def test_a_cas_that_was_never_there_is_not_waited_for(
    place: Place, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "_NOBODY_S", 0.1)
    url = f"grpc://127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError) as failed:
        place.build(one_in(place), executor=Executor(server.url, url))
    assert url in str(failed.value)


def test_what_a_server_does_not_tell_it_is_asked(
    place: Place, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_SILENT_S", 0.05)
    server.steps = [server.forgets_to_tell(server.makes({"out": b"made"}))]
    built = build(place, server, one_in(place))
    assert place.read(built, "one", b"out") == b"made"
    assert server.calls == ["execute"]


def test_what_is_told_of_an_operation_that_was_begun_anew_meanwhile_counts_for_nothing(
    place: Place, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_SILENT_S", 0.5)
    asked, is_anew, asked_anew = threading.Event(), threading.Event(), threading.Event()
    [*_, old] = server.fails(_Code.INVALID_ARGUMENT)(None)
    [*_, new] = server.makes({"out": b"made"})(None)

    class Late(dict[str, Any]):
        def __contains__(self, name: object) -> bool:
            (asked if name == "operations/one" else asked_anew).set()
            return name == "operations/one" and is_anew.wait(60)

    server.operations = Late({"operations/one": old})

    def forgotten(context: Any) -> Iterator[Any]:
        yield operation(reapi.ExecutionStage.EXECUTING)
        asked.wait(60)
        context.abort(_Code.NOT_FOUND, "never heard of it")

    def anew(_: Any) -> Iterator[Any]:
        for told in (operation(reapi.ExecutionStage.EXECUTING), new):
            told.name = "operations/two"
            yield told
            is_anew.set()
            asked_anew.wait(60)

    server.steps = [forgotten, anew]
    built = build(place, server, one_in(place))
    assert place.read(built, "one", b"out") == b"made"


def test_an_action_that_is_gone_when_it_is_to_be_run_is_sent_again(place: Place, server: Scripted) -> None:
    server.steps = [server.refuses(_Code.FAILED_PRECONDITION), server.makes({"out": b"made"})]
    build(place, server, one_in(place))
    server.steps = [server.refuses(_Code.FAILED_PRECONDITION)]
    with pytest.raises(NotFoundError, match="the call is FAILED_PRECONDITION") as failed:
        build(place, server, one_in(place, env={"ANOTHER": "one"}))
    assert failed.value.kind == "executor-lacks"


def test_who_waits_for_a_worker_hears_when_none_seems_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE_S", 0.0)
    said: list[str] = []
    there = workers.Workers("grpc://grid", said.append)
    there.look()
    there.note("one", Stage.QUEUED)
    there.note("two", Stage.QUEUED)
    there.note("three", Stage.RUNNING)
    there.look()
    assert said == []
    there.note("three", None)
    there.look()
    there.look()
    [words] = said
    assert words.startswith("grpc://grid: no worker has taken one and 1 more for 0 s")
    # One has come, and gone.
    there.note("one", Stage.RUNNING)
    there.look()
    there.note("one", None)
    there.look()
    assert len(said) == 2


def test_the_command_says_that_a_server_is_away_and_that_it_is_back(place: Place, server: Scripted) -> None:
    run = Sapwood(place.home)
    (place.home / "BUILD.py").write_text(
        "from sapwood.build import derivation\none = derivation('one', 'make it', outputs=['out'])\n"
    )
    server.steps = [server.breaks(), *[server.refuses(_Code.UNAVAILABLE)] * 3, server.makes({"out": b"made"})]
    said = run.good("build", "--json", "--executor", server.url, "--cas", server.cas, ".")
    assert said.err.splitlines() == [
        f"{server.url} does not answer, and is asked again for 120 s: the call is UNAVAILABLE",
        f"{server.url} is back",
    ]


def test_a_stream_that_ends_without_an_end_is_taken_up(place: Place, server: Scripted) -> None:
    server.is_cancelled.set()
    server.steps = [server.hangs(), server.makes({"out": b"made"})]
    build(place, server, one_in(place))
    assert server.calls == ["execute", "wait operations/one"]


def test_what_it_says_to_be_missing_is_sent_again_but_not_for_ever(place: Place, server: Scripted) -> None:
    blob = digest_of(b"of the source\n")
    lacks = server.fails(_Code.FAILED_PRECONDITION, f"{blob.hash}/{blob.size_bytes}")
    server.steps = [lacks, server.makes({"out": b"made"})]
    build(place, server, one_in(place))
    server.steps = [lacks]
    with pytest.raises(NotFoundError) as failed:
        build(place, server, one_in(place, env={"ANOTHER": "one"}))
    assert failed.value.kind == "executor-lacks"
    assert server.calls == ["execute"] * 5


def test_outputs_that_are_gone_are_made_again(place: Place, server: Scripted) -> None:
    below = derivation("below", "make it", outputs=["out"], base=place.sources)
    above = derivation("above", "use it", deps={"dep": below, "file": below.output("out")}, outputs=["use"])
    result = reapi.ActionResult()
    result.output_files.add(path="out", digest=digest_of(b"forgotten"))
    server.known[place.builder(below).action(below, {})[0].digest.removeprefix("sha256:")] = result
    server.steps = [server.makes({"out": b"made again"}), server.makes({"use": b"used"})]
    built = build(place, server, above)
    assert server.calls == ["execute again", "execute"]
    assert place.read(built, "above", b"use") == b"used"
    # It makes them, and forgets them at once.
    server.known.clear()
    response = reapi.ExecuteResponse(result=result)
    server.steps = [server.answers(response)]
    another = derivation("another", "use it", deps=[below], outputs=["use"])
    with pytest.raises(NotFoundError) as failed:
        build(place, server, another)
    assert failed.value.kind == "executor-lacks"


def test_a_target_whose_outputs_are_gone_is_made_again(place: Place, server: Scripted) -> None:
    one = one_in(place)
    result = reapi.ActionResult()
    result.output_files.add(path="out", digest=digest_of(b"forgotten"))
    server.known[place.builder(one).action(one, {})[0].digest.removeprefix("sha256:")] = result
    server.steps = [server.makes({"out": b"made"})]
    built = build(place, server, one)
    assert server.calls == ["execute again"]
    assert place.read(built, "one", b"out") == b"made"


def test_an_action_that_took_too_long_has_failed(place: Place, server: Scripted) -> None:
    for limit, said in ((5, "more than 5 s"), (None, "longer than the server lets it")):
        server.steps = [server.fails(_Code.DEADLINE_EXCEEDED)]
        with pytest.raises(InvalidInputError, match=said) as failed:
            build(place, server, one_in(place, timeout_s=limit))
        assert failed.value.kind == "build-failed"
    assert server.calls == ["execute", "execute"]


def test_what_it_refuses_is_said_and_not_tried_again(place: Place, server: Scripted) -> None:
    server.steps = [server.refuses(_Code.PERMISSION_DENIED)]
    with pytest.raises(DeniedError) as denied:
        build(place, server, one_in(place))
    assert denied.value.kind == "executor-denied"
    server.steps = [server.fails(_Code.INVALID_ARGUMENT)]
    with pytest.raises(InvalidInputError) as refused:
        build(place, server, one_in(place))
    assert refused.value.kind == "executor-refused"
    assert server.calls == ["execute", "execute"]


def test_what_a_builder_said_is_shown_wherever_it_lies(place: Place, server: Scripted) -> None:
    server.blobs.put(b"of stderr\n")
    server.steps = [server.makes({"out": b"made"}, stdout_raw=b"of stdout\n", stderr_digest=digest_of(b"of stderr\n"))]
    heard = Heard()
    build(place, server, one_in(place), listener=heard)
    assert heard.words == b"of stdout\nof stderr\n"
    heard = Heard()
    server.steps = [server.makes({"out": b"made"}, stdout_digest=digest_of(b"nowhere"))]
    build(place, server, one_in(place, env={"ANOTHER": "one"}), listener=heard)
    assert b"what it said is lost" in heard.words


def directories(server: Scripted, root: reapi.Directory, *children: reapi.Directory) -> Any:
    tree = reapi.Tree(root=root, children=children).SerializeToString()
    server.blobs.put(tree)
    result = reapi.ActionResult()
    result.output_directories.add(path="out", tree_digest=digest_of(tree))
    return server.answers(reapi.ExecuteResponse(result=result))


def test_a_directory_of_which_only_a_tree_message_is_there_is_read_and_built_on(place: Place, server: Scripted) -> None:
    server.blobs.put(b"in it")
    # Not as we write it: the files are in no order.
    files = [reapi.FileNode(name=name, digest=digest_of(b"in it")) for name in ("b", "a")]
    child = reapi.Directory(files=files, symlinks=[reapi.SymlinkNode(name="l", target="a")])
    data = child.SerializeToString()
    root = reapi.Directory(directories=[reapi.DirectoryNode(name="d", digest=digest_of(data))])
    below = one_in(place)
    above = derivation("above", "use it", deps={"dep": below, "again": below.output("out")}, outputs=["use"])
    server.steps = [directories(server, root, child), server.makes({"use": b"used"})]
    built = build(place, server, above)
    node = built.made["one"].result.outputs["out"]
    read: list[bytes] = []
    # All of its input root is in the CAS, as it is keyed.
    todo = [reapi.Digest(hash=node.blob[0], size_bytes=node.blob[1])]
    while todo:
        request = reapi.BatchReadBlobsRequest(digests=[todo.pop()])
        [answer] = server.blobs.cas.BatchReadBlobs(request).responses
        assert answer.status.code == 0
        found = reapi.Directory.FromString(answer.data)
        todo += [each.digest for each in found.directories]
        read += [each.name.encode() for each in found.files]
    assert read == [b"a", b"b"]
    # As a target it is read.
    server.steps = [directories(server, root, child)]
    other = build(place, server, one_in(place, env={"ANOTHER": "one"}))
    assert place.read(other, "one", b"out/d/b") == b"in it"


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "a/b", "/x"])
def test_outputs_with_names_that_lead_elsewhere_are_refused(place: Place, server: Scripted, name: str) -> None:
    server.blobs.put(b"data")
    server.steps = [directories(server, reapi.Directory(files=[reapi.FileNode(name=name, digest=digest_of(b"data"))]))]
    with pytest.raises(CorruptError) as refused:
        build(place, server, one_in(place))
    assert refused.value.kind == "directory-corrupt"
    assert not list(place.home.rglob("x"))


def test_outputs_that_are_no_directories_are_refused(place: Place, server: Scripted) -> None:
    twice = reapi.Directory(
        symlinks=[reapi.SymlinkNode(name="d", target="/tmp")],
        directories=[reapi.DirectoryNode(name="d", digest=digest_of(b""))],
    )
    gone = reapi.Directory(directories=[reapi.DirectoryNode(name="d", digest=digest_of(b"gone"))])
    itself = reapi.Directory(directories=[reapi.DirectoryNode(name="d")])
    nowhere = reapi.Directory(symlinks=[reapi.SymlinkNode(name="l")])
    server.blobs.put(b"no message\xff")
    result = reapi.ActionResult()
    result.output_directories.add(path="out", tree_digest=digest_of(b"no message\xff"))
    deep = [reapi.Directory()]
    for _ in range(40):
        nodes = [reapi.DirectoryNode(name="d" * 200, digest=digest_of(deep[-1].SerializeToString()))]
        deep.append(reapi.Directory(directories=nodes))
    for step in (
        directories(server, *reversed(deep)),
        directories(server, twice, reapi.Directory()),
        directories(server, gone),
        directories(server, itself),
        directories(server, nowhere),
        server.answers(reapi.ExecuteResponse(result=result)),
    ):
        server.steps = [step]
        with pytest.raises(CorruptError) as refused:
            build(place, server, one_in(place))
        assert refused.value.kind == "directory-corrupt"
    assert place.store().actions() == []


def test_outputs_that_unfold_to_more_than_a_builder_may_write_are_refused(place: Place, server: Scripted) -> None:
    levels = [reapi.Directory(files=[reapi.FileNode(name="file", digest=digest_of(bytes(100_000)))])]
    for _ in range(60):
        below = digest_of(levels[-1].SerializeToString())
        levels.append(reapi.Directory(directories=[reapi.DirectoryNode(name=name, digest=below) for name in "ab"]))
    server.blobs.put(bytes(100_000))
    files = [reapi.FileNode(name=str(at), digest=digest_of(bytes(100_000))) for at in range(100, 200)]
    for step in (directories(server, *reversed(levels)), directories(server, reapi.Directory(files=files))):
        server.steps = [step]
        with pytest.raises(InvalidInputError, match="more than 10,000,000 bytes") as refused:
            build(place, server, one_in(place, disk=10_000_000))
        assert refused.value.kind == "build-failed"
    large = reapi.ActionResult()
    large.output_directories.add(path="out", root_directory_digest=reapi.Digest(hash="0" * 64, size_bytes=1 << 40))
    server.steps = [server.answers(reapi.ExecuteResponse(result=large))]
    with pytest.raises(CorruptError, match="too large"):
        build(place, server, one_in(place))


@pytest.mark.parametrize(
    "said",
    [
        reapi.ActionResult(output_files=[reapi.OutputFile(path="out", digest=reapi.Digest(hash="../../x"))]),
        reapi.ActionResult(output_directories=[reapi.OutputDirectory(path="out")]),
        reapi.ActionResult(output_symlinks=[reapi.OutputSymlink(path="out", target="a\0b")]),
    ],
)
def test_a_result_that_names_what_can_be_nothing_is_refused_and_from_its_cache_none(
    place: Place, server: Scripted, said: reapi.ActionResult
) -> None:
    one = one_in(place)
    server.steps = [server.answers(reapi.ExecuteResponse(result=said))]
    with pytest.raises(CorruptError) as refused:
        build(place, server, one)
    assert refused.value.kind == "directory-corrupt"
    server.known[server.asked.hash] = said
    server.steps = [server.makes({"out": b"made"})]
    assert place.read(build(place, server, one), "one", b"out") == b"made"


def test_a_source_that_changes_before_it_is_sent_is_never_built_of(place: Place, server: Scripted) -> None:
    class Changing(Heard):
        def stage(self, one: Derivation, stage: Any, what: str = "", /) -> None:
            if stage.name == "SENDING":
                (place.sources / "in").write_text("something else\n")

    server.steps = [server.makes({"out": b"made"})]
    with pytest.raises(UnavailableError) as changed:
        build(place, server, one_in(place), listener=Changing())
    assert changed.value.kind == "source-changed"
    assert server.calls == []


@pytest.fixture
def reading(place: Place, server: Scripted) -> Iterator[list[bytes]]:
    """Sources of which `of the source` is read by what is run, and `never read` is not; the value is what came."""
    for path, content in (("in", b"of the source\n"), ("d/e/other", b"never read\n"), ("d/large", b"x" * 9_000_000)):
        (place.sources / path).parent.mkdir(parents=True, exist_ok=True)
        (place.sources / path).write_bytes(content)
    read: list[bytes] = []
    makes = server.makes({"out": b"made"})

    def step(context: Any) -> Iterator[Any]:
        yield operation(reapi.ExecutionStage.EXECUTING)
        try:
            server.look_through()
            read.append(server.blobs.read(b"of the source\n"))
        except grpc.RpcError as error:
            yield from server.fails(error.code())(context)
            return
        yield from makes(context)

    server.steps = [step]
    return read


def mark_of(server: Scripted) -> bytes:
    """The blob that says that inputs of what was executed last are to be complete."""
    return complete_mark((server.asked.hash, server.asked.size_bytes))


def test_it_begins_before_its_sources_are_there_and_gets_what_it_reads(
    place: Place, server: Scripted, reading: list[bytes]
) -> None:
    missing: list[list[bytes]] = []
    sources = [b"of the source\n", b"never read\n", b"x" * 9_000_000]

    class Looking(Heard):
        def stage(self, one: Derivation, stage: Any, what: str = "", /) -> None:
            if stage.name == "RUNNING":
                missing.append(server.blobs.missing(sources))

    built = build(place, server, one_in(place, sources=["in", "d"]), lazy=True, listener=Looking())
    assert server.blobs.missing([mark_of(server)])
    assert missing[0][-2:] == sources[1:]
    assert reading == [b"of the source\n"]
    assert place.read(built, "one", b"out") == b"made"
    assert server.blobs.missing(sources) == sources[1:]


@pytest.mark.parametrize("all_of_them", [False, True], ids=["a derivation", "all"])
def test_without_laziness_all_is_there_before_it_begins(
    place: Place, server: Scripted, reading: list[bytes], all_of_them: bool
) -> None:
    missing: list[list[bytes]] = []

    class Looking(Heard):
        def stage(self, one: Derivation, stage: Any, what: str = "", /) -> None:
            if stage.name == "RUNNING":
                missing.append(server.blobs.missing([b"of the source\n", b"never read\n", b"x" * 9_000_000]))

    one = one_in(place, sources=["in", "d"], lazy=all_of_them)
    build(place, server, one, lazy=not all_of_them, listener=Looking())
    assert missing[0] == []
    assert reading == [b"of the source\n"]
    # For the worker, which is to have it all before the command starts.
    assert server.blobs.missing([mark_of(server)]) == []


def test_a_source_that_changes_before_it_is_read_is_never_built_of(
    place: Place, server: Scripted, reading: list[bytes]
) -> None:
    class Changing(Heard):
        def stage(self, one: Derivation, stage: Any, what: str = "", /) -> None:
            if stage.name == "SENDING":
                (place.sources / "in").write_text("something else\n")

    with pytest.raises(UnavailableError) as changed:
        build(place, server, one_in(place, sources=["in", "d"]), lazy=True, listener=Changing())
    assert changed.value.kind == "source-changed"
    assert reading == []
    assert place.store().actions() == []


def test_outputs_that_are_gone_are_made_again_before_what_needs_them_is_announced(
    place: Place, server: Scripted
) -> None:
    below = derivation("below", "make it", outputs=["out"], base=place.sources)
    above = derivation("above", "use it", deps={"dep": below}, outputs=["use"])
    result = reapi.ActionResult()
    result.output_files.add(path="out", digest=digest_of(b"forgotten"))
    server.known[place.builder(below).action(below, {})[0].digest.removeprefix("sha256:")] = result
    server.steps = [server.makes({"out": b"made again"}), server.makes({"use": b"used"})]
    built = build(place, server, above, lazy=True)
    assert server.calls == ["execute again", "execute"]
    assert place.read(built, "above", b"use") == b"used"


@pytest.mark.parametrize("lazy", [False, True])
def test_a_source_with_a_name_that_no_server_takes_is_refused(
    place: Place, server: Scripted, reading: list[bytes], lazy: bool
) -> None:
    (place.sources / "d" / "e" / os.fsdecode(b"caf\xe9")).write_text("")
    with pytest.raises(InvalidInputError, match="not UTF-8") as refused:
        build(place, server, one_in(place, sources=["in", "d"]), lazy=lazy)
    assert refused.value.kind == "source-unusable"
    assert reading == []


def test_a_blob_that_is_none_of_a_build_is_not_given() -> None:
    with pytest.raises(NotFoundError) as missing:
        Supply(lambda _: pytest.fail("no tree is needed")).open(("0" * 64, 1))
    assert missing.value.kind == "blob-missing"


@pytest.mark.parametrize(
    "words", [["--complete", "never"], ["--cas", "grpc://x:1"], ["--token-file", "x"], ["--instance", "x"]]
)
def test_what_is_said_of_a_server_without_one_is_refused(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "BUILD.py").write_text("")
    said = Sapwood(tmp_path)("build", *words, ".")
    assert said.code == 2
    assert "--executor" in said.err
