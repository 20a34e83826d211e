"""Pieces of PromQL that the dashboards have in common."""

import re
from collections.abc import Mapping, Sequence

from deploy.grafana.model import Query


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


_VARIABLE = re.compile(r"\$(\w+)")


def filled(expr: str, values: Mapping[str, str]) -> str:
    """Return a query with a value in the place of each variable, as Grafana does. Raises `KeyError` for one without."""
    return _VARIABLE.sub(lambda variable: values[variable[1]], expr)
