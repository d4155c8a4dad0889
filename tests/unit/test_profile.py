"""Profiles: what was read comes first, is remembered by tree and ref, and is never more than a hint."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.digests import TreeDigest
from sapwood.errors import CorruptError, FormatError
from sapwood.profile import Part, Profile, find_profile, keep_profile, read_profile, write_profile
from tests.support.cli import Sapwood
from tests.support.webserver import serving

TREE = TreeDigest("sha256:" + "1" * 64)
OTHER = TreeDigest("sha256:" + "2" * 64)
NOISE = bytes(range(256)) * 64


def run_of(*names: bytes, tree: TreeDigest = TREE, recorded: str = "2026-01-01T00:00:00Z") -> Profile:
    return Profile.of_run(tree, recorded, [(name, 0, [(0, 10)], [b"sh"]) for name in names])


def test_a_profile_is_read_back_as_it_was_written() -> None:
    odd = Part(b'a\xff\n"', 1 << 40, 0, 2, 5, frozenset([b"sh", b"py\xfe"]))
    profile = Profile(TREE, 3, "2026-01-01T00:00:00Z", (odd, Part(b"b", 0, 1, 1, 0, frozenset())))
    assert Profile.decode(profile.encode(), "here") == profile
    text = zlib.decompress(profile.encode(), 31).split(b"\n")
    assert text[0] == (
        b'{"format":1,"tree":"%s","runs":3,"recorded":"2026-01-01T00:00:00Z","programs":["py\\udcfe","sh"]}'
        % TREE.encode()
    )
    assert text[1] == rb'["a\udcff\n\"",1099511627776,0,2,5,[0,1]]'


def test_runs_merge_to_the_same_in_any_order() -> None:
    runs = [run_of(b"a", b"b", b"c"), run_of(b"c", b"b"), run_of(b"d", tree=OTHER, recorded="2026-01-02T00:00:00Z")]
    one = runs[0].merged(runs[1]).merged(runs[2])
    assert runs[2].merged(runs[1].merged(runs[0])) == one
    assert (one.runs, one.tree) == (3, OTHER)
    assert [(part.path, part.rank, part.runs) for part in one.parts] == [
        (b"a", 0, 1), (b"c", 0, 2), (b"d", 0, 1), (b"b", 1, 2),
    ]  # fmt: skip
    assert one.paths() == [b"c", b"b", b"a", b"d"], "what most runs read comes first"


def test_ranges_are_put_in_order_and_united_by_runs_in_any_order() -> None:
    one, two = (
        Profile.of_run(TREE, "", [(b"a", 4096, ranges, [])]) for ranges in ([(0, 10), (30, 40)], [(5, 20), (50, 60)])
    )
    old = Profile(TREE, 1, "", (Part(b"a", 4096, 0, 1, 99, frozenset()),))
    for runs in ([one, two, old], [old, two, one]):
        [part] = runs[0].merged(runs[1]).merged(runs[2]).parts
        assert part.ranges == ((0, 20), (30, 40), (50, 60))
        assert (part.runs, part.bytes) == (3, 99)
        assert part.places() == [(4096, 4116), (4126, 4136), (4146, 4156)]
    [part] = Profile.decode(two.encode(), "here").parts
    assert part == two.parts[0]
    assert old.parts[0].places() == [(4096, 4097)], "without ranges, whatever holds its offset"


def test_what_was_only_looked_up_is_read_back_and_united_by_runs_in_any_order() -> None:
    names = [b"a", b"d/b", b"d/e/\xff", b'd/e/"', b"d/e/\xc3\xa9", b"z"]
    one = Profile.of_run(TREE, "1", [(b"d/b", 0, [(0, 1)], [])], [b"a", b"d/b"])
    assert one.looked_up == {b"a"}, "what was read is not only looked up"
    two, three = Profile.of_run(TREE, "2", [], names), Profile.of_run(TREE, "3", [(b"a", 0, [(0, 1)], [])], names)
    for runs in ([one, two, three], [two, three, one], [three, one, two]):
        merged = runs[0].merged(runs[1]).merged(runs[2])
        assert merged.looked_up == set(names) - {b"a", b"d/b"}
        assert set(merged.paths()) == {b"a", b"d/b"}, "nobody brings what was only looked up"
    assert Profile.decode(two.encode(), "here") == two


def test_of_more_names_than_the_first_line_has_room_for_the_last_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b'%03d/"\xff\xc3\xa9/%05d' % (number // 100, number) for number in range(5000)]
    profile = Profile.of_run(TREE, "1", [(b"a", 0, [(0, 1)], [b"sh"])], names)
    assert Profile.decode(profile.encode(), "here") == profile
    monkeypatch.setattr("sapwood.profile._LONGEST_LINE", 9000)
    header = zlib.decompress(profile.encode(), 31).split(b"\n")[0]
    assert 8900 < len(header) <= 9000
    kept = Profile.decode(profile.encode(), "here")
    assert kept.looked_up == set(names[: len(kept.looked_up)])
    assert kept.parts == profile.parts
    for most, bound in (("_MOST_LOOKED_UP", 10), ("_MOST_LOOKED_UP_BYTES", 10 * len(names[0]))):
        with monkeypatch.context() as patched:
            whole = profile.encode()
            patched.setattr(f"sapwood.profile.{most}", bound)
            assert Profile.decode(whole, "here").looked_up == set(names[:10])
            assert Profile.decode(profile.encode(), "here").looked_up == set(names[:10])


@pytest.mark.parametrize("names", ["7", "[]", '{"a":1}', '{"a":["b",1]}', '{"a":["\\ud800"]}', '{"\\ud800":["b"]}'])
def test_names_that_are_none_are_damage(names: str) -> None:
    header = f'{{"format":1,"tree":"{TREE}","runs":1,"recorded":"","programs":[],"lookedUp":{names}}}\n'
    with pytest.raises(CorruptError) as refused:
        Profile.decode(zlib.compress(header.encode(), wbits=31), "here")
    assert refused.value.kind == "profile-corrupt"


def decoded(ranges: str, parts: int = 1) -> tuple[Part, ...]:
    header = json.dumps({"format": 1, "tree": TREE, "runs": 1, "recorded": "", "programs": []})
    rows = "".join(f'["{number}",0,{number},1,9,[],{ranges}]\n' for number in range(parts))
    return Profile.decode(zlib.compress(f"{header}\n{rows}".encode(), wbits=31), "here").parts


def test_ranges_that_overlap_or_are_out_of_order_are_put_right_and_too_many_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert decoded("[5,9,0,6,7,7,20,10]")[0].ranges == ((0, 9),)
    assert decoded(json.dumps(list(range(512))))[0].ranges[-1] == (510, 511)
    assert decoded(json.dumps(list(range(514))))[0].ranges == ()
    assert decoded(json.dumps([0, 1] * 100_000))[0].ranges == ()
    monkeypatch.setattr("sapwood.profile._MOST_RANGES_OF_ALL", 5)
    assert [part.ranges for part in decoded("[0,1,2,3]", 3)] == [((0, 1), (2, 3)), ((0, 1), (2, 3)), ()]


@pytest.mark.parametrize("ranges", ["7", "[0]", "[0,-1]", "[0,true]", "[0,1.5]", '["0","1"]', f"[0,{1 << 63}]"])
def test_ranges_that_are_none_are_damage(ranges: str) -> None:
    with pytest.raises(CorruptError) as refused:
        decoded(ranges)
    assert refused.value.kind == "profile-corrupt"


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]\n", b'{"format":1,"tree":"x","runs":1,"recorded":"","programs":[]}\n', b"no JSON\n"],
)
def test_a_damaged_profile_is_refused(text: bytes) -> None:
    packed = zlib.compress(text, wbits=31)
    for data in (packed, packed[:-1], packed + b"x", b"x" + packed, b""):
        with pytest.raises(CorruptError) as refused:
            Profile.decode(data, "here")
        assert refused.value.kind == "profile-corrupt"


@pytest.mark.parametrize(
    "row",
    ["[]", "{}", '["a",0,0,1,0,[7]]', '["a",-1,0,1,0,[]]', '["a",0,0,1,true,[]]', "[0,0,0,1,0,[]]", '["a",0,0,1,0,0]'],
)
def test_a_damaged_part_is_refused_and_a_longer_one_is_not(row: str) -> None:
    header = json.dumps({"format": 1, "tree": TREE, "runs": 1, "recorded": "", "programs": ["sh"], "new": 1})
    with pytest.raises(CorruptError) as refused:
        Profile.decode(zlib.compress(f"{header}\n{row}\n".encode(), wbits=31), "here")
    assert refused.value.kind == "profile-corrupt"
    longer = zlib.compress(f'{header}\n["a",0,0,1,9,[0],[],"news"]\n'.encode(), wbits=31)
    assert Profile.decode(longer, "here").paths() == [b"a"]


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    file.write_bytes(zlib.compress(b'{"format":2}\n', wbits=31))
    with pytest.raises(FormatError) as refused:
        read_profile(file)
    assert refused.value.kind == "format-newer"


def test_what_is_larger_than_any_may_be_is_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = run_of(*[b"%d" % number for number in range(1000)])
    monkeypatch.setattr("sapwood.profile._MOST_BYTES", 10_000)
    kept = Profile.decode(profile.encode(), "here").parts
    assert len(zlib.decompress(profile.encode(), 31)) <= 10_000
    assert 100 < len(kept) < 1000
    assert kept == profile.parts[: len(kept)]


def test_a_profile_in_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    for run in (run_of(b"a"), run_of(b"b")):
        write_profile(file, run)
        assert read_profile(file) == run
    assert list(tmp_path.iterdir()) == [file]


def test_a_tree_begins_with_what_its_ref_has_and_a_ref_knows_all_runs(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    assert find_profile(store, "a/b", TREE) is None
    keep_profile(store, "a/b", run_of(b"old"))
    assert find_profile(store, "another", TREE) is not None, "a tag finds it by its tree"
    assert find_profile(store, "another", OTHER) is None
    kept = keep_profile(store, "a/b", run_of(b"new", tree=OTHER))
    assert (kept.runs, set(kept.paths())) == (2, {b"old", b"new"})
    assert find_profile(store, "a/b", OTHER) == kept
    found = find_profile(store, "another", TREE)
    assert found is not None
    assert found.paths() == [b"old"]


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    """A sapwood whose default store has a tree `main`."""
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    for number in range(100):
        (tree / "d" / f"{number:02}").write_bytes(NOISE[number:])
    (tree / "hello").write_text("hello\n")
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    return sapwood


def test_a_trace_tells_what_was_read_and_passes_on_the_code(run: Sapwood) -> None:
    said = run("trace", "main", "--", "sh", "-c", 'cat "$SAPWOOD_ROOT/d/42" "$SAPWOOD_ROOT/hello" > /dev/null; exit 7')
    assert said.code == 7
    assert "of 2 files, by cat\n" in said.err
    store = open_store(str(run.store))
    found = find_profile(store, "main", store.read_snapshot(store.read_ref("main").snapshot).tree)
    assert found is not None
    assert found.paths() == [b"d/42", b"hello"]
    assert [part.bytes for part in found.parts] == [len(NOISE[42:]), 6]


def test_a_file_that_is_only_asked_for_is_looked_up_and_not_read_and_one_that_is_listed_is_neither(
    run: Sapwood,
) -> None:
    asks = 'cd "$SAPWOOD_ROOT"; [ -e d/42 ] && [ ! -e d/no ] && cat hello > /dev/null && cd d && set -- * && echo $#'
    assert run.good("trace", "--out", "p", "main", "--", "sh", "-c", asks).out == "100\n"
    found = read_profile(run.home / "p")
    assert (found.paths(), found.looked_up) == ([b"hello"], {b"d/42"})
    run.good("trace", "--out", "p", "main", "--", "ls", "-l", "{}/d")
    assert read_profile(run.home / "p").looked_up == {b"d/%02d" % number for number in range(100)}
    told = run.good("coverage", "--json", "--profile", "p", "main").document
    assert (told["filesRead"], told["bytesRead"]) == (1, 6)


def test_what_is_in_the_cache_already_is_traced_all_the_same(run: Sapwood) -> None:
    for runs in (1, 2):
        document = run.good("trace", "--json", "main", "--", "cat", "{}/hello").document
        assert (document["files"], document["bytes"], document["runs"]) == (1, 6, runs)
        assert document["programs"] == ["cat"]


def test_with_json_the_command_speaks_on_stderr(run: Sapwood) -> None:
    said = run.good("trace", "--json", "main", "--", "cat", "{}/hello")
    assert said.document["code"] == 0
    assert "hello\n" in said.err


def test_the_next_mount_brings_what_was_traced_before_it_is_asked_also_of_a_later_snapshot(run: Sapwood) -> None:
    run.good("trace", "main", "--", "cat", "{}/d/42", "{}/hello")
    (run.home / "tree" / "hello").write_text("changed\n")
    run.good("push", "tree", "main")
    digest = hashlib.sha256(b"changed\n").hexdigest()
    run.cache = run.home / "another"
    # It reads nothing; that its file has come is the end of its wait.
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    object_ = run.cache / "objects" / digest[:2] / digest
    run.good("run", "--no-prefetch", "--stats", "stats", "main", "--", sys.executable, "-c", wait, object_)
    stats = json.loads((run.home / "stats").read_text())
    assert (stats["waited"], stats["files_read"]) == (0, 0)


def test_without_a_profile_only_what_is_read_is_fetched(run: Sapwood) -> None:
    run.good("trace", "main", "--", "cat", "{}/d/42", "{}/hello")
    run.cache = run.home / "another"
    run.good("run", "--no-prefetch", "--no-profile", "--stats", "stats", "main", "--", "true")
    digest = hashlib.sha256(b"hello\n").hexdigest()
    assert not (run.cache / "objects" / digest[:2] / digest).exists()


def test_collection_keeps_the_profiles_of_what_lives_and_deletes_the_others(run: Sapwood) -> None:
    def kept() -> set[str]:
        return {str(file.relative_to(run.store / "profiles")) for file in run.store.glob("profiles/**/*.gz")}

    run.good("push", run.home / "tree" / "d", "d")
    for ref, name in (("main", "hello"), ("d", "42")):
        run.good("trace", ref, "--", "cat", f"{{}}/{name}")
    before = kept()
    assert len(before) == 4
    run.good("gc", "--grace", "0s")
    assert kept() == before
    run.good("rm", "d")
    run.good("gc", "--dry-run", "--grace", "0s")
    run.good("gc")
    assert kept() == before, "they are not old enough"
    document = run.good("gc", "--json", "--grace", "0s").document
    store = open_store(str(run.store))
    tree = store.read_snapshot(store.read_ref("main").snapshot).tree
    assert kept() == {f"trees/{tree[7:]}.jsonl.gz", "refs/main.jsonl.gz"}
    assert document["deleted"] >= 2


def test_a_damaged_profile_costs_nothing_but_itself(run: Sapwood) -> None:
    run.good("trace", "main", "--", "cat", "{}/hello")
    for kept in run.store.glob("profiles/*/*"):
        kept.chmod(0o644)
        kept.write_bytes(b"damaged")
    assert run.good("run", "main", "--", "cat", "{}/hello").out == "hello\n"
    said = run("trace", "main", "--", "cat", "{}/hello")
    assert (said.code, said.out) == (5, "hello\n")
    assert "is damaged" in said.err


def test_of_an_archive_the_profile_is_a_file_and_is_followed(run: Sapwood) -> None:
    run.good("pack", "tree", "tree.tar.gz")
    refused = run("trace", "tree.tar.gz", "--", "true")
    assert refused.code == 2
    assert "hint: name a file for it: --out FILE" in refused.err
    for runs in (1, 2):
        said = run.good("trace", "--json", "--out", "p", "tree.tar.gz", "--", "cat", "{}/d/07")
        assert said.document["runs"] == runs
    assert read_profile(run.home / "p").paths() == [b"d/07"]
    assert run.good("run", "--profile", "p", "tree.tar.gz", "--", "cat", "{}/hello").out == "hello\n"


def test_a_store_that_is_only_read_is_refused_before_the_command_runs(run: Sapwood) -> None:
    with serving(run.store) as url:
        said = run("trace", f"{url}#main", "--", "touch", run.home / "ran")
        assert said.code == 2
        assert not (run.home / "ran").exists()
        run.good("trace", "--out", "p", f"{url}#main", "--", "cat", "{}/hello")
        run.good("trace", "main", "--", "cat", "{}/hello")
        assert run.good("run", f"{url}#main", "--", "cat", "{}/hello").out == "hello\n"


def test_nothing_is_traced_without_a_command(run: Sapwood) -> None:
    said = run("trace", "main")
    assert said.code == 2
    assert "hint: sapwood trace main -- ls {}" in said.err


def test_nothing_is_run_whose_profile_could_not_be_kept(run: Sapwood) -> None:
    said = run("trace", "--out", "nowhere/p", "main", "--", "touch", run.home / "ran")
    assert said.code == 3
    assert "nowhere is missing" in said.err
    assert "hint: mkdir -p nowhere" in said.err
    assert not (run.home / "ran").exists()


def test_a_command_that_cannot_be_started_is_no_run(run: Sapwood) -> None:
    assert run("trace", "--out", "p", "main", "--", "{}/nowhere").code == 127
    assert run("trace", "--out", "p", "main", "--", "{}/d/42").code == 126
    assert not (run.home / "p").exists()


def test_statistics_that_cannot_be_written_cost_no_profile(run: Sapwood) -> None:
    run.good("trace", "--stats", "/proc/stats", "--out", "p", "main", "--", "cat", "{}/hello")
    assert read_profile(run.home / "p").paths() == [b"hello"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_mount_that_was_killed_leaves_no_profile_and_trace_says_so(run: Sapwood, code: int) -> None:
    kill = """cat "$SAPWOOD_ROOT/hello" && exec "$0" -c '
import os, signal, sys
from pathlib import Path
from sapwood.mount.table import mounts
[mount] = [mount for mount in mounts() if mount.path == Path(os.environ["SAPWOOD_ROOT"])]
os.killpg(mount.pid, signal.SIGKILL)
sys.exit(int(sys.argv[1]))' "$1" """
    said = run("trace", "--out", "p", "main", "--", "sh", "-c", kill, sys.executable, str(code))
    assert (said.code, said.out) == (code or 6, "hello\n"), said.err
    assert "main: the mount's server ended before it wrote what was read\nhint: run it again" in said.err
    assert not (run.home / "p").exists()


def test_a_command_that_reads_nothing_is_no_run(run: Sapwood) -> None:
    nothing = ["main", "--", "sh", "-c", "exit 3"]
    for words in (["trace", "--out", "p"], ["trace"]):
        said = run(*words, *nothing)
        assert (said.code, "nothing of main, which is no run" in said.err) == (3, True), said.err
    assert not (run.home / "p").exists()
    assert not list(run.store.glob("profiles/**/*.gz"))
    run.good("trace", "main", "--", "cat", "{}/hello")
    document = run("trace", "--json", *nothing).document
    assert (document["code"], document["parts"], document["runs"]) == (3, 0, 0)
    # What is only looked up is something, which is kept when an image is made slim.
    assert run.good("trace", "--json", "main", "--", "stat", "{}/d/42").document["runs"] == 2


def test_a_profile_and_none_exclude_each_other(run: Sapwood) -> None:
    refused = run("run", "--profile", "p", "--no-profile", "main", "--", "true")
    assert refused.code == 2
    assert "not allowed with argument --profile" in refused.err


def test_what_is_no_profile_is_refused_by_name(run: Sapwood) -> None:
    said = run("run", "--profile", run.home / "tree/hello", "main", "--", "true")
    assert said.code == 5
    assert f"{run.home}/tree/hello is no profile\nhint: sapwood trace --out FILE writes one" in said.err


def test_an_archive_has_first_what_was_read(run: Sapwood) -> None:
    run.good("trace", "main", "--", "cat", "{}/d/42", "{}/hello")
    run.good("trace", "--out", "p", "main", "--", "cat", "{}/d/42", "{}/hello")
    for words in [("pack", "--prioritize", "@read", "main"), ("pack", "--prioritize", "p", "tree")]:
        run.good(*words, "out.tar.gz")
        with tarfile.open(run.home / "out.tar.gz") as tar:
            names = tar.getnames()
        assert {*names[: names.index(".prefetch.landmark")]} - {".", "d"} == {"d/42", "hello"}
    with tarfile.open(run.home / "in.tar", "w") as tar:
        tar.add(run.home / "tree", "")
    run.good("convert", "--prioritize", "p", "in.tar", "again.tar.gz")
    with tarfile.open(run.home / "again.tar.gz") as tar:
        assert tar.getnames().index("d/42") < tar.getnames().index(".prefetch.landmark") < tar.getnames().index("d/00")


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("pack", "--prioritize", "@read", "main", "out"), 3, "nobody has recorded what is read of it"),
        (("pack", "--prioritize", "@read", "tree", "out"), 2, "this comes from no store"),
        (("convert", "--prioritize", "@read", "in.tar", "out"), 2, "this comes from no store"),
    ],
)
def test_what_nobody_has_traced_cannot_come_first(run: Sapwood, words: tuple[str, ...], code: int, what: str) -> None:
    said = run(*words)
    assert said.code == code
    assert what in said.err
    assert not (run.home / "out").exists()
