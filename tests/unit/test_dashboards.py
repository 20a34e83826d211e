"""The dashboards that are committed are those of the code, and complete."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from deploy.grafana.all_dashboards import DASHBOARDS, DIRECTORIES, files
from deploy.grafana.model import COLUMNS, Dashboard, Panel, PanelKind, as_json
from processor.counting.catalogue import CATALOGUE
from processor.counting.ci_metrics import CiHistogram
from processor.counting.exemplars import LABELS

UIDS = {as_json(dashboard)["uid"]: as_json(dashboard) for dashboard in DASHBOARDS}
LINKED = {
    "repository": {"github", "promgithub-ci-overview"},
    "workflow_name": {"promgithub-workflow-detail"},
    "job_name": {"promgithub-jobs"},
    "runner_class": {"promgithub-runners"},
}
"""Where each label leads: to the repository on GitHub, or to a dashboard."""

PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels]


def test_the_files_are_what_make_docs_would_write() -> None:
    made = files()
    committed = {path: path.read_text("utf-8") for folder in DIRECTORIES for path in folder.iterdir()}
    assert committed == made, "run `make docs` and commit what it writes"


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda part: part.title)
def test_a_panel_says_what_it_shows_and_in_which_unit(dashboard: Dashboard, panel: Panel) -> None:
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.unit
    if panel.kind is PanelKind.TABLE:
        assert all(query.unit for query in panel.queries)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.title)
def test_no_panel_covers_another_or_leaves_the_grid(dashboard: Dashboard) -> None:
    def cells() -> Iterator[tuple[int, int]]:
        for panel in as_json(dashboard)["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= COLUMNS
            yield from (
                (place["x"] + x, place["y"] + y) for x in range(int(place["w"])) for y in range(int(place["h"]))
            )

    assert max(Counter(cells()).values()) == 1


def shown(panel: dict[str, Any]) -> dict[str, list[str]]:
    """Return the labels that a panel shows beside its values, each with the addresses of its links."""
    config = panel["fieldConfig"]
    if panel["type"] != "table":
        legends = " ".join(target["legendFormat"] for target in panel["targets"])
        links = [link["url"] for link in config["defaults"].get("links", ())]
        return dict.fromkeys(re.findall(r"{{(\w+)}}", legends), links)
    columns: dict[str, list[str]] = {
        label: [] for target in panel["targets"] for label in re.findall(r"\w+", by(target["expr"])) if label != "le"
    }
    for override in config["overrides"]:
        for setting in override["properties"]:
            if setting["id"] == "links":
                columns[override["matcher"]["options"]] = [link["url"] for link in setting["value"]]
    return columns


def by(expr: str) -> str:
    return " ".join(re.findall(r"by \(([^)]*)\)", expr))


def led_to(address: str) -> str:
    """Return where a link leads: `github`, or the identifier of a dashboard that has all variables of the link."""
    if address.startswith("${github}/"):
        return "github"
    folder, uid = urlsplit(address).path.strip("/").split("/")
    assert folder == "d"
    given = {name.removeprefix("var-") for name in parse_qs(urlsplit(address).query) if name.startswith("var-")}
    assert given
    assert given <= {variable["name"] for variable in UIDS[uid]["templating"]["list"]}
    return uid


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_each_repository_workflow_job_and_class_leads_to_the_page_that_explains_it(path: Path) -> None:
    dashboard = json.loads(path.read_text("utf-8"))
    assert "github" in {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        for label, addresses in shown(panel).items() if panel["type"] != "row" else ():
            led = {led_to(address) for address in addresses if f".{label}" in address}
            assert LINKED.get(label, set()) <= led, f"{panel['title']}: {label}"


def test_the_links_of_the_dashboards_cover_every_label_that_has_a_page() -> None:
    named = {
        label
        for dashboard in UIDS.values()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
        for label in shown(panel)
    }
    assert named >= set(LINKED)


def test_each_panel_over_time_of_a_histogram_with_exemplars_asks_for_them_once() -> None:
    buckets = [f"{metric.name}_bucket" for metric in CATALOGUE if isinstance(metric, CiHistogram)]
    asking = 0
    for dashboard in UIDS.values():
        for panel in dashboard["panels"]:
            queries = panel.get("targets", ())
            reads = any(name in query["expr"] for name in buckets for query in queries)
            over_time = panel["type"] == "timeseries" and reads
            assert [query.get("exemplar", False) for query in queries] == [
                over_time and place == 0 for place in range(len(queries))
            ], panel["title"]
            asking += over_time
    assert asking


def test_the_data_source_has_a_link_for_each_label_of_an_exemplar() -> None:
    file = Path(__file__).parents[2] / "deploy/grafana/provisioning/datasources/prometheus.yaml"
    (source,) = yaml.safe_load(file.read_text("utf-8"))["datasources"]
    links = {one["name"]: one["url"] for one in source["jsonData"]["exemplarTraceIdDestinations"]}
    assert links.keys() == set(LABELS)
    # Grafana replaces variables of the environment in these files; $$ is a dollar sign.
    values = {"$${__data.fields.repository}": "acme/gears", "$${__data.fields.run_id}": "7"}
    for label, value in {"run_id": "7", "job_id": "8"}.items():
        for variable, replacement in (values | {"$${__value.raw}": value}).items():
            links[label] = links[label].replace(variable, replacement)
    assert links == {
        "run_id": "https://github.com/acme/gears/actions/runs/7",
        "job_id": "https://github.com/acme/gears/actions/runs/7/job/8",
    }
