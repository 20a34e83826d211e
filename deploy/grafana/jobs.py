"""*Jobs*: the slowest, most failing and flakiest jobs. Names of jobs need the setting LABELS=job_name."""

from deploy.grafana.model import Choice, Dashboard, DashboardRow, Panel, PanelKind, Query
from deploy.grafana.promql import FAILURE_LIMITS, failed, quantile, quantiles

_STATUS = "promgithub_job_status_total"
_DURATION = "promgithub_job_duration_seconds"
_FLAKY = "promgithub_job_flaky_total"

_WORKFLOWS = 'repository=~"$repository", workflow_name=~"$workflow"'
_JOBS = f'{_WORKFLOWS}, job_name=~"$job"'
_COMPLETED = f'{_STATUS}{{{_JOBS}, job_status="completed"}}'
_FAILED = f'{_STATUS}{{{_JOBS}, job_status="completed", job_conclusion=~"failure|timed_out|startup_failure"}}'

_BY_JOB = "repository, workflow_name, job_name"
_NAMES = "{{repository}} {{workflow_name}} {{job_name}}"
_NEEDS = "Jobs have names only with `LABELS=job_name`; without it, each row is a workflow."


def _most(expr: str, number: int = 20) -> str:
    return f"topk({number}, {expr} > 0)"


def _increase(series: str, window: str) -> str:
    return f"sum by ({_BY_JOB}) (increase({series}[{window}]))"


_SUMMARY = DashboardRow(
    "In the time shown",
    [
        Panel(
            "Jobs completed",
            "Completed jobs, including skipped and cancelled ones.",
            "short",
            [Query(f"sum(round(increase({_COMPLETED}[$__range])))", "jobs")],
            PanelKind.NUMBER,
            base="blue",
            width=6,
        ),
        Panel(
            "Failure rate",
            "Share of the completed jobs that failed or timed out; skipped and cancelled ones do not count as failed.",
            "percentunit",
            [Query(failed(_STATUS, _JOBS, "$__range", conclusion="job_conclusion"), "failed")],
            PanelKind.NUMBER,
            FAILURE_LIMITS,
            width=6,
        ),
        Panel(
            "Flaky jobs",
            "Jobs that failed, and succeeded in a later attempt of the same run.",
            "short",
            [Query(f"sum(round(increase({_FLAKY}{{{_JOBS}}}[$__range])))", "flaky")],
            PanelKind.NUMBER,
            ((1, "yellow"), (10, "red")),
            width=6,
        ),
        Panel(
            "Duration (p90)",
            "90 % of the jobs took at most this long.",
            "s",
            [Query(quantile(0.9, _DURATION, _JOBS, "$__range"), "p90")],
            PanelKind.NUMBER,
            base="blue",
            width=6,
        ),
    ],
)

_WHICH = DashboardRow(
    "Which jobs",
    [
        Panel(
            "Slowest",
            f"The 20 jobs with the highest 90th percentile of the duration. {_NEEDS}",
            "short",
            [Query(_most(quantile(0.9, _DURATION, _JOBS, "$__range", _BY_JOB)), "duration p90", "s")],
            PanelKind.TABLE,
            width=24,
        ),
        Panel(
            "Most failing",
            f"The 20 jobs with most failures and timeouts. {_NEEDS}",
            "short",
            [Query(_most(_increase(_FAILED, "$__range")), "failures", "short")],
            PanelKind.TABLE,
            width=12,
        ),
        Panel(
            "Flakiest",
            "The 20 jobs that most often failed and then succeeded in the same run. They always have names.",
            "short",
            [Query(_most(_increase(f"{_FLAKY}{{{_JOBS}}}", "$__range")), "flaky", "short")],
            PanelKind.TABLE,
            width=12,
        ),
    ],
)

_OVER_TIME = DashboardRow(
    "Over time",
    [
        Panel(
            "Duration",
            "Time from a job's start to its completion, without jobs that never ran.",
            "s",
            quantiles(_DURATION, _JOBS, "$window"),
        ),
        Panel(
            "Duration of the slowest jobs (p90)",
            f"The ten slowest jobs of each moment. {_NEEDS}",
            "s",
            [Query(_most(quantile(0.9, _DURATION, _JOBS, "$window", _BY_JOB), 10), _NAMES)],
        ),
        Panel(
            "Failures per hour",
            f"The ten jobs that fail most at each moment. {_NEEDS}",
            "short",
            [Query(_most(f"sum by ({_BY_JOB}) (rate({_FAILED}[$window])) * 3600", 10), _NAMES)],
        ),
        Panel(
            "Failure rate by workflow",
            "Share of the completed jobs that failed or timed out.",
            "percentunit",
            [
                Query(
                    failed(_STATUS, _JOBS, "$window", "repository, workflow_name", conclusion="job_conclusion"),
                    "{{repository}} {{workflow_name}}",
                )
            ],
            thresholds=FAILURE_LIMITS,
            most=1,
        ),
        Panel(
            "Flaky jobs per day",
            "By job, within the 24 hours before each moment.",
            "short",
            [Query(_most(_increase(f"{_FLAKY}{{{_JOBS}}}", "1d"), 10), _NAMES)],
            PanelKind.STACK,
        ),
    ],
)

JOBS = Dashboard(
    "promgithub-jobs",
    "Jobs",
    "The slowest, most failing and flakiest jobs.",
    [_SUMMARY, _WHICH, _OVER_TIME],
    [
        Choice("repository", "repository", _STATUS),
        Choice("workflow", "workflow_name", f'{_STATUS}{{repository=~"$repository"}}'),
        Choice("job", "job_name", f"{_STATUS}{{{_WORKFLOWS}}}"),
    ],
    window=True,
    since="now-24h",
)
