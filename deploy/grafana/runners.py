"""*Runners*: what waits, runs and costs, by runner class."""

from deploy.grafana.model import Choice, Dashboard, DashboardRow, Panel, PanelKind, Query
from deploy.grafana.promql import jobs_queued, quantile

_REPOSITORIES = 'repository=~"$repository"'
_CLASS = 'runner_class=~"$class"'
_CLASSES = f"{_REPOSITORIES}, {_CLASS}"
_AGES = f'promgithub_job_oldest_age_seconds{{{_CLASSES}, job_status="queued"}}'

_BY_CLASS = "runner_class"
_BY_WORKFLOW = "repository, workflow_name"
_AGE_LIMITS = ((300, "yellow"), (900, "red"))

# Runners have no label `repository`.
_ONLINE = f'promgithub_runners{{{_CLASS}, state=~"busy|idle"}}'
_IDLE = f'promgithub_runners{{{_CLASS}, state="idle"}}'
_RULES = "Classes of rules in RUNNERS_FILE only: others differ between runners and jobs."


def _cost(window: str) -> str:
    return f"increase(promgithub_job_cost_usd_total{{{_CLASSES}}}[{window}])"


def _busy(window: str) -> str:
    return f"rate(promgithub_job_busy_seconds_total{{{_CLASSES}}}[{window}])"


_NOW = DashboardRow(
    "Now",
    [
        jobs_queued(_CLASSES, width=6),
        Panel(
            "Oldest queued job",
            "The longest time that a queued job has waited for a runner.",
            "s",
            [Query(f"max({_AGES})", "oldest")],
            PanelKind.NUMBER,
            _AGE_LIMITS,
            width=6,
        ),
        Panel(
            "Jobs running",
            "Jobs in progress. Each of them occupies a runner.",
            "short",
            [Query(f"sum(promgithub_job_in_progress{{{_CLASSES}}})", "running")],
            PanelKind.NUMBER,
            base="blue",
            width=6,
        ),
        Panel(
            "Cost of the last 24 hours",
            "Billable minutes at the price of the runner class, without what a plan includes and without discounts.",
            "currencyUSD",
            [Query(f"sum({_cost('1d')})", "cost")],
            PanelKind.NUMBER,
            ((50, "yellow"), (100, "red")),
            width=6,
        ),
        Panel(
            "By runner class",
            "Open jobs and self-hosted runners now; queue time, busy time and cost within the dashboard's time range.",
            "short",
            [
                Query(f"sum by ({_BY_CLASS}) (promgithub_job_queued{{{_CLASSES}}})", "jobs queued", "short"),
                Query(f"max by ({_BY_CLASS}) ({_AGES})", "oldest queued", "s"),
                Query(f"sum by ({_BY_CLASS}) (promgithub_job_in_progress{{{_CLASSES}}})", "jobs running", "short"),
                Query(
                    quantile(0.5, "promgithub_job_queue_seconds", _CLASSES, "$__range", _BY_CLASS),
                    "queue time p50",
                    "s",
                ),
                Query(
                    quantile(0.95, "promgithub_job_queue_seconds", _CLASSES, "$__range", _BY_CLASS),
                    "queue time p95",
                    "s",
                ),
                Query(f"sum by ({_BY_CLASS}) ({_busy('$__range')})", "runners in use (mean)", "short"),
                Query(f"sum by ({_BY_CLASS}) ({_cost('$__range')})", "cost", "currencyUSD"),
                Query(f"sum by ({_BY_CLASS}) ({_IDLE})", "runners idle", "short"),
                Query(f"sum by ({_BY_CLASS}) ({_ONLINE})", "runners online", "short"),
            ],
            PanelKind.TABLE,
            width=24,
        ),
    ],
)

_WAITING = DashboardRow(
    "Waiting and running",
    [
        Panel(
            "Queued jobs by class",
            "Jobs waiting for a runner. A class that keeps growing lacks runners.",
            "short",
            [Query(f"sum by ({_BY_CLASS}) (promgithub_job_queued{{{_CLASSES}}})", "{{runner_class}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Running jobs by class",
            "Jobs in progress. A flat top while jobs are queued is the number of runners of the class.",
            "short",
            [Query(f"sum by ({_BY_CLASS}) (promgithub_job_in_progress{{{_CLASSES}}})", "{{runner_class}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Oldest queued job by class",
            "It grows steadily if no runner has the labels of the class.",
            "s",
            [Query(f"max by ({_BY_CLASS}) ({_AGES})", "{{runner_class}}")],
            thresholds=_AGE_LIMITS,
        ),
        Panel(
            "Queue time by class (p50)",
            "Half of the jobs that started within *Rates over* waited at most this long.",
            "s",
            [Query(quantile(0.5, "promgithub_job_queue_seconds", _CLASSES, "$window", _BY_CLASS), "{{runner_class}}")],
        ),
        Panel(
            "Queue time by class (p95)",
            "95 % of the jobs that started within *Rates over* waited at most this long.",
            "s",
            [Query(quantile(0.95, "promgithub_job_queue_seconds", _CLASSES, "$window", _BY_CLASS), "{{runner_class}}")],
        ),
        Panel(
            "Queued jobs by repository",
            "Whose jobs wait for the chosen classes.",
            "short",
            [Query(f"sum by (repository) (promgithub_job_queued{{{_CLASSES}}})", "{{repository}}")],
            PanelKind.STACK,
        ),
    ],
)

_SELF_HOSTED = DashboardRow(
    "Self-hosted runners",
    [
        Panel(
            "Self-hosted runners by state",
            "Runners in GITHUB_RUNNERS. Without data, GitHub has not answered for 5 minutes.",
            "short",
            [Query(f"sum by (state) (promgithub_runners{{{_CLASS}}})", "{{state}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Idle self-hosted runners by class",
            "Idle runners in GITHUB_RUNNERS. A class without a runner has no line.",
            "short",
            [Query(f"sum by ({_BY_CLASS}) ({_IDLE})", "{{runner_class}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Utilisation by class",
            f"Busy seconds of completed jobs, as a share of the time of online runners within the hour. {_RULES}",
            "percentunit",
            [
                Query(
                    "sum by (runner_class) "
                    f"(increase(promgithub_job_busy_seconds_total{{{_CLASS}}}[1h])) / "
                    f"(60 * sum_over_time(sum by (runner_class) ({_ONLINE})[1h:1m]) > 0)",
                    "{{runner_class}}",
                )
            ],
            thresholds=((0.8, "yellow"), (0.95, "red")),
        ),
    ],
)

_COST = DashboardRow(
    "Use and cost",
    [
        Panel(
            "Runners in use by class",
            "Busy seconds per second: how many runners the completed jobs occupied, on average over *Rates over*.",
            "short",
            [Query(f"sum by ({_BY_CLASS}) ({_busy('$window')})", "{{runner_class}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Billable minutes per hour by class",
            "Rounded up for each job. Only classes with a price have billable minutes.",
            "short",
            [
                Query(
                    f"sum by ({_BY_CLASS}) (rate(promgithub_job_billable_minutes_total{{{_CLASSES}}}[$window])) * 3600",
                    "{{runner_class}}",
                )
            ],
            PanelKind.STACK,
        ),
        Panel(
            "Cost per day by class",
            "US dollars within the 24 hours before each moment.",
            "currencyUSD",
            [Query(f"sum by ({_BY_CLASS}) ({_cost('1d')})", "{{runner_class}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Cost by workflow",
            "The 20 workflows that cost most within the dashboard's time range.",
            "short",
            [Query(f"topk(20, sum by ({_BY_WORKFLOW}) ({_cost('$__range')}))", "cost", "currencyUSD")],
            PanelKind.TABLE,
            width=12,
        ),
        Panel(
            "Runners in use by workflow",
            "The 20 workflows that occupied most runners, on average over the dashboard's time range.",
            "short",
            [Query(f"topk(20, sum by ({_BY_WORKFLOW}) ({_busy('$__range')}))", "runners in use (mean)", "short")],
            PanelKind.TABLE,
            width=12,
        ),
    ],
)

RUNNERS = Dashboard(
    "promgithub-runners",
    "Runners",
    "What waits, runs and costs, by runner class.",
    [_NOW, _WAITING, _SELF_HOSTED, _COST],
    [
        Choice("repository", "repository", "promgithub_job_queued"),
        Choice("class", "runner_class", f"promgithub_job_queued{{{_REPOSITORIES}}}"),
    ],
    window=True,
)
