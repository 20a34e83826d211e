"""Compares schemas: whether the release that made one can also work on the other, which later migrations made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Inspector, inspect

Column = tuple[str, bool]
"""The type of a column, and whether it may be null."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table: its columns by name, those without a default, and everything that can refuse a row.

    `keys` has the primary key and the unique keys, `rules` the foreign keys and the check constraints.
    """

    columns: Mapping[str, Column]
    required: frozenset[str]
    keys: frozenset[str]
    rules: frozenset[str]


Shape = Mapping[str, TableShape]
"""The tables of a database by name."""


def shape(connection: Connection) -> Shape:
    """Return the shape of a database."""
    inspector = inspect(connection)
    return {table: _table(inspector, table) for table in inspector.get_table_names()}


def _table(inspector: Inspector, table: str) -> TableShape:
    columns = inspector.get_columns(table)
    primary = inspector.get_pk_constraint(table)["constrained_columns"]
    unique = [_key(one) for one in inspector.get_unique_constraints(table)]
    indexes = [_key(one) for one in inspector.get_indexes(table) if one["unique"]]
    return TableShape(
        columns={column["name"]: (str(column["type"]), column["nullable"]) for column in columns},
        required=frozenset(c["name"] for c in columns if not c["nullable"] and c.get("default") is None),
        keys=frozenset([_key({"column_names": primary}), *unique, *indexes]),
        rules=frozenset(
            [
                *(f"foreign key on {sorted(one['constrained_columns'])}" for one in inspector.get_foreign_keys(table)),
                *(f"check {one['sqltext']}" for one in inspector.get_check_constraints(table)),
            ]
        ),
    )


def _key(found: Any) -> str:
    """Return the columns of a unique key, and its condition if it is partial."""
    where = [str(value) for name, value in found.get("dialect_options", {}).items() if name.endswith("_where")]
    return " where ".join([f"unique key on {sorted(found['column_names'], key=str)}", *where])


def breaks(before: Shape, after: Shape) -> list[str]:
    """Return what the release that made `before` cannot use in `after`: nothing, if migrations have only expanded it.

    It reads and writes every column of its tables as before, does not know new columns, and its upserts need its
    unique keys. New tables are none of its business.
    """
    found: list[str] = []
    for name, old in sorted(before.items()):
        new = after.get(name)
        if new is None:
            found.append(f"{name}: dropped")
            continue
        for column, kind in old.columns.items():
            if new.columns.get(column) != kind:
                found.append(f"{name}.{column}: {kind} became {new.columns.get(column)}")
        found += [f"{name}.{column}: not null without a default" for column in sorted(new.required - old.required)]
        found += [f"{name}: {key} dropped" for key in sorted(old.keys - new.keys)]
        found += [f"{name}: {key} added" for key in sorted(new.keys - old.keys)]
        found += [f"{name}: {rule} added" for rule in sorted(new.rules - old.rules)]
    return found
