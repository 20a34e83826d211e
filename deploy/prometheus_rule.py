"""The rules of deploy/prometheus as a PrometheusRule for Kubernetes: `python -m deploy.prometheus_rule` writes it."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parent

MANIFEST = DEPLOY / "kubernetes/components/monitoring/prometheusrule.yaml"

_HEAD = "# Made from deploy/prometheus/*.rules.yml by `make manifests`.\n"
_LABELS = {"app.kubernetes.io/name": "promgithub"}


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, so that the expressions of rules stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render() -> str:
    """Return the manifest with the groups of every file of rules, in the order of the files' names."""
    files = sorted((DEPLOY / "prometheus").glob("*.rules.yml"))
    groups = [group for file in files for group in _groups(file)]
    return _HEAD + yaml.dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "promgithub", "labels": _LABELS},
            "spec": {"groups": groups},
        },
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=120,
    )


def _groups(file: Path) -> list[Any]:
    content = yaml.safe_load(file.read_text("utf-8")) or {}
    return list(content.get("groups") or ())


if __name__ == "__main__":
    MANIFEST.write_text(render(), "utf-8")
