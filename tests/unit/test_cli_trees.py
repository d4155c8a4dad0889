"""The commands on real trees: what they print, in text and in JSON, and what they say when something is wrong."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import Sapwood
from tests.support.terminal import on_terminal

NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a").write_text("hello\n")
    (root / "sub" / "tool").write_text("#!/bin/sh\n")
    (root / "sub" / "tool").chmod(0o755)
    (root / "link").symlink_to("sub/tool")
    (root / NOT_UTF8).write_text("coffee\n")
    os.utime(root / "a", ns=(0, 1_709_208_000_123_456_789))
    return root


def test_hash_prints_the_tree_digest_and_reads_nothing_twice(run: Sapwood, tree: Path) -> None:
    first = run.good("hash", "--json", tree).document
    assert (first["files"], first["filesHashed"], first["bytes"]) == (3, 3, 23)
    assert run.good("hash", tree).out == first["digest"] + "\n"


def test_status_lists_what_changed_since_the_hash(run: Sapwood, tree: Path) -> None:
    assert run.good("status", "--json", tree).document["fresh"] is True
    run.good("hash", tree)
    assert run.good("status", tree).out == ""
    (tree / "a").write_text("something else\n")
    (tree / "new").write_text("")
    (tree / "link").unlink()
    assert run.good("status", tree).out == "M a\nD link\nA new\n"
    said = run.good("status", "--json", tree).document
    assert said == {"fresh": False, "added": ["new"], "changed": ["a"], "removed": ["link"], "unreadable": []}


def test_status_for_programs_ends_each_record_with_a_nul(run: Sapwood, tree: Path) -> None:
    run.good("hash", tree)
    assert run.good("status", "-z", tree).out == ""
    (tree / "two\nlines").write_text("")
    (tree / NOT_UTF8).write_text("tea\n")
    (tree / "link").unlink()
    said = run.good("status", "-z", tree)
    assert (said.out, said.err) == (f"M {NOT_UTF8}\0D link\0A two\nlines\0", "")
    assert run("status", "-z", "--json", tree).code == 2


def test_on_a_terminal_status_sums_up(run: Sapwood, tree: Path) -> None:
    def said(*options: str) -> list[str]:
        code, written = on_terminal(run.command("status", *options, tree), run.environment)
        assert code == 0
        return written.splitlines()

    run.good("hash", tree)
    assert said() == ["nothing changed"]
    (tree / "a").write_text("something else\n")
    (tree / "new").write_text("")
    (tree / "newer").write_text("")
    assert said() == ["M a", "A new", "A newer", "2 added, 1 changed"]
    assert said("-z") == ["M a\0A new\0A newer\0"]


def test_push_prints_the_pinned_address_which_reads_back_what_was_pushed(run: Sapwood, tree: Path) -> None:
    pinned = run.good("push", tree, "main").out.strip()
    assert pinned.startswith(f"{run.store}#main@sha256:")
    (tree / "a").write_text("later\n")
    run.good("push", tree, "main")
    assert run.good("cat", pinned, "a").out == "hello\n"
    assert run.good("cat", "main", "a").out == "later\n"


def test_a_second_push_reports_that_only_the_edit_was_read_and_sent(run: Sapwood, tree: Path) -> None:
    first = run.good("push", "--json", tree, "main").document
    (tree / "a").write_text("an edit\n")
    second = run.good("push", "--json", tree, "main").document
    third = run.good("push", "--json", tree, "main").document
    assert (first["filesHashed"], second["filesHashed"]) == (3, 1)
    assert second["snapshot"] != first["snapshot"]
    assert (second["unchanged"], third["unchanged"]) == (False, True)
    assert (third["chunksSent"], third["bytesStored"], third["snapshot"]) == (0, 0, second["snapshot"])


def test_a_push_says_what_it_saved(run: Sapwood, tree: Path) -> None:
    (tree / "twice").write_bytes((tree / "a").read_bytes())
    said = run.good("push", tree, "main").err
    assert "saved:  6 B, in the store already or twice in the tree\n" in said


def test_what_is_data_goes_to_stdout_and_what_is_talk_to_stderr(run: Sapwood, tree: Path) -> None:
    said = run.good("push", tree, "main")
    assert len(said.out.splitlines()) == 1
    assert said.err.startswith("tree:   3 files, 23 B, sha256:")
    assert run.good("push", "--json", tree, "main").err == ""


def test_pull_writes_the_tree_that_was_pushed(run: Sapwood, tree: Path, tmp_path: Path) -> None:
    digest = run.good("hash", tree).out
    run.good("push", tree, "main")
    assert run.good("pull", "main", "copy").out == digest
    assert run.good("hash", "copy").out == digest
    copy = tmp_path / "copy"
    assert (copy / "a").stat().st_mtime_ns == 1_709_208_000_123_456_789
    assert (copy / NOT_UTF8).read_text() == "coffee\n"
    assert os.readlink(copy / "link") == "sub/tool"


def test_ls_lists_names_sorted_by_their_bytes_as_they_are(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    assert run.good("ls", "main").out == f"a\n{NOT_UTF8}\nempty\nlink\nsub\n"
    assert run.good("ls", "main", "sub").out == "tool\n"
    assert run.good("ls", "-R", "main").out == f"a\n{NOT_UTF8}\nempty\nlink\nsub\nsub/tool\n"
    assert run.good("ls", tree).out == run.good("ls", "main").out


def test_ls_long_shows_what_a_file_map_knows(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    lines = run.good("ls", "-l", "main").out.splitlines()
    assert lines[0].split() == [
        "-rw-r--r--", "1", str(os.getuid()), str(os.getgid()), "6", "2024-02-29T12:00:00Z", "a",
    ]  # fmt: skip
    assert lines[3].endswith("link -> sub/tool")
    assert run.good("ls", "-l", "main", "sub/tool").out.startswith("-rwxr-xr-x")


def test_ls_json_gives_every_name_back_and_the_digest_of_each_file(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    entries = {os.fsencode(entry["path"]): entry for entry in run.good("ls", "-R", "--json", "main").document}
    assert set(entries) == {b"a", b"caf\xe9", b"empty", b"link", b"sub", b"sub/tool"}
    assert entries[b"a"]["digest"] == "sha256:" + hashlib.sha256(b"hello\n").hexdigest()
    assert entries[b"a"]["mtimeNs"] == 1_709_208_000_123_456_789
    assert entries[b"link"]["target"] == "sub/tool"


def test_cat_writes_files_one_after_the_other(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    assert run.good("cat", "main", "a", NOT_UTF8).out == "hello\ncoffee\n"


def test_diff_says_what_differs_and_by_its_exit_code_whether(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    same = run("diff", "main", tree)
    assert (same.code, same.out) == (0, "")
    (tree / "a").write_text("other\n")
    (tree / "sub" / "tool").unlink()
    (tree / "z").write_text("")
    different = run("diff", "main", tree)
    assert (different.code, sorted(different.out.splitlines())) == (1, ["A z", "D sub/tool", "M a"])
    backwards = run("diff", "--json", tree, "main")
    assert backwards.code == 1
    assert {"kind": "removed", "path": "z"} in backwards.document


def test_diff_in_nul_terminated_records_gives_names_as_they_are(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    (tree / "two\nlines").write_text("")
    (tree / NOT_UTF8).unlink()
    said = run("diff", "-z", "main", tree)
    assert (said.code, sorted(said.out.split("\0"))) == (1, ["", "A two\nlines", f"D {NOT_UTF8}"])
    assert (run("diff", "-z", tree, tree).code, run("diff", "-z", "-u", tree, tree).code) == (0, 2)


def test_diff_of_paths_looks_only_there(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    (tree / "a").write_text("other\n")
    (tree / "sub" / "tool").write_text("#!/bin/bash\n")
    (tree / "sub" / "more").write_text("")
    assert run("diff", "main", tree, "sub").out == "A sub/more\nM sub/tool\n"
    assert run("diff", "main", tree, "sub/more", "a/").out == "M a\nA sub/more\n"
    assert run("diff", "main", tree, "link").code == 0
    missing = run("diff", "main", tree, "gone")
    assert (missing.code, missing.err) == (3, "sapwood: no gone in either tree\n")


def test_diff_unified_is_what_patch_takes(run: Sapwood, tree: Path, tmp_path: Path) -> None:
    run.good("push", tree, "main")
    run.good("pull", "main", "copy")
    (tree / "a").write_text("other\n")
    (tree / "sub" / "tool").unlink()
    (tree / "new").write_text("new\n")
    patch = run("diff", "-u", "main", tree)
    assert (patch.code, patch.err) == (1, "")
    subprocess.run(["patch", "-p1", "-d", tmp_path / "copy"], input=os.fsencode(patch.out), check=True)
    assert run.good("diff", "-u", tree, tree).out == ""
    (tree / "sub").rmdir()  # as patch does with what it has emptied
    assert run("diff", tree, "copy").out == ""


def test_refs_and_log_tell_what_was_pushed_newest_first(run: Sapwood, tree: Path) -> None:
    first = run.good("push", "--json", tree, "main").document["snapshot"]
    (tree / "a").write_text("x")
    second = run.good("push", "--json", tree, "main").document["snapshot"]
    run.good("push", tree, "team/other")
    assert [ref["name"] for ref in run.good("refs", "--json").document] == ["main", "team/other"]
    assert f"{second}  main\n" in run.good("refs", run.store).out
    log = run.good("log", "--json", "main").document
    assert [(entry["snapshot"], entry["parent"]) for entry in log] == [(second, first), (first, None)]
    assert log[0]["source"] == str(tree)
    assert [e["snapshot"] for e in run.good("log", "--json", f"main@{first}").document] == [first]
    assert run.good("log", "-n", "1", "main").out.startswith(second + "\n")


# What goes wrong -> (words, exit code, stderr); {home} is where commands run, {store} the default store.
MISTAKES = {
    "a directory that does not exist": (["hash", "gone"], 3, "sapwood: cannot open gone: No such file or directory\n"),
    "a file where a directory is meant": (["hash", "tree/a"], 2, "sapwood: tree/a"),
    "a store that is not one": (
        ["ls", "{home}/tree#main"],
        2,
        "sapwood: {home}/tree: not a store: there is no sapwood.json\n"
        "hint: name a store; an empty place becomes one by: sapwood init {home}/tree\n",
    ),
    "pushing into a directory that holds something else": (
        ["push", "tree", "{home}/tree#main"],
        2,
        "sapwood: {home}/tree: neither a store nor empty\nhint: name an empty or a new place\n",
    ),
    "a ref that is not there": (
        ["ls", "mian"],
        3,
        "sapwood: {store} has no ref mian\nhint: sapwood refs {store}\n",
    ),
    "a snapshot that is not there": (
        ["ls", "main@sha256:" + "0" * 64],
        3,
        "sapwood: {store} has no snapshot sha256:000000000000\n",
    ),
    "a path that is not in the tree": (["cat", "main", "gone"], 3, "sapwood: no gone in the tree\n"),
    "a directory where a file is meant": (["cat", "main", "sub"], 2, "sapwood: sub is no file but a dir\n"),
    "a place to pull to that is a file": (["pull", "main", "tree/a"], 2, "sapwood: {home}/tree/a is not a directory\n"),
    "a place to pull to whose parent is missing": (
        ["pull", "main", "no/such/place"],
        3,
        "sapwood: {home}/no/such is missing\nhint: mkdir -p {home}/no/such\n",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_one_line(run: Sapwood, tree: Path, mistake: str) -> None:
    run.good("push", tree, "main")
    words, code, expected = MISTAKES[mistake]

    def filled(text: str) -> str:
        return text.replace("{home}", str(run.home)).replace("{store}", str(run.store))

    said = run(*map(filled, words))
    assert (said.code, said.out) == (code, ""), said
    if expected.endswith("\n"):
        assert said.err == filled(expected)
    else:
        assert said.err.startswith(filled(expected))
    assert "Traceback" not in said.err


def test_a_file_without_permission_fails_the_push_by_name_or_is_skipped_by_name(run: Sapwood, tree: Path) -> None:
    (tree / "sub" / "secret").write_text("x")
    (tree / "sub" / "secret").chmod(0)
    ordinary = run.without_powers()
    refused = ordinary("push", tree, "main")
    assert (refused.code, refused.out) == (7, "")
    assert "sub/secret" in refused.err
    assert run("log", "main").code in (2, 3)  # nothing was pushed
    skipped = ordinary.good("push", "--skip-unreadable", tree, "main")
    assert f"skipped, no permission: {tree}/sub/secret\n" in skipped.err
    assert ordinary.good("hash", "--json", "--skip-unreadable", tree).document["unreadable"] == [f"{tree}/sub/secret"]
    assert run.good("ls", "main", "sub").out == "tool\n"


def test_a_damaged_pack_ends_in_exit_code_5_and_no_byte(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    for pack in (run.store / "packs").iterdir():
        data = bytearray(pack.read_bytes())
        data[len(data) // 4] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)
    said = run("pull", "main", "copy")
    assert (said.code, said.out) == (5, ""), said
    assert "damaged" in said.err
    assert not (run.home / "copy").exists()


def test_a_newer_format_ends_in_exit_code_8(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    identity = run.store / "sapwood.json"
    newer = json.loads(identity.read_text()) | {"format": 3}
    identity.chmod(0o644)
    identity.write_text(json.dumps(newer, separators=(",", ":")))
    said = run("ls", "main")
    assert (said.code, said.out) == (8, "")
    assert said.err.startswith("sapwood: ")


def test_refs_shows_the_sound_ones_and_names_the_damaged_whose_remedy_is_one(run: Sapwood, tree: Path) -> None:
    for name in ("one", "two"):
        run.good("push", tree, name)
    damaged = run.store / "refs" / "one.ref"
    damaged.unlink()
    damaged.write_text("{")
    said = run("refs")
    assert (said.code, len(said.out.splitlines())) == (5, 1)
    assert said.out.endswith("  two\n")
    assert said.err == (
        f"sapwood: {run.store}: ref one is damaged: it is not JSON\n"
        "hint: remove refs/one.ref from the store, and push to it again\n"
    )
    listed = run("refs", "--json")
    assert (listed.code, [ref["name"] for ref in listed.document]) == (5, ["two"])
    damaged.unlink()
    run.good("push", tree, "one")
    assert len(run.good("refs").out.splitlines()) == 2
