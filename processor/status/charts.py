"""Small charts as SVG, drawn on the server. Pure."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 240, 40
"""The size of a chart, in the units of its own coordinates."""

_GAP = 1
_CHART = Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>')
_BAR = '<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"></rect>'


def bars(values: Sequence[float | None], label: str) -> Markup:
    """Return a bar chart of values that are not negative; None is a gap. `label` is what a screen reader says."""
    most = max((value for value in values if value), default=0)
    width = WIDTH / max(1, len(values))
    shapes: list[str] = []
    for place, value in enumerate(values):
        if value and most:
            height = max(1.0, value / most * HEIGHT)
            shapes.append(_BAR.format(place * width, HEIGHT - height, width - _GAP, height))
    return _CHART.format(label, WIDTH, HEIGHT, Markup("".join(shapes)))  # noqa: S704 - our own numbers
