"""Reads small text files that people and secret stores write."""

import codecs
from pathlib import Path

MAX_TEXT_BYTES = 64 * 1024
"""Maximum size of a file, in bytes. A larger one is probably the wrong file."""

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises `OSError`, or `ValueError` with the reason in a few words.

    A byte order mark is refused: it would become a part of the first value.
    """
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise ValueError(f"over {MAX_TEXT_BYTES} bytes")
    if content.startswith(_MARKS):
        raise ValueError("begins with a byte order mark; save it as UTF-8 without one")
    if b"\0" in content:
        raise ValueError("contains a NUL byte, so it is not UTF-8 text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
