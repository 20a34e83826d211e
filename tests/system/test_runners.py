"""A running promgithub shows the runners that GitHub's API lists, or says why it cannot."""

from pathlib import Path

from tests.support import builders, figures
from tests.support.fake_github import TOKEN, FakeGitHub
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process


def started(launcher: Launcher, directory: Path, api: FakeGitHub) -> Process:
    """Start a standalone promgithub that asks for the runners of acme, with a class for those of labels gpu-*."""
    rules = directory / "runners.toml"
    rules.write_text('[[runner]]\nclass = "gpu"\nlabels = ["gpu-*"]\n', "utf-8")
    asking = {"GITHUB_API_URL": api.url, "GITHUB_TOKEN": TOKEN, "GITHUB_RUNNERS": "org:acme"}
    data = ("--data-dir", str(directory / "data"))
    return launcher.start("standalone", *data, WEBHOOK_SECRET=SECRET, RUNNERS_FILE=str(rules), **asking)


async def shown(github: GitHub, process: Process, name: str) -> figures.Figures:
    """Wait until a metric has a sample above 0; return its samples."""

    async def found() -> figures.Figures | None:
        samples = {key: count for key, count in (await github.figures(process)).items() if key[0] == name}
        return samples if any(samples.values()) else None

    return await until(found, 60)


async def test_the_runners_are_on_the_page_of_the_leader(github: GitHub, launcher: Launcher, tmp_path: Path) -> None:
    async with FakeGitHub() as api:
        api.actions.runner_groups["acme"] = [{"id": 7, "name": "builders"}]
        api.actions.runners["acme"] = [
            builders.runner(1, "self-hosted", "gpu-a100", busy=True, group=7),
            builders.runner(2, "self-hosted", "gpu-h100", group=7),
        ]
        standalone = started(launcher, tmp_path, api)
        await standalone.ready()
        page = await shown(github, standalone, "promgithub_runners")
        kind = {"runner_class": "gpu", "runner_group": "builders"}
        states = {"busy": 1, "idle": 1, "offline": 0}
        assert page == {
            ("promgithub_runners", frozenset({**kind, "state": state}.items())): count
            for state, count in states.items()
        }
        assert await standalone.terminate() == 0


async def test_a_token_without_the_permission_counts_as_a_failed_chore_and_the_log_names_the_permission(
    github: GitHub, launcher: Launcher, tmp_path: Path
) -> None:
    async with FakeGitHub() as api:
        api.forbidden.add("/actions/runners")
        standalone = started(launcher, tmp_path, api)
        await standalone.ready()
        failures = await shown(github, standalone, "promgithub_chore_failures_total")
        assert figures.total(failures, "promgithub_chore_failures_total", chore="runners") >= 1
        assert figures.total(await github.figures(standalone), "promgithub_runners") == 0
        assert "Self-hosted runners: read" in standalone.log
        assert await standalone.terminate() == 0
        assert TOKEN not in standalone.log
