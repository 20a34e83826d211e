"""The manifests for Kubernetes, as kustomize and Helm make them: against the schemas, the program, and one another."""

import functools
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import SchemaNotFoundError

from deploy.prometheus_rule import MANIFESTS, SPECIFICATIONS, render, render_specification, with_runbook
from shared.settings import CommonSettings, IngestSettings, ProcessorSettings
from tests.support.deployment import PORTS, ROOT, SHUTDOWN_SECONDS, documents, parse, problems
from tests.support.manifests import EVERYTHING, KUBERNETES, installed, kustomized

CHART = "chart"
BUILDS = ("base", "overlays/example", CHART)
"""Folders that kustomize builds, and the Helm chart with everything on, as a release of another name."""

VERSIONS = ("1.30", kubernetes_validate.latest_version())
"""The oldest that is supported, for `preStop.sleep`, and the newest that there is a schema of."""

CUSTOM = {
    "HTTPRoute": {"parentRefs", "hostnames", "rules"},
    "PodMonitor": {"selector", "podMetricsEndpoints"},
    "PrometheusRule": {"groups"},
    "ScaledObject": {"scaleTargetRef", "triggers"},
    "TriggerAuthentication": {"secretTargetRef"},
}
"""What the specification of each kind that is not Kubernetes' own must have."""

SECRETS = {
    "amqp-url": "amqp://promgithub:secret@rabbitmq:5672/",
    "database-url": "postgresql://promgithub:secret@postgres:5432/promgithub",
    "webhook-secret": "secret",
    "github-token": "github_pat_secret",
    "github-app-key": "-----BEGIN RSA PRIVATE KEY-----",
}
"""The keys of the Secret that the person who installs promgithub creates, with examples."""


@functools.cache
def built(name: str) -> list[Any]:
    """Return the manifests of a build."""
    return installed(EVERYTHING, "ci") if name == CHART else kustomized(KUBERNETES / name)


def of_kind(build: str, *kinds: str) -> list[Any]:
    return [manifest for manifest in built(build) if manifest["kind"] in kinds]


def workloads(build: str) -> dict[str, Any]:
    """Return the pod templates, by the name of what makes the pods."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in of_kind(build, "StatefulSet", "Deployment")
    }


def containers(build: str) -> Iterator[tuple[Any, Any]]:
    """Yield each container with the specification of its pod."""
    for template in workloads(build).values():
        pod = template["spec"]
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield pod, container


def selected(build: str, selector: Mapping[str, str]) -> list[Any]:
    """Return the specifications of the pods that a selector matches."""
    return [
        template["spec"]
        for template in workloads(build).values()
        if selector.items() <= template["metadata"]["labels"].items()
    ]


def ports_of(pod: Any) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for one in pod["containers"] for port in one.get("ports", ())}


def selectors(manifest: Any) -> Iterator[Mapping[str, str]]:
    """Yield every selector of pods in a manifest."""
    kind, spec = manifest["kind"], manifest["spec"]
    if kind == "Service":
        yield spec["selector"]
    elif kind == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]
    elif "selector" in spec:
        yield spec["selector"]["matchLabels"]
    for spread in spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", ()):
        yield spread["labelSelector"]["matchLabels"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("build", BUILDS)
def test_every_manifest_fits_its_schema(build: str, version: str) -> None:
    for manifest in built(build):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except SchemaNotFoundError:
            assert CUSTOM[manifest["kind"]] <= manifest["spec"].keys()


@pytest.mark.parametrize("build", BUILDS)
def test_every_container_runs_an_existing_command_with_existing_settings(
    build: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {one["metadata"]["name"]: one["data"] for one in of_kind(build, "ConfigMap")}
    for pod, container in containers(build):
        assert parse(container["args"]) is not None
        assert "command" not in container, "the image's entry point is the program"
        environment = {
            name: value for ref in container["envFrom"] for name, value in settings[ref["configMapRef"]["name"]].items()
        }
        environment |= {one["name"]: one["value"] for one in container["env"]}
        files = _mounted(pod, container, settings)
        for name, value in environment.items():
            if name.endswith("_FILE"):
                file = tmp_path / Path(value).name
                file.write_text(files[value], "utf-8")
                environment[name] = str(file)
        assert list(problems(environment, container["args"][0], monkeypatch)) == []


def _mounted(pod: Any, container: Any, config_maps: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the content of each file that a container has of the Secret and of ConfigMaps, by its path."""
    paths = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    return {
        str(paths[volume["name"]] / name): text
        for volume in pod["volumes"]
        if volume["name"] in paths
        for name, text in _content(volume, config_maps).items()
    }


def _content(volume: Any, config_maps: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    if "configMap" in volume:
        return config_maps[volume["configMap"]["name"]]
    assert volume["secret"]["secretName"] == "promgithub"
    return {item["path"]: SECRETS[item["key"]] for item in volume["secret"]["items"]}


@pytest.mark.parametrize("build", BUILDS)
def test_every_pod_keeps_to_the_restricted_standard_and_to_itself(build: str) -> None:
    uid = int(
        next(line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if line.startswith("USER")).split(
            ":"
        )[1]
    )
    for pod, container in containers(build):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == uid
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("build", BUILDS)
def test_the_ports_and_probes_are_those_of_the_program(build: str) -> None:
    for pod, container in containers(build):
        role = container["args"][0]
        if role == "migrate":
            continue
        expected = {"admin": PORTS[role]} | ({"webhook": PORTS["webhook"]} if role == "ingest" else {})
        assert ports_of(pod) == expected
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {probe["port"] for probe in probes.values()} == {"admin"}
        assert {name: probe["path"] for name, probe in probes.items()} == {
            "startup": "/livez",
            "liveness": "/livez",
            "readiness": "/readyz",
        }


@pytest.mark.parametrize("build", BUILDS)
def test_a_pod_has_the_time_that_it_needs_to_stop(build: str) -> None:
    for pod in (template["spec"] for template in workloads(build).values()):
        before = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= before + SHUTDOWN_SECONDS + 5


@pytest.mark.parametrize("build", BUILDS)
def test_every_selector_matches_the_pods_of_one_role(build: str) -> None:
    found = [
        (manifest, selector) for manifest in built(build) if "spec" in manifest for selector in selectors(manifest)
    ]
    assert {manifest["kind"] for manifest, _ in found} >= {"Service", "PodDisruptionBudget", "NetworkPolicy"}
    for manifest, selector in found:
        (pod,) = selected(build, selector)
        assert f"promgithub-{pod['containers'][0]['name']}" in manifest["metadata"]["name"]


@pytest.mark.parametrize("build", BUILDS)
def test_every_port_reference_names_an_existing_port(build: str) -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(build, "Service")}
    for service in services.values():
        (pod,) = selected(build, service["selector"])
        assert {port["targetPort"] for port in service["ports"]} <= ports_of(pod).keys()
    for policy in of_kind(build, "NetworkPolicy"):
        (pod,) = selected(build, policy["spec"]["podSelector"]["matchLabels"])
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert opened == ports_of(pod).keys()
    for ingress in of_kind(build, "Ingress"):
        for path in (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["ports"]}
            assert path["path"] == "/webhook"
    for route in of_kind(build, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert [match["path"] for match in rule["matches"]] == [{"type": "Exact", "value": "/webhook"}]
            for backend in rule["backendRefs"]:
                assert backend["port"] in {port["port"] for port in services[backend["name"]]["ports"]}
    for monitor in of_kind(build, "PodMonitor"):
        (pod,) = selected(build, monitor["spec"]["selector"]["matchLabels"])
        assert {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]} <= ports_of(pod).keys()


@pytest.mark.parametrize("build", BUILDS)
def test_what_scales_names_what_there_is(build: str) -> None:
    names = workloads(build)
    scalers = of_kind(build, "HorizontalPodAutoscaler", "ScaledObject")
    targets = [one["spec"]["scaleTargetRef"]["name"] for one in scalers]
    assert targets
    assert all(target in names for target in targets)
    (stateful,) = of_kind(build, "StatefulSet")
    assert stateful["spec"]["serviceName"] in {one["metadata"]["name"] for one in of_kind(build, "Service")}
    for manifest in of_kind(build, "StatefulSet", "Deployment"):
        scaled = manifest["metadata"]["name"] in targets
        assert ("replicas" in manifest["spec"]) != scaled, "either the manifest sets the number, or a scaler does"


def test_the_spool_is_on_a_disk_that_outlives_the_pod_and_holds_what_it_may_take() -> None:
    (stateful,) = of_kind("base", "StatefulSet")
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert Path(environment["PROMGITHUB_SPOOL_DIR"]).is_relative_to(mount["mountPath"])
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * 2**30
    assert size > IngestSettings.model_fields["spool_max_bytes"].default
    assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_keda_looks_at_our_queue_and_starts_no_more_processors_than_the_delivery_limit_allows() -> None:
    (scaled,) = of_kind("overlays/example", "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (authentication,) = of_kind("overlays/example", "TriggerAuthentication")
    assert trigger["metadata"]["queueName"] == CommonSettings.model_fields["queue_name"].default
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert {one["key"] for one in authentication["spec"]["secretTargetRef"]} <= SECRETS.keys()
    workers = ProcessorSettings.model_fields["event_workers"].default
    limit = CommonSettings.model_fields["delivery_limit"].default
    assert scaled["spec"]["maxReplicaCount"] * workers <= limit


def test_the_images_of_an_overlay_are_those_that_it_names() -> None:
    (overlay,) = documents((KUBERNETES / "overlays/example/kustomization.yaml").read_text("utf-8"))
    (image,) = overlay["images"]
    assert {container["image"] for _, container in containers("base")} == {image["name"]}
    built_images = {container["image"] for _, container in containers("overlays/example")}
    assert built_images == {f"{image['newName']}:{image['newTag']}"}
    assert image["newTag"] == version("promgithub")


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_rules_are_those_of_prometheus(name: str) -> None:
    advice = "run `make manifests` and commit what it writes"
    assert MANIFESTS[name].read_text("utf-8") == render(name), advice
    assert SPECIFICATIONS[name].read_text("utf-8") == render_specification(name), advice


def test_the_rules_of_every_file_are_in_a_manifest_and_the_upstream_names_in_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prometheus").mkdir()
    for name in ("b", "a", "upstream-names"):
        (tmp_path / f"prometheus/{name}.rules.yml").write_text(f"groups: [{{name: {name}, rules: []}}]\n", "utf-8")
    (tmp_path / "prometheus/empty.rules.yml").write_text("# nothing yet\n", "utf-8")
    monkeypatch.setattr("deploy.prometheus_rule.DEPLOY", tmp_path)
    groups = {name: [one["name"] for one in yaml.safe_load(render(name))["spec"]["groups"]] for name in MANIFESTS}
    assert groups == {"promgithub": ["a", "b"], "promgithub-upstream-names": ["upstream-names"]}


def test_every_alert_has_the_one_address_of_the_runbook(monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = (ROOT / "deploy/prometheus/alerts.rules.yml").read_text("utf-8")
    assert with_runbook(alerts) == alerts, "run `make manifests` and commit what it writes"
    monkeypatch.setattr("deploy.prometheus_rule.RUNBOOK", "https://wiki.example.com/promgithub")
    moved = with_runbook(alerts)
    assert moved.count("runbook_url: https://wiki.example.com/promgithub#") == alerts.count("runbook_url: ")
