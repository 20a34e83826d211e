"""*Workflow detail*: one workflow of one repository."""

from deploy.grafana.model import Choice, Dashboard, Kind, Panel, Query, Row
from deploy.grafana.promql import (
    FAILURE_LIMITS,
    RUNS,
    by_state,
    ended,
    failed,
    quantile,
    quantiles,
    ratio,
    runs_per_hour,
)

_JOBS = "promgithub_job_status_total"

_REPOSITORY = 'repository="$repository"'
_WORKFLOW = f'{_REPOSITORY}, workflow_name="$workflow"'  # queue times are not by branch
_ALL = f'{_WORKFLOW}, branch=~"$branch"'

_SUMMARY = Row(
    "In the time shown",
    [
        Panel(
            "Runs completed",
            "Attempts of runs that ended.",
            "short",
            [Query(f"sum(round(increase({ended(_ALL)}[$__range])))", "runs")],
            Kind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Failure rate",
            "Share of them that failed or timed out; cancelled ones do not count as failed.",
            "percentunit",
            [Query(failed(RUNS, _ALL, "$__range"), "failed")],
            Kind.NUMBER,
            FAILURE_LIMITS,
            width=4,
        ),
        Panel(
            "Re-run share",
            "Attempts after the first, as a share of the attempts that ended.",
            "percentunit",
            [
                Query(
                    ratio(
                        f"sum(rate(promgithub_workflow_reruns_total{{{_ALL}}}[$__range]))",
                        f"sum(rate({ended(_ALL)}[$__range]))",
                    ),
                    "re-runs",
                )
            ],
            Kind.NUMBER,
            ((0.1, "yellow"), (0.3, "red")),
            width=4,
        ),
        Panel(
            "Median duration",
            "Half of the runs took at most so long, waiting included.",
            "s",
            [Query(quantile(0.5, "promgithub_workflow_duration_seconds", _ALL, "$__range"), "p50")],
            Kind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Queue time (p90)",
            "Nine of ten jobs waited at most so long for a runner. Of all branches.",
            "s",
            [Query(quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOW, "$__range"), "p90")],
            Kind.NUMBER,
            ((60, "yellow"), (600, "red")),
            width=4,
        ),
        Panel(
            "Open runs",
            "Runs that are queued, held back or running now.",
            "short",
            [
                Query(
                    f"sum(promgithub_workflow_queued{{{_ALL}}}) + sum(promgithub_workflow_waiting{{{_ALL}}})"
                    f" + sum(promgithub_workflow_in_progress{{{_ALL}}})",
                    "open",
                )
            ],
            Kind.NUMBER,
            base="blue",
            width=4,
        ),
    ],
)

_OF_RUNS = Row(
    "Runs",
    [
        Panel(
            "Run duration",
            "Time from the start of an attempt to its completion, waiting included.",
            "s",
            quantiles("promgithub_workflow_duration_seconds", _ALL, "$window"),
        ),
        Panel(
            "Run duration by conclusion (p50)",
            "Whether failures come early or late.",
            "s",
            [
                Query(
                    quantile(0.5, "promgithub_workflow_duration_seconds", _ALL, "$window", "conclusion"),
                    "{{conclusion}}",
                )
            ],
        ),
        Panel(
            "Run duration by branch (p90)",
            "Branches that the setting BRANCHES does not keep are *other*.",
            "s",
            [Query(quantile(0.9, "promgithub_workflow_duration_seconds", _ALL, "$window", "branch"), "{{branch}}")],
        ),
        runs_per_hour(_ALL),
        Panel(
            "Failure rate by branch",
            "Share of the completed runs that failed or timed out.",
            "percentunit",
            [Query(failed(RUNS, _ALL, "$window", "branch"), "{{branch}}")],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        Panel(
            "Runs by state",
            "Open runs. *Held back* are those that wait for an approval, a gate or a concurrency limit.",
            "short",
            by_state("workflow", _ALL),
            Kind.STACK,
        ),
    ],
)

_OF_JOBS = Row(
    "Jobs",
    [
        Panel(
            "Job duration",
            "Time from a job's start to its end; jobs that never ran have none.",
            "s",
            quantiles("promgithub_job_duration_seconds", _ALL, "$window"),
        ),
        Panel(
            "Jobs completed per hour",
            "Jobs by how they ended.",
            "short",
            [
                Query(
                    f'sum by (job_conclusion) (rate({_JOBS}{{{_ALL}, job_status="completed"}}[$window])) * 3600',
                    "{{job_conclusion}}",
                )
            ],
            Kind.STACK,
        ),
        Panel(
            "Failure rate of jobs",
            "Share of the completed jobs that failed or timed out; skipped and cancelled ones do not count as failed.",
            "percentunit",
            [Query(failed(_JOBS, _ALL, "$window", conclusion="job_conclusion"), "failed")],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        Panel(
            "Queue time",
            "Time from a job's creation to its start on a runner. Of all branches.",
            "s",
            quantiles("promgithub_job_queue_seconds", _WORKFLOW, "$window"),
        ),
        Panel(
            "Queue time by runner group (p90)",
            "Nine of ten jobs waited at most so long. Of all branches.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOW, "$window", "runner_group"),
                    "{{runner_group}}",
                )
            ],
        ),
        Panel(
            "Jobs by state",
            "Open jobs. *Queued* wait for a runner, *held back* for an approval, a gate or a concurrency limit.",
            "short",
            by_state("job", _ALL),
            Kind.STACK,
        ),
    ],
)

WORKFLOW_DETAIL = Dashboard(
    "promgithub-workflow-detail",
    "Workflow detail",
    "One workflow of one repository: its runs, its jobs, and what they wait for.",
    [_SUMMARY, _OF_RUNS, _OF_JOBS],
    [
        Choice("repository", "repository", RUNS, single=True),
        Choice("workflow", "workflow_name", f"{RUNS}{{{_REPOSITORY}}}", single=True),
        Choice("branch", "branch", f"{RUNS}{{{_WORKFLOW}}}"),
    ],
    window=True,
    since="now-24h",
)
