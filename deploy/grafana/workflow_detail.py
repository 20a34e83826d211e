"""*Workflow detail*: one workflow of one repository."""

from deploy.grafana.model import Choice, Dashboard, DashboardRow, Panel, PanelKind, Query
from deploy.grafana.promql import (
    ENDED_RUNS,
    FAILURE_LIMITS,
    by_state,
    ended,
    failed,
    quantile,
    quantiles,
    ratio,
    runs_per_hour,
)

_JOBS = "promgithub_job_status_total"

_IN_REPOSITORY = 'repository="$repository"'
_IN_WORKFLOW = f'{_IN_REPOSITORY}, workflow_name="$workflow"'  # queue times have no label `branch`
_IN_BRANCH = f'{_IN_WORKFLOW}, branch=~"$branch"'

_SUMMARY = DashboardRow(
    "In the time shown",
    [
        Panel(
            "Runs completed",
            "Completed run attempts.",
            "short",
            [Query(f"sum(round(increase({ended(_IN_BRANCH)}[$__range])))", "runs")],
            PanelKind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Failure rate",
            "Share of the completed attempts that failed or timed out; cancelled ones do not count as failed.",
            "percentunit",
            [Query(failed(ENDED_RUNS, _IN_BRANCH, "$__range"), "failed")],
            PanelKind.NUMBER,
            FAILURE_LIMITS,
            width=4,
        ),
        Panel(
            "Re-run share",
            "Attempts after the first one, as a share of all completed attempts.",
            "percentunit",
            [
                Query(
                    ratio(
                        f"sum(rate(promgithub_workflow_reruns_total{{{_IN_BRANCH}}}[$__range]))",
                        f"sum(rate({ended(_IN_BRANCH)}[$__range]))",
                    ),
                    "re-runs",
                )
            ],
            PanelKind.NUMBER,
            ((0.1, "yellow"), (0.3, "red")),
            width=4,
        ),
        Panel(
            "Median duration",
            "Half of the runs took at most this long, including waiting.",
            "s",
            [Query(quantile(0.5, "promgithub_workflow_duration_seconds", _IN_BRANCH, "$__range"), "p50")],
            PanelKind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Queue time (p90)",
            "90 % of the jobs waited at most this long for a runner. Over all branches.",
            "s",
            [Query(quantile(0.9, "promgithub_job_queue_seconds", _IN_WORKFLOW, "$__range"), "p90")],
            PanelKind.NUMBER,
            ((60, "yellow"), (600, "red")),
            width=4,
        ),
        Panel(
            "Open runs",
            "Runs that are queued, held back or running now.",
            "short",
            [
                Query(
                    f"sum(promgithub_workflow_queued{{{_IN_BRANCH}}})"
                    f" + sum(promgithub_workflow_waiting{{{_IN_BRANCH}}})"
                    f" + sum(promgithub_workflow_in_progress{{{_IN_BRANCH}}})",
                    "open",
                )
            ],
            PanelKind.NUMBER,
            base="blue",
            width=4,
        ),
    ],
)

_OF_RUNS = DashboardRow(
    "Runs",
    [
        Panel(
            "Run duration",
            "Time from the start of an attempt to its completion, including waiting.",
            "s",
            quantiles("promgithub_workflow_duration_seconds", _IN_BRANCH, "$window"),
        ),
        Panel(
            "Run duration by conclusion (p50)",
            "Shows whether runs fail early or late.",
            "s",
            [
                Query(
                    quantile(0.5, "promgithub_workflow_duration_seconds", _IN_BRANCH, "$window", "conclusion"),
                    "{{conclusion}}",
                )
            ],
        ),
        Panel(
            "Run duration by branch (p90)",
            "*other* is the sum of all branches that do not match the setting BRANCHES.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_workflow_duration_seconds", _IN_BRANCH, "$window", "branch"),
                    "{{branch}}",
                )
            ],
        ),
        runs_per_hour(_IN_BRANCH),
        Panel(
            "Failure rate by branch",
            "Share of the completed runs that failed or timed out.",
            "percentunit",
            [Query(failed(ENDED_RUNS, _IN_BRANCH, "$window", "branch"), "{{branch}}")],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        Panel(
            "Runs by state",
            "Open runs. *Held back* are those that wait for an approval, a gate or a concurrency limit.",
            "short",
            by_state("workflow", _IN_BRANCH),
            PanelKind.STACK,
        ),
    ],
)

_OF_JOBS = DashboardRow(
    "Jobs",
    [
        Panel(
            "Job duration",
            "Time from a job's start to its completion, without jobs that never ran.",
            "s",
            quantiles("promgithub_job_duration_seconds", _IN_BRANCH, "$window"),
        ),
        Panel(
            "Jobs completed per hour",
            "Completed jobs by conclusion.",
            "short",
            [
                Query(
                    f'sum by (job_conclusion) (rate({_JOBS}{{{_IN_BRANCH}, job_status="completed"}}[$window])) * 3600',
                    "{{job_conclusion}}",
                )
            ],
            PanelKind.STACK,
        ),
        Panel(
            "Failure rate of jobs",
            "Share of the completed jobs that failed or timed out; skipped and cancelled ones do not count as failed.",
            "percentunit",
            [Query(failed(_JOBS, _IN_BRANCH, "$window", conclusion="job_conclusion"), "failed")],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        Panel(
            "Queue time",
            "Time from a job's creation to its start on a runner. Over all branches.",
            "s",
            quantiles("promgithub_job_queue_seconds", _IN_WORKFLOW, "$window"),
        ),
        Panel(
            "Queue time by runner group (p90)",
            "90 % of the jobs waited at most this long. Over all branches.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _IN_WORKFLOW, "$window", "runner_group"),
                    "{{runner_group}}",
                )
            ],
        ),
        Panel(
            "Jobs by state",
            "Open jobs. *Queued* wait for a runner, *held back* for an approval, a gate or a concurrency limit.",
            "short",
            by_state("job", _IN_BRANCH),
            PanelKind.STACK,
        ),
    ],
)

WORKFLOW_DETAIL = Dashboard(
    "promgithub-workflow-detail",
    "Workflow detail",
    "Runs and jobs of one workflow in one repository.",
    [_SUMMARY, _OF_RUNS, _OF_JOBS],
    [
        Choice("repository", "repository", ENDED_RUNS, single=True),
        Choice("workflow", "workflow_name", f"{ENDED_RUNS}{{{_IN_REPOSITORY}}}", single=True),
        Choice("branch", "branch", f"{ENDED_RUNS}{{{_IN_WORKFLOW}}}"),
    ],
    window=True,
    since="now-24h",
)
