"""Checksums of rows: SQLite itself does not notice when the content of a payload has changed on the disk."""

import zlib
from collections.abc import Sequence

from shared.delivery import Delivery

PIECE = 5 * 1024
"""Bytes of a body that are taken at once. For more, zlib lets other threads run, and waiting for them takes longer."""


def checksum_of(values: Sequence[str | bytes | int | None]) -> int:
    """Return the CRC-32 of a delivery's values, in the order of `tables.FIELDS`."""
    id_, event, body, *others = values
    texts = "\0".join(map(str, (id_, event, *others)))
    checksum = zlib.crc32(texts.encode(errors="surrogatepass"))
    payload = memoryview(body)  # type: ignore[arg-type]
    for start in range(0, len(payload), PIECE):
        checksum = zlib.crc32(payload[start : start + PIECE], checksum)
    return checksum


def is_intact(values: Sequence[object], attempts: object, checksum: object) -> bool:
    """Return whether the values of a row have its checksum. Damage may have changed their types too."""
    if not (isinstance(values[2], bytes) and isinstance(attempts, int)):
        return False
    return checksum_of(values) == checksum  # type: ignore[arg-type]


def remains_of(values: Sequence[object]) -> Delivery:
    """Return what is left of a damaged delivery, with values of the right types."""
    id_, event, body, received_at, *said = values
    return Delivery(
        str(id_),
        str(event),
        body if isinstance(body, bytes) else str(body).encode(errors="replace"),
        received_at if isinstance(received_at, int) else 0,
        *(None if one is None else str(one) for one in said),
    )


def lenient_text(stored: bytes) -> str:
    """Return a stored text, whatever damage has made of it: SQLite's driver would raise an error."""
    return stored.decode(errors="replace")
