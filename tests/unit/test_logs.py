"""Log lines are machine-readable, contain the delivery ID, and show no values of variables."""

import io
import json
import logging
from collections.abc import Iterator

import aiosqlite
import pytest
import structlog

from shared import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiosqlite").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_logger() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.get_logger("some.module").warning("it happened", queue="q", text="two\nlines ü")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"], line["queue"]) == (
        "it happened",
        "warning",
        "some.module",
        "q",
    )
    assert str(line["timestamp"]).endswith("Z")


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream)
    logs.get_logger("x").info("quiet")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_trace_shows_no_local_variables(log_format: str) -> None:
    stream = io.StringIO()
    logs.configure("info", log_format, stream)
    secret = "hunter2" + "-correct"
    try:
        int(f"{len(secret)} is no number")
    except ValueError:
        logs.get_logger("x").exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "hunter2-correct" not in stream.getvalue()


async def test_what_is_stored_is_not_logged_at_any_level() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    async with aiosqlite.connect(":memory:") as connection:
        await connection.execute("SELECT ?", ("hunter2-correct",))
    logging.getLogger("library").debug("still heard")
    assert "still heard" in stream.getvalue()
    assert "hunter2-correct" not in stream.getvalue()


def test_text_is_for_a_terminal_and_json_for_all_else() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    logs.configure("info", None, terminal)
    logs.get_logger("x").info("hello")
    assert not terminal.getvalue().startswith("{")
    logs.configure("info", None, pipe)
    logs.get_logger("x").info("hello")
    assert pipe.getvalue().startswith("{")
