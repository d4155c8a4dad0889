"""Where sapwood keeps things and whom it talks to, as the environment says.

Border: the only module below `cli` that reads the environment. Each place is read when asked for, never at import.
Exception, on purpose: credentials are read from the usual `AWS_...`, `GOOGLE_...` and `AZURE_...` variables by obstore
itself; here stands only what it does not know, or what decides before it is asked.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "aws_files",
    "aws_has_keys",
    "aws_has_role",
    "aws_profile",
    "azure_account",
    "azure_connection",
    "azure_endpoint",
    "cache_dir",
    "certificate_folders",
    "changes_dir",
    "connections_dir",
    "contexts_store",
    "default_store",
    "gcs_endpoint",
    "index_dir",
    "proxy_for",
    "registry_files",
    "s3_endpoint",
    "s3_region",
    "staging_dir",
    "trusted_keys",
    "watch_dir",
]


def cache_dir() -> Path:
    """Return the user's cache: `$SAPWOOD_CACHE`, else `$XDG_CACHE_HOME/sapwood`, else `~/.cache/sapwood`."""
    from pathlib import Path

    return Path(_cache())


def changes_dir() -> Path:
    """Return where what is changed in writable mounts is kept, which is no cache.

    `$SAPWOOD_CHANGES`, else `sapwood/changes` in the user's data directory.
    """
    from pathlib import Path

    return Path(
        os.environ.get("SAPWOOD_CHANGES") or os.path.join(_base("XDG_DATA_HOME", ".local/share"), "sapwood", "changes")
    )


def connections_dir() -> str:
    """Return where ssh keeps connections to machines of builders."""
    return os.path.join(_cache(), "ssh")


def contexts_store() -> str:
    """Return the store of the contexts that builders on this machine were given: in the user's data directory."""
    return os.path.join(_base("XDG_DATA_HOME", ".local/share"), "sapwood", "contexts")


def index_dir() -> str:
    """Return where indexes are kept, in the user's cache. A string: `sapwood hash` loads no pathlib."""
    return os.path.join(_cache(), "index")


def staging_dir() -> Path:
    """Return where servers of blobs keep what no pack holds yet, which is no cache.

    `sapwood/staging` in the user's data directory.
    """
    from pathlib import Path

    return Path(_base("XDG_DATA_HOME", ".local/share"), "sapwood", "staging")


def watch_dir() -> str:
    """Return where the sockets of watchers lie, in the user's cache."""
    return os.path.join(_cache(), "watch")


def default_store() -> str:
    """Return the URL of a bare ref's store: `$SAPWOOD_STORE`, else `sapwood/store` in the user's data directory."""
    return os.environ.get("SAPWOOD_STORE") or os.path.join(_base("XDG_DATA_HOME", ".local/share"), "sapwood", "store")


def trusted_keys() -> str | None:
    """Return the file of the keys whose results of builds are believed: `$SAPWOOD_TRUSTED`, or None: all are."""
    return _first("SAPWOOD_TRUSTED")


def s3_endpoint() -> str | None:
    """Return the URL of the S3 server to talk to, or None for Amazon's own."""
    return _first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def s3_region() -> str | None:
    """Return the region of the S3 server."""
    return _first("AWS_REGION", "AWS_DEFAULT_REGION")


def aws_profile() -> tuple[str, bool]:
    """Return the name of the profile in force, and whether somebody named it."""
    named = _first("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    return named or "default", named is not None


def aws_files() -> tuple[str, str]:
    """Return where profiles are: the file of credentials, and that of everything else."""
    home = os.path.expanduser("~")
    return (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(home, ".aws", "credentials"),
        os.environ.get("AWS_CONFIG_FILE") or os.path.join(home, ".aws", "config"),
    )


def aws_has_keys() -> bool:
    """Say whether the environment itself has keys, which come before any profile."""
    return bool(os.environ.get("AWS_ACCESS_KEY_ID"))


def aws_has_role() -> bool:
    """Say whether the environment names a token to become a role with, as on Kubernetes."""
    return bool(os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"))


def gcs_endpoint() -> str | None:
    """Return the URL of the server that speaks for Google's, or None for Google's own."""
    return _first("GOOGLE_BASE_URL")


def azure_connection() -> str:
    """Return the connection string of a storage account, or nothing."""
    return os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")


def azure_account() -> str | None:
    """Return the name of the storage account."""
    return _first("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")


def azure_endpoint() -> str | None:
    """Return the URL of the Blob service, or None for the account's own."""
    return _first("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


def registry_files() -> list[str]:
    """Return where logins to registries are kept, by podman's tools and by docker's, in the order of looking."""
    home = os.path.expanduser("~")
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [named]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    docker = os.environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker")
    return [
        *([os.path.join(runtime, "containers", "auth.json")] if runtime else []),
        os.path.join(_base("XDG_CONFIG_HOME", ".config"), "containers", "auth.json"),
        os.path.join(docker, "config.json"),
    ]


def certificate_folders() -> list[str]:
    """Return where authorities are kept that are believed of one registry only, each in a folder called as its host."""
    config = _base("XDG_CONFIG_HOME", ".config")
    return [os.path.join(config, "containers", "certs.d"), "/etc/containers/certs.d", "/etc/docker/certs.d"]


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the proxy for requests to a host, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` have it."""
    from urllib.request import getproxies_environment, proxy_bypass

    proxy = getproxies_environment().get(scheme)
    return None if proxy is None or proxy_bypass(host) else proxy


def _first(*names: str) -> str | None:
    """Return the first of these variables that is not empty."""
    return next((value for name in names if (value := os.environ.get(name))), None)


def _cache() -> str:
    return os.environ.get("SAPWOOD_CACHE") or os.path.join(_base("XDG_CACHE_HOME", ".cache"), "sapwood")


def _base(variable: str, below_home: str) -> str:
    given = os.environ.get(variable, "")
    # The XDG specification tells programs to ignore a base that is not absolute.
    return given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), below_home)
