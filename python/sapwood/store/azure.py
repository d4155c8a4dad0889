"""A store in a container of Azure Blob Storage.

Invariant: an unencrypted endpoint is used only where its URL says `http://`. The account, its endpoint and what signs
requests come from the `AZURE_STORAGE_...` variables, a connection string among them: docs/stores.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapwood import places
from sapwood.errors import DeniedError
from sapwood.store import attempts
from sapwood.store.bucket import BucketObjects

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore

__all__ = ["AzureObjects"]


class AzureObjects(BucketObjects):
    """Objects below `az://container/prefix`."""

    def __init__(self, container: str, prefix: str) -> None:
        url = f"az://{container}/{prefix}" if prefix else f"az://{container}"

        def connect(writing_s: float | None) -> AzureStore:
            from obstore.store import AzureStore

            config = _connection(url)
            plain = (config.get("endpoint") or places.azure_endpoint() or "").startswith("http://")
            return AzureStore(
                container,
                prefix=prefix or None,
                config=config,
                client_options=attempts.client_options(allow_http=plain, writing_s=writing_s),
                retry_config=attempts.ONCE,
            )

        super().__init__(url, connect)


def _connection(url: str) -> AzureConfig:
    """Return what a connection string says, nothing if there is none.

    Raises:
        DeniedError: `credentials-missing`: neither it nor the environment names an account.
    """
    said = dict(part.split("=", 1) for part in places.azure_connection().split(";") if "=" in part)
    account = said.get("AccountName")
    if not account and not places.azure_account():
        raise DeniedError(
            f"{url}: no storage account was found: AZURE_STORAGE_CONNECTION_STRING and AZURE_STORAGE_ACCOUNT_NAME"
            " are not set",
            kind="credentials-missing",
            hint="export AZURE_STORAGE_ACCOUNT_NAME=... AZURE_STORAGE_ACCOUNT_KEY=...",
            store=url,
        )
    config: AzureConfig = {}
    if account:
        config["account_name"] = account
        scheme, suffix = said.get("DefaultEndpointsProtocol", "https"), said.get("EndpointSuffix", "core.windows.net")
        config["endpoint"] = said.get("BlobEndpoint", f"{scheme}://{account}.blob.{suffix}")
    if "AccountKey" in said:
        config["account_key"] = said["AccountKey"]
    if "SharedAccessSignature" in said:
        config["sas_key"] = said["SharedAccessSignature"]
    return config
