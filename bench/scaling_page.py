"""Writes the figures of `docs/scaling.md`: `python -m bench.scaling_page`, after a run of everything."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"

_BLOCK = re.compile(r"(<!-- begin measured (\w+) -->\n).*?(<!-- end measured \2 -->\n)", re.DOTALL)

_RATES = (50, 500, 2_000, 5_000)
_RESERVE = 2
_REPLICAS = 2
"""Least number of replicas, so that one can fail."""

_ORGANISATION = 5_000
"""Deliveries per second of the large organisation."""

_DAY = 86_400
_DELIVERY_DAYS = 8
_JOB_DAYS = 40
_EXECUTIONS = 2
"""Rows of `executions` for each job that ran."""

_DELIVERIES_OF_A_JOB = 5
_SHARDS = 8
_REPOSITORIES = 50_000
_SERIES_OF_A_REPOSITORY = 20

_NONE = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one run, as `bench` has written them."""

    content: Mapping[str, Any]

    def result(self, name: str) -> Mapping[str, Any]:
        """Return a result whose name begins so. Raises `ValueError` if the run has none."""
        for result in self.content["results"]:
            if result["name"].startswith(name):
                found: Mapping[str, Any] = result
                return found
        raise ValueError(f"the run has no result {name!r}; run `make bench` without ARGS")

    def value(self, name: str) -> float:
        """Return the figure of a result, in its unit."""
        return float(self.result(name)["measured"])

    def ratio(self, name: str) -> float:
        """Return the figure of a result as a multiple of its ceiling."""
        return float(self.result(name)["ratio"])

    def detail(self, name: str, detail: str) -> float:
        """Return another figure of the same measurement."""
        return float(self.result(name)["details"][detail])


_RECEIVER = "receiver CPU per delivery, RabbitMQ, 256"
_SPOOL_RECEIVER = "receiver CPU per delivery, spool, 256"
_PROCESSOR = "processor CPU per delivery, RabbitMQ and PostgreSQL"
_SPOOL_PROCESSOR = "processor CPU per delivery, spool and SQLite"
_ACKS = "durable acks, RabbitMQ, 256 connections"
_SPOOL_ACKS = "durable acks, spool, 256 connections"
_TWO_RECEIVERS = "durable acks, RabbitMQ, 256 connections, two receivers"
_DRAIN = "drain, RabbitMQ and PostgreSQL"
_SPOOL_DRAIN = "drain, spool and SQLite"
_STANDALONE = "standalone, received and counted"
_TRACKED = "drain with 5,000,000 tracked rows"
_SCRAPE = "scrape of 100,250 series, CPU"
_STALL = "scrape of 100,250 series, longest stall"


def filled(page: str, run: Run) -> str:
    """Return the page with each block between `<!-- begin measured NAME -->` and its end written from a run."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_BLOCKS[block[2]](run)}{block[3]}", page)


def main(
    results: Annotated[Path, typer.Argument(help="What `make bench` has written.")] = RESULTS,
    page: Annotated[Path, typer.Argument(help="The page to fill.")] = PAGE,
) -> None:
    """Write the figures of a run into the page about scaling."""
    page.write_text(filled(page.read_text(), Run(json.loads(results.read_text()))))


def _table(head: str, rows: Iterable[Iterable[str]]) -> str:
    line = "|".join("---" for _ in head.split("|"))
    return "".join(f"| {text} |\n" for text in (head, line.replace("|", " | "), *(" | ".join(row) for row in rows)))


def _machine(run: Run) -> str:
    machine = run.content["machine"]
    python = ".".join(machine["python"].split(".")[:2])
    return f"Measured by `make bench` on {run.content['date']}: {machine['cores']} cores, Python {python}.\n"


def _steps(run: Run) -> str:
    def row(step: str, cpu: str, reached: str, *servers: str, alone: str = _NONE) -> list[str]:
        return [step, cpu, *(servers or (_NONE, _NONE)), alone, f"{_rate(run.value(reached))}/s"]

    def alone(cpu: str) -> str:
        return f"{_rate(1e6 / run.value(cpu))}/s"

    rabbit_in = _us(run.detail(_RECEIVER, "rabbitmq_us"))
    rabbit_out, postgres = (_us(run.detail(_PROCESSOR, f"{name}_us")) for name in ("rabbitmq", "postgresql"))
    receiver, spool_receiver, processor, spool_processor = (
        _us(run.value(name)) for name in (_RECEIVER, _SPOOL_RECEIVER, _PROCESSOR, _SPOOL_PROCESSOR)
    )
    return _table(
        "step | CPU of promgithub for each delivery | of RabbitMQ | of PostgreSQL | so on a core of its own "
        "| reached by one process, all on these cores",
        (
            row("receive, verify, publish, confirm", receiver, _ACKS, rabbit_in, _NONE, alone=alone(_RECEIVER)),
            row("receive into a spool", spool_receiver, _SPOOL_ACKS),
            row("consume, count, commit, ack", processor, _DRAIN, rabbit_out, postgres, alone=alone(_PROCESSOR)),
            row("the same from a spool into SQLite", spool_processor, _SPOOL_DRAIN),
            row("all of it in standalone, both processes", _us(run.detail(_STANDALONE, "cpu_us")), _STANDALONE),
        ),
    )


def _others(run: Run) -> str:
    def times(name: str) -> str:
        return f"{run.ratio(name):.2f} {_TIMES}"

    scrape, stall = run.value(_SCRAPE), run.value(_STALL)
    return _table(
        "what | measured",
        (
            ["two receivers, deliveries answered in all", f"{_rate(run.value(_TWO_RECEIVERS))}/s"],
            ["two processors, rate of one of them", times("drain with 2 processors")],
            ["four processors", times("drain with 4 processors")],
            ["batches, rate of a transaction for each delivery", times("drain in batches")],
            ["5 million tracked rows, rate of an empty database", times(_TRACKED)],
            ["20 runner classes and `LABELS=job_name,event`, rate without them", times("drain with 20 runner")],
            ["scrape of 100,000 series, CPU of the leader", f"{scrape:.0f} ms"],
            ["longest that this scrape blocks its event loop", f"{stall:.0f} ms"],
            ["memory of a receiver under a burst", f"{run.value('receiver memory, RabbitMQ'):.0f} MB"],
            ["memory of a processor with 100,000 series", f"{run.value('processor memory'):.0f} MB"],
            ["disk for each delivery ID, indexes included", f"{_bytes(run, 'deliveries'):.0f} bytes"],
            ["for each job", f"{_bytes(run, 'jobs'):.0f} bytes"],
            ["for each of its executions, two if it ran", f"{_bytes(run, 'executions'):.0f} bytes"],
            ["for each run attempt", f"{_bytes(run, 'runs'):.0f} bytes"],
        ),
    )


def _sizing(run: Run) -> str:
    head = "deliveries per second | receivers | processors | RabbitMQ | PostgreSQL"
    parts = _parts(run)

    def row(rate: int) -> list[str]:
        receiver, processor, *servers = (_RESERVE * rate * cpu / 1e6 for cpu in parts.values())
        own = (f"{max(_REPLICAS, math.ceil(cores))} ({_cores(cores)})" for cores in (receiver, processor))
        return [f"{rate:,}", *own, *(f"{_cores(cores)} cores" for cores in servers)]

    return _table(head, map(row, _RATES))


def _organisation(run: Run) -> str:
    rate = f"{_ORGANISATION:,}"
    cores = {name: _ORGANISATION * cpu / 1e6 for name, cpu in _parts(run).items()}
    cpu = {name: f"{rate} {_TIMES} {_us(us)} = {_cores(cores[name])} cores" for name, us in _parts(run).items()}
    ids = _ORGANISATION * _DAY * _DELIVERY_DAYS
    jobs = _ORGANISATION // _DELIVERIES_OF_A_JOB * _DAY * _JOB_DAYS
    of_job = f"({_bytes(run, 'jobs'):.0f} + {_EXECUTIONS} {_TIMES} {_bytes(run, 'executions'):.0f})"
    job_bytes = jobs * (_bytes(run, "jobs") + _EXECUTIONS * _bytes(run, "executions"))
    id_bytes = ids * _bytes(run, "deliveries")
    series = _REPOSITORIES * _SERIES_OF_A_REPOSITORY
    scrape = run.value(_SCRAPE) / 1000 * series / 100_250
    table = _table(
        " | arithmetic | verdict",
        (
            ["receivers", cpu["receivers"], f"{max(_REPLICAS, math.ceil(2 * cores['receivers']))} replicas"],
            ["processors", cpu["processors"], f"{max(_REPLICAS, math.ceil(2 * cores['processors']))} replicas"],
            ["RabbitMQ", cpu["RabbitMQ"], "one queue on its own cores, fast disks; several queues are safer"],
            ["PostgreSQL, work", cpu["PostgreSQL"], "one server"],
            [
                "PostgreSQL, delivery IDs",
                (
                    f"{rate}/s {_TIMES} {_DAY:,} {_TIMES} {_DELIVERY_DAYS} days = {ids / 1e9:.1f} billion rows "
                    f"{_TIMES} {_bytes(run, 'deliveries'):.0f} bytes = {id_bytes / 1e12:.2f} TB"
                ),
                "`DELIVERY_TTL=4d` (GitHub redelivers for 3) halves it; still too much for one table",
            ],
            [
                "PostgreSQL, runs and jobs",
                (
                    f"at a job for every {_DELIVERIES_OF_A_JOB} deliveries: {jobs / 1e9:.1f} billion jobs "
                    f"{_TIMES} {of_job} bytes = {job_bytes / 1e12:.1f} TB"
                ),
                "partition, or shard",
            ],
            [
                "series",
                f"{_REPOSITORIES:,} {_TIMES} {_SERIES_OF_A_REPOSITORY} = {series / 1e6:.0f} million",
                f"a scrape costs {scrape:.1f} s of CPU and is a page of some 100 MB: shard",
            ],
        ),
    )
    return (
        f"{table}\nWith {_SHARDS} shards, each has {_ORGANISATION / _SHARDS:,.0f} deliveries a second, "
        f"{id_bytes / _SHARDS / 1e9:.0f} GB of delivery IDs, {job_bytes / _SHARDS / 1e9:.0f} GB of jobs with their "
        f"executions and {series / _SHARDS:,.0f} series: an ordinary server each.\n"
    )


def _parts(run: Run) -> Mapping[str, float]:
    """Return the CPU time of each part for one delivery, in µs."""
    rabbit = run.detail(_RECEIVER, "rabbitmq_us") + run.detail(_PROCESSOR, "rabbitmq_us")
    return {
        "receivers": run.value(_RECEIVER),
        "processors": run.value(_PROCESSOR),
        "RabbitMQ": rabbit,
        "PostgreSQL": run.detail(_PROCESSOR, "postgresql_us"),
    }


def _bytes(run: Run, table: str) -> float:
    return run.detail(_TRACKED, f"bytes_per_row_of_{table}")


def _us(value: float) -> str:
    return f"{value:.0f} µs"


def _rate(value: float) -> str:
    return f"{round(value, -2):,.0f}"


def _cores(value: float) -> str:
    return f"{value:.1g}" if value < 1 else f"{value:.1f}"


_BLOCKS: Mapping[str, Callable[[Run], str]] = {
    "machine": _machine,
    "steps": _steps,
    "others": _others,
    "sizing": _sizing,
    "organisation": _organisation,
}

if __name__ == "__main__":
    typer.run(main)
