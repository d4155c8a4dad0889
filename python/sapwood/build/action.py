"""The key of a derivation: the digest of its Action in the Remote Execution API.

Invariant: nothing of this machine is in it: no path, user, time or locale; `ENVIRONMENT` is all that a command finds
set besides what its derivation says. docs/build.md, "The key".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import duration_pb2

from sapwood.build.derivation import Derivation
from sapwood.build.inputs import Folder, Node, digest
from sapwood.digests import TreeDigest, digest_of
from sapwood.reapi.cas import Name
from sapwood.reapi.protocol import remote_execution_pb2 as reapi

__all__ = ["ENVIRONMENT", "NETWORK", "Action", "complete_mark", "make_action"]

ENVIRONMENT = {
    "HOME": "/homeless",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
    # 1980-01-01, the first that zip knows.
    "SOURCE_DATE_EPOCH": "315532800",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
}
NETWORK = "sapwood-network"
"""The platform property of a derivation that may use the network."""


@dataclass(frozen=True, slots=True)
class Action:
    """A derivation whose inputs are known. `digest` is its key."""

    digest: str
    message: bytes
    command: bytes
    root: TreeDigest
    root_size: int
    environment: dict[str, str]
    parts: dict[str, Any]
    """What the key depends on, by name, for `why`."""


def make_action(one: Derivation, inputs: list[tuple[str, Node]], root: Folder) -> Action:
    """Return the action of a derivation that finds `inputs`, which folded are `root`."""
    environment = {**ENVIRONMENT, **dict(one.env)}
    properties = dict(one.platform)
    if one.network:
        properties[NETWORK] = "true"
    platform = reapi.Platform(
        properties=[reapi.Platform.Property(name=name, value=properties[name]) for name in sorted(properties)]
    )
    command = reapi.Command(
        arguments=one.command,
        environment_variables=[
            reapi.Command.EnvironmentVariable(name=name, value=environment[name]) for name in sorted(environment)
        ],
        output_paths=one.outputs,
        output_directory_format=reapi.Command.DIRECTORY_ONLY,
        # Workers before API 2.2 look for it here.
        platform=platform,
    ).SerializeToString(deterministic=True)
    hashed, size = digest(root)
    action = reapi.Action(
        command_digest=message_digest(command),
        input_root_digest=reapi.Digest(hash=hashed.removeprefix("sha256:"), size_bytes=size),
        platform=platform,
    )
    if one.timeout_s is not None:
        seconds, rest = divmod(one.timeout_s, 1)
        action.timeout.CopyFrom(duration_pb2.Duration(seconds=int(seconds), nanos=int(rest * 1e9)))
    message = action.SerializeToString(deterministic=True)
    parts = {
        "command": list(one.command),
        "env": dict(one.env),
        "outputs": list(one.outputs),
        "platform": properties,
        "timeout": one.timeout_s,
        "inputs": {place: node.told for place, node in sorted(inputs, key=lambda each: each[0])},
    }
    return Action(digest_of(TreeDigest, message), message, command, hashed, size, environment, parts)


def complete_mark(action: Name) -> bytes:
    """Return the blob that says, by being in a CAS, that inputs of an action are to be complete before it starts.

    For that is in no key: what a builder makes is the same with and without (docs/decisions/0030-marked-actions.md).
    """
    return f"sapwood-complete {action[0]}/{action[1]}\n".encode()


def message_digest(message: bytes) -> reapi.Digest:
    """Return the digest of a message as the protocol has it."""
    return reapi.Digest(hash=digest_of(TreeDigest, message).removeprefix("sha256:"), size_bytes=len(message))
