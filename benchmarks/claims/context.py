"""A build context for a builder behind a slow link, the first time and after one edit, beside rsync and tar."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.edits import edits
from benchmarks.link import Link, linked
from benchmarks.measure import Case, Figure, Word, at_most, in_turns, shown, sizes
from benchmarks.sapwood import SAPWOOD, clear, place, require_free

COMMANDS = (
    "`sapwood context build CORPUS --on ssh://… -- date` : `rsync -a CORPUS/ …:` : `tar cz CORPUS | ssh … tar xz`, each"
    " by a real sshd behind 20 Mbit/s with a round trip of 20 ms, again after a line was added to kernel/fork.c. Until"
    " the builder begins: what `date` says, less the start of the command; rsync and tar until they end. The compressed"
    " size is that of `tar | zstd -3`"
)
_RTT_MS = 20
_MBIT = 20


@dataclass
class _Sent:
    """A case that keeps how many bytes went through the link, and when what it runs there said it began."""

    name: str
    link: Link
    command: list[Word]
    environment: dict[str, str]
    said: Path
    before: Callable[[], object] = lambda: None
    sent: list[int] = field(default_factory=list)

    def prepare(self) -> object:
        """See `measure.Timed`."""
        return self.before()

    def run(self) -> tuple[float, int]:
        """See `measure.Timed`."""
        before, started = self.link.counts()["up"], time.time()
        spent = Case(self.name, self.command, environment=self.environment, says=self.said).run()
        self.sent.append(self.link.counts()["up"] - before)
        begun = self.said.read_text().strip()
        return (float(begun) - started if begun else spent[0]), spent[1]


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    from tests.support.sshd import sshd

    require_free(5_000_000_000)
    tree, home = corpus(), place("context")
    home.mkdir()
    compressed = home / "compressed"
    Case("tar | zstd", ["sh", "-c", 'tar c -C "$1" . | zstd -q -3 -T2', "sh", tree], says=compressed).run()
    with sshd(home / "machine") as (url, ssh):
        port = int(url.rpartition(":")[2])
        environment = {"SAPWOOD_CACHE": str(home / "cache"), "PATH": f"{ssh}:{os.environ['PATH']}"}
        there = home / "there"
        there.mkdir()
        with (
            edits([tree / "kernel" / "fork.c"]) as fork,
            linked(port, rtt_ms=_RTT_MS, mbit=_MBIT) as link,
        ):
            sockets = [home / "cache" / "ssh" / f"127.0.0.1:{link.port}", home / "rsync"]

            def sent(name: str, *command: Word, before: Callable[[], object] = fork.again) -> _Sent:
                return _Sent(name, link, list(command), environment, home / "said", before)

            def anew() -> None:
                fork.again()
                for socket in sockets:
                    subprocess.run([ssh / "ssh", "-S", socket, "-O", "exit", "machine"], capture_output=True)

            on = f"ssh://127.0.0.1:{link.port}"
            builds: list[Word] = [SAPWOOD, "context", "build", tree, "--on", on, "--", "date", "+%s.%N"]
            keeping = f"ssh -p {link.port} -S {sockets[1]} -o ControlMaster=auto -o ControlPersist=300"
            copies: list[Word] = ["rsync", "-a", "-e", keeping, f"{tree}/", f"127.0.0.1:{there}"]
            build, rsync = sent("context build", *builds), sent("rsync", *copies)
            build_anew = sent("context build, connecting", *builds, before=anew)
            rsync_anew = sent("rsync, connecting", *copies, before=anew)
            whole = f'tar cz -C "$1" . | ssh -p {link.port} 127.0.0.1 "tar xz -C {there}"'
            tar = sent("tar | ssh", "sh", "-c", whole, "sh", tree)
            first, by_tar = in_turns([build, tar], 1)
            first_sent, tar_sent = build.sent.pop(), tar.sent.pop()
            again, by_rsync = in_turns([build, rsync], 2 * rounds)
            connecting, by_rsync_connecting = in_turns([build_anew, rsync_anew], rounds)
    size = compressed.stat().st_size
    clear(home)
    most = max(build.sent)
    return [
        at_most("until the builder begins, after one edit : rsync", again, by_rsync, 500),
        at_most("the same, with a connection that is new", connecting, by_rsync_connecting, None),
        Figure("sent for that : rsync", shown(most), shown(max(rsync.sent)), most / 1e3, 200, "KB"),
        at_most("until the builder begins, the first time : tar and ssh", first, by_tar, None),
        sizes("sent for that : compressed size", first_sent, size, 1.05),
        sizes("sent for that : tar and ssh", first_sent, tar_sent, None),
    ]
