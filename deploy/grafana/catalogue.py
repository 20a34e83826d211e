"""Every dashboard, and the file that Grafana reads of it."""

import json
from pathlib import Path

from deploy.grafana.ci_overview import CI_OVERVIEW
from deploy.grafana.model import Dashboard, as_json
from deploy.grafana.pipeline_health import PIPELINE_HEALTH
from deploy.grafana.workflow_detail import WORKFLOW_DETAIL

DASHBOARDS = (CI_OVERVIEW, WORKFLOW_DETAIL, PIPELINE_HEALTH)

_DIRECTORY = Path(__file__).with_name("dashboards")


def files() -> dict[Path, str]:
    """Return the content of each dashboard's file."""
    return {_DIRECTORY / f"{stem(one)}.json": json.dumps(as_json(one), indent=2) + "\n" for one in DASHBOARDS}


def stem(dashboard: Dashboard) -> str:
    """Return the name of a dashboard's file, and of its picture, without the extension."""
    return dashboard.uid.removeprefix("promgithub-")
