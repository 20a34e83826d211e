"""The Helm chart, as the real Helm renders it: against the kustomize manifests, and for right and wrong values."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import helm_python
import pytest
import yaml
from pydantic import SecretStr

from deploy.grafana.all_dashboards import files
from deploy.prometheus_rule import RUNBOOK
from shared.settings import CommonSettings, IngestSettings, ProcessorSettings, variable
from tests.support.deployment import ROOT
from tests.support.manifests import CHART, EVERYTHING, KUBERNETES, RUNNERS, installed, kustomized, rendered

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
EXAMPLE = yaml.safe_load((CHART.parent / "example.yaml").read_text("utf-8"))
ON = {"enabled": True}

HELMS_OWN = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "checksum/runners",
    "checksum/settings",
    "helm.sh/chart",
    "imagePullPolicy",
}
"""What a chart has and kustomize does otherwise: labels of the release, and hashes of the content of ConfigMaps."""

_HASH = re.compile(r"-[a-z0-9]{10}$")

BASE_VALUES: dict[str, Any] = {
    "host": "promgithub.example.com",
    "ingest": {"autoscaling": ON},
    "ingress": ON,
    "networkPolicy": ON | {"proxyNamespace": "ingress"},
}
"""The values with which the chart makes what the kustomize base has."""

COMPONENTS: Mapping[str, dict[str, Any]] = {
    "gateway": {
        "ingress": {"enabled": False},
        "httpRoute": ON | {"parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}]},
    },
    "keda": {"keda": ON},
    "monitoring": {"monitoring": ON},
    "recovery": {"recovery": ON | {"hooks": ["example/292430182"]}},
    "runners": {"runnersFile": RUNNERS},
    "upstream-names": {"upstreamNames": ON},
}
"""The values for each component of kustomize."""


def kinds(manifests: list[Any]) -> set[str]:
    return {manifest["kind"] for manifest in manifests}


def by_name(manifests: list[Any]) -> dict[tuple[str, str], Any]:
    """Return the manifests without what is Helm's own, and without the hash in the names of ConfigMaps."""
    names = [one["metadata"]["name"] for one in manifests if one["kind"] == "ConfigMap"]
    renamed = {name: _HASH.sub("", name) for name in names}
    plain = [_plain(manifest, renamed) for manifest in manifests]
    named = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in plain}
    assert len(named) == len(manifests)
    return named


def _plain(node: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        kept = {name: _plain(value, renamed) for name, value in node.items() if name not in HELMS_OWN}
        return {name: value for name, value in kept.items() if (name, value) != ("annotations", {})}
    if isinstance(node, list):
        return [_plain(value, renamed) for value in node]
    return renamed.get(node, node) if isinstance(node, str) else node


def kustomized_with(components: list[str], folder: Path) -> list[Any]:
    """Return what kustomize builds of the base with components, and with the image's tag of this version.

    An overlay with the component `runners` has its file, and makes the ConfigMap that the component mounts.
    """
    (folder / "runners.toml").write_text(RUNNERS, "utf-8")
    config_map = {
        "name": "promgithub-runners",
        "files": ["runners.toml"],
        "options": {"labels": {"app.kubernetes.io/name": "promgithub"}},
    }
    paths = {name: os.path.relpath(KUBERNETES / name, folder) for name in ("base", "components")}
    kustomization = {
        "resources": [paths["base"]],
        "components": [f"{paths['components']}/{name}" for name in components],
        "images": [{"name": "promgithub", "newTag": VERSION}],
        "configMapGenerator": [config_map] if "runners" in components else [],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
    return kustomized(folder)


@pytest.mark.parametrize("components", [[], list(COMPONENTS)], ids=["base", "every component"])
def test_the_chart_makes_what_kustomize_builds(components: list[str], tmp_path: Path) -> None:
    assert {path.name for path in (KUBERNETES / "components").iterdir()} == set(COMPONENTS)
    values = BASE_VALUES
    for component in components:
        values = values | COMPONENTS[component]
    chart, kustomize = by_name(installed(values)), by_name(kustomized_with(components, tmp_path))
    assert chart.keys() == kustomize.keys()
    for name, manifest in kustomize.items():
        assert chart[name] == manifest


def test_what_is_optional_is_off_by_default_and_in_the_example() -> None:
    always = {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"}
    assert kinds(installed({})) == always
    assert kinds(installed(EXAMPLE)) == always | {"Ingress"}


@pytest.mark.parametrize("values", [{}, EXAMPLE, EVERYTHING], ids=["default", "example", "everything"])
def test_helm_lint_finds_nothing_wrong(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, dict(values), strict=True)
    found = [one for one in report["messages"] if one["error"] != "icon is recommended"]
    assert (report["total_charts_linted"], report["errors"], found) == (1, [], [])


def test_a_package_of_the_chart_renders_like_its_folder(tmp_path: Path) -> None:
    archive = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(archive) as chart:
        packed = chart.render(dict(EVERYTHING), name="promgithub", namespace="promgithub")
    assert {path.partition("/templates/")[2]: text for path, text in packed.items()} == rendered(EVERYTHING)


def test_the_chart_has_the_version_of_promgithub() -> None:
    with helm_python.Chart.load(CHART) as chart:
        assert (chart.version, chart.metadata["appVersion"]) == (VERSION, VERSION)
    assert _images({}) == {f"promgithub:{VERSION}"}
    assert _images({"image": {"repository": "example.com/p", "tag": "1.2"}}) == {"example.com/p:1.2"}


def _images(values: Mapping[str, Any]) -> set[str]:
    pods = [
        one["spec"]["template"]["spec"] for one in installed(values) if one["kind"] in {"StatefulSet", "Deployment"}
    ]
    return {one["image"] for pod in pods for one in [*pod["containers"], *pod.get("initContainers", ())]}


WRONG = [
    ({"settigs": {}}, "additional properties 'settigs' not allowed"),
    ({"keda": None}, "missing property 'keda'"),
    ({"image": {"tag": 1.2}}, "at '/image/tag': got number, want string"),
    ({"ingest": {"replicas": 0}}, "at '/ingest/replicas': minimum: got 0, want 1"),
    ({"ingest": {"spool": {"size": "large"}}}, "at '/ingest/spool/size': 'large' does not match pattern"),
    ({"settings": {"LOG_LEVEL": "info"}}, "invalid propertyName 'LOG_LEVEL'"),
    ({"settings": {"PROMGITHUB_PREFETCH": 500}}, "at '/settings/PROMGITHUB_PREFETCH': got number, want string"),
    ({"settings": {"PROMGITHUB_ADMIN_PORT": "80"}}, "settings.PROMGITHUB_ADMIN_PORT cannot be set: the chart sets it"),
    ({"settings": {"PROMGITHUB_RUNNERS_FILE": "/x"}, "runnersFile": "[[runner]]"}, "are two files: give one of them"),
    ({"monitoring": {"runbookUrl": "docs.example.com"}}, "at '/monitoring/runbookUrl': 'docs.example.com' does not"),
    ({"recovery": {"hooks": ["acme"]}}, "at '/recovery/hooks/0': 'acme' does not match pattern"),
    ({"host": "https://x.example.com"}, 'host is "https://x.example.com": give only the name'),
    ({"ingress": ON}, "ingress.enabled needs host"),
    ({"httpRoute": ON | {"parentRefs": [{"name": "x"}]}}, "httpRoute.enabled needs host"),
    ({"httpRoute": ON, "host": "x.example.com"}, "httpRoute.enabled needs httpRoute.parentRefs"),
    ({"networkPolicy": ON}, "networkPolicy.enabled needs networkPolicy.proxyNamespace"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda part: part if isinstance(part, str) else "")
def test_a_wrong_value_is_refused_with_its_place_and_the_reason(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(message)):
        installed(values)


def _secret_settings() -> Iterator[str]:
    fields = IngestSettings.model_fields | ProcessorSettings.model_fields
    for name, field in fields.items():
        secret = any(isinstance(one, type) and issubclass(one, SecretStr) for one in _types(field.annotation))
        if secret and name != "github_api_url":  # its password, if it has one, is masked
            yield variable(name)


def _types(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *get_args(annotation))


@pytest.mark.parametrize("name", list(_secret_settings()))
@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_a_secret_among_the_settings_is_refused_and_not_shown(name: str, suffix: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        installed({"settings": {name + suffix: "s3cret"}})
    assert f"settings.{name}{suffix} is secret: put it into the Secret promgithub" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("where", [("processor", "replicas"), ("keda", "maxReplicas")], ids=".".join)
def test_no_more_processors_are_started_than_the_delivery_limit_allows(where: tuple[str, str]) -> None:
    role, name = where
    workers = ProcessorSettings.model_fields["event_workers"].default
    most = CommonSettings.model_fields["delivery_limit"].default // workers

    def values(count: int, **settings: str) -> dict[str, Any]:
        switch = ON if role == "keda" else {}
        return {role: switch | {name: count}, "settings": {variable(one): value for one, value in settings.items()}}

    installed(values(most))
    with pytest.raises(helm_python.HelmRenderError, match=f"lower {role}.{name}"):
        installed(values(most + 1))
    installed(values(most + 1, event_workers="1"))
    with pytest.raises(helm_python.HelmRenderError, match=f"lower {role}.{name}"):
        installed(values(most, delivery_limit="5"))


def test_a_changed_setting_rolls_the_pods() -> None:
    def hashes(level: str) -> set[str]:
        manifests = installed({"settings": {"PROMGITHUB_LOG_LEVEL": level}})
        pods = [one["spec"]["template"] for one in manifests if one["kind"] in {"StatefulSet", "Deployment"}]
        return {pod["metadata"]["annotations"]["checksum/settings"] for pod in pods}

    assert len(hashes("info")) == 1
    assert hashes("info").isdisjoint(hashes("debug"))


def test_changed_runner_classes_roll_the_processors_only() -> None:
    def pods(price: str) -> dict[str, Any]:
        manifests = installed({"runnersFile": f"[[runner]]\nusd_per_minute = {price}\n"})
        return {one["kind"]: one["spec"]["template"] for one in manifests if "template" in one.get("spec", {})}

    before, after = pods("0.1"), pods("0.2")
    assert before["Deployment"] != after["Deployment"]
    assert before["StatefulSet"] == after["StatefulSet"]


def test_every_alert_links_to_the_runbook_that_a_value_names() -> None:
    def links(**values: str) -> list[str]:
        manifests = installed({"monitoring": ON | values})
        groups = [group for one in manifests if one["kind"] == "PrometheusRule" for group in one["spec"]["groups"]]
        alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
        return [rule["annotations"]["runbook_url"] for rule in alerts]

    own = "https://docs.example.com/$1/runbook.html"
    assert links(runbookUrl=own) == [link.replace(RUNBOOK, own) for link in links()]
    assert all(link.startswith(f"{own}#") for link in links(runbookUrl=own))


def test_two_releases_in_one_namespace_share_nothing() -> None:
    one, other = ({(m["kind"], m["metadata"]["name"]) for m in installed(EVERYTHING, name)} for name in ("a", "b"))
    assert one.isdisjoint(other)


def test_names_fit_kubernetes_whatever_the_release_is_called() -> None:
    for manifest in installed(EVERYTHING, "r" * 53):
        limit = 52 if manifest["kind"] == "StatefulSet" else 63
        assert re.fullmatch(rf"[a-z][a-z0-9-]{{0,{limit - 2}}}[a-z0-9]", manifest["metadata"]["name"])


def test_each_dashboard_is_a_config_map_that_the_sidecar_of_grafana_finds() -> None:
    maps = [one for one in installed({"dashboards": ON}) if "grafana_dashboard" in one["metadata"]["labels"]]
    shown = {name: text for one in maps for name, text in one["data"].items()}
    assert shown == {f"promgithub-{path.name}": text for path, text in files().items()}
    assert all(len(text.encode()) < 2**20 for text in shown.values()), "etcd takes no larger object"


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_the_notes_name_what_was_installed(values: Mapping[str, Any]) -> None:
    notes = rendered(values, "ci")["NOTES.txt"]
    manifests = {(one["kind"].lower(), one["metadata"]["name"]): one for one in installed(values, "ci")}
    named = set(re.findall(r"(statefulset|deployment|secret)/([\w-]+)", notes))
    assert named == {("statefulset", "ci-promgithub-ingest"), ("deployment", "ci-promgithub-processor")}
    volumes = [volume for one in named for volume in manifests[one]["spec"]["template"]["spec"]["volumes"]]
    keys = {item["key"] for volume in volumes for item in volume.get("secret", {}).get("items", ())}
    assert set(re.findall(r"--from-file=([\w-]+)", notes)) == keys


def test_the_notes_say_what_remains_to_be_done() -> None:
    notes = rendered({})["NOTES.txt"]
    assert "Nothing leads to the receivers yet: set `host`" in notes
    assert "Recovery is off" in notes
    assert "https://promgithub.example.com/webhook" in rendered(EVERYTHING)["NOTES.txt"]
    assert "Recovery is off" not in rendered(EVERYTHING)["NOTES.txt"]
    without_tls = EXAMPLE | {"ingress": {"enabled": True, "tlsSecretName": ""}}
    assert "The Ingress does no TLS" in rendered(without_tls)["NOTES.txt"]


def test_the_documentation_names_existing_values() -> None:
    section = (ROOT / "docs/deploying.md").read_text("utf-8").partition("### With Helm")[2].partition("###")[0]
    named = [name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall("`(.+?)`", row)]
    assert len(named) > 10
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for name in named:
        value = defaults
        for key in name.split("."):
            assert key in value, name
            value = value[key]
