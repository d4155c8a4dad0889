"""A store in a bucket that speaks the S3 protocol.

Invariant: an unencrypted endpoint is used only where its URL says `http://`. Credentials, region and endpoint are those
of the environment, else of a profile (`profiles`), else the machine's own, as Amazon's tools have it: docs/stores.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapwood import places
from sapwood.store import attempts
from sapwood.store.bucket import BucketObjects

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

__all__ = ["S3Objects"]


class S3Objects(BucketObjects):
    """Objects below `s3://bucket/prefix`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"

        def connect(writing_s: float | None) -> S3Store:
            from obstore.store import S3Store

            from sapwood.store import profiles

            config: S3Config = {"disable_bulk_delete": True}
            profile = profiles.read(url)
            if profile.region and not places.s3_region():
                config["region"] = profile.region
            endpoint = places.s3_endpoint() or profile.endpoint
            if endpoint:
                config["endpoint"] = endpoint
            if profile.keys:
                config["access_key_id"] = profile.keys.access
                config["secret_access_key"] = profile.keys.secret
                if profile.keys.session:
                    config["session_token"] = profile.keys.session
            plain = (endpoint or "").startswith("http://")
            return S3Store(
                bucket,
                prefix=prefix or None,
                config=config,
                client_options=attempts.client_options(allow_http=plain, writing_s=writing_s),
                retry_config=attempts.ONCE,
            )

        super().__init__(url, connect)
