"""The dashboards that are committed are those of the code, and complete."""

from collections import Counter
from collections.abc import Iterator

import pytest

from deploy.grafana.catalogue import DASHBOARDS, files
from deploy.grafana.model import COLUMNS, Dashboard, Kind, Panel, as_json

PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels]


def test_the_files_are_what_make_docs_would_write() -> None:
    made = files()
    (folder,) = {path.parent for path in made}
    committed = {path: path.read_text("utf-8") for path in folder.iterdir()}
    assert committed == made, "run `make docs` and commit what it writes"


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda part: part.title)
def test_a_panel_says_what_it_shows_and_in_which_unit(dashboard: Dashboard, panel: Panel) -> None:
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.unit
    if panel.kind is Kind.TABLE:
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
