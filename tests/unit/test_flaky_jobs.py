"""Jobs that failed and succeeded when they ran again, in any order of their deliveries."""

from itertools import permutations

import pytest

from processor.counting.ci_metrics import Tally
from tests.support import builders
from tests.support.builders import Payload
from tests.support.memory import Memory


def ended(job_id: int, conclusion: str, started: float, completed: float, **fields: object) -> Payload:
    given = {"status": "completed", "runner": 5, "name": "test (3.12)"} | fields
    return builders.job(job_id, conclusion=conclusion, started=started, completed=completed, **given)  # type: ignore[arg-type]


FAILED = ended(1, "failure", 10, 20)
SUCCEEDED_LATER = ended(2, "success", 100, 110, attempt=2)


def flaky(payloads: tuple[Payload, ...]) -> dict[tuple[str, ...], int]:
    memory, tally = Memory(), Tally()
    for serial, payload in enumerate(payloads):
        tally.add(memory.count([builders.delivery(payload, builders.guid(serial, serial=serial))]))
    return {tuple(labels): n for (m, labels), n in tally.counts.items() if m.name == "promgithub_job_flaky"}


@pytest.mark.parametrize("conclusion", ["failure", "timed_out"])
def test_a_failure_and_a_later_success_count_once_under_the_name_without_its_matrix(conclusion: str) -> None:
    again = ended(3, "failure", 200, 210, attempt=3), ended(4, "success", 300, 310, attempt=4)
    for order in permutations([ended(1, conclusion, 10, 20), SUCCEEDED_LATER, *again]):
        assert flaky(order) == {("acme/gears", "main", "build", "test"): 1}


@pytest.mark.parametrize(
    "other",
    [
        ended(2, "success", 100, 110, attempt=2, name="test (3.13)"),
        ended(2, "success", 100, 110, attempt=2, run_id=7),
        ended(2, "success", 12, 18, attempt=2),  # carried over: it started before the failure
        ended(2, "success", 25, 30),  # a twin in the same attempt
        ended(2, "failure", 100, 110, attempt=2),
        ended(2, "cancelled", 100, 110, attempt=2),
        builders.job(2, status="in_progress", attempt=2, started=100, runner=5, name="test (3.12)"),
    ],
)
def test_nothing_else_makes_a_job_flaky(other: Payload) -> None:
    for order in permutations([FAILED, other]):
        assert flaky(order) == {}


def test_different_jobs_of_a_run_count_each() -> None:
    lint = ended(3, "failure", 10, 20, name="lint"), ended(4, "success", 100, 110, name="lint", attempt=2)
    assert flaky((FAILED, SUCCEEDED_LATER, *lint)) == {
        ("acme/gears", "main", "build", "test"): 1,
        ("acme/gears", "main", "build", "lint"): 1,
    }
