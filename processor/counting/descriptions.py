"""What people need to find a run or job: names, labels, links. Nothing of it is about a person. Pure.

GitHub's own addresses (`html_url`) are made from the names and IDs, so that no payload can set a link, and no row
stores one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from processor.counting.label_values import clean
from processor.counting.states import FAILURES

TEXT_LENGTH = 1024
"""Maximum number of characters of a name that is stored only to be read."""

LABELS_SHOWN = 20
"""Maximum number of labels of a job that are stored."""


class JobDescription(NamedTuple):
    """The names of a job. Of several, the maximum is kept: the one of the most advanced, newest state.

    `branch` is the name as GitHub sent it. `failed_step` is the first failing step, or empty.
    """

    rank: int
    at: int
    emitted: int
    name: str
    branch: str
    labels: tuple[str, ...]
    runner_name: str
    failed_step: str


class RunDescription(NamedTuple):
    """The names of a run attempt. Of several, the maximum is kept: the one of the most advanced, newest state.

    `number` counts the runs of a workflow, `event` triggered this one. `branch` is the name as GitHub sent it.
    """

    rank: int
    at: int
    emitted: int
    branch: str
    number: int
    event: str


class _Step(msgspec.Struct):
    """A step of a job (https://docs.github.com/en/rest/actions/workflow-jobs)."""

    name: str | None = None
    conclusion: str | None = None


_STEP = msgspec.json.Decoder(_Step)


def text(value: object) -> str:
    """Return a name with limited length; empty if it is no text."""
    return clean(value[:TEXT_LENGTH]) if isinstance(value, str) else ""


def label_texts(labels: Sequence[Any] | None) -> tuple[str, ...]:
    """Return the labels of a job, limited in number and length."""
    return tuple(text(label) for label in (labels or ())[:LABELS_SHOWN] if isinstance(label, str))


def first_failing_step(steps: Sequence[msgspec.Raw] | None) -> str:
    """Return the name of the first step that failed; else of the first one that was cancelled, as in a timeout."""
    cancelled = ""
    for raw in steps or ():
        try:
            step = _STEP.decode(raw)
        except msgspec.MsgspecError:
            continue
        if step.conclusion in FAILURES:
            return text(step.name)
        if step.conclusion == "cancelled" and not cancelled:
            cancelled = text(step.name)
    return cancelled


def run_url(host: str, repository: str, run_id: int, attempt: int) -> str:
    """Return the address of a run attempt; `repository` is the label value, which may begin with the host."""
    return f"{_run_url(host, repository, run_id)}/attempts/{attempt}"


def job_url(host: str, repository: str, run_id: int, job_id: int) -> str:
    """Return the address of a job; `repository` is the label value, which may begin with the host."""
    return f"{_run_url(host, repository, run_id)}/job/{job_id}"


def _run_url(host: str, repository: str, run_id: int) -> str:
    path = repository.removeprefix(f"{host}/")
    return f"https://{host}/{path}/actions/runs/{run_id}"
