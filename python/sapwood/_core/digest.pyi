"""SHA-256 without `hashlib`, which loads OpenSSL."""

__all__ = ["sha256"]

def sha256(data: bytes) -> str:
    """Return the 64 hex digits."""
