"""Fingerprints: short hashes of keys that may be too long for an index. Pure."""

from hashlib import blake2b
from typing import NewType

Fingerprint = NewType("Fingerprint", str)
"""16 bytes in hex. Stored as a UUID, a type of 16 bytes that every database has."""


def fingerprint(*parts: object) -> Fingerprint:
    """Return the hash of `parts`."""
    return Fingerprint(blake2b(repr(parts).encode(), digest_size=16).hexdigest())
