"""The figures of the page about scaling come from a run of the benchmarks."""

import json
import re
from typing import Any

import pytest

from bench.scaling_page import PAGE, Run, filled

_SERVERS = {"rabbitmq_us": 40.0, "postgresql_us": 60.0}
_BYTES = {f"bytes_per_row_of_{table}": 100.0 for table in ("deliveries", "jobs", "executions", "runs")}
_DETAILS = {
    "receiver CPU per delivery, RabbitMQ, 256 connections": {"rabbitmq_us": 60.0},
    "processor CPU per delivery, RabbitMQ and PostgreSQL": _SERVERS,
    "standalone, received and counted": {"cpu_us": 400.0},
    "drain with 5,000,000 tracked rows": _BYTES,
}
_NAMES = (
    *_DETAILS,
    "receiver CPU per delivery, spool, 256 connections",
    "durable acks, RabbitMQ, 256 connections",
    "durable acks, RabbitMQ, 256 connections, two receivers",
    "durable acks, spool, 256 connections",
    "processor CPU per delivery, spool and SQLite",
    "drain, RabbitMQ and PostgreSQL",
    "drain, spool and SQLite",
    "drain with 2 processors",
    "drain with 4 processors",
    "drain in batches, RabbitMQ and PostgreSQL",
    "drain with 20 runner classes and LABELS=job_name,event",
    "scrape of 100,250 series, CPU",
    "scrape of 100,250 series, longest stall",
    "receiver memory, RabbitMQ",
    "processor memory, 100,250 series",
)


def content(**changed: float) -> dict[str, Any]:
    """Return a run in which every figure is 100, in the form of the results file."""
    results = [
        {"name": name, "measured": changed.get(name, 100.0), "ratio": 1.0, "details": _DETAILS.get(name, {})}
        for name in _NAMES
    ]
    return {"date": "2026-11-01", "machine": {"cores": 4, "python": "3.12.1"}, "results": results}


def test_the_page_is_filled_from_a_run() -> None:
    page = filled(PAGE.read_text(), Run(content(**{"drain, RabbitMQ and PostgreSQL": 7777.0})))
    assert "on 2026-11-01: 4 cores, Python 3.12." in page
    assert re.search(r"\| consume, count, commit, ack \| 100 µs \| 40 µs \| 60 µs \| 10,000/s \| 7,800/s \|", page)
    # 5,000/s, at 100 µs each, and doubled
    assert re.search(r"\| 5,000 \| 2 \(1\.0\) \| 2 \(1\.0\) \| 1\.0 cores \| 0\.6 cores \|", page)
    assert "3.5 billion rows" in page


def test_filling_it_again_changes_nothing() -> None:
    run = Run(json.loads(json.dumps(content())))
    once = filled(PAGE.read_text(), run)
    assert filled(once, run) == once


def test_a_run_of_a_part_is_refused_with_the_name_of_what_is_missing() -> None:
    part = content() | {"results": []}
    with pytest.raises(ValueError, match="has no result 'receiver CPU per delivery, RabbitMQ, 256'; run `make bench`"):
        filled(PAGE.read_text(), Run(part))
