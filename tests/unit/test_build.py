"""Builds by the local executor: real commands in real sandboxes, and results in a real store."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from sapwood.build import derivation, output, outputs, scratch, stored
from sapwood.build.sandbox import Sandbox, run
from sapwood.errors import InvalidInputError, NotFoundError, StoppedError, UnavailableError
from sapwood.open import open_store
from sapwood.progress import Progress
from tests.support.building import Heard, Place, nap, who_takes
from tests.support.child import drop_privileges, in_child
from tests.support.grid import processes_of
from tests.support.smalldisk import small_disk


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.sources.mkdir()
    return place


def make(place: Place, name: str, command: str, **words: object):
    return derivation(name, command, base=place.sources, **words)


def refused(place: Place, *targets, **options) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as error:
        place.build(*targets, **options)
    return error.value


def test_what_was_built_is_known_by_its_key_and_not_built_again(place):
    (place.sources / "a").write_text("one\n")
    lib = make(place, "lib", "tr a-z A-Z <a >b", sources=["a"], outputs=["b"])
    app = make(place, "app", "mkdir -p out/deep; cat in/b in/b >out/deep/c", deps={"in": lib}, outputs=["out"])
    built = place.build(app)
    assert (built.hits, len(built.made)) == (0, 2)
    assert place.read(built, "app", b"out/deep/c") == b"ONE\nONE\n"
    again = place.build(app)
    assert (again.hits, len(again.made)) == (2, 2)
    assert again.made["app"].result.address == built.made["app"].result.address


def test_a_change_builds_again_only_what_depends_on_what_came_out(place):
    """Early cutoff: a dependency enters the key as what it is, not as how it was made."""
    (place.sources / "a").write_text("one # why\n")
    lib = make(place, "lib", "sed 's/ #.*//' a >b", sources=["a"], outputs=["b"])
    app = make(place, "app", "cat in/b >c", deps={"in": lib}, outputs=["c"])
    place.build(app)
    (place.sources / "a").write_text("one # another\n")
    heard = Heard()
    place.build(app, listener=heard)
    assert heard.names == ["lib"]
    (place.sources / "a").write_text("two\n")
    heard = Heard()
    assert place.read(place.build(app, listener=heard), "app", b"c") == b"two\n"
    assert heard.names == ["lib", "app"]


def test_a_builder_finds_its_inputs_and_nothing_else(place):
    (place.sources / "src").mkdir()
    for name in ("kept", "ignored", "beside"):
        (place.sources / "src" / name).write_text(name)
    (place.sources / "src" / ".sapwoodignore").write_text("ignored\n")
    (place.sources / "other").write_text("")
    (place.sources / "src" / "link").symlink_to("kept")
    lib = make(place, "lib", "echo 1 >x; mkdir d; echo 2 >d/y", outputs=["x", "d"])
    seen = make(
        place,
        "seen",
        "find . | sort >/tmp/found; mv /tmp/found found; cat in/src/link whole/x part >>found",
        sources={"in/src": "src"},
        deps={"whole": lib, "part": lib.output("x"), "in/lib": lib.output("d")},
        outputs=["found"],
    )
    found = place.read(place.build(seen), "seen", b"found").decode()
    assert found.split() == [
        ".", "./in", "./in/lib", "./in/lib/y", "./in/src", "./in/src/.sapwoodignore", "./in/src/beside",
        "./in/src/kept", "./in/src/link", "./part", "./whole", "./whole/d", "./whole/d/y", "./whole/x",
        "kept1", "1",
    ]  # fmt: skip


def test_the_whole_source_directory_can_be_the_input_root(place):
    (place.sources / "sub").mkdir()
    (place.sources / "sub" / "a").write_text("a")
    one = make(place, "one", "cat sub/a >sub/out", sources={"": "."}, outputs=["sub/out"])
    assert place.read(place.build(one), "one", b"sub/out") == b"a"


def test_many_files_at_places_of_their_own_are_all_there(place):
    for number in range(200):
        (place.sources / f"f{number}").write_text(f"{number}\n")
    one = make(place, "one", "cat f* | sort -n >out", sources=[f"f{number}" for number in range(200)], outputs=["out"])
    assert place.read(place.build(one), "one", b"out").split() == [str(number).encode() for number in range(200)]


def test_inputs_are_read_only_and_so_is_the_machine(place):
    (place.sources / "src").mkdir()
    (place.sources / "src" / "a").write_text("a")
    one = make(
        place,
        "one",
        "for there in src/a src/new /usr/new /new /etc/new; do (: >$there) 2>/dev/null && echo $there; done >out; :",
        sources=["src"],
        outputs=["out"],
    )
    assert place.read(place.build(one), "one", b"out") == b""
    assert (place.sources / "src" / "a").read_text() == "a"


def test_the_sandbox_is_the_same_user_host_and_environment_everywhere(place):
    one = make(
        place,
        "one",
        "(id -u; id -un; hostname; pwd; env | grep -v ^PWD= | sort; ls /home /root || true) >out 2>&1",
        env={"X": "1"},
        outputs=["out"],
    )
    out = place.read(place.build(one), "one", b"out").decode()
    assert out.startswith("1000\nbuilder\nsapwood\n/build\nHOME=/homeless\nLC_ALL=C.UTF-8\nPATH=/usr/local/bin")
    assert "SOURCE_DATE_EPOCH=315532800\nTMPDIR=/tmp\nTZ=UTC\nX=1\n" in out
    assert out.count("No such file") == 2


def test_there_is_a_network_only_for_who_asked(place):
    words = "readlink /proc/self/ns/net >out; grep -c : /proc/net/dev >>out"
    alone = make(place, "alone", words, outputs=["out"])
    online = make(place, "online", words, outputs=["out"], network=True)
    built = place.build(alone, online)
    ours = os.readlink("/proc/self/ns/net").encode()
    [theirs, count] = place.read(built, "alone", b"out").split()
    assert (theirs == ours, count) == (False, b"1")  # the loopback of its own
    assert place.read(built, "online", b"out").split()[0] == ours
    assert built.made["alone"].result.action != built.made["online"].result.action


def test_a_builder_that_fails_is_named_with_its_log_and_never_kept(place):
    one = make(place, "one", "echo why >&2; touch out; exit 3", outputs=["out"])
    error = refused(place, one)
    assert (error.kind, error.code) == ("build-failed", 3)
    assert Path(error.hint.removeprefix("read ")).read_text() == "why\n"
    assert refused(place, one).kind == "build-failed"
    assert place.store().actions() == []


def test_a_builder_killed_by_a_signal_is_said_so(place):
    assert "signal 9 ended" in str(refused(place, make(place, "one", "kill -9 $$")))


def test_a_program_that_cannot_be_run_is_the_commands_failure_and_not_the_sandboxes(place, tmp_path):
    (place.sources / "plain").write_text("#!/bin/sh\n")
    for program, code in (("no-such-program", 127), ("./plain", 126), ("plain/x", 127), ("./", 126)):
        for memory in (None, 1 << 30):
            one = make(place, "one", [program], sources=["plain"], outputs=["out"], memory=memory)
            error = refused(place, one)
            assert (error.kind, error.code) == ("build-failed", code)
            assert program in Path(error.hint.removeprefix("read ")).read_text()


def test_what_a_failed_builder_left_can_be_kept(place):
    error = refused(place, make(place, "one", "echo half >half; exit 1", outputs=["out"]), keep_failed=True)
    assert (error.left / "half").read_text() == "half\n"
    assert list((place.cache / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("true", "output-missing"),
        ("touch out", "output-missing"),
        ("rmdir out; ln -s /etc out", "output-leaves-tree"),
        ("ln -s ../../etc out/x", "output-leaves-tree"),
        ("ln -s /build/secret out/x", "output-leaves-tree"),
        ("mkfifo out/x", "output-unusable"),
        ("ln -s \"$(printf '\\377')\" out/x", "output-unusable"),
        ("ln -s ../beside out/x; echo >beside", "output-leaves-tree"),
        ("mkdir -p out/x; ln -s ../../other out/x/y", "output-leaves-tree"),
        ("ln -s /usr/../tmp/secret out/x", "output-leaves-tree"),
        ("mkdir -p out/x; ln -s /usr out/x/usr; ln -s usr/../build/secret out/x/y", "output-leaves-tree"),
        # Each leads to where it is by its name, and out by what lies on the way.
        ("mkdir -p out/x/in; ln -s . out/x/here; ln -s here/../secret out/x/l; echo >out/secret", "output-leaves-tree"),
        ("mkdir -p out/x/a/b; ln -s x/y/z/w out/x/a/b/gone; ln -s .. out/x/up", "output-leaves-tree"),
        ("mkdir -p out/x/a/b out/x/c; ln -s ../c out/x/a/c; ln -s a/c/../../etc out/x/l", "output-leaves-tree"),
    ],
)
def test_outputs_that_are_not_there_or_lead_out_are_refused(place, command, kind):
    assert refused(place, make(place, "one", command, outputs=["out/x"])).kind == kind


def test_links_within_an_output_and_to_the_machine_come_along(place):
    one = make(
        place, "one", "mkdir -p out/d; echo 1 >out/a; ln -s ../a out/d/b; ln -s /usr/bin/env out/env", outputs=["out"]
    )
    tree = place.store().tree(place.build(one).made["one"].result.ref)
    assert {path: item.target for path, item in tree.list() if item.kind == "symlink"} == {
        b"out/d/b": b"../a",
        b"out/env": b"/usr/bin/env",
    }


def test_links_are_judged_by_where_they_lead_and_not_by_their_words(place):
    """Through another link a way that looks as if it led out stays within, and one that goes round and round, too."""
    command = (
        "mkdir -p out/a/b/c; echo 1 >out/a/f; ln -s a/b/c out/deep; ln -s deep/../../f out/f; ln -s loop out/loop;"
        " ln -s nothing/../a/f out/gone; mkdir out/shut; ln -s ../a out/shut/a; ln -s shut/a/f out/g; chmod 0 out/shut"
    )
    one = make(place, "one", command, outputs=["out"])
    two = make(place, "two", "cat in/out/f in/out/g >x", deps={"in": one}, outputs=["x"])
    assert place.read(place.build(two), "two", b"x") == b"1\n1\n"


def test_an_output_may_be_a_link_to_another(place):
    one = make(place, "one", "echo 1 >lib.so.1; ln -s lib.so.1 lib.so", outputs=["lib.so", "lib.so.1"])
    two = make(
        place, "two", "cat in/lib.so >x; readlink so >>x", deps={"in": one, "so": one.output("lib.so")}, outputs=["x"]
    )
    place.build(one)
    assert place.read(place.build(two), "two", b"x") == b"1\nlib.so.1\n"


def test_two_outputs_may_be_one_file(place):
    one = make(place, "one", "echo 1 >a; chmod 755 a; ln a b", outputs=["a", "b"])
    two = make(place, "two", "in/b 2>&1 || true; cat in/a in/b >x", deps={"in": one}, outputs=["x"])
    assert place.read(place.build(two), "two", b"x") == b"1\n1\n"
    assert place.build(two).hits == 2


def test_undeclared_outputs_stay_behind_and_odd_modes_are_made_plain(place):
    one = make(
        place, "one", "mkdir out; touch out/a other; chmod 4711 out/a; mkdir out/d; chmod 0 out/d", outputs=["out"]
    )
    result = place.build(one).made["one"].result
    found = {path: item.mode for path, item in place.store().tree(result.ref).list()}
    assert found == {b"out": 0o755, b"out/a": 0o755, b"out/d": 0o755}


def test_what_a_builder_leaves_running_is_ended(place, monkeypatch):
    monkeypatch.setattr("sapwood.build.sandbox._GONE_S", 60.0)
    first, second, third = nap(), nap(), nap()
    one = make(
        place,
        "one",
        f"({first} & echo $! >out) >/dev/null 2>&1; setsid {second} >/dev/null 2>&1 &\nwait $! || true; exit 0",
        outputs=["out"],
        timeout_s=1,
    )
    assert "more than 1 s" in str(refused(place, one))
    assert who_takes(first) + who_takes(second) == []
    one = make(place, "one", f"{third} >/dev/null 2>&1 & echo 1 >out", outputs=["out"])
    place.build(one)
    assert who_takes(third) == []


def test_a_source_that_is_missing_or_no_file_is_named(place):
    with pytest.raises(NotFoundError) as missing:
        place.build(make(place, "one", "true", sources=["nowhere"]))
    assert (missing.value.kind, missing.value.path) == ("source-missing", b"nowhere")
    os.mkfifo(place.sources / "pipe")
    assert refused(place, make(place, "one", "true", sources=["pipe"])).kind == "source-unusable"


def test_two_things_at_one_place_are_refused(place):
    (place.sources / "src").mkdir()
    (place.sources / "src" / "a").write_text("")
    lib = make(place, "lib", "touch x", outputs=["x"])
    one = make(place, "one", "true", sources=["src"], deps={"src/a": lib})
    assert refused(place, one).kind == "input-conflict"
    assert refused(place, make(place, "one", "true", sources=["src"], outputs=["src/a"])).kind == "input-conflict"


def test_a_source_that_changes_while_it_is_built_makes_no_result(place):
    source = place.sources / "a"
    source.write_text("one")

    class Changing(Heard):
        def said(self, one, data):
            source.write_text("other")

    one = make(place, "one", "echo go; sleep 0.1; cat a >b", sources=["a"], outputs=["b"])
    with pytest.raises(UnavailableError) as changed:
        place.build(one, listener=Changing())
    assert changed.value.kind == "source-changed"
    assert place.store().actions() == []


def test_a_result_whose_outputs_are_gone_is_made_again(place):
    (place.sources / "a").write_text("1\n")
    lib = make(place, "lib", "cat a >b", sources=["a"], outputs=["b"])
    app = make(place, "app", "cat in/b >c", deps={"in": lib}, outputs=["c"])
    built = place.build(app)
    store = place.home / "results"
    for pack in (store / "packs").iterdir():
        pack.unlink()
    _forget_kept(place)
    heard = Heard()
    again = place.build(app, listener=heard)
    assert heard.names == ["lib", "app"]
    assert place.read(again, "app", b"c") == b"1\n"
    assert again.made["app"].result.outputs["c"].digest == built.made["app"].result.outputs["c"].digest


def _forget_kept(place: Place) -> None:
    subprocess.run(["rm", "-r", place.cache / "outputs"], check=True)


def test_a_damaged_result_is_a_miss_and_is_replaced(place):
    one = make(place, "one", "echo 1 >b", outputs=["b"])
    place.build(one)
    [name] = place.store().actions()
    (place.home / "results" / "actions" / f"{name}.result").write_bytes(b"\xff\xff")
    heard = Heard()
    place.build(one, listener=heard)
    assert heard.names == ["one"]
    assert place.build(one).hits == 1


def test_what_is_kept_here_and_was_changed_is_fetched_again(place):
    lib = make(place, "lib", "echo 1 >b", outputs=["b"])
    place.build(lib)
    for found in (place.cache / "outputs").glob("*/tree/b"):
        found.write_text("evil")
    app = make(place, "app", "cat in/b >c", deps={"in": lib}, outputs=["c"])
    assert place.read(place.build(app), "app", b"c") == b"1\n"


def test_what_was_used_longest_ago_leaves_when_too_much_is_kept(place, monkeypatch):
    monkeypatch.setattr("sapwood.build.kept._KEPT_BYTES", 300_000)
    for number in range(3):
        one = make(place, f"d{number}", f"head -c 70000 /dev/zero >x; echo {number} >>x", outputs=["x"])
        place.build(one)
        for folder in (place.cache / "outputs").iterdir():
            seen = folder.stat()
            os.utime(folder, ns=(seen.st_atime_ns, seen.st_mtime_ns - 10**9))
    there = [path.read_bytes()[-2:] for path in (place.cache / "outputs").glob("*/tree/x")]
    assert sorted(there) == [b"1\n", b"2\n"]
    app = make(place, "app", "tail -c 2 in/x >y", deps={"in": one}, outputs=["y"])
    assert place.read(place.build(app), "app", b"y") == b"2\n"


def test_a_tree_in_a_store_is_a_source(place):
    (place.home / "tree").mkdir()
    (place.home / "tree" / "a").write_text("stored")
    with (place.home / "tree" / "large").open("wb") as large:
        for number in range(20):
            large.write(os.urandom(1 << 20) + str(number).encode())
    store = place.store()
    store.push(place.home / "tree", "main")
    for lazy in (True, False):
        one = make(
            place,
            "one",
            f"cat in/a >b; wc -c <in/large >>b; : {lazy}",
            sources={"in": stored(f"{store.url}#main")},
            outputs=["b"],
            lazy=lazy,
        )
        assert place.read(place.build(one), "one", b"b") == b"stored20971550\n"


def test_check_names_what_differs(place):
    same = make(place, "same", "echo 1 >a", outputs=["a"])
    builder = place.builder(same)
    builder.check(builder.build())
    other = make(place, "other", "mkdir out; echo 1 >out/a; head -c 9 /dev/urandom >out/b", outputs=["out"])
    builder = place.builder(other)
    built = builder.build()
    with pytest.raises(InvalidInputError) as found:
        builder.check(built)
    assert (found.value.kind, found.value.paths) == ("not-reproducible", [b"out/b"])


def test_a_failure_ends_the_builders_that_run(place):
    slow = make(place, "slow", "sleep 1000")
    bad = make(place, "bad", "exit 1")
    assert refused(place, slow, bad).derivation == "bad"


def test_a_build_that_changes_one_file_of_many_sends_that_one(place):
    packs = place.home / "results" / "packs"

    def stored() -> int:
        return sum(file.stat().st_size for file in packs.iterdir())

    # 100 kB each, which zstd cannot make less of.
    command = (
        "mkdir out; for i in $(seq 30); do"
        " { openssl enc -aes-128-ctr -nosalt -pass pass:$i -in /dev/zero 2>/dev/null || true; } |"
        " head -c 100000 >out/$i; done;"
        " cp edit out/edit"
    )
    (place.sources / "edit").write_text("1\n")
    one = make(place, "one", command, sources=["edit"], outputs=["out"])
    place.build(one)
    before = stored()
    assert before > 3_000_000
    (place.sources / "edit").write_text("2\n")
    assert place.read(place.build(one), "one", b"out/edit") == b"2\n"
    assert stored() - before < 20_000


def test_many_little_outputs_leave_few_objects_in_the_index_of_their_store(place):
    targets = [make(place, f"one{at}", f"echo {at} >out", outputs=["out"]) for at in range(12)]
    built = place.build(*targets)
    assert len(list((place.home / "results" / "index").glob("*.frag"))) <= 1
    # What this machine owes the index is said there with the next push that says anything.
    (place.sources / "large").write_bytes(os.urandom(2_000_000))
    place.store().push(place.sources, "large")
    assert len(list((place.home / "results" / "index").glob("*.frag"))) == 1
    assert place.read(built, "one7", b"out") == b"7\n"


def test_the_next_builder_runs_while_outputs_are_stored(place, monkeypatch):
    both_have_run = threading.Barrier(2, timeout=60)

    def store_outputs(*arguments, **words):
        both_have_run.wait()
        return outputs.store_outputs(*arguments, **words)

    monkeypatch.setattr("sapwood.build.builder.store_outputs", store_outputs)
    built = place.build(*(make(place, name, f"echo {name} >x", outputs=["x"]) for name in "ab"), jobs=1)
    assert [place.read(built, name, b"x") for name in "ab"] == [b"a\n", b"b\n"]


def test_what_is_being_stored_when_something_else_fails_is_kept(place, monkeypatch):
    good, bad = make(place, "good", "echo 1 >x", outputs=["x"]), make(place, "bad", "exit 1")
    builder = place.builder(good, bad)

    def store_outputs(*arguments, progress, **words):
        assert builder._cancel.wait(60)
        progress(Progress(0, 0, 0, 0))
        return outputs.store_outputs(*arguments, progress=progress, **words)

    monkeypatch.setattr("sapwood.build.builder.store_outputs", store_outputs)
    monkeypatch.setattr("sapwood.build.local.run", in_order(run))
    with pytest.raises(InvalidInputError) as failed:
        builder.build()
    assert failed.value.derivation == "bad"
    assert place.build(good).hits == 1


def in_order(run):
    """Return `run` that lets commands that fail end after one that does not."""
    ended_well = threading.Event()

    def ordered(command, *more):
        if command[-1] == "exit 1":
            assert ended_well.wait(60)
        ended = run(command, *more)
        ended_well.set()
        return ended

    return ordered


def test_inputs_that_cannot_be_had_leave_no_directory_to_keep(place, monkeypatch):
    lib = make(place, "lib", "echo 1 >b", outputs=["b"])
    place.build(lib)

    def nowhere(*_, **__):
        raise UnavailableError("the store is away", kind="store-unreachable")

    monkeypatch.setattr("sapwood.build.kept.Kept.place", nowhere)
    with pytest.raises(UnavailableError):
        place.build(make(place, "one", "cp lib/b c", deps=[lib], outputs=["c"]), keep_failed=True)
    assert not (place.cache / "failed").exists()


def test_a_stopped_sandbox_leaves_nothing(tmp_path):
    cancel, command = threading.Event(), nap()
    (tmp_path / "root").mkdir()
    with pytest.raises(StoppedError) as stopped:
        run(("/bin/sh", "-c", f"echo; {command}"), Sandbox(tmp_path / "root"), lambda _: cancel.set(), cancel)
    assert stopped.value.kind == "stopped"
    assert who_takes(command) == []


def test_a_sandbox_that_is_stopped_when_it_has_just_begun_leaves_nothing(tmp_path, monkeypatch):
    # On a machine that is busy what was killed may take a while to be gone.
    monkeypatch.setattr("sapwood.build.sandbox._GONE_S", 60.0)
    (tmp_path / "root").mkdir()
    command = nap()
    cancel = threading.Event()
    cancel.set()
    for _ in range(20):
        with pytest.raises(StoppedError):
            run(("/bin/sh", "-c", command), Sandbox(tmp_path / "root"), lambda _: None, cancel)
        assert processes_of(command) == []


def test_what_a_builder_has_closed_is_removed_however_deep(tmp_path):
    deep = tmp_path / "built" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").touch(mode=0)
    for folder in (deep, *deep.parents[:3]):
        folder.chmod(0)

    def remove() -> None:
        drop_privileges()
        scratch.remove(tmp_path / "built")

    in_child(remove)
    assert not (tmp_path / "built").exists()


def test_what_a_link_of_a_builder_leads_to_is_left_as_it_is_when_it_is_removed(tmp_path):
    (tmp_path / "mine").touch(mode=0o644)
    closed = tmp_path / "built" / "closed"
    closed.mkdir(parents=True)
    (closed / "link").symlink_to(tmp_path / "mine")
    closed.chmod(0o500)

    def remove() -> None:
        drop_privileges()
        scratch.remove(tmp_path / "built")

    in_child(remove)
    assert not (tmp_path / "built").exists()
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o644


def test_a_sandbox_that_cannot_begin_says_why(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    with pytest.raises(UnavailableError) as failed:
        run(("/bin/true",), Sandbox(tmp_path / "root", [("/nowhere", "x")]), lambda _: None, threading.Event())
    assert failed.value.kind == "sandbox-failed"
    assert "/nowhere" in str(failed.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as missing:
        run(("/bin/true",), Sandbox(tmp_path / "root"), lambda _: None, threading.Event())
    assert missing.value.kind == "sandbox-missing"


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ((), {}),
        (("",), {}),
        (("/bin/true", "a\0b"), {}),
        (("/bin/true",), {"A": "x\0--bind\0/\0/host"}),
        (("/bin/true",), {"A\0x\0--share-net": "x"}),
        (("/bin/true",), {"A=B": "x"}),
        (("/bin/true",), {"": "x"}),
    ],
)
def test_words_that_are_none_give_a_command_nothing_of_the_machine(tmp_path, command, environment):
    (tmp_path / "root").mkdir()
    with pytest.raises(InvalidInputError) as refused:
        run(command, Sandbox(tmp_path / "root", environment=environment), lambda _: None, threading.Event())
    assert refused.value.kind == "bad-action"


def test_who_is_root_on_the_machine_changes_nothing_of_its_kernel_from_within(tmp_path):
    (tmp_path / "root").mkdir()
    said = bytearray()
    find = "find /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus -type f -writable; cat /proc/sys/kernel/hostname"
    run(("/bin/sh", "-c", f"{find} 2>&-"), Sandbox(tmp_path / "root"), said.extend, threading.Event())
    assert said.splitlines()[-1] == b"sapwood"
    assert [line for line in said.splitlines()[:-1] if not line.startswith(b"find: ")] == []


def test_outputs_by_name_and_by_reference_are_one_key(place):
    lib = make(place, "lib", "echo 1 >b", outputs=["b"])
    by_reference = make(place, "one", "cat x >c", deps={"x": lib.output("b")}, outputs=["c"])
    by_name = make(place, "one", "cat x >c", deps={"x": output("lib", "b")}, outputs=["c"])
    built = place.build(by_reference)
    again = place.build(by_name, lib)
    assert again.made["one"].is_hit
    assert again.made["one"].result.action == built.made["one"].result.action


def test_signals_are_not_needed_to_leave_a_clean_place(place):
    place.build(make(place, "one", "echo 1 >b", outputs=["b"]))
    assert list((place.cache / "scratch").iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is not None


def test_a_store_that_is_full_makes_no_result_and_takes_one_when_there_is_room(place):
    one = make(place, "one", "head -c 9000000 /dev/urandom >x", outputs=["x"])
    with small_disk(place.home / "disk", 8 << 20) as disk:
        with pytest.raises(UnavailableError) as full:
            place.build(one, stores=[open_store(str(disk / "results"), create=True)])
        assert full.value.kind == "disk-full"
        assert open_store(str(disk / "results")).actions() == []
        two = make(place, "one", "head -c 1000000 /dev/urandom >x", outputs=["x"])
        place.build(two, stores=[open_store(str(disk / "results"))])
        assert len(open_store(str(disk / "results")).actions()) == 1
