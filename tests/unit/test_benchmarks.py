"""The page of figures keeps what was not measured this time, and shows what misses its bound."""

import zlib
from pathlib import Path

import pytest

from benchmarks import __main__ as measured
from benchmarks import page
from benchmarks.edits import drawn, edits, files
from benchmarks.generated import MILLION, TEN_MILLION, Shape, edited_twin, generated
from benchmarks.large import change, large_file
from benchmarks.measure import Figure
from benchmarks.small import small_files

GROUPS = {"Index": ["cold", "unchanged"], "Push": ["push"]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an empty page and a README that has a place for figures."""
    monkeypatch.setattr(page, "_ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "benchmarks.md").touch()
    (tmp_path / "README.md").write_text("# x\n\n<!-- figures -->\nold\n<!-- end of figures -->\n\nmore\n")
    return tmp_path


def section(name: str, value: float = 0.5) -> page.Section:
    figure = Figure(f"{name} : git", "1 s", "2 s", value, 0.6)
    return page.Section(f"What {name} is.", "`sapwood`", f"on the day of {name}", ("sapwood", "peer"), [figure])


def written(root: Path) -> str:
    return (root / "docs" / "benchmarks.md").read_text()


def test_a_section_that_was_not_measured_stays_with_its_own_date(root: Path) -> None:
    for name in ("push", "unchanged"):
        page.write({name: section(name)}, GROUPS, [])
    page.write({"unchanged": section("unchanged", 0.25), "cold": section("cold")}, GROUPS, [])
    text = written(root)
    assert "| push : git | 1 s | 2 s | 0.50 | 0.6 |\n\nMeasured on the day of push.\n" in text
    assert "| unchanged : git | 1 s | 2 s | 0.25 | 0.6 |" in text
    assert text.count("### unchanged") == 1
    places = [text.index(line) for line in ("## Index", "### cold", "### unchanged", "## Push", "### push")]
    assert places == sorted(places)


def test_writing_the_same_again_changes_nothing(root: Path) -> None:
    page.write({name: section(name) for name in ("push", "cold")}, GROUPS, ["push : git"])
    before = written(root), (root / "README.md").read_text()
    page.write({"cold": section("cold")}, GROUPS, ["push : git"])
    assert (written(root), (root / "README.md").read_text()) == before


def test_the_readme_shows_the_chosen_figures_and_counts_the_others(root: Path) -> None:
    page.write({"push": section("push"), "cold": section("cold", 0.7)}, GROUPS, ["push : git", "unchanged : git"])
    text = (root / "README.md").read_text()
    assert "| push : git |" in text
    assert "cold" not in text
    assert "All 2 figures, of which 1 miss their bound" in text
    assert "old\n" not in text
    assert text.endswith("<!-- end of figures -->\n\nmore\n")


def test_every_figure_that_the_readme_shows_is_on_the_page() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert [claim for claim in measured.IN_README if f"\n| {claim} |" not in text] == []


def test_a_missed_bound_is_shown() -> None:
    [*_, row] = page.table([Figure("a", "1 s", "1 s", 1.0, 0.6)], ("sapwood", "peer"))
    assert row == "| a | 1 s | 1 s | **1.00**, missed | 0.6 |"


def test_generated_trees_have_the_files_they_say_and_twins_differ_in_ten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.generated.BUILD", tmp_path)
    shape = Shape(3, 2, 2, 5, filled=2)
    tree, twin = generated("tree", shape), edited_twin("twin", shape)
    files = sorted(path.relative_to(tree) for path in tree.rglob("*.txt"))
    assert len(files) == shape.all_files == 60
    assert sum(1 for _ in tree.rglob("*")) + 1 == shape.entries
    contents = [(tree / path).read_bytes() for path in files]
    assert contents.count(b"") == 30
    assert len(set(contents)) == 31
    assert sum((tree / path).read_bytes() != (twin / path).read_bytes() for path in files) == 10


def test_the_large_trees_are_as_large_as_the_claims_say() -> None:
    assert (MILLION.all_files, TEN_MILLION.all_files) == (1_000_000, 10_000_000)


def test_edits_differ_each_time_and_are_undone_at_the_end(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")
    assert files(tmp_path) == [tmp_path / "a", tmp_path / "b/c"]
    seen = set()
    with edits(files(tmp_path)) as edited:
        for _ in range(3):
            edited.again()
            seen.add((tmp_path / "a").read_text())
            assert (tmp_path / "b/c").read_text() != "b/c"
    assert len(seen) == 3
    assert [path.read_text() for path in files(tmp_path)] == ["a", "b/c"]


def test_the_files_of_a_seed_are_the_same_each_time(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    assert drawn(tmp_path, 5, seed=1) == drawn(tmp_path, 5, seed=1)
    assert drawn(tmp_path, 5, seed=1) != drawn(tmp_path, 5, seed=2)


def test_the_large_file_is_half_text_half_random_and_never_repeats(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"the text of the corpus\n" * 30)
    run = 4096
    for name in ("one", "two"):
        large_file(tmp_path / name, [text], 5 * run, run)
    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "two").read_bytes()
    runs = [content[at : at + run] for at in range(0, len(content), run)]
    assert [len(zlib.compress(run)) > 4000 for run in runs] == [False, True, False, True, False]
    assert len(runs) == len(set(runs)) == 5
    change(tmp_path / "two", 2 * run, 100)
    changed = (tmp_path / "two").read_bytes()
    assert len(changed) == len(content)
    assert (changed[: 2 * run], changed[2 * run + 100 :]) == (content[: 2 * run], content[2 * run + 100 :])
    assert changed != content


def test_small_files_are_as_many_and_as_large_as_asked_and_all_differ(tmp_path: Path) -> None:
    directories = small_files(tmp_path / "tree", directories=3, files=4, size=100)
    contents = [path.read_bytes() for path in files(tmp_path)]
    assert [path.parent for path in files(tmp_path)] == [directory for directory in directories for _ in range(4)]
    assert {len(content) for content in contents} == {100}
    assert len(set(contents)) == 12
