"""Statements over arrays of rows: one per step of a batch, with constant text, so that the driver prepares it once.

PostgreSQL takes an array for each column (`unnest`), SQLite one JSON text (`json_each`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column
from sqlalchemy.types import BigInteger, Boolean, Text, Uuid


def hexadecimal(value: UUID | str) -> str:
    """Return a UUID column of a row as hex text: PostgreSQL's driver returns a UUID, SQLite's the text."""
    return value.hex if isinstance(value, UUID) else value


_ENCODER = msgspec.json.Encoder(uuid_format="hex")
_POSTGRESQL_TYPES = {BigInteger: "BIGINT", Text: "TEXT", Uuid: "UUID", Boolean: "BOOLEAN"}


@dataclass(frozen=True, slots=True)
class Arrays:
    """Rows of these columns as a parameter of statements; `dialect` is `postgresql` or `sqlite`."""

    dialect: str
    columns: Mapping[str, type]

    @classmethod
    def of(cls, dialect: str, columns: Iterable[Column[Any]]) -> "Arrays":
        """Return arrays with the types of these columns."""
        return cls(dialect, {column.name: type(column.type) for column in columns})

    def source(self, alias: str) -> str:
        """Return the item of a FROM clause; it has the column names of `columns`."""
        names = ", ".join(self.columns)
        if self.dialect == "postgresql":
            arrays = (f"CAST(:{name} AS {_POSTGRESQL_TYPES[kind]}[])" for name, kind in self.columns.items())
            return f"unnest({', '.join(arrays)}) AS {alias}({names})"
        parts = (f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(self.columns))
        return f"(SELECT {', '.join(parts)} FROM json_each(:rows)) AS {alias}"  # noqa: S608 - our own names

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the parameters of a statement for at least one row; values are in the order of the columns."""
        if self.dialect == "postgresql":
            return dict(zip(self.columns, map(list, zip(*rows, strict=True)), strict=True))
        return {"rows": _ENCODER.encode(rows).decode()}
