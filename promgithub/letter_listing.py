"""Dead letters as text, for a person at a terminal and for a pipe."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.broker import DeadLetter

HEADINGS = ("ID", "EVENT", "REASON", "AGE", "SIZE", "DETAIL")

LEAST_DETAIL = 20
"""Characters of a detail that a terminal gets, however narrow it is."""

_PADDING = 2  # characters of each column

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Listing:
    """The first of the letters that were asked for, each as text under `HEADINGS`, and how many more there are."""

    lines: list[tuple[str, ...]]
    more: int

    def print(self) -> None:
        """Print a table on a terminal, and elsewhere whole lines whose columns are separated by tabs."""
        if not self.lines:
            typer.echo("no dead letters")
        elif sys.stdout.isatty():
            self._print_table()
        else:
            typer.echo("\n".join(map("\t".join, [HEADINGS, *self.lines])))
        if self.more > 0:
            typer.echo(f"... and {self.more} more")

    def _print_table(self) -> None:
        """Print a table as wide as the terminal, or wider if need be: only details are cut, as IDs are copied."""
        others = sum(max(map(len, column)) + _PADDING for column in zip(HEADINGS, *self.lines, strict=True))
        others -= max(len(line[-1]) for line in [HEADINGS, *self.lines])
        left = max(LEAST_DETAIL, Console().width - others)
        table = Table(*HEADINGS, box=None)
        for *texts, detail in self.lines:
            cut = detail if len(detail) <= left else f"{detail[: left - 1]}…"
            table.add_row(*map(Text, (*texts, cut)))  # as text, since what looks like markup is none
        Console(width=others + left).print(table)


def line(letter: DeadLetter) -> tuple[str, ...]:
    """Return a letter as text under `HEADINGS`."""
    delivery = letter.delivery
    age = _age(letter.dead_at)
    return tuple(map(_printable, (delivery.id, delivery.event, letter.reason, age, _size(letter.size), letter.detail)))


def description(letter: DeadLetter) -> str:
    """Return a line for each thing that is known of a letter, but for its payload."""
    return "\n".join(f"{name}: {_printable(value)}" for name, value in _known(letter) if value)


def _known(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    delivery = letter.delivery
    yield "id", delivery.id
    yield "event", delivery.event
    yield "reason", letter.reason
    yield "detail", letter.detail
    yield "dead since", _moment(letter.dead_at) if letter.dead_at else ""
    yield "received", _moment(delivery.received_at)
    yield "size", f"{letter.size} bytes"
    yield "hook", delivery.hook_id or ""
    yield "target", " ".join(filter(None, (delivery.target_type, delivery.target_id)))
    yield "source", delivery.source or ""


def _printable(text: str) -> str:
    """Return text without what would move a terminal's cursor or break a line: anyone may have written it."""
    return "".join(character if character.isprintable() else " " for character in text)


def _age(since: int | None) -> str:
    """Return how long ago a time in Unix milliseconds was, in its largest whole unit."""
    if since is None:
        return "unknown"
    seconds = max(0, int(time.time() - since / 1000))
    length, unit = next((length, unit) for length, unit in _UNITS if seconds >= length or unit == "s")
    return f"{seconds // length} {unit}"


def _size(count: int) -> str:
    """Return a number of bytes in thousands or millions of them."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def _moment(milliseconds: int) -> str:
    """Return a time in Unix milliseconds as people and machines read it."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).isoformat(sep=" ", timespec="seconds")
