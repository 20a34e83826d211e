"""Fold what deliveries told over what is known: new states, and what they add to the series. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from processor.events import CountFact, Fact, JobFact, RunFact
from processor.lifecycle import Execution, Job, Run, job_tally, join_job, join_run, run_tally
from processor.series import Tally

RunKey = tuple[int, int]
"""Run id and attempt."""


@dataclass(slots=True)
class Outcome:
    """The runs and jobs that changed, by key, and what the series grow by."""

    runs: dict[RunKey, Run] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def executions(facts: Iterable[Fact]) -> dict[str, Execution]:
    """Return the executions that facts report, by fingerprint, and who is to count each if nobody does yet."""
    claims: dict[str, Execution] = {}
    for fact in facts:
        if isinstance(fact, JobFact) and fact.told.fingerprint:
            claim = Execution(fact.job_id, fact.told.attempt)
            fingerprint = fact.told.fingerprint
            claims[fingerprint] = min(claims.get(fingerprint, claim), claim, key=lambda e: (e.attempt, e.job_id))
    return claims


def fold(
    runs: Mapping[RunKey, Run], jobs: Mapping[int, Job], owners: Mapping[str, Execution], facts: Iterable[Fact]
) -> Outcome:
    """Return what is known after `facts`, and the difference that it makes.

    `runs` and `jobs` hold what was known of those that the facts are about; `owners` says who counted each execution
    that the facts report.
    """
    outcome = Outcome()
    for fact in facts:
        match fact:
            case RunFact(run_id, attempt, told):
                key = (run_id, attempt)
                known_run = outcome.runs.get(key) or runs.get(key)
                outcome.runs[key] = told if known_run is None else join_run(known_run, told)
            case JobFact(job_id, told):
                known_job = outcome.jobs.get(job_id) or jobs.get(job_id)
                owner = owners.get(told.fingerprint)
                owned = told if owner is None else msgspec.structs.replace(told, execution=owner)
                outcome.jobs[job_id] = owned if known_job is None else join_job(known_job, owned)
            case CountFact(tally):
                outcome.tally.add(tally)
    for key, run in outcome.runs.items():
        outcome.tally.add(run_tally(run))
        outcome.tally.add(run_tally(runs.get(key)), times=-1)
    for job_id, job in outcome.jobs.items():
        outcome.tally.add(job_tally(job_id, job))
        outcome.tally.add(job_tally(job_id, jobs.get(job_id)), times=-1)
    return outcome
