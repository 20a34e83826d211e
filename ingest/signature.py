"""GitHub's signature over a delivery. Pure."""

import hmac
from collections.abc import Iterable

PREFIX = b"sha256="


def sign(secret: bytes, body: bytes) -> str:
    """Return the value of `X-Hub-Signature-256` for a body (GitHub docs, "Validating webhook deliveries")."""
    return "sha256=" + hmac.digest(secret, body, "sha256").hex()


def verify(secrets: Iterable[bytes], body: bytes, signature: str | None) -> bool:
    """Tell whether `signature` was made with one of `secrets` over exactly these bytes.

    Takes the same time for any signature of the right form, and looks at every secret.
    """
    given = (signature or "").encode("utf-8", "surrogateescape")
    verified = False
    for secret in secrets:
        verified |= hmac.compare_digest(PREFIX + hmac.digest(secret, body, "sha256").hex().encode(), given)
    return verified
