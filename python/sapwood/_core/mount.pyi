"""The mount: a file map served to the kernel, what it wants, and the cache it fills."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, final

from .filemap import FileMap, Frame

__all__ = ["Server", "is_bare", "mount_whole", "mounts", "unmount"]

@final
class Server:
    """A mounted file map. Hand back what `take` gives by `deliver` or `fail`, from any thread, until it is `closed`."""

    def __new__(
        cls,
        map: FileMap,
        cache: str | PathLike[str],
        place: str | PathLike[str],
        *,
        native: bool,
        in_flight: int,
        of_a_pack: tuple[int, int],
        by_library: bool = False,
        device: int | None = None,
        record: str | PathLike[str] | None = None,
        passthrough: bool | None = None,
        changes: str | PathLike[str] | None = None,
    ) -> Server:
        """Mount at `place`, an empty directory; reads are answered by threads of the core from now on.

        With `device`, the descriptor of a mount at `place` whose server has died, that mount is taken over: what the
        dead one left unanswered is answered.
        With `changes`, a directory, what is changed in the mount is kept in that; only for root.
        The `native` tier, and a mount with `changes`, is mounted by `establish`.
        With `by_library` nothing is mounted: a library does that, and asks by `sapwood._core.direct.Direct`; when its
        mount has ended it says so by `stop`.

        With `record`, a file to write down what is open, files that are complete and proved are read by the kernel
        itself, where it can and we are root: if `passthrough`, or by default if an entry has 1 MiB on the average.

        Of what nobody waits for, `take` hands out more only while fewer bytes than `in_flight` are on their way, those
        that somebody waits for included. Of one pack so many takes may be under way at a time as the first number of
        `of_a_pack` says; with fewer than the second, what nobody waits for is handed out.

        Raises:
            InvalidInputError: `bad-mount-point`: no place to mount at; the hint says what to do.
            UnavailableError: `mount-failed`; the message says why and what to do.
        """
    @property
    def device(self) -> int | None:
        """The descriptor by which another server can take the mount over; None with `by_library`."""
    @property
    def closed(self) -> bool:
        """It was unmounted, or stopped."""
    @property
    def is_prefetching(self) -> bool:
        """Whether a `prefetch` has not queued everything yet."""
    @property
    def bound(self) -> int | None:
        """How many bytes the cache may have, as `tidy` last found, rounded down a little; None before."""
    def take(self, max: int, max_bytes: int, lowest: str, timeout_s: float) -> list[Frame]:
        """Return frames of one pack that are wanted, the most urgent first; none after `timeout_s` or once closed.

        At most `max`, or `max_bytes` in the pack but at least one. Classes from high to low: `demand` (somebody waits),
        `readahead`, `profile`, `background`; none below `lowest` is returned.
        """
    def landed(self, frames: list[Frame], in_flight: int) -> None:
        """Say that these are on their way no more, though not delivered yet, and how many bytes may be now."""
    def deliver(self, frame: Frame, stored: bytes) -> None:
        """Prove a frame, keep it in the cache, and answer who waits for it.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`; wanted once more if somebody waits for it, then given up.
        """
    def deliver_file(self, frame: Frame, path: str | PathLike[str]) -> None:
        """As `deliver`, of a blob of `FileMap.of_directory`: a file on the cache's disk, which becomes the cache's.

        Raises:
            CorruptError: as `deliver`; the file is left where it is.
            UnavailableError: `io`.
        """
    def deliver_directory(self, message: bytes) -> None:
        """Keep a directory of such a tree, whether or not anybody asked for it, and answer who waits for it.

        Raises:
            CorruptError: as `deliver`.
        """
    def absent(self, blobs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return those of (hex digits, size) that the cache has not, as far as can be told without reading them.

        Raises:
            InvalidInputError: `invalid`: what is no digest.
        """
    def silent(self, frames: list[Frame]) -> None:
        """Say that nothing is heard of these: they do not count as on their way, though they may come."""
    def are_demanded(self, frames: list[Frame]) -> bool:
        """Return whether somebody waits for any of these, which were taken and have not come."""
    def fail(self, frame: Frame, why: str, patience_s: float) -> None:
        """Give a frame up: who has waited for it for so long gets EIO; for others it is wanted anew."""
    def establish(self) -> None:
        """Mount what several layers make: of the native tier when all pages have been brought, and of `changes`.

        Threads must take and deliver meanwhile.

        Raises:
            InvalidInputError: `bad-argument`: the native tier cannot hold the tree.
            NotFoundError: `missing`: a page does not come.
            UnavailableError: `mount-failed`.
        """
    def stop(self, why: str) -> None:
        """Answer who waits, and whoever would have to, with EIO from now on; what is in the cache is still served."""
    def expire(self, patience_s: float, any: bool, why: str) -> int:
        """Answer who has waited for longer with EIO, return how many; what they waited for stays wanted.

        With `any` all of them; else those who wait for a pack of which something was taken as long ago and is not here.
        """
    def prefetch(self, contents: bool) -> None:
        """Want all pages, and with `contents` all blobs, behind everything that somebody waits for. Returns at once."""
    def lacking(self) -> tuple[int, int] | None:
        """Return how many files, and bytes, are not in the cache; None while pages of the file map are not.

        Looks for each file on the disk: some microseconds each.
        """
    def follow(self, parts: list[tuple[bytes, int, int]]) -> None:
        """Want the chunks that hold these (path, from, to), in order, behind demand and readahead.

        Returns at once. What the tree has not is passed over.
        """
    def walk(self, command: list[str]) -> None:
        """Let directories be listed ahead of whoever looks up names, by the program `sapwood.mount.walker`.

        Returns at once. The program is started by `command` when there is something to list. Only where root mounts by
        the FUSE tier.
        """
    def start_trace(self) -> None:
        """From now on, note what is read and looked up. Nobody may `walk` such a mount."""
    def traced(self) -> list[tuple[bytes, int, list[tuple[int, int]], list[bytes]]]:
        """Return what was read since `start_trace`, in order of first reading.

        Of each chunk the path of its file, its offset there, what of it was asked for (from, to, counted from that
        offset, in order, with something between them; at most 256), and the names of the processes that asked.
        """
    def looked_up(self) -> list[bytes]:
        """Return the files with bytes that were looked up since `start_trace`, read or not, by their first names.

        In no order; at most the first 200,000. While a trace is taken, a directory tells who lists it only names.
        """
    def read_far(self, far: bool) -> None:
        """Let the kernel read a mebibyte ahead, or what it does by itself; nothing changes while a trace is taken."""
    def give_back(self) -> None:
        """Give the memory back that fetching took, for all is here; of glibc also what it keeps."""
    def tidy(self, bound: int | None) -> int:
        """Hold the cache to `bound` bytes, or so that a tenth of the disk's space stays free; return bytes freed.

        Does nothing unless it may have outgrown that since it was last measured, or the disk was full. What was used
        longest ago goes.

        Raises:
            UnavailableError: `io`: the cache cannot be measured.
        """
    def stats(self) -> dict[str, Any]:
        """Return counts.

        `requests` of the kernel, how many `waited` and are `waiting`, and `blocked_s`, the seconds in which any were;
        `frames_fetched`, and `bytes_fetched` in packs;
        `files_read`, and `bytes_read`, their sizes; files `proved`,
        which the native tier has as files of the local disk; `errors` (answers of EIO), `frames_expected`: asked for
        and not here yet, `frames_failed`: given up, and `last_error` (text or None).
        """

def unmount(place: str | PathLike[str], lazy: bool = False) -> None:
    """Unmount, also when the server is gone; `lazy`, also when it is in use.

    Raises:
        InvalidInputError: `bad-mount-point`: not a mount, or not one of ours.
        UnavailableError: `mount-failed`: in use.
    """

def mount_whole(map: FileMap, cache: str | PathLike[str], place: str | PathLike[str], pin: str | PathLike[str]) -> bool:
    """Mount a tree of which all is here, proved since the machine was started; it needs no process.

    The cache keeps it until the file `pin` is removed, `mounts/<hex>.pin` in `cache`, or the machine started anew.
    Return False, with nothing done, if anything is missing.

    Raises:
        InvalidInputError: `bad-mount-point`; `bad-argument`: the native tier cannot hold the tree.
        UnavailableError: `mount-failed`; `io`.
    """

def mounts() -> list[bytes]:
    """Return where file maps are mounted, as the kernel tells."""

def is_bare(place: str | PathLike[str]) -> bool:
    """Return whether what is seen at `place`, an absolute path, is all of a mount of ours, with nothing mounted below.

    Raises:
        UnavailableError: `io`: the mount does not answer.
    """
