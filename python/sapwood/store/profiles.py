"""What Amazon's tools keep in `~/.aws/credentials` and `~/.aws/config`: the keys, region and endpoint of a profile.

Invariant: keys are taken from a profile only when the environment brings none, and never from two places together.
Not here: keys of the environment, of containers and of machines, which obstore finds itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from sapwood import places
from sapwood.errors import DeniedError

__all__ = ["Keys", "Profile", "read"]

_PROCESS_S = 60


@dataclass(frozen=True)
class Keys:
    """What signs a request; it is shown nowhere."""

    access: str = field(repr=False)
    secret: str = field(repr=False)
    session: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Profile:
    """What a profile says; nothing where it is silent."""

    keys: Keys | None = None
    region: str | None = None
    endpoint: str | None = None


def read(url: str) -> Profile:
    """Return what the profile in force says, for the place at `url`.

    Raises:
        DeniedError: `profile-unusable`: the profile is missing, damaged, of a kind that is not read here, or its
            `credential_process` failed.
    """
    name, named = places.aws_profile()
    found = _sections(url, name)
    if named and not found and not places.aws_has_keys():
        raise _unusable(url, name, "there is no such profile")
    keys = None
    if not places.aws_has_keys():
        keys = _keys(url, name, found)
        if keys is None and named and not places.aws_has_role():
            how = "role_arn" if "role_arn" in found else "sso" if any(key.startswith("sso_") for key in found) else ""
            raise _unusable(url, name, f"it has {how or 'no keys'}" + (", which is not read here" if how else ""))
    return Profile(keys, found.get("region"), found.get("endpoint_url"))


def _sections(url: str, name: str) -> dict[str, str]:
    """Return what both files say of a profile; the credentials file has the last word."""
    import configparser

    said: dict[str, str] = {}
    credentials, config = places.aws_files()
    for file, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parser = configparser.RawConfigParser(default_section="", strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError) as error:
            raise _unusable(url, name, f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        if parser.has_section(section):
            said.update(parser.items(section))
    return said


def _keys(url: str, name: str, said: dict[str, str]) -> Keys | None:
    if said.get("aws_access_key_id") and said.get("aws_secret_access_key"):
        return Keys(said["aws_access_key_id"], said["aws_secret_access_key"], said.get("aws_session_token"))
    if command := said.get("credential_process"):
        return _ask(url, name, command)
    return None


def _ask(url: str, name: str, command: str) -> Keys:
    """Run a `credential_process`."""
    import shlex
    import subprocess

    try:
        done = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROCESS_S, check=True
        )
        said = json.loads(done.stdout)
        return Keys(said["AccessKeyId"], said["SecretAccessKey"], said.get("SessionToken"))
    except subprocess.CalledProcessError as error:
        raise _unusable(url, name, f"its credential_process ended with {error.returncode}") from error
    except subprocess.TimeoutExpired as error:
        raise _unusable(url, name, f"its credential_process said nothing in {_PROCESS_S} s") from error
    except OSError as error:
        raise _unusable(url, name, f"its credential_process cannot be run: {error.strerror}") from error
    except (ValueError, KeyError, TypeError):
        # What it printed may hold a secret: it is shown nowhere.
        raise _unusable(url, name, "its credential_process printed no credentials") from None


def _unusable(url: str, name: str, why: str) -> DeniedError:
    files = " and ".join(places.aws_files())
    return DeniedError(
        f"{url}: profile {name}: {why} (looked into {files})",
        kind="profile-unusable",
        hint="export AWS_PROFILE=...; for roles and single sign-on: credential_process = "
        f"aws configure export-credentials --profile {name} --format process",
        store=url,
    )
