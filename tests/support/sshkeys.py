"""SSH keys as people make them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def keygen(*words: str | Path, **options: object) -> subprocess.CompletedProcess:
    """Run `ssh-keygen WORDS…`, which must succeed."""
    return subprocess.run(["ssh-keygen", *map(str, words)], check=True, capture_output=True, **options)


def make_key(file: Path, *words: str) -> Path:
    """Make a key in `file`, Ed25519 and without a passphrase unless `words` say otherwise; return its public half."""
    keygen("-q", "-C", f"{file.name}@home", "-f", file, *(words or ("-t", "ed25519", "-N", "")))
    return file.with_name(f"{file.name}.pub")
