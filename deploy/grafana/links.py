"""Data links: from a repository, workflow, job or runner class to the page that explains it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

GITHUB = "github"
"""Name of the variable with the address of GitHub. Links to GitHub begin with it."""

_HERE = "${__url_time_range}&${datasource:queryparam}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a label value leads. `needs` are the labels in the address, each as `{label}`; `{label!}` is encoded."""

    title: str
    address: str
    needs: Sequence[str]


def _dashboard(title: str, uid: str, **variables: str) -> Target:
    chosen = "".join(f"&var-{variable}={{{label}!}}" for variable, label in variables.items())
    return Target(title, f"/d/{uid}?{_HERE}{chosen}", tuple(variables.values()))


TARGETS: Mapping[str, Sequence[Target]] = {
    "repository": (
        Target("Repository on GitHub", f"${{{GITHUB}}}/{{repository}}", ("repository",)),
        _dashboard("Repository in CI overview", "promgithub-ci-overview", repository="repository"),
    ),
    "workflow_name": (
        _dashboard(
            "Workflow in Workflow detail",
            "promgithub-workflow-detail",
            repository="repository",
            workflow="workflow_name",
        ),
    ),
    "job_name": (
        _dashboard("Job in Jobs", "promgithub-jobs", repository="repository", workflow="workflow_name", job="job_name"),
    ),
    "runner_class": (_dashboard("Runner class in Runners", "promgithub-runners", **{"class": "runner_class"}),),
}
"""The targets by label."""


def of_series(labels: Iterable[str]) -> list[dict[str, str]]:
    """Return the links of a series that is named by these labels."""
    return _links(labels, labels, "__field.labels")


def of_column(label: str, labels: Iterable[str]) -> list[dict[str, str]]:
    """Return the links of the column of a label, in a table whose rows have these labels."""
    return _links([label], labels, "__data.fields")


def _links(names: Iterable[str], labels: Iterable[str], source: str) -> list[dict[str, str]]:
    known = set(labels)
    return [
        {"title": target.title, "url": _filled(target, source)}
        for name in names
        for target in TARGETS.get(name, ())
        if known.issuperset(target.needs)
    ]


def _filled(target: Target, source: str) -> str:
    address = target.address
    for label in target.needs:
        address = address.replace(f"{{{label}!}}", f"${{{source}.{label}:percentencode}}")
        address = address.replace(f"{{{label}}}", f"${{{source}.{label}}}")
    return address
