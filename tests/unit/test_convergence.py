"""What is known, and what it is worth, depends on the set of deliveries alone."""

from hypothesis import given
from hypothesis import strategies as st

from processor.events import Fact, JobFact, RunFact, interpret
from processor.fold import Outcome, executions, fold
from processor.lifecycle import Execution, Job, Run, job_tally, join_job, join_run, run_tally
from processor.series import BranchPolicy, Tally
from shared.delivery import Delivery
from tests import builders, strategies

BRANCHES = BranchPolicy("<default>")


class Memory:
    """The store's part in counting, in memory: what is known, who counted which execution, and the series."""

    def __init__(self) -> None:
        self.claimed: set[str] = set()
        self.runs: dict[tuple[int, int], Run] = {}
        self.jobs: dict[int, Job] = {}
        self.owners: dict[str, Execution] = {}
        self.tally = Tally()

    def count(self, batch: list[Delivery]) -> Outcome:
        facts: list[Fact] = []
        for delivery in batch:
            fact = interpret(delivery, BRANCHES)
            if delivery.id not in self.claimed and fact is not None:
                facts.append(fact)
            self.claimed.add(delivery.id)
        self.owners = executions(facts) | self.owners
        outcome = fold(self.runs, self.jobs, self.owners, facts)
        self.runs |= outcome.runs
        self.jobs |= outcome.jobs
        self.tally.add(outcome.tally)
        return outcome


@given(st.data())
def test_any_order_duplication_and_batching_gives_the_same_figures(data: st.DataObject) -> None:
    deliveries = data.draw(strategies.delivery_sets())
    straight, shuffled = Memory(), Memory()
    straight.count(deliveries)
    for batch in data.draw(strategies.arrivals(deliveries)):
        shuffled.count(batch)
    assert shuffled.tally == straight.tally
    assert shuffled.runs == straight.runs
    assert shuffled.jobs == straight.jobs


@given(strategies.delivery_sets())
def test_the_series_are_the_sum_of_what_each_run_and_job_is_worth(deliveries: list[Delivery]) -> None:
    memory = Memory()
    for delivery in deliveries:
        memory.count([delivery])
    worth = Tally()
    for run in memory.runs.values():
        worth.add(run_tally(run))
    for job_id, job in memory.jobs.items():
        worth.add(job_tally(job_id, job))
    for delivery in deliveries:
        if delivery.event in {"push", "pull_request"}:
            worth.add(Memory().count([delivery]).tally)
    assert memory.tally == worth


@given(st.data())
def test_joins_are_commutative_associative_and_idempotent(data: st.DataObject) -> None:
    facts = [interpret(d, BRANCHES) for d in data.draw(strategies.delivery_sets(max_size=8))]
    runs = [f.told for f in facts if isinstance(f, RunFact)]
    jobs = [f.told for f in facts if isinstance(f, JobFact)]
    if runs:
        a, b, c = (data.draw(st.sampled_from(runs)) for _ in range(3))
        a, b, c = (Run(1, r.standing, r.naming, r.seen, r.began, r.ending) for r in (a, b, c))
        assert join_run(a, b) == join_run(b, a)
        assert join_run(join_run(a, b), c) == join_run(a, join_run(b, c))
        assert join_run(a, a) == a
    if jobs:
        x, y, z = (data.draw(st.sampled_from([j for j in jobs if j.run_id == jobs[0].run_id])) for _ in range(3))
        assert join_job(x, y) == join_job(y, x)
        assert join_job(join_job(x, y), z) == join_job(x, join_job(y, z))
        assert join_job(x, x) == x


STEPS = [
    builders.run(status="queued"),
    builders.job(status="queued", created=1),
    builders.job(status="waiting", created=1, gate=2),
    builders.run(status="in_progress", updated=3),
    builders.job(status="queued", created=1, gate=4),
    builders.job(status="in_progress", created=1, started=5, runner=5),
    builders.job(status="completed", conclusion="failure", created=1, started=5, completed=60, runner=5),
    builders.run(status="completed", conclusion="failure", updated=61),
    builders.run(attempt=2, status="in_progress", began=100, updated=100),
    builders.job(2, attempt=2, status="queued", created=100),
    builders.job(3, attempt=2, status="completed", conclusion="failure", created=1, started=5, completed=60, runner=5),
    builders.job(2, attempt=2, status="completed", conclusion="cancelled", created=100, completed=120),
    builders.run(attempt=2, status="completed", conclusion="cancelled", began=100, updated=121),
    builders.push(2),
    builders.pull_request("closed", merged=True),
]


@given(st.data())
def test_a_history_in_order_never_takes_a_count_back_even_with_parts_missing(data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(range(len(STEPS))), unique=True).map(sorted))
    memory = Memory()
    for step in kept:
        grown = memory.count([builders.delivery(STEPS[step], builders.guid(step, serial=step))]).tally
        assert all(by > 0 for by in grown.counts.values())
        assert all(times > 0 for times in grown.observations.values())
