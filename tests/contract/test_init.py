"""Places are tried before they become stores: with a server that ignores what it is asked, no race is ever silent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sapwood.digests import SnapshotDigest
from sapwood.errors import ConflictError, CorruptError, DeniedError, InvalidInputError, UnavailableError
from sapwood.store import Store, lock, open_store
from sapwood.store.objects import open_objects
from sapwood.upkeep.repair import repair
from sapwood.upkeep.verify import verify
from tests.contract.store_contract import ListingStoreContract
from tests.support.badserver import Reply, replying, send, through
from tests.support.cli import Sapwood
from tests.support.snapshots import digest
from tests.support.storeplaces import BucketPlace, Place, S3Place

A, B = (digest(SnapshotDigest, text) for text in "AB")
HELD = b'{"format":1,"user":"ann","host":"slow","nonce":"0123456789abcdef","free":false}'
REPOSITORY = Path(__file__).resolve().parents[2]


def knows_no(upstream: str, *headers: str) -> Reply:
    """Pass on, but answer a request with one of these headers as a server does that has no conditional writes."""
    passing = through(upstream)

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if any(handler.headers.get(name) for name in headers):
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            send(handler, 501, b"<Error><Code>NotImplemented</Code></Error>")
        else:
            passing(handler)

    return reply


@pytest.fixture
def by_way_of(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Reply], None]]:
    """Lets everything that is opened from now on go through a server that replies so."""
    with ExitStack() as servers:
        yield lambda reply: monkeypatch.setenv("AWS_ENDPOINT_URL", servers.enter_context(replying(reply)))


class TestLockStore(ListingStoreContract):
    """A store whose server creates on condition, but replaces whatever it finds."""

    @pytest.fixture
    def place(self, s3_place: S3Place, s3_url: str, by_way_of: Callable[[Reply], None]) -> Place:
        by_way_of(through(s3_url, ignoring=("if-match",)))
        return s3_place

    def test_refs_move_under_a_lock(self, store: Store, place: Place) -> None:
        assert store.refs_move_by == "lock"
        store.move_ref("main", A, None)
        assert open_objects(place.url)[0].list("locks") == ["locks/000000000001.json"]
        assert b'"free":true' in open_objects(place.url)[0].get("locks/000000000001.json")

    def test_a_lock_whose_holder_died_expires(
        self, store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = store.move_ref("main", A, None)
        place.overwrite(
            "locks/000000000002.json",
            HELD,
        )
        clock = iter(range(0, 1_000_000, 7))
        monkeypatch.setattr(lock, "_now", lambda: float(next(clock)))
        monkeypatch.setattr(lock, "LONGEST_PAUSE_S", 0.05)
        assert store.move_ref("main", B, old).counter == 2
        assert b'"free":true' in open_objects(place.url)[0].get("locks/000000000003.json")

    def test_who_was_stopped_while_holding_the_lock_writes_nothing(
        self, store: Store, reader: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = store.move_ref("main", A, None)
        clock = iter([0.0, 0.0, 0.0, 20.5])
        monkeypatch.setattr(lock, "_now", lambda: next(clock))
        with pytest.raises(UnavailableError, match="nothing was written") as late:
            store.move_ref("main", B, old)
        assert late.value.kind == "ref-locked"
        assert reader.read_ref("main") == old

    def test_whose_time_is_over_when_he_has_the_lock_writes_nothing(
        self, store: Store, reader: Store, place: Place
    ) -> None:
        old = store.move_ref("main", A, None)

        def is_over() -> None:
            assert b'"free":false' in open_objects(place.url)[0].get("locks/000000000002.json")
            raise UnavailableError("too late", kind="push-too-slow")

        with pytest.raises(UnavailableError, match="too late"):
            store.move_ref("main", B, old, is_over)
        assert reader.read_ref("main") == old
        assert b'"free":true' in open_objects(place.url)[0].get("locks/000000000002.json")

    def test_a_ref_that_moved_has_moved_though_the_lock_cannot_be_freed(
        self, store: Store, reader: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collector = store._collecting()
        put = type(collector).put

        def refuse(self: object, key: str, data: bytes) -> None:
            if key.startswith("locks/"):
                raise DeniedError("no", kind="store-denied")
            put(self, key, data)  # type: ignore[arg-type]

        monkeypatch.setattr(type(collector), "put", refuse)
        assert store.move_ref("main", A, None) == reader.read_ref("main")

    def test_a_lock_that_is_held_on_and_on_is_given_up(
        self, store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.overwrite(
            "locks/000000000001.json",
            HELD,
        )
        monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
        with pytest.raises(UnavailableError, match=r"others hold locks/000000000001\.json") as held:
            store.move_ref("main", A, None)
        assert held.value.kind == "ref-locked"

    def test_a_damaged_lock_is_named(self, store: Store, place: Place) -> None:
        place.overwrite("locks/000000000001.json", b'{"format":1,"user":"ann","host":"slow"}')
        with pytest.raises(CorruptError, match=r"locks/000000000001\.json") as damaged:
            store.move_ref("main", A, None)
        assert damaged.value.kind == "lock-corrupt"
        assert [damage.key for damage in verify(store).damages] == ["locks/000000000001.json"]
        assert repair(store).left == ()
        store.move_ref("main", A, None)

    def test_a_late_listing_of_locks_deceives_nobody(
        self, store: Store, reader: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moved = None
        for _ in range(3):
            moved = store.move_ref("main", A, moved)
        collector = store._collecting()
        listed = collector.listed("locks")[:1]
        monkeypatch.setattr(type(collector), "listed", lambda self, prefix: listed)
        assert reader.read_ref("main") == moved
        store.move_ref("main", B, moved)
        assert [entry[-6:] for entry in map(str, store._collecting().list("locks"))] == ["1.json"]
        assert collector.exists("locks/000000000004.json")


@pytest.mark.parametrize(
    ("reply", "refs"),
    [
        (lambda url: through(url), "swap"),
        (lambda url: through(url, ignoring=("if-match",)), "lock"),
        (lambda url: knows_no(url, "If-Match"), "lock"),
    ],
)
def test_what_a_server_lacks_is_found_out(
    s3_place: S3Place, s3_url: str, by_way_of: Callable[[Reply], None], reply: Callable[[str], Reply], refs: str
) -> None:
    by_way_of(reply(s3_url))
    store = Store.open(s3_place.url, create=True, grace_s=7200)
    again = open_store(s3_place.url)
    assert (again.id, again.grace_s, again.refs_move_by) == (store.id, 7200, refs)
    assert open_objects(s3_place.url)[0].list("probe") == []


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda url: through(url, ignoring=("if-none-match",)), "it created an object that was there"),
        (lambda url: through(url, ignoring=("if-none-match", "if-match")), "it created an object that was there"),
        (lambda url: knows_no(url, "If-None-Match"), "it creates nothing on condition"),
    ],
)
def test_a_place_without_conditional_creation_is_refused(
    s3_place: S3Place, s3_url: str, by_way_of: Callable[[Reply], None], reply: Callable[[str], Reply], says: str
) -> None:
    by_way_of(reply(s3_url))
    with pytest.raises(InvalidInputError, match=says) as refused:
        open_store(s3_place.url, create=True)
    assert refused.value.kind == "no-conditional-writes"
    assert open_objects(s3_place.url)[0].list("") == []


def test_what_a_killed_trial_left_keeps_nobody_from_making_a_store(s3_place: S3Place) -> None:
    s3_place.overwrite("probe/0123456789abcdef", b"0")
    assert open_store(s3_place.url, create=True).refs_move_by == "swap"


def test_a_request_that_a_server_does_not_know_is_said(
    s3_place: S3Place, s3_url: str, by_way_of: Callable[[Reply], None]
) -> None:
    store = open_store(s3_place.url, create=True)
    by_way_of(knows_no(s3_url, "If-None-Match"))
    with pytest.raises(InvalidInputError, match="does not know such a request") as refused:
        open_store(store.url).move_ref("main", A, None)
    assert refused.value.kind == "not-implemented"


_MOVER = """
import sys
from sapwood.errors import ConflictError
from sapwood.store import open_store
from tests.support.snapshots import digest
url, number = sys.argv[1:]
store = open_store(url)
old = store.read_ref("main")
print("ready", flush=True)
sys.stdin.readline()
try:
    print(store.move_ref("main", digest(str, number), old).snapshot)
except ConflictError as error:
    print(error.kind)
"""


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["swap", "lock"])
def test_of_sixteen_racing_processes_one_succeeds(
    request: pytest.FixtureRequest, by_way_of: Callable[[Reply], None], kind: str
) -> None:
    if kind == "swap":
        place: BucketPlace | S3Place = request.getfixturevalue("versitygw_place")
    else:
        place = request.getfixturevalue("s3_place")
        by_way_of(through(request.getfixturevalue("s3_url"), ignoring=("if-match",)))
    store = open_store(place.url, create=True)
    assert store.refs_move_by == kind
    store.move_ref("main", A, None)
    with ExitStack() as stack:
        commands = [[sys.executable, "-c", _MOVER, place.url, str(number)] for number in range(16)]
        movers = [stack.enter_context(_started(command)) for command in commands]
        for mover in movers:
            assert mover.stdout is not None
            assert mover.stdout.readline() == "ready\n"
        for mover in movers:
            assert mover.stdin is not None
            mover.stdin.write("go\n")
            mover.stdin.flush()
        said = [mover.communicate(timeout=100)[0].strip() for mover in movers]
    winners = [line for line in said if line != "ref-moved"]
    assert len(winners) == 1, said
    ref = store.read_ref("main")
    assert (ref.snapshot, ref.counter) == (winners[0], 2)


@pytest.mark.parametrize(("grace", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)])
def test_init_makes_a_store_with_a_grace(tmp_path: Path, grace: str, seconds: int) -> None:
    run = Sapwood(tmp_path)
    said = run.good("init", tmp_path / "made", "--grace", grace)
    assert said.out == f"{tmp_path / 'made'}\n"
    assert open_store(str(tmp_path / "made")).grace_s == seconds
    # Again is fine, but not with another.
    assert run.good("init", "--json", tmp_path / "made").document["grace"] == seconds
    other = run("init", tmp_path / "made", "--grace", "8d")
    assert (other.code, "is a store already" in other.err) == (2, True)


@pytest.mark.parametrize("grace", ["", "1", "1w", "-1s", "1.5h", "0s", "0"])
def test_what_is_no_grace_is_refused(tmp_path: Path, grace: str) -> None:
    said = Sapwood(tmp_path)("init", tmp_path / "made", f"--grace={grace}")
    assert (said.code, said.out, "hint: " in said.err) == (2, "", True)
    assert not (tmp_path / "made").exists()


def test_a_conflict_is_not_taken_for_a_lack(s3_place: S3Place) -> None:
    writer = open_objects(s3_place.url)[1]
    assert writer is not None
    writer.swap("refs/main.ref", b"one", None)
    with pytest.raises(ConflictError):
        writer.swap("refs/main.ref", b"two", None)
