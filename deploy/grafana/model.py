"""Dashboards as values, and their JSON for Grafana 11 and newer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from deploy.grafana import links

Json = dict[str, Any]

COLUMNS = 24
"""Width of a dashboard in grid columns."""

_SCHEMA = 39  # Grafana 11.0; newer releases migrate it by themselves
_BY = re.compile(r"\bby \(([^)]*)\)")
_WITH_EXEMPLARS = re.compile(r"\bpromgithub_(?:job|workflow)_\w+_bucket\b")
_NAMED = re.compile(r"{{(\w+)}}")
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


class PanelKind(Enum):
    """How a panel shows its queries."""

    LINES = "timeseries"  # over time
    STACK = "stack"  # over time, upon each other
    NUMBER = "stat"  # one number, now
    TABLE = "table"  # a column for each query, a row for each set of labels, now; ordered by the first query


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and the name of its series with `{{label}}` in it; of a table, the name and unit of the column."""

    expr: str
    legend: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `thresholds` are (from which value on, colour); what is below the first of them is green.

    `words` replace values by text; `most` is the end of the axis, if that is known.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: PanelKind = PanelKind.LINES
    thresholds: Sequence[tuple[float, str]] = ()
    words: Mapping[int, str] | None = None
    base: str = "green"
    most: float | None = None
    width: int = 8

    @property
    def height(self) -> int:
        """Height of the panel in grid rows."""
        return 4 if self.kind is PanelKind.NUMBER else 8

    @property
    def labels(self) -> Sequence[str]:
        """The labels that tell its series or rows from each other."""
        table = self.kind is PanelKind.TABLE
        found = (_BY.findall(query.expr) if table else _NAMED.findall(query.legend) for query in self.queries)
        labels = (label.strip() for several in found for clause in several for label in clause.split(","))
        return [label for label in dict.fromkeys(labels) if label != "le"]


@dataclass(frozen=True, slots=True)
class DashboardRow:
    """A row with a title and the panels below it, which fill whole lines from the left."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable whose values are those of a label of `series`; several at once, and all of them, unless `single`."""

    name: str
    label: str
    series: str
    single: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard; `window` adds a variable for the range of rates, `since` is how far back it shows at first."""

    uid: str
    title: str
    description: str
    rows: Sequence[DashboardRow]
    choices: Sequence[Choice] = ()
    window: bool = False
    since: str = "now-6h"

    @property
    def panels(self) -> Iterator[Panel]:
        """Every panel, from the top left to the bottom right."""
        for row in self.rows:
            yield from row.panels


def as_json(dashboard: Dashboard) -> Json:
    """Return the JSON for Grafana."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["promgithub"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": dashboard.since, "to": "now"},
        "timezone": "browser",
        "links": [_LINKS],
        "templating": {"list": list(_variables(dashboard))},
        "annotations": {"list": []},
        "panels": list(_placed(dashboard.rows)),
    }


_LINKS = {
    "type": "dashboards",
    "title": "promgithub",
    "tags": ["promgithub"],
    "asDropdown": True,
    "includeVars": True,
    "keepTime": True,
}


def _variables(dashboard: Dashboard) -> Iterator[Json]:
    yield {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1}
    yield {
        "type": "textbox",
        "name": links.GITHUB,
        "label": "GitHub",
        "query": "https://github.com",
        "current": {"text": "https://github.com", "value": "https://github.com"},
    }
    for choice in dashboard.choices:
        query = f"label_values({choice.series}, {choice.label})"
        yield {
            "type": "query",
            "name": choice.name,
            "label": choice.name.capitalize(),
            "datasource": _DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "variable", "qryType": 1},
            "refresh": 2,
            "sort": 1,
            "multi": not choice.single,
            "includeAll": not choice.single,
        } | ({} if choice.single else {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}})
    if dashboard.window:
        yield {
            "type": "interval",
            "name": "window",
            "label": "Rates over",
            "query": "5m,15m,1h,6h,1d",
            "current": {"text": "1h", "value": "1h"},
            "auto": False,
        }


def _placed(rows: Sequence[DashboardRow]) -> Iterator[Json]:
    number = top = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top += 1
        left = line = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, line = 0, top + line, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place} | _panel(panel)
            left, line = left + panel.width, max(line, panel.height)
        top += line


def _panel(panel: Panel) -> Json:
    now = panel.kind in {PanelKind.NUMBER, PanelKind.TABLE}
    return {
        "type": "timeseries" if panel.kind is PanelKind.STACK else panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": now,
                "range": not now,
                "format": "table" if panel.kind is PanelKind.TABLE else "time_series",
            }
            | _exemplars(query, panel, place)
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _columns(panel)},
    } | _LOOKS[panel.kind](panel)


def _exemplars(query: Query, panel: Panel, place: int) -> Json:
    """Switch exemplars on in the first query of a panel over time: the others read the same histogram."""
    over_time = panel.kind in {PanelKind.LINES, PanelKind.STACK}
    return {"exemplar": True} if over_time and place == 0 and _WITH_EXEMPLARS.search(query.expr) else {}


def _defaults(panel: Panel) -> Json:
    steps = [{"color": panel.base, "value": None}, *({"color": c, "value": v} for v, c in panel.thresholds)]
    defaults: Json = {
        "unit": panel.unit,
        "min": 0,
        "noValue": "none",
        "color": {"mode": "thresholds" if panel.kind is PanelKind.NUMBER else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind is not PanelKind.TABLE and (found := links.of_series(panel.labels)):
        defaults["links"] = found
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.words:
        options = {str(value): {"text": text, "index": value} for value, text in panel.words.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.kind in {PanelKind.LINES, PanelKind.STACK}:
        stacked = panel.kind is PanelKind.STACK
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if stacked else 10,
            "showPoints": "auto",
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    return defaults


def _columns(panel: Panel) -> list[Json]:
    if panel.kind is not PanelKind.TABLE:
        return []
    units = [_column(query.legend, "unit", query.unit) for query in panel.queries]
    columns = {label: links.of_column(label, panel.labels) for label in panel.labels}
    return units + [_column(label, "links", found) for label, found in columns.items() if found]


def _column(name: str, setting: str, value: Any) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": setting, "value": value}]}


def _number(_panel: Panel) -> Json:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return {"options": {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "textMode": "value"}}


def _lines(_panel: Panel) -> Json:
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    return {"options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}}


def _table(panel: Panel) -> Json:
    # Joined by their labels, the values of the queries are called after their letters.
    names = {f"Value #{chr(ord('A') + place)}": query.legend for place, query in enumerate(panel.queries)}
    return {
        "options": {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": panel.queries[0].legend, "desc": True}],
        },
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
        ],
    }


_LOOKS = {PanelKind.NUMBER: _number, PanelKind.LINES: _lines, PanelKind.STACK: _lines, PanelKind.TABLE: _table}
