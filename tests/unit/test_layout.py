"""What is guessed to be wanted next of announced trees."""

from __future__ import annotations

from sapwood.reapi.layout import Layout

FOLDERS = 40


def name(folder: int, call: str, size: int = 100) -> tuple[str, int]:
    return f"{folder:03}/{call}", size


def layout_of(*calls: str, size: int = 100) -> Layout:
    layout = Layout()
    for folder in range(FOLDERS):
        layout.add([name(folder, call, size) for call in calls], calls)
    return layout


def test_files_that_are_called_alike_are_guessed_twice_as_many_each_time_and_each_once() -> None:
    layout = layout_of("Makefile", "other.c")
    found = [layout.want(name(at, "Makefile")) for at in (0, 6, 12, 39)]
    assert found[0] == [name(at, "Makefile") for at in range(1, 5)]
    assert found[1] == [name(at, "Makefile") for at in range(7, 15)]
    assert found[2] == [name(at, "Makefile") for at in range(15, 31)]
    # Behind the last directory come the first.
    assert found[3] == [name(at, "Makefile") for at in (5, *range(31, 39))]
    assert layout.want(name(3, "Makefile")) == []
    assert layout.want(name(0, "other.c")) == [name(at, "other.c") for at in range(1, 5)]


def test_what_was_sent_or_is_large_or_unknown_is_not_guessed() -> None:
    layout = layout_of("Makefile")
    for at in range(1, FOLDERS):
        layout.forget(name(at, "Makefile"))
    assert layout.want(name(0, "Makefile")) == []
    assert layout_of("disk.img", size=600_000).want(name(0, "disk.img", 600_000)) == [name(1, "disk.img", 600_000)]
    assert layout.want(name(0, "unheard of")) == []


def test_what_is_sent_next_lies_beside_what_was_wanted_last() -> None:
    layout = layout_of("a", "b")
    queue = {name(folder, call) for folder in range(FOLDERS) for call in "ab"}
    assert layout.first(queue) is None  # nothing was wanted
    layout.want(name(38, "b"))
    order = []
    while (found := layout.first(queue)) is not None:
        queue.remove(found)
        order.append(found)
    assert order == [name(38, "a"), name(38, "b"), name(39, "a"), name(39, "b")]
