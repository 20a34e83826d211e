"""Generates PrometheusRules for Kubernetes from the rules in deploy/prometheus: `python -m deploy.prometheus_rule`.

It writes the same rules into the Helm chart. It also writes the address of the runbook into the alerts.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parent

RUNBOOK = "https://github.com/promgithub/promgithub/blob/main/docs/runbook.md"
"""Where the alerts find the runbook: the part of each `runbook_url` before its `#`."""

UPSTREAM_NAMES = "upstream-names"
"""The rules that are loaded only on request: they record the names of the Go promgithub."""

MANIFESTS: Mapping[str, Path] = {
    "promgithub": DEPLOY / "kubernetes/components/monitoring/prometheusrule.yaml",
    "promgithub-upstream-names": DEPLOY / "kubernetes/components/upstream-names/prometheusrule.yaml",
}
"""The file of each PrometheusRule, by the name of the PrometheusRule."""

SPECIFICATIONS: Mapping[str, Path] = {name: DEPLOY / f"helm/promgithub/files/rules/{name}.yaml" for name in MANIFESTS}
"""The file of each PrometheusRule's `spec` in the Helm chart. Its template has the rest."""

_HEAD = "# Made from deploy/prometheus/*.rules.yml by `make manifests`.\n"
_RUNBOOK_URL = re.compile(r"(?<=runbook_url: )[^#\s]+(?=#)")
_LABELS = {"app.kubernetes.io/name": "promgithub"}


class _Dumper(yaml.SafeDumper):
    """Writes multi-line texts as YAML blocks, so that the expressions of rules stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render(name: str) -> str:
    """Return a manifest of `MANIFESTS` with the groups of its rule files, in the order of the file names."""
    return _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": name, "labels": _LABELS},
            "spec": _specification(name),
        }
    )


def render_specification(name: str) -> str:
    """Return a file of `SPECIFICATIONS`."""
    return _yaml(_specification(name))


def with_runbook(text: str) -> str:
    """Return the text of a file in which each `runbook_url` begins with `RUNBOOK`."""
    return _RUNBOOK_URL.sub(RUNBOOK, text)


def _specification(name: str) -> Mapping[str, Any]:
    upstream = DEPLOY / f"prometheus/{UPSTREAM_NAMES}.rules.yml"
    unasked = sorted(set((DEPLOY / "prometheus").glob("*.rules.yml")) - {upstream})
    return {"groups": [group for file in (unasked if name == "promgithub" else [upstream]) for group in _groups(file)]}


def _groups(file: Path) -> list[Any]:
    content = yaml.safe_load(file.read_text("utf-8")) or {}
    return list(content.get("groups") or ())


def _yaml(content: Mapping[str, Any]) -> str:
    return _HEAD + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def write() -> None:
    """Write the address of the runbook into the alerts and their cases, and then the manifests."""
    for file in (DEPLOY / "prometheus").rglob("*.yml"):
        file.write_text(with_runbook(file.read_text("utf-8")), "utf-8")
    for name, manifest in MANIFESTS.items():
        manifest.write_text(render(name), "utf-8")
        SPECIFICATIONS[name].write_text(render_specification(name), "utf-8")


if __name__ == "__main__":
    write()
