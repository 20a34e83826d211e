"""All dashboards, and the JSON file of each."""

import json
from pathlib import Path

from deploy.grafana.ci_overview import CI_OVERVIEW
from deploy.grafana.jobs import JOBS
from deploy.grafana.model import Dashboard, as_json
from deploy.grafana.pipeline_health import PIPELINE_HEALTH
from deploy.grafana.runners import RUNNERS
from deploy.grafana.workflow_detail import WORKFLOW_DETAIL

DASHBOARDS = (CI_OVERVIEW, WORKFLOW_DETAIL, RUNNERS, JOBS, PIPELINE_HEALTH)

DIRECTORIES = (
    Path(__file__).with_name("dashboards"),
    Path(__file__).parents[1] / "helm/promgithub/files/dashboards",
)
"""Each has every dashboard. Helm reads only the files of its chart, and Flux leaves out symbolic links."""


def files() -> dict[Path, str]:
    """Return the content of each dashboard's files."""
    return {
        directory / _name(dashboard): json.dumps(as_json(dashboard), indent=2) + "\n"
        for directory in DIRECTORIES
        for dashboard in DASHBOARDS
    }


def _name(dashboard: Dashboard) -> str:
    return f"{dashboard.uid.removeprefix('promgithub-')}.json"
