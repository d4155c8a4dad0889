"""The rules of the house that no ready-made linter knows; each prints what breaks it and makes the check fail.

1. No source file is longer than 600 lines: past that it splits by domain word.
2. The core depends on no pyo3 and on nothing that speaks to the network.
3. A room of the core uses only rooms that stand above it in lib.rs.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600
NOT_IN_CORE = ("pyo3", "tokio", "hyper", "reqwest", "ureq", "rustls", "openssl")


def too_long() -> list[str]:
    """Return a complaint for each Rust or Python source of more than `LONGEST` lines."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs", "*.py", "*.pyi"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    complaints = []
    for name in sorted({name for name in listed.split("\0") if name and (ROOT / name).exists()}):
        if "_pb2" in name:  # generated
            continue
        with (ROOT / name).open(encoding="utf-8") as source:
            lines = sum(1 for _ in source)
        if lines > LONGEST:
            complaints.append(f"{name}: {lines} lines, at most {LONGEST}: split it by domain word")
    return complaints


def strangers_in_core() -> list[str]:
    """Return a complaint for each crate in the core's dependency tree that has no business there."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--package", "sapwood-core", "--edges", "normal,build", "--prefix", "none"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    crates = {line.split()[0] for line in tree.splitlines() if line.strip()}
    return [f"sapwood-core depends on {crate}" for crate in sorted(crates) if crate.startswith(NOT_IN_CORE)]


def rooms_upside_down() -> list[str]:
    """Return a complaint for each use of a room by one that stands above it."""
    core = ROOT / "crates/core/src"
    rooms = re.findall(r"^pub mod (\w+);", (core / "lib.rs").read_text(encoding="utf-8"), re.MULTILINE)
    # `digest` and `error` name each other: an error tells which digest was expected.
    order = {room: max(number, 1) for number, room in enumerate(rooms)}
    complaints = []
    for source in sorted(core.rglob("*.rs")):
        room = source.relative_to(core).parts[0].removesuffix(".rs")
        if room not in order or "tests" in source.stem or "tests" in source.parts:
            continue
        for used in re.findall(r"\bcrate::(\w+)", source.read_text(encoding="utf-8")):
            if order.get(used, 0) > order[room]:
                complaints.append(f"{source.relative_to(ROOT)} uses {used}, which stands below {room} in lib.rs")
    return complaints


if __name__ == "__main__":
    complaints = too_long() + strangers_in_core() + rooms_upside_down()
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    sys.exit(bool(complaints))
