"""What obstore raises, by what to do about it.

obstore's messages hold the URL, a time in microseconds, the server's page and a dump of Rust structs. What a person
needs of it, the status or why there was no connection, is picked out; the rest stays in `__cause__`.
"""

from __future__ import annotations

import re

from sapwood.errors import (
    CorruptError,
    DeniedError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    UnavailableError,
)
from sapwood.store import faults

__all__ = ["explained"]

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_OS_SAYS = re.compile(r'\b(?:message|error): "([^"\\]{1,120})"')
_GENERIC = re.compile(r"^Generic \w+ error: ")
# It may be a signature.
_QUERY = re.compile(r"\?[^\s\")]+")
_DUMP = "\n\nDebug source:"

# Refusals with another status than 403: Amazon's is 400 for a session that has ended, versitygw's 404 for a key.
_REFUSED = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "XAdminUserNotFound")
# Replies of 409 that say nothing of the object, only that somebody else was at it.
_PASSING = ("ConditionalRequestConflict", "OperationAborted")

# What to do, and what was tried, by the kind of the place.
_CREDENTIALS = {
    "s3": (
        "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...",
        "the environment, ~/.aws, the container's and the machine's own",
    ),
    "gs": (
        "export GOOGLE_APPLICATION_CREDENTIALS=FILE, or gcloud auth application-default login",
        "the environment, gcloud's login, the machine's own",
    ),
    "az": (
        "export AZURE_STORAGE_ACCOUNT_KEY=..., or AZURE_STORAGE_CONNECTION_STRING=...",
        "the environment, the machine's own",
    ),
}
# Where machines and containers are asked for credentials when none were given.
_CREDENTIAL_SERVERS = (
    "/latest/api/token",
    "/latest/meta-data/iam",
    "//169.254.170.2/",
    "//169.254.170.23/",
    "/computeMetadata/",
    "/metadata/identity/",
)


def explained(error: Exception, url: str, key: str) -> SapwoodError:
    """Return the error of ours that says what `error` says about the object."""
    from obstore import exceptions

    if isinstance(error, SapwoodError):
        return error
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{url}: {key}: no reply in time", kind="store-unreachable", store=url, key=key)
    text = str(error)
    place = {"store": url, "key": key}
    status = _status(text)
    code = _found(_CODE, text)
    if any(server in text for server in _CREDENTIAL_SERVERS):
        hint, tried = _CREDENTIALS[url.partition("://")[0]]
        return DeniedError(
            f"{url}: no credentials were found; tried: {tried}", kind="credentials-missing", hint=hint, **place
        )
    if code in ("NoSuchBucket", "ContainerNotFound"):
        return NotFoundError(f"{url}: there is no such bucket", kind="bucket-missing", **place)
    if code in _PASSING:
        said = f"the server replied {status} {code}"
        return UnavailableError(f"{url}: {key}: {said}", kind="store-unreachable", store=url, key=key)
    if code in _REFUSED:
        return DeniedError(f"{url}: {key}: access refused ({status} {code})", kind="store-denied", **place)
    if isinstance(error, FileNotFoundError):
        return faults.missing(url, key)
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or status in (401, 403):
        said = f"{status} {code}" if code else str(status or "no")
        return DeniedError(f"{url}: {key}: access refused ({said})", kind="store-denied", **place)
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError) or status in (409, 412):
        return faults.changed(url, key)
    if isinstance(error, exceptions.NotSupportedError) or "Received non-partial response" in text:
        # The only operation asked for that a server may lack without an error status is a range.
        return InvalidInputError(
            f"{url}: the server ignores byte ranges", kind="no-ranges", hint="serve it from one that has them", **place
        )
    if "ContentLengthInvalid" in text:
        # As Azure's emulator has it, asked for a range from the end.
        return InvalidInputError(
            f"{url}: {key}: the server gives a length that is no number",
            kind="no-ranges",
            hint="serve it from one that replies with plain ranges",
            **place,
        )
    if "Content-Range header not present" in text:
        said = "the server does not say which bytes it sends, or sends them as multipart/byteranges"
        return InvalidInputError(
            f"{url}: {key}: {said}", kind="no-ranges", hint="serve it from one that replies with plain ranges", **place
        )
    if status == 501 or code == "NotImplemented":
        said = f"the server does not know such a request ({status}{f' {code}' if code else ''})"
        return InvalidInputError(f"{url}: {key}: {said}", kind="not-implemented", **place)
    if status == 416 or "Wanted range starting at" in text:
        return CorruptError(f"{url}: {key} is cut short: a range lies past its end", kind="object-short", **place)
    if isinstance(error, exceptions.BaseError):
        slow_down = status in (429, 503)
        return UnavailableError(
            f"{url}: {key}: {_why(text, status, code)}",
            kind="store-unreachable",
            retry_after_s=5.0 if slow_down else 1.0,
            may_pass=status is None or status in (408, 429) or status >= 500,
            **place,
        )
    return InternalError(f"{url}: {key}: {type(error).__name__}: {_first(text)}", kind="obstore-refused", **place)


def _why(text: str, status: int | None, code: str | None) -> str:
    """Say in a few words why there was no reply."""
    if status:
        return f"the server replied {status}" + (f" {code}" if code else "")
    if "TimedOut" in text or "kind: Timeout" in text:
        return "no reply in time"
    if "kind: Connect" in text:
        return "no connection: " + (_found(_OS_SAYS, text) or "the server cannot be reached")
    if "IncompleteBody" in text or "kind: Interrupted" in text:
        return "the connection broke"
    return _found(_OS_SAYS, text) or _first(text)


def _status(text: str) -> int | None:
    found = _found(_STATUS, text)
    return int(found) if found else None


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match.group(1) if match else None


def _first(text: str) -> str:
    """Return the last clause of what stands before the dump."""
    said = _QUERY.sub("?…", _GENERIC.sub("", text.partition(_DUMP)[0].rpartition(" - ")[2]))
    return " ".join(said.split())[:200]
