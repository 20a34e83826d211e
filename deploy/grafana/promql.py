"""Pieces of PromQL that the dashboards have in common."""

import re
from collections.abc import Mapping, Sequence

from deploy.grafana.model import Kind, Panel, Query

RUNS = "promgithub_workflow_status_total"

FAILURE_LIMITS = ((0.1, "yellow"), (0.3, "red"))
"""From which share of failures on which colour."""


def ratio(part: str, whole: str) -> str:
    """Return a share: 0 where there is a whole but no part, nothing where there is no whole."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def quantile(q: float, histogram: str, selector: str, window: str, by: str = "") -> str:
    """Return a quantile of what a histogram observed in a window, by labels if any are given."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{selector}}}[{window}])))"


def quantiles(histogram: str, selector: str, window: str) -> Sequence[Query]:
    """Return the median, the 90th and the 99th percentile."""
    return [Query(quantile(q, histogram, selector, window), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.99)]


def failed(metric: str, selector: str, window: str, by: str = "", conclusion: str = "conclusion") -> str:
    """Return the share of what completed in a window that failed or timed out, by labels if any are given."""
    by = f" by ({by})" if by else ""
    status = metric.split("_")[1] + "_status"
    # Of a run, action_required is no end: it waits for an approval.
    over = f'{selector}, {status}="completed", {conclusion}!="action_required"'
    bad = f'{selector}, {status}="completed", {conclusion}=~"failure|timed_out|startup_failure"'
    return ratio(f"sum{by} (rate({metric}{{{bad}}}[{window}]))", f"sum{by} (rate({metric}{{{over}}}[{window}]))")


def ended(selector: str) -> str:
    """Return the selector of the attempts of runs that have ended, among those of `selector`."""
    return f'{RUNS}{{{selector}, workflow_status="completed", conclusion!="action_required"}}'


def by_state(of: str, selector: str) -> Sequence[Query]:
    """Return how many runs or jobs (`of`: workflow, job) are open in each state."""
    states = {"in_progress": "running", "queued": "queued", "waiting": "held back"}
    return [Query(f"sum(promgithub_{of}_{state}{{{selector}}})", name) for state, name in states.items()]


def runs_per_hour(selector: str) -> Panel:
    """Return the panel of how many runs end how."""
    return Panel(
        "Runs completed per hour",
        "Attempts of runs by how they ended.",
        "short",
        [Query(f"sum by (conclusion) (rate({ended(selector)}[$window])) * 3600", "{{conclusion}}")],
        Kind.STACK,
    )


_VARIABLE = re.compile(r"\$(\w+)")


def filled(expr: str, values: Mapping[str, str]) -> str:
    """Return a query with a value in the place of each variable, as Grafana does. Raises `KeyError` for one without."""
    return _VARIABLE.sub(lambda variable: values[variable[1]], expr)
