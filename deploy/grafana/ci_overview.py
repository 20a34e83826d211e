"""*CI overview*: open runs and jobs, durations and failures, by repository and workflow."""

from deploy.grafana.model import Choice, Dashboard, DashboardRow, Panel, PanelKind, Query
from deploy.grafana.promql import (
    ENDED_RUNS,
    FAILURE_LIMITS,
    by_state,
    ended,
    failed,
    jobs_queued,
    quantile,
    quantiles,
    runs_per_hour,
)

# Ages have no label `branch` or `workflow_name`, and queue times have no label `branch`.
_REPOSITORIES = 'repository=~"$repository"'
_WORKFLOWS = f'{_REPOSITORIES}, workflow_name=~"$workflow"'
_BRANCHES = f'{_WORKFLOWS}, branch=~"$branch"'

_AGE_LIMITS = ((600, "yellow"), (3600, "red"))
_TABLE = "repository, workflow_name"

_NOW = DashboardRow(
    "Now",
    [
        jobs_queued(_BRANCHES, width=4),
        Panel(
            "Jobs running",
            "Jobs in progress on a runner.",
            "short",
            [Query(f"sum(promgithub_job_in_progress{{{_BRANCHES}}})", "running")],
            PanelKind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Jobs held back",
            "Jobs that an approval, a deployment gate or a concurrency limit holds back; more runners do not "
            "help them.",
            "short",
            [Query(f"sum(promgithub_job_waiting{{{_BRANCHES}}})", "held back")],
            PanelKind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Oldest queued job",
            "The longest time that a queued job has waited for a runner, over all workflows and branches.",
            "s",
            [Query(f'max(promgithub_job_oldest_age_seconds{{{_REPOSITORIES}, job_status="queued"}})', "oldest")],
            PanelKind.NUMBER,
            _AGE_LIMITS,
            width=4,
        ),
        Panel(
            "Oldest running job",
            "Age of the oldest running job. On its own runners, GitHub cancels a job after 6 h.",
            "s",
            [Query(f'max(promgithub_job_oldest_age_seconds{{{_REPOSITORIES}, job_status="in_progress"}})', "oldest")],
            PanelKind.NUMBER,
            ((7200, "yellow"), (21_600, "red")),
            width=4,
        ),
        Panel(
            "Failure rate",
            "Share of the runs that completed within *Rates over* and failed or timed out; cancelled ones do not "
            "count as failed.",
            "percentunit",
            [Query(failed(ENDED_RUNS, _BRANCHES, "$window"), "failed")],
            PanelKind.NUMBER,
            FAILURE_LIMITS,
            width=4,
        ),
    ],
)

_QUEUE = DashboardRow(
    "Waiting for runners",
    [
        Panel(
            "Jobs by state",
            "Open jobs. *Queued* wait for a runner, *held back* for an approval, a gate or a concurrency limit.",
            "short",
            by_state("job", _BRANCHES),
            PanelKind.STACK,
        ),
        Panel(
            "Queued jobs by repository",
            "Jobs waiting for a runner, by repository.",
            "short",
            [Query(f"sum by (repository) (promgithub_job_queued{{{_BRANCHES}}})", "{{repository}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Oldest queued job by repository",
            "It grows steadily if no runner has the labels in the job's `runs-on`. Over all workflows and branches.",
            "s",
            [
                Query(
                    f'max by (repository) (promgithub_job_oldest_age_seconds{{{_REPOSITORIES}, job_status="queued"}})',
                    "{{repository}}",
                )
            ],
            thresholds=_AGE_LIMITS,
        ),
        Panel(
            "Queue time",
            "Time from a job's creation to its start, for jobs that started within *Rates over*. Over all branches.",
            "s",
            quantiles("promgithub_job_queue_seconds", _WORKFLOWS, "$window"),
        ),
        Panel(
            "Queue time by runner group (p90)",
            "90 % of the jobs waited at most this long. A high value means that the group is too small. All branches.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOWS, "$window", "runner_group"),
                    "{{runner_group}}",
                )
            ],
        ),
        Panel(
            "Queue time by repository (p90)",
            "90 % of the jobs waited at most this long. Over all branches.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOWS, "$window", "repository"),
                    "{{repository}}",
                )
            ],
        ),
    ],
)

_RESULTS = DashboardRow(
    "Duration and results",
    [
        Panel(
            "Run duration",
            "Time from the start of a run attempt to its completion, including waiting.",
            "s",
            quantiles("promgithub_workflow_duration_seconds", _BRANCHES, "$window"),
        ),
        Panel(
            "Failure rate by repository",
            "Share of the completed runs that failed or timed out.",
            "percentunit",
            [Query(failed(ENDED_RUNS, _BRANCHES, "$window", "repository"), "{{repository}}")],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        runs_per_hour(_BRANCHES),
        Panel(
            "By repository and workflow",
            "Open jobs now, and runs that completed within the dashboard's time range.",
            "short",
            [
                Query(f"sum by ({_TABLE}) (promgithub_job_queued{{{_BRANCHES}}})", "jobs queued", "short"),
                Query(f"sum by ({_TABLE}) (promgithub_job_in_progress{{{_BRANCHES}}})", "jobs running", "short"),
                Query(f"sum by ({_TABLE}) (round(increase({ended(_BRANCHES)}[$__range])))", "runs", "short"),
                Query(failed(ENDED_RUNS, _BRANCHES, "$__range", _TABLE), "failed", "percentunit"),
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOWS, "$__range", _TABLE), "queue time p90", "s"
                ),
                Query(
                    quantile(0.5, "promgithub_workflow_duration_seconds", _BRANCHES, "$__range", _TABLE),
                    "duration p50",
                    "s",
                ),
                Query(
                    quantile(0.9, "promgithub_workflow_duration_seconds", _BRANCHES, "$__range", _TABLE),
                    "duration p90",
                    "s",
                ),
            ],
            PanelKind.TABLE,
            width=24,
        ),
    ],
)

_ACTIVITY = DashboardRow(
    "Activity",
    [
        Panel(
            "Pushes and commits per hour",
            "Pushes of branches and tags, and their commits. Over all branches.",
            "short",
            [
                Query(f"sum(rate(promgithub_push_total{{{_REPOSITORIES}}}[$window])) * 3600", "pushes"),
                Query(f"sum(rate(promgithub_commit_pushed_total{{{_REPOSITORIES}}}[$window])) * 3600", "commits"),
            ],
        ),
        Panel(
            "Pull requests per hour",
            "Pull request events by action; closing by a merge counts as merged.",
            "short",
            [
                Query(
                    "sum by (pull_request_status) (rate(promgithub_pull_request_total"
                    f'{{{_REPOSITORIES}, base_branch=~"$branch"}}[$window])) * 3600',
                    "{{pull_request_status}}",
                )
            ],
            PanelKind.STACK,
        ),
        Panel(
            "Re-runs per hour",
            "Run attempts after the first one. Many re-runs are a sign of flaky tests.",
            "short",
            [
                Query(
                    f"sum by (repository) (rate(promgithub_workflow_reruns_total{{{_BRANCHES}}}[$window])) * 3600",
                    "{{repository}}",
                )
            ],
            PanelKind.STACK,
        ),
    ],
)

CI_OVERVIEW = Dashboard(
    "promgithub-ci-overview",
    "CI overview",
    "Open runs and jobs, durations and failures, by repository and workflow.",
    [_NOW, _QUEUE, _RESULTS, _ACTIVITY],
    [
        Choice("repository", "repository", ENDED_RUNS),
        Choice("branch", "branch", f"{ENDED_RUNS}{{{_REPOSITORIES}}}"),
        Choice("workflow", "workflow_name", f"{ENDED_RUNS}{{{_REPOSITORIES}}}"),
    ],
    window=True,
)
