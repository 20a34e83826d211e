"""GitHub's signature over a delivery. Pure."""

import hmac
from collections.abc import Iterable

_PREFIX = "sha256="


def sign(secret: bytes, body: bytes) -> str:
    """Return the value of `X-Hub-Signature-256` for a body (GitHub docs, "Validating webhook deliveries")."""
    return _PREFIX + hmac.digest(secret, body, "sha256").hex()


def verify(secrets: Iterable[bytes], body: bytes, signature: str | None) -> bool:
    """Return whether `signature` is valid for exactly these bytes and one of `secrets`.

    The comparison takes constant time. Raises no error, even if the header is malformed.
    """
    if not signature:
        return False
    given = signature.encode("utf-8", "surrogatepass")
    for secret in secrets:  # noqa: SIM110 - a generator costs more than the comparison
        if hmac.compare_digest(sign(secret, body).encode(), given):
            return True
    return False
