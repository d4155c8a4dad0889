"""On what the figures were measured, and when."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime

from benchmarks.corpus import BUILD, package_version


def machine() -> str:
    """Return in a line of text: when, of which commit, on what, beside what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return ", ".join(
        [
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"commit {_first('git', 'rev-parse', '--short', 'HEAD')}",
            f"{_processor()} with {os.cpu_count()} cores and {memory / 1e9:.0f} GB",
            f"Linux {platform.release()}",
            _first("findmnt", "-no", "FSTYPE", "-T", str(BUILD)),
            f"Python {platform.python_version()}",
            f"linux-source-6.1 {package_version()}",
            _first("restic", "version").split(" compiled")[0],
            _first("borg", "--version"),
            _first("casync", "--version"),
            _first("zstd", "--version").partition(",")[0].replace("*** Zstandard CLI (64-bit) v", "zstd "),
            _first("git", "--version").replace(" version", ""),
        ]
    )


def _first(*command: str) -> str:
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    return shown.splitlines()[0] if shown else "unknown"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
