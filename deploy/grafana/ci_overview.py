"""*CI overview*: what waits and runs now, how long things take and how often they fail, by repository and workflow."""

from deploy.grafana.model import Choice, Dashboard, Kind, Panel, Query, Row
from deploy.grafana.promql import FAILURE_LIMITS, RUNS, by_state, ended, failed, quantile, quantiles, runs_per_hour

# Ages are by repository only, and queue times not by branch.
_REPOSITORY = 'repository=~"$repository"'
_WORKFLOW = f'{_REPOSITORY}, workflow_name=~"$workflow"'
_ALL = f'{_WORKFLOW}, branch=~"$branch"'

_AGE_LIMITS = ((600, "yellow"), (3600, "red"))
_TABLE = "repository, workflow_name"

_NOW = Row(
    "Now",
    [
        Panel(
            "Jobs queued",
            "Jobs that wait for a runner.",
            "short",
            [Query(f"sum(promgithub_job_queued{{{_ALL}}})", "queued")],
            Kind.NUMBER,
            ((20, "yellow"), (100, "red")),
            width=4,
        ),
        Panel(
            "Jobs running",
            "Jobs that are on a runner.",
            "short",
            [Query(f"sum(promgithub_job_in_progress{{{_ALL}}})", "running")],
            Kind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Jobs held back",
            "Jobs that an approval, a deployment gate or a concurrency limit holds back; more runners do not "
            "help them.",
            "short",
            [Query(f"sum(promgithub_job_waiting{{{_ALL}}})", "held back")],
            Kind.NUMBER,
            base="blue",
            width=4,
        ),
        Panel(
            "Oldest queued job",
            "How long the job that has waited longest for a runner has waited. Of all workflows and branches.",
            "s",
            [Query(f'max(promgithub_job_oldest_age_seconds{{{_REPOSITORY}, job_status="queued"}})', "oldest")],
            Kind.NUMBER,
            _AGE_LIMITS,
            width=4,
        ),
        Panel(
            "Oldest running job",
            "How long ago the oldest job that still runs was made. GitHub ends a job on its own runners after 6 h.",
            "s",
            [Query(f'max(promgithub_job_oldest_age_seconds{{{_REPOSITORY}, job_status="in_progress"}})', "oldest")],
            Kind.NUMBER,
            ((7200, "yellow"), (21_600, "red")),
            width=4,
        ),
        Panel(
            "Failure rate",
            "Share of the runs that completed within *Rates over* and failed or timed out; cancelled ones do not "
            "count as failed.",
            "percentunit",
            [Query(failed(RUNS, _ALL, "$window"), "failed")],
            Kind.NUMBER,
            FAILURE_LIMITS,
            width=4,
        ),
    ],
)

_QUEUE = Row(
    "Waiting for runners",
    [
        Panel(
            "Jobs by state",
            "Open jobs. *Queued* wait for a runner, *held back* for an approval, a gate or a concurrency limit.",
            "short",
            by_state("job", _ALL),
            Kind.STACK,
        ),
        Panel(
            "Queued jobs by repository",
            "Who waits for runners.",
            "short",
            [Query(f"sum by (repository) (promgithub_job_queued{{{_ALL}}})", "{{repository}}")],
            Kind.STACK,
        ),
        Panel(
            "Oldest queued job by repository",
            "Grows steadily where no runner fits the labels that the job asks for. Of all workflows and branches.",
            "s",
            [
                Query(
                    f'max by (repository) (promgithub_job_oldest_age_seconds{{{_REPOSITORY}, job_status="queued"}})',
                    "{{repository}}",
                )
            ],
            thresholds=_AGE_LIMITS,
        ),
        Panel(
            "Queue time",
            "Time from a job's creation to its start, of the jobs that started within *Rates over*. Of all branches.",
            "s",
            quantiles("promgithub_job_queue_seconds", _WORKFLOW, "$window"),
        ),
        Panel(
            "Queue time by runner group (p90)",
            "Nine of ten jobs waited at most so long; shows which group is too small. Of all branches.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOW, "$window", "runner_group"),
                    "{{runner_group}}",
                )
            ],
        ),
        Panel(
            "Queue time by repository (p90)",
            "Nine of ten jobs waited at most so long. Of all branches.",
            "s",
            [
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOW, "$window", "repository"),
                    "{{repository}}",
                )
            ],
        ),
    ],
)

_RESULTS = Row(
    "Duration and results",
    [
        Panel(
            "Run duration",
            "Time from the start of an attempt of a run to its completion, waiting included.",
            "s",
            quantiles("promgithub_workflow_duration_seconds", _ALL, "$window"),
        ),
        Panel(
            "Failure rate by repository",
            "Share of the completed runs that failed or timed out.",
            "percentunit",
            [Query(failed(RUNS, _ALL, "$window", "repository"), "{{repository}}")],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        runs_per_hour(_ALL),
        Panel(
            "By repository and workflow",
            "Open jobs now, and what completed within the time that the dashboard shows.",
            "short",
            [
                Query(f"sum by ({_TABLE}) (promgithub_job_queued{{{_ALL}}})", "jobs queued", "short"),
                Query(f"sum by ({_TABLE}) (promgithub_job_in_progress{{{_ALL}}})", "jobs running", "short"),
                Query(f"sum by ({_TABLE}) (round(increase({ended(_ALL)}[$__range])))", "runs", "short"),
                Query(failed(RUNS, _ALL, "$__range", _TABLE), "failed", "percentunit"),
                Query(
                    quantile(0.9, "promgithub_job_queue_seconds", _WORKFLOW, "$__range", _TABLE), "queue time p90", "s"
                ),
                Query(
                    quantile(0.5, "promgithub_workflow_duration_seconds", _ALL, "$__range", _TABLE), "duration p50", "s"
                ),
                Query(
                    quantile(0.9, "promgithub_workflow_duration_seconds", _ALL, "$__range", _TABLE), "duration p90", "s"
                ),
            ],
            Kind.TABLE,
            width=24,
        ),
    ],
)

_ACTIVITY = Row(
    "Activity",
    [
        Panel(
            "Pushes and commits per hour",
            "Pushes of branches and tags, and the commits in them. Of all branches.",
            "short",
            [
                Query(f"sum(rate(promgithub_push_total{{{_REPOSITORY}}}[$window])) * 3600", "pushes"),
                Query(f"sum(rate(promgithub_commit_pushed_total{{{_REPOSITORY}}}[$window])) * 3600", "commits"),
            ],
        ),
        Panel(
            "Pull requests per hour",
            "Pull request events by action; a close that merged counts as merged.",
            "short",
            [
                Query(
                    "sum by (pull_request_status) (rate(promgithub_pull_request_total"
                    f'{{{_REPOSITORY}, base_branch=~"$branch"}}[$window])) * 3600',
                    "{{pull_request_status}}",
                )
            ],
            Kind.STACK,
        ),
        Panel(
            "Re-runs per hour",
            "Attempts of runs after the first: many mean that people do not trust a failure.",
            "short",
            [
                Query(
                    f"sum by (repository) (rate(promgithub_workflow_reruns_total{{{_ALL}}}[$window])) * 3600",
                    "{{repository}}",
                )
            ],
            Kind.STACK,
        ),
    ],
)

CI_OVERVIEW = Dashboard(
    "promgithub-ci-overview",
    "CI overview",
    "What waits and runs now, how long things take and how often they fail.",
    [_NOW, _QUEUE, _RESULTS, _ACTIVITY],
    [
        Choice("repository", "repository", RUNS),
        Choice("branch", "branch", f"{RUNS}{{{_REPOSITORY}}}"),
        Choice("workflow", "workflow_name", f"{RUNS}{{{_REPOSITORY}}}"),
    ],
    window=True,
)
