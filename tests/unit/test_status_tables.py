"""The status as text: in the words of the page, and no name acts on the terminal."""

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from processor.counting.states import Phase
from processor.status import texts
from processor.status.insights import WINDOWS
from processor.status.views import (
    ClassCount,
    ClassInsight,
    EventCount,
    Failure,
    Failures,
    Insights,
    Open,
    OpenJob,
    OpenRun,
    Pipeline,
    Recovery,
    RunCount,
    Spool,
    Step,
    WorkflowInsight,
)
from promgithub.commands.status_client import Status
from promgithub.commands.status_screen import LONGEST_NAME, WIDE, plain, screen
from promgithub.commands.status_tables import Table, bars, sections

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
URL = "https://github.com/acme/gears/actions/runs/1/job/2"
SERVER = "http://localhost:8081"

PAGE = Path(__file__).parents[2] / "processor/status"

ESCAPES = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;(?:id=\d+;https://[!-~]*)?;?\x1b\\")
"""What rich writes itself: styles and links."""

HOSTILE = {
    "markup": "[red]x[/red]",
    "a link as markup": "[link=https://evil.example]x[/link]",
    "an emoji code": ":smile:",
    "an escape sequence": "\x1b[2Jx",
    "an escape sequence in one character": "\x9b2Jx",
    "a link as an escape sequence": "\x1b]8;;https://evil.example\x1b\\x",
    "right to left": "\N{RIGHT-TO-LEFT OVERRIDE}x",
    "line breaks": "x\r\nx\tx\N{LINE SEPARATOR}x",
    "emoji": "\N{ROCKET}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}x",
    "10 kB": "x" * 10_000,
}


def status(name: str = "x", url: str = URL, *, runs: int = 4) -> Status:
    """Return a status in which every name is `name`."""
    about: dict[str, Any] = {
        "repository": name,
        "workflow": name,
        "branch": name,
        "run_id": 1,
        "attempt": 2,
        "url": url,
    }
    open_one: dict[str, Any] = {"phase": "queued", "since": NOW, "age_seconds": 90.0}
    page: dict[str, Any] = {"as_of": NOW, "limit": 50, "offset": 0}
    job: dict[str, Any] = {"job": name, "labels": [name, name], "runner": name, "runner_class": name, "job_id": 2}
    return Status(
        open=Open(
            anything_counted=True,
            by_class=[ClassCount(runner_class=name, queued=1234, in_progress=2, oldest_queued_seconds=90.0)],
            jobs=[OpenJob(**about, **open_one, **job)],
            jobs_total=1236,
            run_count=RunCount(queued=1),
            runs=[OpenRun(**about, **open_one, event=name, number=7)],
            runs_total=1,
            **page,
        ),
        failures=Failures(
            failures=[
                Failure(
                    **about,
                    **job,
                    conclusion=name,
                    failed_step=name,
                    failed_at=NOW,
                    duration_seconds=5.0,
                    in_a_row=times,
                )
                for times in (0, 1, 3)
            ],
            more=False,
            **page,
        ),
        insights=Insights(
            as_of=NOW,
            window="24h",
            began=NOW,
            by_class=[
                ClassInsight(
                    runner_class=name,
                    jobs_started=1,
                    queue_p50_seconds=None,
                    queue_p90_seconds=90.0,
                    queue_p99_seconds=90.0,
                    busy_seconds=90.0,
                    billable_minutes=2,
                    cost_usd=0.5,
                )
            ],
            by_workflow=[
                WorkflowInsight(
                    repository=name,
                    workflow=name,
                    runs=runs,
                    succeeded=2,
                    failed=1,
                    cancelled=1,
                    failure_ratio=1 / 3,
                    failure_ratio_with_cancelled=0.5,
                    duration_p50_seconds=600.0,
                    duration_p90_seconds=None,
                    flaky_jobs=0,
                )
            ],
            workflows_total=2,
            steps=[
                Step(began=NOW, jobs_started=jobs, queue_p90_seconds=None, runs=4, failed=1, busy_seconds=90.0)
                for jobs in (0, 1, 8)
            ],
        ),
        pipeline=Pipeline(
            as_of=NOW,
            version=name[:20],
            started_at=NOW,
            leader=True,
            broker_up=True,
            database_up=False,
            queue_depth=3,
            queue_capacity=None,
            held=0,
            oldest_age_seconds=0.0,
            lag_p50_seconds=None,
            lag_p99_seconds=None,
            failures=0,
            dead_letters=2,
            spool=Spool(deliveries=1, bytes=2048, capacity_bytes=4096, oldest_age_seconds=1.0),
            events=[EventCount(event=name, processed=5, duplicates=1, dropped=0, last_at=None)],
            recovery=[Recovery(task=name[:20], last_success_at=None)],
        ),
    )


def on_terminal(shown: Status, width: int = 80) -> str:
    """Return what a terminal gets."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=width, highlight=False)
    console.print(screen(sections(shown, SERVER, filtered=False), width))
    return written.getvalue()


def in_pipe(shown: Status) -> str:
    return plain(sections(shown, SERVER, filtered=False))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("width", [80, WIDE])
def test_no_name_acts_on_a_terminal_or_breaks_its_lines(name: str, width: int) -> None:
    written = on_terminal(status(name), width)
    shown = ESCAPES.sub("", written)
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "evil.example" not in "".join(ESCAPES.findall(written))


@pytest.mark.parametrize("name", [name for name in HOSTILE.values() if name.isprintable() and len(name) < LONGEST_NAME])
def test_a_terminal_shows_what_looks_like_markup_as_it_is(name: str) -> None:
    plain_name = "y" * len(name)
    assert on_terminal(status(name), 400).count(name) == on_terminal(status(plain_name), 400).count(plain_name) > 10


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_name_breaks_the_columns_in_a_pipe_or_is_cut(name: str) -> None:
    shown = in_pipe(status(name))
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    lines = shown.splitlines()
    heading = next(place for place, line in enumerate(lines) if line.startswith("For\tPhase\tJob"))
    assert len(lines[heading + 1].split("\t")) == len(lines[heading].split("\t"))
    if name.isprintable():
        assert name in lines[heading + 1]


def test_names_are_links_on_a_terminal_and_addresses_stand_in_a_pipe() -> None:
    assert re.search(rf"\x1b\]8;id=\d+;{re.escape(URL)}\x1b\\x attempt 2\x1b\]8;;\x1b\\", on_terminal(status()))
    assert URL not in ESCAPES.sub("", on_terminal(status()))
    assert in_pipe(status()).count(f"\t{URL}\n") == 5  # a job, a run and three failures


@pytest.mark.parametrize("url", ["javascript:x", "https://x/\x1b\\x", "https://x/\N{ROCKET}", "https://x/ x", ""])
def test_an_address_that_could_act_on_the_terminal_is_no_link(url: str) -> None:
    assert "\x1b]8" not in on_terminal(status(url=url))


def test_a_name_is_cut_on_a_terminal_only() -> None:
    long = "x" * (LONGEST_NAME + 1)
    shown = "".join(on_terminal(status(long), 200).split())
    assert long not in shown
    assert f"{'x' * (LONGEST_NAME - 1)}…" in shown
    assert long in in_pipe(status(long))


def test_a_narrow_terminal_has_fewer_columns_and_numbers_stay_on_their_lines() -> None:
    narrow, wide = ESCAPES.sub("", on_terminal(status())), ESCAPES.sub("", on_terminal(status(), WIDE))
    assert "Since" in wide
    assert "Since" not in narrow
    assert re.search(r"^x +1,234 +0 +2 +1 min 30 s *$", narrow, re.MULTILINE)
    assert re.search(r"^x +4 +1 +33.3% +10 min +\N{EN DASH} +0 *$", narrow, re.MULTILINE)


def test_figures_and_words() -> None:
    shown = in_pipe(status())
    for text in (
        "1,234 jobs queued, 0 jobs held back, 2 jobs running, 1 runs open",
        "1 of 1,236 open jobs",
        "1 open workflow runs",
        "1 min 30 s\tqueued\tx attempt 2\tx\tx\tx\tx, x\tx\t2026-11-26 12:00:00 UTC\t" + URL,
        "0.0 s ago\tworks again\t",
        "0.0 s ago\tonce\t",
        "0.0 s ago\t3 times\t",
        "x\t1\t\N{EN DASH}\t1 min 30 s\t1 min 30 s\t1 min 30 s\t2\t$0.50",
        "x\tx\t4\t1\t1\t33.3%\t50.0%\t10 min\t\N{EN DASH}\t0",
        "Jobs started per hour\tat most 8\t ▂█",
        "Database\taway",
        "Queue\t3 of \N{EN DASH}",
        "Spool\t1, 2.0 KiB of 4.0 KiB",
        "Recovery, x: last success none yet in this process",
    ):
        assert text in shown


def test_nothing_is_said_plainly() -> None:
    full = status()
    empty = Status(
        Open(
            as_of=NOW,
            anything_counted=False,
            by_class=[],
            jobs=[],
            jobs_total=0,
            run_count=RunCount(),
            runs=[],
            runs_total=0,
            limit=1,
            offset=0,
        ),
        Failures(as_of=NOW, failures=[], more=False, limit=1, offset=0),
        Insights(as_of=NOW, window="7d", began=NOW, by_class=[], by_workflow=[], workflows_total=0, steps=[]),
        full.pipeline,
    )
    for filtered, ending in ((False, "."), (True, " that the filter chooses.")):
        shown = plain(sections(empty, SERVER, filtered))
        for text in ("No open job", "No open run", "No job has failed", "Nothing was counted"):
            assert text + ending in shown
        assert f"No delivery has been counted yet. {SERVER} says how to begin." in shown
    assert "No delivery" not in plain(sections(full, SERVER, filtered=False))


def test_the_words_are_those_of_the_page() -> None:
    files = [PAGE / "page.py", PAGE / "texts.py", *PAGE.glob("templates/*.j2")]
    page = "".join(path.read_text("utf-8") for path in files)
    ours = {"Runner", "URL", "Failed at", ""}  # on the page, parts of other columns
    parts = [part for section in sections(status(), SERVER, filtered=False) for part in section.parts]
    headings = {column.heading for part in parts if isinstance(part, Table) for column in part.columns}
    assert [heading for heading in headings - ours if not re.search(rf'"#?{re.escape(heading)}"', page)] == []
    titles = {part.title for part in parts if isinstance(part, Table)} | {
        section.title for section in sections(status("0.1"), SERVER, filtered=False)[1:]
    }
    words = {
        word for title in titles for word in re.split(r"^[\d, of]+ |(?<=this process since) .*|(?=, those)", title)
    }
    assert [word for word in words if word and word not in page] == []


@pytest.mark.parametrize(
    ("values", "shown"), [([], ""), ([0, None, 0.0], "   "), ([1, 2, 8], "▂▃█"), ([0.001, 100], "▁█")]
)
def test_bars(values: list[float | None], shown: str) -> None:
    assert bars(values) == shown


def test_every_window_has_words() -> None:
    assert set(texts.WINDOW_TITLES) == set(texts.STEP_NAMES) == set(WINDOWS)


def test_every_phase_has_a_word() -> None:
    assert set(texts.PHASE_NAMES) == set(Phase)
