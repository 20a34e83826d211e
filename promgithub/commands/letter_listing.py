"""Formats dead letters: as a table on a terminal, or as lines of text or JSON."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import typer

from promgithub.commands.tables import print_table, printable
from shared.brokers.interface import DeadLetter

HEADINGS = ("ID", "EVENT", "REPOSITORY", "REASON", "AGE", "SIZE", "DETAIL")

_AGE_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class _Repository(msgspec.Struct):
    full_name: str = ""


class _Payload(msgspec.Struct):
    repository: _Repository = msgspec.field(default_factory=_Repository)


_PAYLOAD = msgspec.json.Decoder(_Payload)


@dataclass(frozen=True, slots=True)
class LetterList:
    """The first selected letters, as columns under `HEADINGS`, and the number of the others."""

    lines: list[tuple[str, ...]]
    more: int

    def print(self) -> None:
        """Print a table on a terminal, and tab-separated lines elsewhere. Nothing is truncated."""
        if not self.lines:
            typer.echo("no dead letters")
        else:
            print_table(HEADINGS, self.lines)
        if self.more > 0:
            typer.echo(f"... and {self.more} more")


def line(letter: DeadLetter) -> tuple[str, ...]:
    """Return a letter as columns under `HEADINGS`."""
    delivery = letter.delivery
    columns = (
        delivery.id,
        delivery.event,
        _repository(letter),
        letter.reason,
        _age(letter.dead_at),
        _size(letter.size),
        letter.detail,
    )
    return tuple(map(printable, columns))


@dataclass(frozen=True, slots=True)
class JsonLetterList:
    """The first selected letters, as lines of JSON, and the number of the others."""

    lines: list[str]
    more: int

    def print(self) -> None:
        """Print the lines. The number of the others goes to standard error."""
        for one in self.lines:
            typer.echo(one)
        if self.more > 0:
            typer.echo(f"... and {self.more} more", err=True)


def json_line(letter: DeadLetter) -> str:
    """Return all fields of a letter except its payload as a JSON object. Times are in Unix milliseconds."""
    return json.dumps(_fields(letter))


def json_with_payload(letter: DeadLetter) -> str:
    """Return all fields of a letter as a JSON object.

    `payload` is the text of the payload. Bytes that are not UTF-8 become replacement characters.
    """
    return json.dumps(_fields(letter) | {"payload": letter.delivery.body.decode(errors="replace")})


def _fields(letter: DeadLetter) -> dict[str, str | int | None]:
    delivery = letter.delivery
    return {
        "id": delivery.id,
        "event": delivery.event,
        "host": delivery.host,
        "repository": _repository(letter) or None,
        "reason": letter.reason,
        "detail": letter.detail,
        "dead_at": letter.dead_at,
        "received_at": delivery.received_at,
        "size": letter.size,
        "hook_id": delivery.hook_id,
        "target_type": delivery.target_type,
        "target_id": delivery.target_id,
        "source": delivery.source,
    }


def description(letter: DeadLetter) -> str:
    """Return a line for each field of a letter that is set, except its payload."""
    return "\n".join(f"{name}: {printable(value)}" for name, value in _known(letter) if value)


def _known(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    delivery = letter.delivery
    yield "id", delivery.id
    yield "event", delivery.event
    yield "host", delivery.host or ""
    yield "repository", _repository(letter)
    yield "reason", letter.reason
    yield "detail", letter.detail
    yield "dead since", _moment(letter.dead_at) if letter.dead_at else ""
    yield "received", _moment(delivery.received_at)
    yield "size", f"{letter.size} bytes"
    yield "hook", delivery.hook_id or ""
    yield "target", " ".join(filter(None, (delivery.target_type, delivery.target_id)))
    yield "source", delivery.source or ""


def _repository(letter: DeadLetter) -> str:
    """Return `owner/name` as the payload says it, or an empty string."""
    try:
        return _PAYLOAD.decode(letter.delivery.body).repository.full_name
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _age(since: int | None) -> str:
    """Format the age of a time in Unix milliseconds, in the largest unit that is not 0."""
    if since is None:
        return "unknown"
    seconds = max(0, int(time.time() - since / 1000))
    length, unit = next((length, unit) for length, unit in _AGE_UNITS if seconds >= length or unit == "s")
    return f"{seconds // length} {unit}"


def _size(count: int) -> str:
    """Format a number of bytes in B, kB or MB."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def _moment(milliseconds: int) -> str:
    """Format a time in Unix milliseconds as ISO 8601."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).isoformat(sep=" ", timespec="seconds")
