"""Reads the text of RUNNERS_FILE, a TOML file with runner classes and their prices. Pure.

[[runner]]
class = "gpu"
labels = ["self-hosted", "gpu*"]
usd_per_minute = 0.10
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NamedTuple, NoReturn

from processor.counting.label_values import clean
from processor.counting.runner_classes import RunnerClass, RunnerClasses, RunnerRule

_MICRO = 1_000_000
_MOST_USD = 1000
_MAX_RULES = 1000
_HEADER = re.compile(r"\s*\[\[\s*[\"']?runner[\"']?\s*\]\]")

_TAKES_CLASS = "a name that is not empty"
_TAKES_LABELS = "a list of at least one label that is not empty; * stands for any characters"
_TAKES_PRICE = f"a number of US dollars from 0 to {_MOST_USD} with at most 6 decimals"
_FIELDS = ("class", "labels", "usd_per_minute")


class RunnersFileError(ValueError):
    """The text is wrong. The message has the line, the field, its value, and the accepted values."""


def parse_runners(text: str) -> RunnerClasses:
    """Return the runner classes in a text. Raises `RunnersFileError`."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise RunnersFileError(f"not TOML: {error}") from error
    except RecursionError as error:
        raise RunnersFileError("not TOML: nested too deeply") from error
    lines = text.splitlines()
    for name in document:
        if name != "runner":
            _refuse(_line_of(lines, 0, name), name, "no such table", "[[runner]]")
    tables = document.get("runner", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        _refuse(_line_of(lines, 0, "runner"), "runner", f"got {tables!r}", "tables [[runner]]")
    if len(tables) > _MAX_RULES:
        raise RunnersFileError(f"got {len(tables)} tables [[runner]], takes at most {_MAX_RULES}")
    starts = list(_starts(lines))
    return RunnerClasses(
        tuple(_rule(table, _Place(lines, starts[n] if n < len(starts) else 0)) for n, table in enumerate(tables))
    )


class _Place(NamedTuple):
    """Where a table begins: the lines of the file, and the index of the table's header."""

    lines: list[str]
    start: int

    def refuse(self, name: str, problem: str, takes: str) -> NoReturn:
        _refuse(_line_of(self.lines, self.start, name), name, problem, takes)


def _rule(table: Mapping[str, Any], place: _Place) -> RunnerRule:
    for name in table:
        if name not in _FIELDS:
            likely = get_close_matches(name, _FIELDS, 1)
            problem = "no such field" + (f"; did you mean {likely[0]}?" if likely else "")
            place.refuse(name, problem, ", ".join(_FIELDS))
    return RunnerRule(
        RunnerClass(clean(_field(table, "class", _named, _TAKES_CLASS, place)), _price(table, place)),
        tuple(_field(table, "labels", _labelled, _TAKES_LABELS, place)),
    )


def _price(table: Mapping[str, Any], place: _Place) -> int | None:
    if "usd_per_minute" not in table:
        return None
    return int(_field(table, "usd_per_minute", _priced, _TAKES_PRICE, place) * _MICRO)


def _field(table: Mapping[str, Any], name: str, valid: Callable[[Any], bool], takes: str, place: _Place) -> Any:
    if name not in table:
        place.refuse(name, "not set", takes)
    if not valid(table[name]):
        place.refuse(name, f"got {_shown(table[name])}", takes)
    return table[name]


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)


def _named(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _labelled(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_named, value))


def _priced(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    price = Decimal(value)
    return price.is_finite() and 0 <= price <= _MOST_USD and (price * _MICRO) % 1 == 0


def _starts(lines: list[str]) -> Iterator[int]:
    return (number for number, line in enumerate(lines) if _HEADER.match(line))


def _line_of(lines: list[str], start: int, name: str) -> int:
    """Return the number of the line that sets a field in the table from `start` on, else of the table's header."""
    sets = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(name)}["']?\s*[=.\]]""")
    for number in range(start, len(lines)):
        if number > start and _HEADER.match(lines[number]):
            break
        if sets.match(lines[number]):
            return number + 1
    return start + 1


def _refuse(line: int, name: str, problem: str, takes: str) -> NoReturn:
    raise RunnersFileError(f"line {line}: {name}: {problem}, takes {takes}")
