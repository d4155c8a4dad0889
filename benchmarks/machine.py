"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime

from benchmarks.corpus import BUILD, package_version


def machine() -> list[str]:
    """Return lines of Markdown: when, on what, with what."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_first('git', 'rev-parse', '--short', 'HEAD')}",
        f"- {_processor()}, {os.cpu_count()} cores, {memory / 1e9:.0f} GB of memory",
        f"- Linux {platform.release()}, {_first('findmnt', '-no', 'FSTYPE', '-T', str(BUILD))},"
        f" Python {platform.python_version()}",
        f"- corpus: Debian's linux-source-6.1 {package_version()}, unpacked, .gitignore files removed",
        f"- peers: {_first('restic', 'version').split(' compiled')[0]}, {_first('git', '--version')}",
    ]


def _first(*command: str) -> str:
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    return shown.splitlines()[0] if shown else "unknown"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
