"""What a push of the corpus to a new store on an S3 server asks of it, by the server's own log, beside restic's."""

from __future__ import annotations

from collections import Counter

from benchmarks import peers, servers
from benchmarks.corpus import corpus
from benchmarks.measure import Figure, shown, stored_bytes
from benchmarks.sapwood import Reporting, clear, place

COMMANDS = "`sapwood push CORPUS s3://…#main` : `restic init && restic backup` to the same server"
# Objects that a push puts besides packs, and what it tries out when the store is made.
_CONSTANT = 12
_FOR_EACH = 8 << 20


def figures(_rounds: int) -> list[Figure]:
    """Measure, once: counts do not vary with the time of the day."""
    tree = corpus()
    cache, work = map(place, ("cache", "s3"))
    with servers.s3(work) as port:
        url = f"http://127.0.0.1:{port}"
        push = Reporting(
            "push",
            tree,
            f"s3://{servers.BUCKET}/sapwood#main",
            cache=cache,
            environment={**servers.CREDENTIALS, "AWS_ENDPOINT_URL": url},
        )
        push.run()
        ours = servers.requests(work)
        restic = peers.restic(f"s3:{url}/{servers.BUCKET}/restic", servers.CREDENTIALS)
        restic.store_anew(tree).run()
        peer = servers.requests(work) - ours
        packs = stored_bytes(work / "data" / servers.BUCKET / "sapwood" / "packs")
    clear(cache, work)
    restic.clear()
    puts, allowed = _puts(ours), packs / _FOR_EACH + _CONSTANT
    return [
        Figure(
            f"PUTs of a push : one for each 8 MiB of packs, and {_CONSTANT}",
            f"{puts} for {shown(packs)}",
            f"{allowed:.0f}",
            puts / allowed,
            1,
        ),
        Figure("PUTs of a push : restic", str(puts), str(_puts(peer)), puts / _puts(peer), None),
        Figure("all requests : restic", str(ours.total()), str(peer.total()), ours.total() / peer.total(), None),
        Figure(
            "all requests : those that `--json` tells",
            str(ours.total()),
            str(told := push.said[0]["requests"]),
            ours.total() / told,
            1,
        ),
    ]


def _puts(asked: Counter[str]) -> int:
    """Return how many requests wrote; each part of an upload in parts is one."""
    return sum(number for name, number in asked.items() if "Put" in name or "Upload" in name)
