"""The manifests for Kubernetes, as the real kustomize and the real Helm make them."""

import functools
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.support.deployment import ROOT, documents

KUBERNETES = ROOT / "deploy/kubernetes"
CHART = ROOT / "deploy/helm/promgithub"

RUNNERS = '[[runner]]\nclass = "gpu"\nlabels = ["self-hosted", "gpu*"]\nusd_per_minute = 0.10\n'
"""A file of runner classes."""

EVERYTHING: Mapping[str, Any] = {
    "host": "promgithub.example.com",
    "image": {"pullSecrets": ["registry"]},
    "ingest": {"autoscaling": {"enabled": True}, "spool": {"storageClassName": "fast"}},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "ci", "operator": "Exists"}],
    "ingress": {"enabled": True, "className": "traefik", "annotations": {"cert-manager.io/cluster-issuer": "acme"}},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}]},
    "networkPolicy": {"enabled": True, "proxyNamespace": "gateways"},
    "monitoring": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}},
    "upstreamNames": {"enabled": True},
    "dashboards": {"enabled": True},
    "keda": {"enabled": True},
    "runnersFile": RUNNERS,
    "recovery": {"enabled": True, "hooks": ["example/292430182", "app"], "appId": "Iv23li0000000000"},
}
"""Values of the chart that make all that it can make."""


@functools.cache
def kustomized(folder: Path) -> list[Any]:
    """Return the manifests that kustomize builds of a folder."""
    programs = (("kubectl", "kustomize"), ("kustomize", "build"))
    program = next((program for program in programs if shutil.which(program[0])), None)
    if program is None:
        pytest.fail("this test needs kubectl (1.21 or newer) or kustomize, see CONTRIBUTING.md", pytrace=False)
    build = subprocess.run([*program, folder], capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr
    return documents(build.stdout)


def rendered(values: Mapping[str, Any], release: str = "promgithub") -> dict[str, str]:
    """Return what Helm renders of each template, by the path below `templates/`.

    Raises a `HelmError` on wrong values.
    """
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(dict(values), name=release, namespace="promgithub")
    return {path.partition("/templates/")[2]: text for path, text in files.items()}


def installed(values: Mapping[str, Any], release: str = "promgithub") -> list[Any]:
    """Return the manifests that `helm install` would apply."""
    files = rendered(values, release)
    return [one for path, text in files.items() if path != "NOTES.txt" for one in documents(text)]
