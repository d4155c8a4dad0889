"""Pushing an edited tree from a machine that has no state, when the store, over a slow link, has the version before."""

from __future__ import annotations

from benchmarks import peers, servers
from benchmarks.corpus import corpus
from benchmarks.edits import compressed, drawn, edits
from benchmarks.link import linked
from benchmarks.measure import Case, Figure, in_turns, ratio, shown
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

_RTT_MS, _MBIT = 20, 100
_EDITED = 100
COMMANDS = (
    f"`sapwood push CORPUS s3://…#main` after a line was added to {_EDITED} files all over it, over {_RTT_MS} ms and"
    f" {_MBIT} Mbit/s : `sapwood hash CORPUS` without an index, and those files, compressed by zstd -1, at the rate of"
    " the link; : `restic backup` of the same edits over the same link, without its cache"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    cache, hash_cache, work = map(place, ("cache", "hash-cache", "s3"))
    address = f"s3://{servers.BUCKET}/sapwood#main"
    with (
        servers.s3(work) as port,
        linked(port, rtt_ms=_RTT_MS, mbit=_MBIT) as link,
        edits(drawn(tree, _EDITED, seed=1)) as edited,
    ):
        near, far = f"http://127.0.0.1:{port}", link.url
        hashing = Case("hash", [SAPWOOD, "hash", tree], lambda: clear(hash_cache), with_cache(hash_cache))

        def without_state() -> None:
            clear(cache, restic.kept)
            edited.again()

        def push(url: str) -> Case:
            environment = {**with_cache(cache), **servers.CREDENTIALS, "AWS_ENDPOINT_URL": url}
            return Case("push", [SAPWOOD, "push", tree, address], without_state, environment)

        def peer(url: str) -> peers.Peer:
            return peers.restic(f"s3:{url}/{servers.BUCKET}/restic", servers.CREDENTIALS)

        restic = peer(far)
        for case in (push(near), hashing, peer(near).store_anew(tree)):
            case.prepare()
            case.run()
        before = link.counts()
        pushed, hashed = in_turns([push(far), hashing], rounds)
        after = link.counts()
        changed = compressed(edited.paths)
        pushed_again, backed_up = in_turns([push(far), restic.again(tree, without_state)], min(rounds, 3))
    clear(cache, hash_cache, work)
    restic.clear()
    on_the_link = changed * 8 / (_MBIT * 1e6)
    sent, fetched = ((after[way] - before[way]) / rounds for way in ("up", "down"))
    return [
        Figure(
            "push from a fresh machine, beyond a cold hash and the changed bytes on the link",
            str(pushed),
            f"{hashed}, and {on_the_link * 1000:.0f} ms",
            pushed.median - hashed.median - on_the_link,
            1,
            "s",
        ),
        Figure("bytes it sends : the edited files, compressed", shown(sent), shown(changed), sent / changed, None),
        Figure("bytes it fetches", shown(fetched), "", fetched / 1e6, None, "MB"),
        ratio("push from a fresh machine : restic", pushed_again, backed_up, None),
    ]
