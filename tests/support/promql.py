"""Parses PromQL expressions: their selectors, and the labels in grouping and matching."""

import re
from collections.abc import Iterator, Mapping

_STRING = r'"(?:\\.|[^"\\])*"' + r"|'(?:\\.|[^'\\])*'"
_MATCHERS = rf"\{{(?:{_STRING}|[^}}\"'])*\}}"
_GROUPING = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"
# In this order: what could be mistaken for a name is taken away first.
_NAME = r"[a-zA-Z_:][\w:]*"
_SELECTOR = re.compile(
    rf"{_STRING}|\[[^\]]*\]|{_GROUPING}|\b\d[\w.]*"
    rf"|{_NAME}(?=\s*\(|\s+(?:by|without)\s*\()"
    r"|\b(?:and|or|unless|offset|bool)\b"
    rf"|(?P<selector>{_NAME}(?:\s*{_MATCHERS})?|{_MATCHERS})"
)
_MATCHER = re.compile(rf"(\w+)\s*(?:=~|!~|!=|=)\s*(?:{_STRING})")
_VARIABLE = re.compile(r"\$(\w+)")


def filled(expr: str, values: Mapping[str, str]) -> str:
    """Replace each Grafana variable of a query by its value. Raises `KeyError` for a variable without a value."""
    return _VARIABLE.sub(lambda variable: values[variable[1]], expr)


def selectors(expr: str) -> Iterator[str]:
    """Yield every instant selector: a metric with its matchers, without ranges and offsets."""
    for found in _SELECTOR.finditer(expr):
        if selector := found["selector"]:
            yield selector


def with_labels(selector: str) -> str:
    """Return the selector of the series that have all labels which `selector` matches, whatever their values."""
    name, _, _ = selector.partition("{")
    labels = sorted({label for label in _MATCHER.findall(selector) if label != "__name__"})
    matchers = ", ".join(f'{label}!=""' for label in labels)
    return f"{name.strip()}{{{matchers}}}" if matchers else name.strip() or selector


def made_by(expr: str) -> set[str]:
    """Return the labels that `label_replace` makes: the first of the four strings at its end."""
    return set(re.findall(rf',\s*"(\w+)"(?:\s*,\s*(?:{_STRING})){{3}}\s*\)', expr))


def grouped_by(expr: str) -> set[str]:
    """Return the labels in `by (…)`, `on (…)` and their like."""
    clauses = re.findall(_GROUPING, re.sub(_STRING, "", expr))
    return {label.strip() for clause in clauses for label in clause.split(",") if label.strip()}
