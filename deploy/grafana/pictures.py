"""`python -m deploy.grafana.pictures FOLDER`: draw the dashboards' queries from a real run, for the documentation.

Drawn from the same JSON that Grafana reads, in the same grid; no screenshots.
"""

import asyncio
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib import dates, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D, Bbox
from PIL import Image

from deploy.grafana.catalogue import DASHBOARDS, stem
from deploy.grafana.model import COLUMNS, Choice, Dashboard, Json, as_json
from deploy.grafana.promql import filled
from deploy.grafana.recording import SCRAPE_SECONDS, Recording, record
from tests.servers.prometheus import PrometheusServer

Series = Sequence[tuple[str, list[tuple[float, float]]]]
"""Lines: the name of each, and its values by Unix seconds."""

_WIDTH, _ROW, _HEAD, _DPI = 15.0, 0.3, 0.7, 80
_COLOURS = (
    "#56a64b",
    "#1f78c1",
    "#e0b400",
    "#c4162a",
    "#8f3bb8",
    "#ff780a",
    "#37872d",
    "#73bfb8",
    "#806eb7",
    "#777777",
)
_THRESHOLDS = {"green": "#56a64b", "yellow": "#e0b400", "red": "#c4162a", "blue": "#1f78c1"}
_LEGEND_LINE = 0.14
_MOST_SERIES, _MOST_ROWS = 8, 12
_WINDOW = "5m"
_SHADES = 128

_TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
_SIZES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_RATES = {"reqps": " req/s", "cps": "/s"}


def main(
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
    minutes: Annotated[float, typer.Option(help="How long the run takes.")] = 13,
) -> None:
    """Run, and draw every dashboard."""

    async def run() -> None:
        async with record(minutes * 60) as recording:
            await draw(recording, folder)

    asyncio.run(run())


async def draw(recording: Recording, folder: Path) -> None:
    """Draw every dashboard of a recording."""
    mpl.use("Agg")
    mpl.rc("font", family="DejaVu Sans", size=8)
    mpl.rc("axes", edgecolor="#d0d0d4", labelcolor="#555555")
    mpl.rc(("xtick", "ytick"), color="#cccccc", labelcolor="#555555")
    for dashboard in DASHBOARDS:
        figure = await _Drawing(recording, dashboard).figure()
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=_DPI, facecolor="#f4f5f5")
        with Image.open(drawn) as image:
            image.convert("RGB").quantize(_SHADES).save(folder / f"{stem(dashboard)}.png", optimize=True)


class _Drawing:
    """One dashboard of a recording, with a value for each of its variables."""

    def __init__(self, recording: Recording, dashboard: Dashboard) -> None:
        self._prometheus: PrometheusServer = recording.prometheus
        self._start, self._end = recording.start, recording.end
        self._dashboard = dashboard
        self._content = as_json(dashboard)
        self._values = {
            "window": _WINDOW,
            "__range": f"{self._end - self._start:.0f}s",
            "__rate_interval": f"{4 * SCRAPE_SECONDS}s",
        }

    @property
    def _height(self) -> float:
        places = [panel["gridPos"] for panel in self._content["panels"]]
        return _HEAD + _ROW * float(max(place["y"] + place["h"] for place in places))

    async def figure(self) -> Figure:
        for choice in self._dashboard.choices:
            self._values[choice.name] = await self._value(choice)
        panels = self._content["panels"]
        height = self._height
        figure = Figure(figsize=(_WIDTH, height))
        shown = "   ".join(f"{choice.name}: {self._shown(choice)}" for choice in self._dashboard.choices)
        figure.text(0.01, 1 - 0.3 / height, self._content["title"], size=15, weight="bold", va="center")
        figure.text(0.99, 1 - 0.3 / height, shown, size=9, color="#555555", va="center", ha="right")
        for panel in panels:
            await self._panel(figure, panel)
        return figure

    async def _value(self, choice: Choice) -> str:
        if not choice.single:
            return ".*"
        series = filled(choice.series, self._values)
        (busiest,) = await self._now(f"topk(1, sum by ({choice.label}) ({series}))")
        return str(busiest["metric"][choice.label])

    def _shown(self, choice: Choice) -> str:
        return self._values[choice.name] if choice.single else "All"

    async def _now(self, expr: str) -> list[Json]:
        answer = await self._prometheus.api("query", query=expr, time=str(self._end))
        return list(answer["result"])

    async def _over_time(self, expr: str) -> list[Json]:
        span = {"start": str(self._start), "end": str(self._end), "step": str(SCRAPE_SECONDS)}
        answer = await self._prometheus.api("query_range", query=expr, **span)
        return list(answer["result"])

    async def _panel(self, figure: Figure, panel: Json) -> None:
        height = self._height
        place = panel["gridPos"]
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        top = height - _HEAD - place["y"] * _ROW
        if panel["type"] == "row":
            figure.text(0.01, (top - _ROW / 2) / height, f"⌄ {panel['title']}", size=10, weight="bold", va="center")
            return
        bottom = top - place["h"] * _ROW
        gap = 0.06
        box = figure.add_axes(
            (left + gap / _WIDTH, (bottom + gap) / height, width - 2 * gap / _WIDTH, (top - bottom - 2 * gap) / height)
        )
        box.set(facecolor="white", xticks=[], yticks=[])
        box.text(0.1, 1 - 0.14 / (top - bottom), panel["title"], weight="bold", va="center", transform=_inches(box))
        await {"stat": self._stat, "table": self._table, "timeseries": self._lines}[panel["type"]](box, panel)

    async def _stat(self, box: Axes, panel: Json) -> None:
        (target,) = panel["targets"]
        found = await self._now(filled(target["expr"], self._values))
        value = float(found[0]["value"][1]) if found else math.nan
        defaults = panel["fieldConfig"]["defaults"]
        steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
        words = {key: word["text"] for m in defaults.get("mappings", ()) for key, word in m["options"].items()}
        text = defaults["noValue"] if math.isnan(value) else words.get(f"{value:g}", _shown(value, defaults["unit"]))
        colour = _THRESHOLDS[steps[-1]["color"]] if math.isfinite(value) else "#888888"
        box.text(0.5, 0.4, text, size=20, color=colour, ha="center", va="center", transform=box.transAxes)

    async def _table(self, box: Axes, panel: Json) -> None:
        targets = panel["targets"]
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        labels: tuple[str, ...] = ()
        units = {
            column["matcher"]["options"]: column["properties"][0]["value"]
            for column in panel["fieldConfig"]["overrides"]
        }
        for target in targets:
            name = target["legendFormat"]
            for found in await self._now(filled(target["expr"], self._values)):
                labels = labels or tuple(sorted(found["metric"]))
                row = cells.setdefault(tuple(found["metric"][label] for label in labels), {})
                row[name] = _shown(float(found["value"][1]), units[name])
        header = [*labels, *units]
        lines = [[*key, *(cells[key].get(name, "") for name in units)] for key in sorted(cells)][:_MOST_ROWS]
        table = box.table(
            [header, *lines], loc="lower center", edges="horizontal", bbox=Bbox.from_bounds(0.01, 0.02, 0.98, 0.86)
        )
        table.auto_set_font_size(False)
        for (line, column), cell in table.get_celld().items():
            cell.set_edgecolor("#dddddd")
            side, weight = "left" if column < len(labels) else "right", "normal" if line else "bold"
            cell.set_text_props(ha=side, weight=weight, size=8)

    async def _lines(self, box: Axes, panel: Json) -> None:
        series = await self._series(panel)
        defaults = panel["fieldConfig"]["defaults"]
        position = box.get_position()
        whole = self._height
        width, height = position.width * _WIDTH, position.height * whole
        plot = box.figure.add_axes(
            (
                position.x0 + 0.62 / _WIDTH,
                position.y0 + 0.38 / whole,
                position.width * (1 - 0.74 / width),
                position.height * (1 - 0.74 / height),
            )
        )
        plot.set(xlim=tuple(map(_date, (self._start, self._end))))
        plot.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=6))
        plot.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
        plot.yaxis.set_major_formatter(lambda value, _: _shown(value, defaults["unit"]))
        plot.grid(color="#e8e8ea", linewidth=0.6)
        plot.set_axisbelow(True)
        plot.spines[["top", "right"]].set_visible(False)
        if not series:
            plot.text(0.5, 0.5, "No data", color="#888888", ha="center", transform=plot.transAxes)
            plot.set_yticks([])
            return
        top = self._stack(plot, series) if defaults["custom"]["stacking"]["mode"] == "normal" else _each(plot, series)
        top = max(top * 1.08, 1e-3) if "max" not in defaults else defaults["max"]
        top = top if top > 1e-3 else 1
        plot.set_yticks(_steps(top, defaults["unit"]))
        plot.set_ylim(0, top)
        for step in defaults["thresholds"]["steps"]:
            if defaults["custom"]["thresholdsStyle"]["mode"] == "dashed" and step["value"] is not None:
                plot.axhline(step["value"], color=_THRESHOLDS[step["color"]], linestyle="--", linewidth=0.9)
        lines = _legend(box, plot)
        plot.set_position(_above(plot.get_position(), lines * _LEGEND_LINE / whole))

    async def _series(self, panel: Json) -> Series:
        series = []
        for target in panel["targets"]:
            for found in await self._over_time(filled(target["expr"], self._values)):
                points = [(float(at), float(value)) for at, value in found["values"]]
                if any(math.isfinite(value) for _, value in points):
                    series.append((_named(target["legendFormat"], found["metric"]), points))
        return series

    def _stack(self, plot: Axes, series: Series) -> float:
        count = int((self._end - self._start) / SCRAPE_SECONDS) + 1
        moments = [self._start + step * SCRAPE_SECONDS for step in range(count)]
        heights = []
        for _, points in series:
            there = {round((at - self._start) / SCRAPE_SECONDS): value for at, value in points if math.isfinite(value)}
            heights.append([there.get(step, math.nan) for step in range(count)])
        # A series that is not there lies flat on the others; where none is, there is a gap.
        for step, stack in enumerate(zip(*heights, strict=True)):
            if any(map(math.isfinite, stack)):
                for height in heights:
                    height[step] = 0.0 if math.isnan(height[step]) else height[step]
        names = [name for name, _ in series]
        colours = [_COLOURS[place % len(_COLOURS)] for place in range(len(series))]
        plot.stackplot([_date(at) for at in moments], *heights, labels=names, colors=colours, alpha=0.6, linewidth=0)
        return max(total for total in map(sum, zip(*heights, strict=True)) if math.isfinite(total))


def _each(plot: Axes, series: Series) -> float:
    for place, (name, points) in enumerate(series):
        colour = _COLOURS[place % len(_COLOURS)]
        plot.plot([_date(at) for at, _ in points], [value for _, value in points], label=name, color=colour, lw=1.2)
    return max(value for _, points in series for _, value in points if math.isfinite(value))


def _legend(box: Axes, plot: Axes) -> int:
    """Write the names of the series below them; return how many lines that takes."""
    handles, names = plot.get_legend_handles_labels()
    handles, names = handles[:_MOST_SERIES], names[:_MOST_SERIES]
    columns = max(1, min(4, 68 // (max(map(len, names)) + 5)))
    box.legend(
        handles,
        names,
        loc="lower left",
        ncols=columns,
        frameon=False,
        fontsize=7,
        handlelength=1,
        columnspacing=1,
        borderpad=0.1,
        labelspacing=0.2,
    )
    return math.ceil(len(names) / columns)


def _above(place: Bbox, height: float) -> Bbox:
    return Bbox.from_extents(place.x0, place.y0 + height, place.x1, place.y1)


def _steps(top: float, unit: str) -> list[float]:
    """Return about five round values of a unit from 0 to the top of an axis."""
    scales = {"s": _TIMES, "bytes": _SIZES}.get(unit, ())
    factor = next((factor for factor, _ in scales if top >= 1.5 * factor), 1.0)
    return [float(step) * factor for step in ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, top / factor)]


def _inches(box: Axes) -> Any:
    """Return coordinates that are inches from the left, and shares of the height from the bottom."""
    inch = Affine2D().scale(1 / (box.get_position().width * _WIDTH), 1)
    return inch + box.transAxes


def _date(at: float) -> float:
    return float(dates.date2num(datetime.fromtimestamp(at, UTC)))


def _named(legend: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def _shown(value: float, unit: str) -> str:
    """Return a value in its unit, as Grafana would; nothing for what is not a number."""
    if math.isnan(value):
        return ""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    scales = {"s": _TIMES, "bytes": _SIZES}.get(unit, _COUNTS)
    for factor, name in scales:
        if abs(value) >= factor:
            return f"{value / factor:.3g}{' ' if unit in {'s', 'bytes'} else ''}{name}{_RATES.get(unit, '')}"
    return f"{value:.3g}{_RATES.get(unit, '')}"


if __name__ == "__main__":
    typer.run(main)
