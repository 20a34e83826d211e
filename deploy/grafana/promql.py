"""PromQL expressions that several dashboards use."""

from collections.abc import Sequence

from deploy.grafana.model import Panel, PanelKind, Query

ENDED_RUNS = "promgithub_workflow_status_total"

FAILURE_LIMITS = ((0.1, "yellow"), (0.3, "red"))
"""Colours for shares of failures: the lower bound of each colour."""


def ratio(part: str, whole: str) -> str:
    """Return a ratio. It is 0 if only the numerator is missing, and has no value if the denominator is missing."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def quantile(q: float, histogram: str, selector: str, window: str, by: str = "") -> str:
    """Return a quantile of a histogram over a window, by labels if any are given."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{selector}}}[{window}])))"


def quantiles(histogram: str, selector: str, window: str) -> Sequence[Query]:
    """Return the median, the 90th and the 99th percentile."""
    return [Query(quantile(q, histogram, selector, window), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.99)]


def failed(metric: str, selector: str, window: str, by: str = "", conclusion: str = "conclusion") -> str:
    """Return the share of failures and timeouts among the completions in a window, by labels if any are given."""
    by = f" by ({by})" if by else ""
    status = metric.split("_")[1] + "_status"
    # A run that is completed/action_required has not ended: it waits for an approval.
    over = f'{selector}, {status}="completed", {conclusion}!="action_required"'
    bad = f'{selector}, {status}="completed", {conclusion}=~"failure|timed_out|startup_failure"'
    return ratio(f"sum{by} (rate({metric}{{{bad}}}[{window}]))", f"sum{by} (rate({metric}{{{over}}}[{window}]))")


def ended(selector: str) -> str:
    """Return `selector`, restricted to completed run attempts."""
    return f'{ENDED_RUNS}{{{selector}, workflow_status="completed", conclusion!="action_required"}}'


def by_state(of: str, selector: str) -> Sequence[Query]:
    """Return the numbers of open runs or jobs (`of`: workflow, job) in each state."""
    states = {"in_progress": "running", "queued": "queued", "waiting": "held back"}
    return [Query(f"sum(promgithub_{of}_{state}{{{selector}}})", name) for state, name in states.items()]


def runs_per_hour(selector: str) -> Panel:
    """Return the panel of completed runs by conclusion."""
    return Panel(
        "Runs completed per hour",
        "Attempts of runs by how they ended.",
        "short",
        [Query(f"sum by (conclusion) (rate({ended(selector)}[$window])) * 3600", "{{conclusion}}")],
        PanelKind.STACK,
    )


def jobs_queued(selector: str, width: int) -> Panel:
    """Return the panel with the number of queued jobs."""
    return Panel(
        "Jobs queued",
        "Jobs waiting for a runner.",
        "short",
        [Query(f"sum(promgithub_job_queued{{{selector}}})", "queued")],
        PanelKind.NUMBER,
        ((20, "yellow"), (100, "red")),
        width=width,
    )
