"""Prints tables, and texts from elsewhere."""

import sys
from collections.abc import Iterator, Sequence

import typer

_GAP = "  "  # between two columns


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns on a terminal, and tab-separated lines elsewhere. Nothing is truncated."""
    lines = _aligned([headings, *rows]) if sys.stdout.isatty() else map("\t".join, [headings, *rows])
    typer.echo("\n".join(lines))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield each row with its columns aligned. The terminal wraps the last column, which is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *texts, detail in rows:
        yield _GAP.join([*(text.ljust(width) for text, width in zip(texts, widths, strict=False)), detail])


def printable(text: str) -> str:
    """Replace characters that are not printable: the text may contain control sequences."""
    return "".join(character if character.isprintable() else " " for character in text)
