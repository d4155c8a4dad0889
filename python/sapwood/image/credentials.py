"""Who we are to a registry: what `docker login` and `podman login` left, as their tools look for it.

Invariant: a secret is given out only for the registry, or the part of it, that it was kept for; none gets into a
message. Not here: what is done with one (`registry`). Sources: docker's config.json, containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from sapwood import places
from sapwood.errors import DeniedError

__all__ = ["Login", "find_login"]

_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_S = 30
_MOST = 1 << 20
_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True, repr=False)
class Login:
    """A name and its secret; or a token that stands for both, to be exchanged, or to be shown as it is."""

    user: str = ""
    secret: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def basic(self) -> str:
        """Return what HTTP's basic scheme says."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")


def find_login(host: str, repository: str) -> Login | None:
    """Return who we are to a repository of a registry, by the first file that knows it; None: nobody.

    Raises:
        DeniedError: `credentials-unreadable`: a file, or what a helper says, cannot be understood.
    """
    for path in places.registry_files():
        try:
            with open(path, "rb") as file:
                config = json.loads(file.read(_MOST))
            if not isinstance(config, dict):
                raise ValueError
        except OSError:
            continue
        except ValueError:
            raise _unreadable(path, "it is no JSON object") from None
        if (login := _of_file(path, config, host, repository)) is not None:
            return login
    return None


def _of_file(path: str, config: dict[str, Any], host: str, repository: str) -> Login | None:
    helpers = config.get("credHelpers")
    names = _names(host, repository)
    # Docker asks for its own registry by the name that its logins have.
    known_as = (host, *names[names.index(_HUB) :]) if _HUB in names else (host,)
    helper = (
        next((helpers[name] for name in known_as if helpers.get(name)), None) if isinstance(helpers, dict) else None
    )
    if helper:
        return _of_helper(path, helper, _HUB if host == "docker.io" else host)
    known = config.get("auths")
    known = known if isinstance(known, dict) else {}
    for name in names:
        entry = known.get(name)
        if isinstance(entry, dict) and (login := _of_entry(path, name, entry)) is not None:
            return login
    if store := config.get("credsStore"):
        return _of_helper(path, store, _HUB if host == "docker.io" else host)
    return None


def _names(host: str, repository: str) -> list[str]:
    """How files call it, what is said of a part of the registry first."""
    parts = repository.split("/")
    names = ["/".join([host, *parts[:count]]) for count in range(len(parts), -1, -1)]
    names += [f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/", f"http://{host}"]
    return [*names, _HUB, "index.docker.io"] if host == "docker.io" else names


def _of_entry(path: str, name: str, entry: dict[str, Any]) -> Login | None:
    user, secret = entry.get("username") or "", entry.get("password") or ""
    if auth := entry.get("auth"):
        try:
            user, _, secret = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
        except (ValueError, TypeError, binascii.Error):
            raise _unreadable(path, f"what it has for {name} is not base64") from None
    login = Login(user, secret, entry.get("identitytoken") or "", entry.get("registrytoken") or "")
    return login if login != Login() else None


def _of_helper(path: str, helper: object, server: str) -> Login | None:
    """Ask `docker-credential-HELPER`."""
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise _unreadable(path, "it names a credential helper that cannot be one")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_S)
    except FileNotFoundError:
        raise _unreadable(path, f"it names {program}, which is not installed") from None
    except (OSError, subprocess.TimeoutExpired):
        raise _unreadable(path, f"{program} does not answer") from None
    if done.returncode:
        # Helpers say so on stdout, of what they have not.
        return None
    try:
        said = json.loads(done.stdout)
        user, secret = str(said["Username"]), str(said["Secret"])
    except (ValueError, KeyError, TypeError):
        raise _unreadable(path, f"what {program} says is not JSON with Username and Secret") from None
    if not secret:
        return None
    return Login(identity_token=secret) if user == "<token>" else Login(user, secret)


def _unreadable(path: str, found: str) -> DeniedError:
    return DeniedError(f"{path}: {found}", kind="credentials-unreadable", hint="docker login, or podman login, anew")
