"""Reading the properties of any message.

pamqp 4.0 refuses a time stamp after the year 9999 (nanoseconds, say) and short text that is not UTF-8, and aiormq then
gives up the whole connection. The message comes back on the next one, with all its neighbours, until the delivery limit
has made dead letters of them.
"""

from datetime import datetime

from pamqp import decode
from pamqp.common import FieldTable


def tolerate_any_properties() -> None:
    """Make pamqp read what it cannot decode as replacement characters, as no time stamp or as no headers."""
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = _timestamp
    decode.METHODS["table"] = _table


def _short_text(value: bytes) -> tuple[int, str]:
    length = value[0] + 1
    return length, value[1:length].decode(errors="replace")


def _timestamp(value: bytes) -> tuple[int, datetime | None]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError):
        return 8, None


def _table(value: bytes) -> tuple[int, FieldTable]:
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError):
        return 4 + int.from_bytes(value[:4], "big"), {}
