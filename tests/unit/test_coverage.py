"""Coverage: what was read of a tree, what never was, whose it is, and a picture that cannot be fooled by names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sapwood.coverage import Coverage, Seen, measure, treemap
from sapwood.coverage.packages import packages_of
from sapwood.digests import TreeDigest
from sapwood.open import open_tree
from sapwood.profile import Profile, write_profile
from tests.support.cli import Sapwood

FILES = {
    "usr/bin/tool": b"t" * 1000,
    "usr/lib/tool/used": b"u" * 3000,
    "usr/lib/tool/spare": b"s" * 5000,
    "opt/own": b"o" * 100,
    "var/lib/dpkg/info/tool:amd64.list": b"/.\n/bin/tool\n/usr/lib/tool\n/usr/lib/tool/used\n/usr/lib/tool/spare\n",
    "venv/lib/site/pkg/__init__.py": b"p" * 200,
    "venv/lib/site/pkg-1.0.dist-info/RECORD": b"pkg/__init__.py,sha256=x,200\n../../bin/pkg,,\n",
    "venv/bin/pkg": b"b" * 50,
}


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    """A sapwood whose default store has a traced tree of two packages, with hard links."""
    tree = tmp_path / "tree"
    for name, content in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/lib/tool/zlink").hardlink_to(tree / "usr/lib/tool/used")
    (tree / "usr/lib/tool/zspare").hardlink_to(tree / "usr/lib/tool/spare")
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    sapwood.good("trace", "main", "--", "cat", "{}/usr/bin/tool", "{}/usr/lib/tool/used", "{}/venv/bin/pkg")
    return sapwood


def test_directories_tell_what_of_them_was_read(run: Sapwood) -> None:
    document = run.good("coverage", "--json", "main").document
    assert (document["runs"], document["files"], document["filesRead"]) == (1, 10, 4)
    assert document["bytesRead"] == 4050
    assert document["bytes"] == sum(map(len, FILES.values()))
    areas = {area["path"]: area for area in document["directories"]}
    assert (areas["usr"]["bytesRead"], areas["usr"]["bytesNeverRead"]) == (4000, 5000)
    assert (areas["opt"]["filesRead"], areas["opt"]["bytesNeverRead"]) == (0, 100)
    assert "usr/lib/tool" in areas
    flat = run.good("coverage", "--json", "--depth", "1", "main").document["directories"]
    assert {area["path"] for area in flat} == {"", "usr", "opt", "var", "venv"}
    shown = run.good("coverage", "main")
    assert re.search(r"^ +4\.0 kB +9\.0 kB +56 %  usr$", shown.out, re.M)
    assert "of 4 files" in shown.err


def test_a_depth_below_none_is_refused(run: Sapwood) -> None:
    refused = run("coverage", "--depth", "-1", "main")
    assert refused.code == 2
    assert "--depth -1: no depth" in refused.err


def test_the_drop_list_has_what_nobody_read_and_no_other_name_of_what_somebody_did(run: Sapwood) -> None:
    assert run.good("coverage", "--drop-list", "main").out.splitlines() == [
        "opt/own", "usr/lib/tool/spare", "usr/lib/tool/zspare", "var/lib/dpkg/info/tool:amd64.list",
        "venv/lib/site/pkg/__init__.py", "venv/lib/site/pkg-1.0.dist-info/RECORD",
    ]  # fmt: skip


def test_packages_of_dpkg_and_pip_are_told(run: Sapwood) -> None:
    document = run.good("coverage", "--json", "--by", "package", "main").document
    packages = {
        area["name"]: (area["files"], area["bytesRead"], area["bytesNeverRead"]) for area in document["packages"]
    }
    assert packages["deb:tool:amd64"] == (3, 4000, 5000)
    assert packages["pip:pkg"] == (2, 50, 200)
    assert packages[None][1] == 0
    assert "deb:tool:amd64" in run.good("coverage", "--by", "package", "main").out


def test_a_list_of_pip_is_read_up_to_its_damage_and_one_larger_than_any_is_not(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    odd = 'a\u2028\x85"b'
    lists = {
        "good": b'"a\xe2\x80\xa8\xc2\x85""b",,\r\n"c\nd",,\n',
        "long": b"first,,\n" + b"x" * 200_000 + b",,\nbehind,,\n",
        "torn": b'first,,\n"' + b"\0" * 300_000,
    }
    for package, listed in lists.items():
        for name in (odd, "c\nd", "first", "behind"):
            (tree / package).mkdir(parents=True, exist_ok=True)
            (tree / package / name).touch()
        (tree / package / "x-1.dist-info").mkdir()
        (tree / package / "x-1.dist-info/RECORD").write_bytes(listed)
    (tree / "vast-1.dist-info").mkdir()
    with (tree / "vast-1.dist-info/RECORD").open("wb") as file:
        file.write(b"first,,\n")
        file.truncate(40 << 20)
    owner = packages_of(open_tree(str(tree)))
    assert [owner(f"good/{name}".encode()) for name in (odd, "c\nd", "first")] == ["pip:x", "pip:x", None]
    for package in ("long", "torn"):
        assert [owner(f"{package}/{name}".encode()) for name in ("first", "behind")] == ["pip:x", None]
    assert owner(b"first") is None


def test_a_later_tree_is_compared_with_what_was_read_of_the_one_before(run: Sapwood) -> None:
    (run.home / "tree/venv/bin/pkg").unlink()
    run.good("push", "tree", "main")
    document = run.good("coverage", "--json", "main").document
    assert (document["absent"], document["filesRead"], document["bytesRead"]) == (1, 3, 4000)


def test_a_file_serves_for_what_keeps_no_profile(run: Sapwood) -> None:
    run.good("pack", "tree", "tree.tar.gz")
    refused = run("coverage", "tree.tar.gz")
    assert refused.code == 3
    assert "nobody has recorded what is read of it" in refused.err
    run.good("trace", "--out", "p", "tree.tar.gz", "--", "cat", "{}/opt/own")
    assert run.good("coverage", "--json", "--profile", "p", "tree.tar.gz").document["bytesRead"] == 100


class _Page(HTMLParser):
    """What a page draws and says, and whatever in it would load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes: list[tuple[float, ...]] = []
        self.said = ""
        self.alien: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag not in ("html", "head", "meta", "title", "style", "body", "h1", "p", "span", "svg", "rect", "text"):
            self.alien.append(tag)
        self.alien += [name for name in known if name.startswith("on") or name in ("src", "href")]
        if tag == "rect":
            self.boxes.append(tuple(float(known[name] or 0) for name in ("x", "y", "width", "height")))

    def handle_data(self, data: str) -> None:
        self.said += data


def page_of(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    return page


def test_the_picture_is_one_page_that_loads_and_runs_nothing(run: Sapwood) -> None:
    run.good("coverage", "--html", "map.html", "main")
    page = page_of((run.home / "map.html").read_text(encoding="utf-8"))
    assert page.alien == []
    assert "usr/lib/tool/spare: 0 of 5,000 bytes read" in page.said
    x, y, width, height = page.boxes[0]
    for box in page.boxes[1:]:
        assert x <= box[0] + 0.1
        assert y <= box[1] + 0.1
        assert box[0] + box[2] <= x + width + 0.1
        assert box[1] + box[3] <= y + height + 0.1


def test_areas_are_as_large_as_their_bytes() -> None:
    sizes = [500_000, 300_000, 150_000, 50_000]
    files = [Seen(b"f%d" % number, size, 0, 0) for number, size in enumerate(sizes)]
    page = page_of(treemap(Coverage(TreeDigest("sha256:" + "0" * 64), 1, files, 0, None), "t"))
    areas = [width * height for _, _, width, height in page.boxes[1:]]
    assert len(areas) == 4
    for area, size in zip(sorted(areas, reverse=True), sizes, strict=True):
        assert area / sum(areas) == pytest.approx(size / 1_000_000, rel=0.02)


def test_a_large_area_whose_name_is_too_long_shows_how_it_begins() -> None:
    name = b"library-" + b"x" * 240
    page = page_of(treemap(Coverage(TreeDigest("sha256:" + "0" * 64), 1, [Seen(name, 1000, 0, 0)], 0, None), "t"))
    assert re.search(r"\nlibrary-x{20,230}…\n", page.said)
    assert "over 1 recorded run " in page.said


def test_hostile_names_and_deep_trees_are_only_text() -> None:
    names = [b"<script>alert(1)</script>\"'&", b"\xff\x00\x1b[31m", b"/".join([b"deep"] * 3000)]
    files = [Seen(name, 1000, 0, 0) for name in names]
    page = page_of(treemap(Coverage(TreeDigest("sha256:" + "0" * 64), 1, files, 0, None), "<b>title</b>"))
    assert page.alien == []
    assert "<script>alert(1)" in page.said
    assert "\x1b" not in page.said


def test_an_empty_tree_has_a_coverage_too(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", "tree", "main")
    nothing = Profile.of_run(TreeDigest("sha256:" + "0" * 64), "2026-01-01T00:00:00Z", [])
    write_profile(tmp_path / "nothing", nothing)
    said = sapwood.good("coverage", "--profile", "nothing", "--html", "map.html", "main")
    assert said.out.endswith("-  .\n")
    assert measure(f"{sapwood.store}#main", nothing).never_read() == []


def test_a_page_that_cannot_be_written_is_said(run: Sapwood) -> None:
    said = run("coverage", "--html", "no/such/map.html", "main")
    assert said.code == 6
    assert "cannot write no/such/map.html: No such file or directory" in said.err
