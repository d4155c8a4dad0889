"""Who hears how a build goes: stages of derivations, what builders say, what is sent for them.

Invariant: a build is the same whether or not anybody listens. A listener is called from many threads, and returns soon.
Not here: showing it (`sapwood.cli`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapwood.build.builder import Made
    from sapwood.build.derivation import Derivation
    from sapwood.errors import SapwoodError

__all__ = ["Listener", "Sent", "Stage"]


class Stage(Enum):
    """What a derivation is at; one that nothing was said of waits for what it needs. In the words that are shown."""

    HASHING = "hashing"
    LOOKING = "looking up"
    SENDING = "sending"
    QUEUED = "queued"
    """For a builder: here for one of `jobs`, else for a worker, as is told beside."""
    INPUT = "waiting for"
    """An input that is not here, or there, yet, or a server that is away; which one is told beside."""
    RUNNING = "running"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes of inputs, of the whole build so far: sent to who builds it, asked for by that, and all there are."""

    sent: int
    needed: int
    total: int


class Listener:
    """Hears how a build goes; each call may come from a thread of its own."""

    def stage(self, one: Derivation, stage: Stage, what: str = "", /) -> None:
        """A derivation has come to `stage`; `what` it waits for there, if that has a name."""

    def begun(self, one: Derivation) -> None:
        """A builder starts, for the first time."""

    def said(self, one: Derivation, data: bytes) -> None:
        """A builder wrote something."""

    def sent(self, so_far: Sent) -> None:
        """More has been sent, or is known to be needed."""

    def told(self, words: str) -> None:
        """The build waits for something, or does no more: a server that is away, workers that are not there."""

    def made(self, one: Derivation, made: Made) -> None:
        """A derivation has its result."""

    def checked(self, one: Derivation) -> None:
        """A target was made once more, and is the same."""

    def failed(self, one: Derivation, error: SapwoodError, left: Path | None, /) -> None:
        """A derivation cannot be made; `left` is where its builder's directory was kept."""
