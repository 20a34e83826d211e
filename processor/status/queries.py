"""The parameters of the page and its API: which rows, in which order, and how many. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from processor.counting.states import Phase
from processor.status.insights import WINDOWS
from shared.settings import format_duration, parse_duration

SORTED_BY = ("age", "-age", "repository", "workflow", "runner_class")
"""The orders of open runs and jobs; `age` is the oldest first."""

MOST_ROWS = 500
"""Maximum number of rows in one answer."""

MOST_SKIPPED = 10_000
"""Maximum number of rows before those in an answer."""


class QueryError(ValueError):
    """A parameter that does not exist, or whose value is not accepted."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to show. `repository`, `runner_class`, `phase` and `older` (minimum age) filter if they are given."""

    repository: str | None = None
    runner_class: str | None = None
    phase: Phase | None = None
    older: timedelta | None = None
    sort: str = "age"
    window: str = "24h"
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in a URL: the field of `Query`, how its text is read and written, and what it takes.

    `schema` is what it takes as a JSON schema.
    """

    name: str
    field: str
    meaning: str
    takes: str
    read: Callable[[str], Any]
    schema: Mapping[str, object]
    write: Callable[[Any], str] = str


_TEXT = {"type": "string"}


def _one_of(*values: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return read


def _words(*values: str) -> Mapping[str, object]:
    return {"type": "string", "enum": list(map(str, values))}


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return read


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("repository", "repository", "only this repository", "a label value `repository`", str, _TEXT),
        Parameter(
            "class", "runner_class", "only jobs of this runner class", "a label value `runner_class`", str, _TEXT
        ),
        Parameter(
            "phase",
            "phase",
            "only this phase",
            f"one of {', '.join(Phase)}",
            Phase,
            _words(*Phase),
        ),
        Parameter(
            "older",
            "older",
            "only what has been in its phase for longer",
            "a number and a unit s, m, h or d, such as 30m",
            parse_duration,
            {"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"},
            format_duration,
        ),
        Parameter(
            "sort",
            "sort",
            "the order",
            f"one of {', '.join(SORTED_BY)}",
            _one_of(*SORTED_BY),
            _words(*SORTED_BY),
        ),
        Parameter(
            "window",
            "window",
            "the window, which ends now",
            f"one of {', '.join(WINDOWS)}",
            _one_of(*WINDOWS),
            _words(*WINDOWS),
        ),
        Parameter(
            "limit",
            "limit",
            "maximum number of rows",
            f"1 to {MOST_ROWS}",
            _whole(1, MOST_ROWS),
            {"type": "integer", "minimum": 1, "maximum": MOST_ROWS},
        ),
        Parameter(
            "offset",
            "offset",
            "rows to skip",
            f"0 to {MOST_SKIPPED}",
            _whole(0, MOST_SKIPPED),
            {"type": "integer", "minimum": 0, "maximum": MOST_SKIPPED},
        ),
    )
}
"""All parameters by name."""

DEFAULTS = Query()


def parse(given: Mapping[str, str], allowed: tuple[str, ...], defaults: Query = DEFAULTS) -> Query:
    """Return the query in the parameters of a URL; an empty value counts as not given. Raises `QueryError`."""
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in allowed:
            raise QueryError(f"{name[:80]!r} is no parameter here; takes {', '.join(allowed) or 'none'}")
        if text:
            parameter = PARAMETERS[name]
            try:
                values[parameter.field] = parameter.read(text)
            except ValueError:
                raise QueryError(f"{name}={text[:80]!r} is not accepted; takes {parameter.takes}") from None
    return replace(defaults, **values)


def parameters_of(query: Query, defaults: Query = DEFAULTS) -> dict[str, str]:
    """Return the parameters of a URL that leads to this query, without those that have their default."""
    by_field = {parameter.field: parameter for parameter in PARAMETERS.values()}
    return {
        by_field[field.name].name: by_field[field.name].write(value)
        for field in fields(query)
        if (value := getattr(query, field.name)) != getattr(defaults, field.name)
    }
