"""Debian's Bazel, which speaks API 2.0, and a workspace for it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.engines import called

BUILD = """
genrule(name="upper", srcs=["in.txt"], outs=["upper.txt"], cmd="tr a-z A-Z < $(SRCS) > $@")
genrule(name="large", srcs=[":upper"], outs=["large.bin"], cmd="sed s/.*/$$(cat $(SRCS))/ <(seq 200000) > $@")
genrule(name="tool", outs=["tool.sh"], cmd="echo 'echo ran' > $@", executable=True)
genrule(name="used", tools=[":tool"], outs=["used.txt"], cmd="$(location :tool) > $@")
"""


class Bazel:
    """A workspace in `home`, and Debian's Bazel, which speaks API 2.0. A build has so many `actions`."""

    actions = 5  # `tool` is made for the target and for the host

    def __init__(self, home: Path) -> None:
        self._home = home
        self.work = home / "work"
        self.work.mkdir()
        (self.work / "WORKSPACE").write_text("")
        (self.work / "BUILD").write_text(BUILD)
        (self.work / "in.txt").write_text("hello\n")

    def build(self, *words: str) -> tuple[int, int]:
        """Build all, from nothing; return how many actions ran here, and how many were found in the cache."""
        called("bazel", "--batch", f"--output_user_root={self._home / 'out'}", "clean", cwd=self.work)
        said = called(
            "bazel", "--batch", f"--output_user_root={self._home / 'out'}", "build", "//:all", *words, cwd=self.work
        )
        # `8 processes: 4 remote cache hit, 4 internal.`
        [line] = re.findall(r"INFO: \d+ process(?:es)?: (.*)\.", said)
        counts = {what: int(number) for number, what in (part.split(" ", 1) for part in line.split(", "))}
        hits = counts.pop("remote cache hit", 0)
        counts.pop("internal", None)
        return sum(counts.values()), hits

    def output(self, name: str) -> bytes:
        return (self.work / "bazel-bin" / name).read_bytes()
