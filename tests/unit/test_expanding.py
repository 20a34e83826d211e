"""The comparison of schemas finds each change that the release before could not work with, and no other."""

import pytest
import sqlalchemy
from sqlalchemy import text

from tests.support.expanding import Shape, breaks, shape

BEFORE = "CREATE TABLE series (key TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, value BIGINT NOT NULL, note TEXT)"

EXPANDED = (
    BEFORE,
    BEFORE.replace("note TEXT", "note TEXT, added TEXT, counted BIGINT NOT NULL DEFAULT 0"),
    f"{BEFORE}; CREATE TABLE other (key TEXT PRIMARY KEY REFERENCES series (key))",
    f"{BEFORE}; CREATE INDEX series_value ON series (value)",
)

BROKEN = {
    "CREATE TABLE other (key TEXT)": "series: dropped",
    BEFORE.replace(", note TEXT", ""): "series.note: ('TEXT', True) became None",
    BEFORE.replace("value BIGINT", "value TEXT"): "series.value: ('BIGINT', False) became ('TEXT', False)",
    BEFORE.replace("value BIGINT NOT NULL", "value BIGINT"): "series.value: ('BIGINT', False) became ('BIGINT', True)",
    BEFORE.replace("note TEXT", "note TEXT DEFAULT '' NOT NULL"): "series.note: ('TEXT', True) became ('TEXT', False)",
    BEFORE.replace("note TEXT", "note TEXT, added TEXT NOT NULL"): "series.added: not null without a default",
    BEFORE.replace("value BIGINT NOT NULL", "value BIGINT NOT NULL CHECK (value > 0)"): "series: check value > 0 added",
    BEFORE.replace("note TEXT", "note TEXT REFERENCES notes (n)"): "series: foreign key on ['note'] added",
    f"{BEFORE}; CREATE UNIQUE INDEX u ON series (note)": "series: unique key on ['note'] added",
    BEFORE.replace(" UNIQUE", ""): "series: unique key on ['name'] dropped",
}


def of(script: str) -> Shape:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        for statement in script.split(";"):
            connection.execute(text(statement))
        return shape(connection)


@pytest.mark.parametrize("after", EXPANDED)
def test_what_only_adds_breaks_nothing(after: str) -> None:
    assert breaks(of(BEFORE), of(after)) == []


@pytest.mark.parametrize("after", BROKEN)
def test_what_the_release_before_cannot_work_with_is_found(after: str) -> None:
    assert breaks(of(BEFORE), of(after)) == [BROKEN[after]]


def test_a_unique_key_with_fewer_columns_is_found() -> None:
    wide = "CREATE TABLE hourly (hour BIGINT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (hour, key))"
    assert breaks(of(wide), of(wide.replace("(hour, key)", "(key)"))) == [
        "hourly: unique key on ['hour', 'key'] dropped",
        "hourly: unique key on ['key'] added",
    ]
