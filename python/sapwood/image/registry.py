"""Registries: requests of the distribution protocol, and reading by them.

Promise: what is asked for by its digest is given out as it came, for whoever asked to prove; credentials are shown to
the registry and to the server of tokens that it names, over TLS unless the registry is spoken to without, and to
nobody that a redirect leads to. Nothing hangs (`store.attempts`), and a token that has ended is followed by another.
Not here: what a manifest means (`manifest`), writing (`upload`). Sources: OCI distribution-spec 1.1; docker's token
and OAuth2 authentication.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPMessage
from typing import TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from sapwood.errors import CorruptError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.image.credentials import Login, find_login
from sapwood.image.manifest import MOST_OF_A_MANIFEST
from sapwood.image.name import ImageName
from sapwood.image.wire import Into, Reply, Server, Wire
from sapwood.store import attempts, faults
from sapwood.store.requests import Requests, Verb
from sapwood.store.waiting import each

__all__ = ["MANIFEST_TYPES", "Registry"]

_Result = TypeVar("_Result")

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_VERBS: dict[str, Verb] = {
    "GET": "get", "HEAD": "head", "POST": "put", "PATCH": "put", "PUT": "put", "DELETE": "delete",
}  # fmt: skip
_MOST_OF_A_TOKEN = 1 << 20
_REDIRECTS = 5
# A token is not shown in its last seconds.
_SPARE_S = 5.0
# What a server says that gives no time: as docker takes it.
_TOKEN_S = 60.0
# Ranges closer than this are fetched as one. Of stores 64 KiB are: in layers more lies between what is wanted, and a
# request costs less than that of a slow link.
_COALESCE = 16 * 1024
_AT_ONCE = 4
# Of a blob that is given whole to who asked for a part, so much is taken.
_WHOLE = 16 << 20
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"|([a-zA-Z_]+)=([^\s,"]+)')
# No number is longer than any size is.
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_SECONDS = re.compile(r"[0-9]{1,6}")


class _Token:
    """What is shown to a registry, and until when."""

    def __init__(self, authorization: str, until: float) -> None:
        self.authorization = authorization
        self._until = until

    @property
    def holds(self) -> bool:
        return time.monotonic() < self._until


class Registry:
    """One repository of a registry. Safe to use from several threads."""

    def __init__(self, name: ImageName, *, writes: bool = False, beside: Sequence[str] = ()) -> None:
        """Who `writes` asks for tokens that let him, and that let him read the repositories `beside`, too."""
        self.requests = Requests()
        actions = "pull,push" if writes else "pull"
        others = sorted(set(beside) - {name.repository})
        self._scopes = [f"repository:{name.repository}:{actions}", *(f"repository:{one}:pull" for one in others)]
        self._scheme = "http" if name.is_plain else "https"
        host = "registry-1.docker.io" if name.place == "docker.io" else name.place
        self._base = f"{self._scheme}://{host}/v2/{name.repository}/"
        self._server = Server.of(self._base)
        self.repository, self.host = name.repository, name.place
        self.url = f"{name.transport}{name.place}/{name.repository}"
        self._wire = Wire()
        self._guard = threading.Lock()
        self._token: _Token | None = None
        self._challenge: dict[str, str] | None = None
        # Where blobs were found to lie: the way to there need not be asked for again.
        self._elsewhere: dict[str, str] = {}

    def reconnect(self) -> None:
        """Ask by new connections from now on."""
        self._wire.reconnect()
        with self._guard:
            self._elsewhere.clear()

    def manifest(self, reference: str) -> bytes:
        """Return the manifest or index of a tag or a digest, unproved.

        Raises:
            NotFoundError: `image-missing`.
            CorruptError: `image-corrupt`: it is larger than any may be.
            DeniedError: `store-denied`; `credentials-unreadable`.
            InvalidInputError: `bad-redirect`.
            UnavailableError: `store-unreachable`.
        """
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}

        def attempt() -> bytes:
            reply = self._get(f"manifests/{reference}", headers, MOST_OF_A_MANIFEST)
            if reply.status == 404:
                raise NotFoundError(
                    f"{self.url}: there is no image {reference}",
                    kind="image-missing",
                    hint=f"which there are: skopeo list-tags docker://{self.host}/{self.repository}",
                    address=self.url,
                )
            self._require(reply, reference, (200,))
            if reply.is_cut:
                raise CorruptError(
                    f"{self.url}: the manifest {reference} has more than {MOST_OF_A_MANIFEST} bytes",
                    kind="image-corrupt",
                )
            return reply.body

        return self._persist(attempt)

    def ranges(self, digest: str, size: int, wanted: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length) of a blob of so many bytes, in the order asked; unverified.

        Raises:
            NotFoundError: `object-missing`.
            CorruptError: `object-short`: it has other than `size` bytes; or a range lies past its end.
            InvalidInputError: `no-ranges`: the registry gives no part of a blob as large; `bad-redirect`.
            UnavailableError, DeniedError: as `manifest`.
        """
        for offset, length in wanted:
            faults.check_range(self.url, digest, offset, length)
            if offset + length > size:
                raise faults.too_short(self.url, digest, size, offset, length)
        spans = _joined(wanted)
        if len(spans) == 1:
            found = [self._span(digest, size, spans[0])]
        else:
            found = each(lambda span: self._span(digest, size, span), spans, at_once=_AT_ONCE)
        out = []
        for offset, length in wanted:
            at = next((at for at, (begin, end) in enumerate(spans) if begin <= offset and offset + length <= end), None)
            out.append(b"" if at is None or not length else found[at][offset - spans[at][0] :][:length])
        return out

    def _span(self, digest: str, size: int, span: tuple[int, int]) -> bytes:
        begin, end = span
        headers = {"Range": f"bytes={begin}-{end - 1}"}

        def attempt() -> bytes:
            # One that ignores ranges sends all: of a small blob that does as well.
            most = max(end - begin, size if size <= _WHOLE else 0)
            reply = self._blob(digest, headers, most)
            self._require_range(digest, reply, size, span)
            if reply.status == 200:
                return self._whole(digest, reply, size)[begin:end]
            if len(reply.body) != end - begin:
                raise faults.truncated(self.url, digest, len(reply.body), end - begin)
            return reply.body

        return self._persist(attempt)

    def _require_range(self, digest: str, reply: Reply, size: int, span: tuple[int, int]) -> None:
        """Raise unless a reply gives these bytes of a blob of so many, or all of it."""
        if reply.status == 404:
            raise faults.missing(self.url, digest)
        if reply.status == 416:
            raise self._lies(digest, f"is shorter than the {size} bytes that its manifest says")
        self._require(reply, digest, (200, 206))
        if reply.status == 200:
            return
        told = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        if told is None or (int(told[1]), int(told[2])) != (span[0], span[1] - 1):
            raise InvalidInputError(
                f"{self.url}: {digest}: the registry does not say that it sends the bytes it was asked for",
                kind="no-ranges",
            )
        if told[3] not in ("*", str(size)):
            raise self._lies(digest, f"has {told[3]} bytes, and its manifest says {size}")

    def stream(self, digest: str, size: int, take: Callable[[bytes], object]) -> None:
        """Give all bytes of a blob of so many to `take`, in order and as they come; unverified.

        A connection that breaks is followed by another for the rest, as long as each brings something.

        Raises:
            SapwoodError: as `ranges`; whatever `take` raises.
        """
        at = 0

        def into(status: int, headers: HTTPMessage) -> Callable[[bytes], object] | None:
            if status not in (200, 206):
                return None
            self._require_range(digest, Reply(status, headers, b"", is_cut=False), size, (at, size))
            # One that ignores ranges begins again.
            skipped = at if status == 200 else 0

            def taken(piece: bytes) -> None:
                nonlocal at, skipped
                now = min(skipped, len(piece))
                skipped -= now
                if piece := piece[now:]:
                    at += len(piece)
                    take(piece)

            return taken

        def attempt() -> None:
            before = at
            reply = self._blob(digest, {"Range": f"bytes={at}-{size - 1}"}, size, into)
            self._require_range(digest, reply, size, (before, size))
            if reply.is_cut:
                raise self._lies(digest, f"has more than the {size} bytes that its manifest says")
            if at < size:
                raise faults.truncated(self.url, digest, at - before, size - before)

        while at < size:
            before = at
            try:
                self._persist(attempt)
            except UnavailableError:
                if at == before:
                    raise

    def _whole(self, digest: str, reply: Reply, size: int) -> bytes:
        if size > _WHOLE:
            raise InvalidInputError(
                f"{self.url}: the registry gives no parts of blobs",
                kind="no-ranges",
                hint="copy the image here: skopeo copy docker://… oci:DIR:TAG",
            )
        if reply.is_cut:
            raise self._lies(digest, f"has more than the {size} bytes that its manifest says")
        if len(reply.body) != size:
            raise faults.truncated(self.url, digest, len(reply.body), size)
        return reply.body

    def _lies(self, digest: str, found: str) -> CorruptError:
        return CorruptError(f"{self.url}: {digest} {found}", kind="object-short", store=self.url, key=digest)

    def _persist(self, attempt: Callable[[], _Result]) -> _Result:
        return attempts.persist(attempt, self._renew)

    def _renew(self) -> bool:
        with self._guard:
            self._token = None
        return True

    def _blob(self, digest: str, headers: dict[str, str], most: int, into: Into | None = None) -> Reply:
        with self._guard:
            known = self._elsewhere.get(digest)
        if known is not None:
            self.requests.count("get")
            reply = self._wire.ask("GET", known, headers, most=most, into=into)
            if reply.status in (200, 206):
                return reply
            # A way that is signed ends some day.
            with self._guard:
                self._elsewhere.pop(digest, None)
        return self._get(f"blobs/{digest}", headers, most, blob=digest, into=into)

    def _get(
        self, path: str, headers: dict[str, str], most: int, *, blob: str | None = None, into: Into | None = None
    ) -> Reply:
        """Ask the registry, with what it wants to be shown, and go where it sends us."""
        # An error may have more to say than what was asked for has bytes.
        reply, url = self._go("GET", self._base + path, headers, max(most, 4096), into=into)
        if blob and Server.of(url) != self._server and reply.status in (200, 206):
            with self._guard:
                self._elsewhere[blob] = url
        return reply

    def send(
        self,
        method: str,
        where: str,
        headers: dict[str, str] | None = None,
        body: bytes | memoryview | None = None,
        *,
        good: tuple[int, ...],
        most: int = 4096,
    ) -> Reply:
        """Return the reply, of a `good` status, to one request to a path of the repository, or to a URL that it gave.

        Tried once, but for a token that has ended; `keep_trying` is for callers.

        Raises:
            DeniedError: `store-denied`; `credentials-unreadable`, `realm-insecure`.
            InvalidInputError: `bad-redirect`.
            UnavailableError: `store-unreachable`; its `status` is that of the reply, 0 if there was none.
        """
        url = where if "://" in where else self._base + where
        reply, _ = self._go(method, url, headers or {}, most, body=body)
        self._require(reply, f"{method} {where.partition('?')[0].removeprefix(self._base)}", good)
        return reply

    def keep_trying(self, attempt: Callable[[], _Result]) -> _Result:
        """Return what an attempt returns, which is made again where that may help, as reading is."""
        return self._persist(attempt)

    def location(self, reply: Reply, asked: str) -> str:
        """Return where a reply sends us on, from TLS never to none.

        Raises:
            InvalidInputError: `bad-redirect`.
        """
        return self._followed(asked if "://" in asked else self._base + asked, reply)

    def _go(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        most: int,
        *,
        body: bytes | memoryview | None = None,
        into: Into | None = None,
    ) -> tuple[Reply, str]:
        """Return the reply to a request where it leads, and where that is."""
        ask = partial(self._wire.ask, method, most=most, body=body, into=into)
        verb = _VERBS[method]
        self.requests.count(verb)
        shown = self._authorization()
        is_ours = Server.of(url) == self._server
        reply = ask(url, headers | (shown if is_ours else {}))
        if reply.status == 401 and is_ours:
            shown = self._answer(reply)
            self.requests.count(verb)
            reply = ask(url, headers | shown)
        for _ in range(_REDIRECTS):
            if reply.status not in (301, 302, 303, 307, 308):
                break
            url = self._followed(url, reply)
            mine = shown if Server.of(url) == self._server else {}
            self.requests.count(verb)
            reply = ask(url, headers | mine)
        else:
            raise InvalidInputError(f"{self.url}: it sends us on and on", kind="bad-redirect")
        return reply, url

    def _followed(self, url: str, reply: Reply) -> str:
        try:
            to = urljoin(url, reply.headers.get("Location", ""))
            scheme = Server.of(to).scheme
        except ValueError:
            raise InvalidInputError(f"{self.url}: it sends us nowhere", kind="bad-redirect") from None
        if scheme == "http" and self._scheme == "https":
            raise InvalidInputError(
                f"{self.url}: it sends us to {urlsplit(to).hostname} without TLS", kind="bad-redirect"
            )
        return to

    def _require(self, reply: Reply, what: str, good: tuple[int, ...]) -> None:
        """Raise what a status means, unless it is good."""
        if reply.status in good:
            return
        where, code = f"{self.url}: {what}", _code(reply)
        said = f"{reply.status} {code}" if code else str(reply.status)
        if reply.status in (401, 403):
            raise DeniedError(
                f"{where}: access refused ({said})",
                kind="store-denied",
                hint=f"docker login {self.host}, or podman login {self.host}",
            )
        asked = reply.headers.get("Retry-After", "")
        wait_s = float(told[0]) if (told := _SECONDS.match(asked)) and asked.isdecimal() else 0.0
        raise UnavailableError(
            f"{where}: the registry replied {said}" + (f", and wants {wait_s:g} s of peace" if wait_s else ""),
            kind="store-unreachable",
            retry_after_s=5.0 if reply.status in (429, 503) else 1.0,
            wait_s=wait_s,
            status=reply.status,
            may_pass=reply.status in (408, 429) or reply.status >= 500,
        )

    # Who we are.

    def _authorization(self) -> dict[str, str]:
        with self._guard:
            token, challenge = self._token, self._challenge
        if token is None and challenge is None:
            return {}
        if token is None or not token.holds:
            assert challenge is not None  # with whose answer the token came
            token = self._fetch_token(challenge)
        return {"Authorization": token.authorization}

    def _answer(self, reply: Reply) -> dict[str, str]:
        """Return what a refusal asks to be shown.

        Raises:
            DeniedError: `store-denied`: nothing would do.
        """
        login = None
        for line in reply.headers.get_all("WWW-Authenticate") or []:
            scheme, _, rest = line.partition(" ")
            if scheme.lower() == "bearer":
                challenge = {one or two: value or plain for one, value, two, plain in _CHALLENGE.findall(rest)}
                return {"Authorization": self._fetch_token(challenge).authorization}
            login = login or find_login(self.host, self.repository)
            if scheme.lower() == "basic" and login is not None and login.user:
                token = _Token(login.basic(), float("inf"))
                with self._guard:
                    self._token, self._challenge = token, {}
                return {"Authorization": token.authorization}
        self._require(reply, "who we are", ())
        raise AssertionError  # it was a refusal

    def _fetch_token(self, challenge: dict[str, str]) -> _Token:
        login = find_login(self.host, self.repository)
        if not challenge.get("realm"):
            # It wanted a name and a secret, and they may have changed.
            token = _Token(login.basic() if login else "", float("inf"))
        elif login is not None and login.registry_token:
            token = _Token(f"Bearer {login.registry_token}", float("inf"))
        else:
            token = self._ask_for_token(challenge, login)
        with self._guard:
            self._token, self._challenge = token, challenge
        return token

    def _ask_for_token(self, challenge: dict[str, str], login: Login | None) -> _Token:
        realm = challenge["realm"]
        try:
            scheme = Server.of(realm).scheme
        except ValueError:
            scheme = ""
        if scheme != "https" and (scheme != "http" or self._scheme == "https"):
            raise DeniedError(
                f"{self.url}: it wants a token from {realm.partition('?')[0]}, which is no server that speaks TLS",
                kind="realm-insecure",
            )
        said = {"service": challenge.get("service", ""), "scope": " ".join(self._scopes)}
        self.requests.count("get")
        if login is not None and login.identity_token:
            form = {"grant_type": "refresh_token", "client_id": "sapwood", "refresh_token": login.identity_token}
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(said | form).encode()
            reply = self._wire.ask("POST", realm, kind, most=_MOST_OF_A_TOKEN, body=body)
        else:
            headers = {"Authorization": login.basic()} if login is not None and login.user else {}
            asked = [("service", said["service"])] if said["service"] else []
            asked += [("scope", scope) for scope in self._scopes]
            url = realm + ("&" if "?" in realm else "?") + urlencode(asked)
            reply = self._wire.ask("GET", url, headers, most=_MOST_OF_A_TOKEN)
        if reply.status in (400, 401, 403) and len(self._scopes) > 1:
            # Some give no token at all to who may not read one of several: then none is taken over from there.
            self._scopes = self._scopes[:1]
            return self._ask_for_token(challenge, login)
        self._require(reply, "a token", (200,))
        try:
            answer = json.loads(reply.body)
            text = answer.get("token") or answer["access_token"]
            seconds = float(answer.get("expires_in") or _TOKEN_S)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            text, seconds = "", 0.0
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or not text:
            raise DeniedError(f"{self.url}: what should be a token is none", kind="store-denied")
        return _Token(f"Bearer {text}", time.monotonic() + max(0.0, seconds - _SPARE_S))


def _joined(wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans that hold all ranges, those that nearly touch as one."""
    spans: list[tuple[int, int]] = []
    for offset, length in sorted(wanted):
        if not length:
            continue
        if spans and offset - spans[-1][1] <= _COALESCE:
            spans[-1] = (spans[-1][0], max(spans[-1][1], offset + length))
        else:
            spans.append((offset, offset + length))
    return spans


def _code(reply: Reply) -> str:
    """Return the code of a registry's error, if it gives one."""
    try:
        code = json.loads(reply.body)["errors"][0]["code"]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return ""
    return code[:60] if isinstance(code, str) else ""
