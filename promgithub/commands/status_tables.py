"""The status as sections of lines and tables, in the words of the page. Pure.

Names come from other people. Code that prints a cell must not interpret its text as markup.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from processor.status import texts
from processor.status.trends import trends
from processor.status.views import Failure, Failures, Insights, Open, OpenJob, OpenRun, Pipeline
from promgithub.commands.status_client import Status
from promgithub.commands.tables import printable

WORKFLOWS_LISTED = 30
"""Maximum number of workflows."""

_BARS = "▁▂▃▄▅▆▇█"


class Tone(Enum):
    """How a text is to be understood."""

    PLAIN = auto()
    QUIET = auto()
    GOOD = auto()
    BAD = auto()


class Cell(NamedTuple):
    """A text without control characters."""

    text: str
    tone: Tone = Tone.PLAIN


class Kind(Enum):
    """What a column holds."""

    NAME = auto()
    NUMBER = auto()
    DETAIL = auto()  # more about the row; on a terminal below the last name
    URL = auto()  # the address of what the last name names


class Column(NamedTuple):
    """The heading and the kind of a column; `wide` is whether a narrow terminal leaves it out."""

    heading: str
    kind: Kind = Kind.NAME
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its columns may be without headings."""

    title: str
    columns: tuple[Column, ...]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the status."""

    title: str
    parts: list[Cell | Table]


def sections(status: Status, url: str, filtered: bool) -> list[Section]:
    """Return the status of promgithub at a URL; `filtered` is whether only a part of it was asked for."""
    about: list[Cell | Table] = [_quiet(f"{url}, as of", status.pipeline.as_of)]
    if not status.open.anything_counted:
        about.append(Cell(f"No delivery has been counted yet. {url} says how to begin."))
    return [
        Section(f"promgithub {clean(status.pipeline.version)}", about),
        _now(status.open, filtered),
        _failed(status.failures, filtered),
        _window(status.insights, filtered),
        _pipeline(status.pipeline),
    ]


def clean(name: str) -> str:
    """Return a name without control characters, or a dash if it is empty."""
    return printable(name) or texts.NONE


def bars(values: Sequence[float | None]) -> str:
    """Return a small chart of values that are not negative; a space is a gap."""
    most = max((value for value in values if value), default=0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] if value and most else " " for value in values)


def _now(shown: Open, filtered: bool) -> Section:
    counts = {name: sum(getattr(one, name) for one in shown.by_class) for name in texts.PHASE_NAMES}
    total = ", ".join(f"{texts.number(counts[phase])} jobs {name}" for phase, name in texts.PHASE_NAMES.items())
    parts: list[Cell | Table] = [Cell(f"{total}, {texts.number(shown.runs_total)} runs open")]
    if shown.by_class:
        title = "Jobs by runner class, the one that has waited for the longest time first"
        columns = _columns("Runner class", "#Queued", "#Held back", "#Running", "#Longest in the queue")
        rows = [
            _cells(
                clean(one.runner_class),
                *map(texts.number, (one.queued, one.waiting, one.in_progress)),
                texts.duration(one.oldest_queued_seconds),
            )
            for one in shown.by_class
        ]
        parts.append(Table(title, columns, rows))
    parts += [_jobs(shown, filtered), _runs(shown, filtered)]
    return Section("Now", parts)


def _jobs(shown: Open, filtered: bool) -> Cell | Table:
    if not shown.jobs:
        return _none("No open job", filtered)
    title = _part(len(shown.jobs), shown.jobs_total, "open jobs")
    columns = _columns(
        "#For", "Phase", "Job", "+Repository", "+Workflow", "+Branch", "+Labels", "+Runner", "-#Since", "@URL"
    )
    return Table(title, columns, [_job(one) for one in shown.jobs])


def _job(one: OpenJob) -> tuple[Cell, ...]:
    return _cells(
        texts.duration(one.age_seconds),
        texts.PHASE_NAMES.get(one.phase, clean(one.phase)),
        _attempt(clean(one.job or str(one.job_id)), one.attempt),
        clean(one.repository),
        clean(one.workflow),
        clean(one.branch),
        _list(one.labels),
        printable(one.runner),
        texts.instant_or_dash(one.since),
        printable(one.url),
    )


def _runs(shown: Open, filtered: bool) -> Cell | Table:
    if not shown.runs:
        return _none("No open run", filtered)
    title = _part(len(shown.runs), shown.runs_total, "open workflow runs")
    columns = _columns("#For", "Phase", "Run", "+Repository", "+Workflow", "+Branch", "+Event", "-#Since", "@URL")
    return Table(title, columns, [_run(one) for one in shown.runs])


def _run(one: OpenRun) -> tuple[Cell, ...]:
    return _cells(
        texts.duration(one.age_seconds),
        texts.PHASE_NAMES.get(one.phase, clean(one.phase)),
        _attempt(f"#{one.number or one.run_id}", one.attempt),
        clean(one.repository),
        clean(one.workflow),
        clean(one.branch),
        clean(one.event),
        texts.instant_or_dash(one.since),
        printable(one.url),
    )


def _failed(shown: Failures, filtered: bool) -> Section:
    if not shown.failures:
        return Section("Just failed", [_none("No job has failed", filtered)])
    title = "The jobs that failed last, the newest first"
    columns = _columns(
        *("#When", "#In a row", "Job", "+First failing step", "+Repository", "+Workflow", "+Branch"),
        *("-#Ran for", "-#Failed at", "@URL"),
    )
    return Section("Just failed", [Table(title, columns, [_failure(one, shown.as_of) for one in shown.failures])])


def _failure(one: Failure, now: datetime) -> tuple[Cell, ...]:
    tone = Tone.BAD if one.in_a_row > 1 else Tone.PLAIN if one.in_a_row else Tone.GOOD
    how = "" if one.conclusion == "failure" else f" {clean(one.conclusion).replace('_', ' ')}"
    return (
        Cell(f"{texts.duration(max(0.0, (now - one.failed_at).total_seconds()))} ago"),
        Cell(texts.in_a_row(one.in_a_row), tone),
        Cell(_attempt(clean(one.job or str(one.job_id)), one.attempt) + how),
        *_cells(
            clean(one.failed_step),
            clean(one.repository),
            clean(one.workflow),
            clean(one.branch),
            texts.duration(one.duration_seconds),
            texts.instant_or_dash(one.failed_at),
            printable(one.url),
        ),
    )


def _window(shown: Insights, filtered: bool) -> Section:
    title = texts.WINDOW_TITLES.get(shown.window, clean(shown.window))
    parts: list[Cell | Table] = [_quiet("From", shown.began)]
    if not shown.by_class and not shown.by_workflow:
        return Section(title, [*parts, _none("Nothing was counted", filtered)])
    parts.append(Table("", (Column(""), Column("", Kind.NUMBER), Column("")), _charts(shown)))
    if shown.by_class:
        parts.append(_classes(shown))
    if shown.by_workflow:
        parts.append(_workflows(shown))
    return Section(title, parts)


def _charts(shown: Insights) -> list[tuple[Cell, ...]]:
    """Return a title, the maximum and a chart, for each."""
    step = texts.STEP_NAMES.get(shown.window, "")
    return [_cells(f"{one.title} {step}", f"at most {one.most}", bars(one.values)) for one in trends(shown)]


def _classes(shown: Insights) -> Table:
    columns = _columns(
        *("Runner class", "#Jobs started", "#In the queue: median", "#90 %", "-#99 %"),
        *("#Busy", "#Billable minutes", "#Cost"),
    )
    rows = [
        _cells(
            clean(one.runner_class),
            texts.number(one.jobs_started),
            *map(texts.duration, (one.queue_p50_seconds, one.queue_p90_seconds, one.queue_p99_seconds)),
            texts.duration(one.busy_seconds),
            texts.number(one.billable_minutes),
            texts.dollars(one.cost_usd),
        )
        for one in shown.by_class
    ]
    return Table("Runner classes, the busiest first", columns, rows)


def _workflows(shown: Insights) -> Table:
    listed = shown.by_workflow[:WORKFLOWS_LISTED]
    columns = _columns(
        *("Workflow", "+Repository", "#Runs", "#Failed", "-#Cancelled", "#Failure ratio", "-#with cancelled"),
        *("#Duration: median", "#90 %", "#Flaky jobs"),
    )
    rows = [
        _cells(
            clean(one.workflow),
            clean(one.repository),
            *map(texts.number, (one.runs, one.failed, one.cancelled)),
            *map(texts.ratio, (one.failure_ratio, one.failure_ratio_with_cancelled)),
            *map(texts.duration, (one.duration_p50_seconds, one.duration_p90_seconds)),
            texts.number(one.flaky_jobs),
        )
        for one in listed
    ]
    title = _part(len(listed), shown.workflows_total, "workflows")
    return Table(f"{title}, those with the most failed runs first", columns, rows)


def _pipeline(shown: Pipeline) -> Section:
    parts: list[Cell | Table] = [Table("", (Column(""), Column("")), _health(shown))]
    if shown.events:
        title = f"Deliveries handled by this process since {texts.instant_or_dash(shown.started_at)}"
        columns = _columns("Event", "#Counted", "#Duplicates", "#Dead letters", "Last received")
        rows = [
            _cells(
                clean(one.event),
                *map(texts.number, (one.processed, one.duplicates, one.dropped)),
                texts.instant_or_dash(one.last_at),
            )
            for one in shown.events
        ]
        parts.append(Table(title, columns, rows))
    for one in shown.recovery:
        last = texts.instant_or_dash(one.last_success_at) if one.last_success_at else "none yet in this process"
        parts.append(Cell(f"Recovery, {clean(one.task)}: last success {last}"))
    return Section("Pipeline", parts)


def _health(shown: Pipeline) -> list[tuple[Cell, ...]]:
    up, away = Cell("up", Tone.GOOD), Cell("away", Tone.BAD)
    lag = f"{texts.duration(shown.lag_p50_seconds)}, 99 %: {texts.duration(shown.lag_p99_seconds)}"
    rows = [
        (Cell("Broker"), up if shown.broker_up else away),
        (Cell("Database"), up if shown.database_up else away),
        _cells("Queue", f"{texts.number(shown.queue_depth)} of {texts.number(shown.queue_capacity)}"),
        _cells("Held here", f"{texts.number(shown.held)}, oldest {texts.duration(shown.oldest_age_seconds)}"),
        _cells("Lag, median", lag),
        (
            Cell("Dead letters"),
            Cell(texts.number(shown.dead_letters), Tone.BAD if shown.dead_letters else Tone.PLAIN),
        ),
        _cells("Failed attempts", texts.number(shown.failures)),
    ]
    if shown.spool:
        size = f"{texts.size(shown.spool.bytes)} of {texts.size(shown.spool.capacity_bytes)}"
        rows.append(_cells("Spool", f"{texts.number(shown.spool.deliveries)}, {size}"))
    return [*rows, _cells("Exposes the figures", "yes" if shown.leader else "no")]


_KINDS = {"#": Kind.NUMBER, "+": Kind.DETAIL, "@": Kind.URL}


def _columns(*headings: str) -> tuple[Column, ...]:
    """Return columns. A heading may begin with the character of a kind, and before it with `-` if it is wide."""
    return tuple(map(_column, headings))


def _column(heading: str) -> Column:
    wide, heading = heading.startswith("-"), heading.removeprefix("-")
    kind = _KINDS.get(heading[0], Kind.NAME)
    return Column(heading if kind is Kind.NAME else heading[1:], kind, wide)


def _cells(*shown: str) -> tuple[Cell, ...]:
    return tuple(map(Cell, shown))


def _list(names: Iterable[str]) -> str:
    return clean(", ".join(names))


def _attempt(name: str, attempt: int) -> str:
    return f"{name} attempt {attempt}" if attempt > 1 else name


def _part(shown: int, total: int, what: str) -> str:
    return (
        f"{texts.number(shown)} of {texts.number(total)} {what}" if total > shown else f"{texts.number(total)} {what}"
    )


def _none(text: str, filtered: bool) -> Cell:
    return Cell(f"{text}{' that the filter chooses' if filtered else ''}.")


def _quiet(text: str, moment: datetime) -> Cell:
    return Cell(f"{text} {texts.instant_or_dash(moment)}", Tone.QUIET)
