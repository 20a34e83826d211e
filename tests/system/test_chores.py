"""Bad answers of GitHub's API do not stop the counting."""

from pathlib import Path

from tests.support import builders, figures
from tests.support.fake_github import HOOK, TOKEN, FakeGitHub
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process

DEEP = b"[" * 100_000
JSON = {"Content-Type": "application/json"}


async def failed(github: GitHub, process: Process, chore: str) -> float:
    """Wait until a chore has failed; return how often."""

    async def count() -> float | None:
        return figures.value(await github.figures(process), "promgithub_chore_failures_total", chore=chore) or None

    return await until(count, 60)


async def test_a_standalone_counts_on_while_every_answer_of_the_api_is_bad(
    github: GitHub, launcher: Launcher, tmp_path: Path
) -> None:
    async with FakeGitHub() as api:
        api.proxied.extend(
            [(401, DEEP, JSON), (200, DEEP, JSON), (200, b"{}", JSON | {"X-RateLimit-Limit": "inf"})] * 500
        )
        reached = {"GITHUB_API_URL": api.url, "GITHUB_TOKEN": TOKEN, "GITHUB_HOOKS": HOOK}
        standalone = launcher.start(
            "standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET, **reached
        )
        await standalone.ready()
        assert await failed(github, standalone, "redeliver") >= 1
        await github.send_all(standalone, [builders.delivery(builders.push())])

        async def counted() -> bool | None:
            return figures.total(await github.figures(standalone), "promgithub_push_total") == 1 or None

        await until(counted, 30)
        assert await standalone.terminate() == 0
        assert TOKEN not in standalone.log
