"""A store in a bucket of Google Cloud Storage.

Invariant: what is compared in a swap is the object's generation, which the service never repeats. Credentials are those
that Google's libraries find: `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud`, the machine's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapwood import places
from sapwood.store import attempts
from sapwood.store.base import Version
from sapwood.store.bucket import BucketObjects

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode
    from obstore.store import GCSStore

__all__ = ["GcsObjects"]


class GcsObjects(BucketObjects):
    """Objects below `gs://bucket/prefix`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        def connect(writing_s: float | None) -> GCSStore:
            from obstore.store import GCSStore

            plain = (places.gcs_endpoint() or "").startswith("http://")
            return GCSStore(
                bucket,
                prefix=prefix or None,
                client_options=attempts.client_options(allow_http=plain, writing_s=writing_s),
                retry_config=attempts.ONCE,
            )

        super().__init__(f"gs://{bucket}/{prefix}" if prefix else f"gs://{bucket}", connect)

    def version_of(self, meta: ObjectMeta) -> str:
        return meta["version"] or ""

    def condition(self, expect: Version) -> PutMode:
        return {"version": expect}
